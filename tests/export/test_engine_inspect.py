"""Where the GPU is here, an engine says itself whether it is half."""

from __future__ import annotations

import json
import sys

import pytest
from export.engine_support import build_here, classic, small_g3an
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.errors import ExportError
from vidgen.export.engine_inspect import half_layers


def _report(*kinds):
    outputs = [[{"Name": "y", "Dimensions": [1], "Format/Datatype": kind}] for kind in kinds]
    return json.dumps({"Layers": [{"Name": "kernel", "Outputs": each} for each in outputs], "Bindings": []})


def test_layers_with_half_outputs_are_counted():
    report = _report("Half", "N/A due to dynamic shapes, FP16", "Float", "Row major linear FP32", "Int32")
    assert half_layers(report) == (2, 5)


@pytest.mark.parametrize("report", ["", "{}", "null", "[]", '{"Layers": ["kernel", "copy"]}', '{"Layers": [{}]}', "{"])
def test_a_report_without_types_tells_nothing(report):
    assert half_layers(report) is None


@settings(max_examples=50)
@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["Layers", "Outputs", "Format/Datatype"]), inner)))  # fmt: skip
def test_any_report_is_survived(report):
    found = half_layers(json.dumps({"Layers": [report]}))
    assert found is None or 0 <= found[0] <= found[1]


def _build(monkeypatch, report, device="sm_89"):
    module = classic(pytest.importorskip("tensorrt_rtx"))
    module.report = report
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    said = []
    model, interface = small_g3an(half=True)
    options = {"builder": "tensorrt", "device": device, "gpu": ("sm_89",)}
    build_here(model, interface, said.append, half=True, **options)
    return said, module.configs[0].profiling_verbosity.name


@pytest.mark.parametrize(
    ("report", "device", "said", "verbosity"),
    [
        (_report("Half", "Half", "Float"), "sm_89", "2 of 3 layers", "DETAILED"),
        (None, "sm_89", "", "DETAILED"),
        (_report("Float"), None, "", "LAYER_NAMES_ONLY"),
        (_report("Float"), "sm_120", "", "DETAILED"),
    ],
)
def test_the_engine_is_asked_where_it_can_run(monkeypatch, report, device, said, verbosity):
    told, set_to = _build(monkeypatch, report, device)
    assert (said in told[0]) if said else told == []
    assert set_to == verbosity


def test_an_engine_without_any_half_is_refused(monkeypatch):
    with pytest.raises(ExportError, match="not half precision"):
        _build(monkeypatch, _report("Float", "Int32"))
