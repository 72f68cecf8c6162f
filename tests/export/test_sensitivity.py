"""The search finds short lists, the same every time, within its bound, or says the best that it reached."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.errors import ExportError
from vidgen.export import sensitivity
from vidgen.export.measure import Case, Measured, Reference, measure
from vidgen.export.precision import SMALLEST_SHARE, half_share, rules_for
from vidgen.export.precision_report import precision_report
from vidgen.export.prepare import PlainGenerator
from vidgen.export.sensitivity import half_graph, search
from vidgen.export.to_onnx import to_onnx


@pytest.fixture
def small(filled, noise, reference):
    """A graph, and its judge on one video."""

    def make(**config):
        generator = filled(**config)
        model = to_onnx(
            PlainGenerator(generator, "uint8"), generator.config.interface("uint8"), opset=20, name="g", metadata={}
        )
        za, zm = noise(generator.config, 1, 1)
        case = Reference(Case(1, 1), {"za": za.numpy(), "zm": zm.numpy()}, reference(generator, za, zm))
        return model, lambda typed: measure(typed, [case])

    return make


def test_a_loose_tolerance_keeps_nothing_and_takes_one_try(small):
    model, judge = small(use_attention=False)
    found = search(model, judge, 2.0, recurrent=False)
    assert found.precision.kept_nodes == () and len(found.table) == 1
    assert found.precision.tolerance == 2.0 and found.measured.levels <= 2.0


def _planted(noise_of):
    """A judge that knows how much noise each part brings, and reads from the graph which parts are half."""

    def judge(typed):
        half = {node.name for node in typed.graph.node if node.op_type in ("ConvTranspose", "Conv")}
        report = {layer.name for layer in precision_report(typed, sensitivity.Precision()).kept}
        squares = sum(value for part, value in noise_of.items() if any(n.startswith(part) for n in half - report))
        return Measured(float(np.sqrt(squares)), 60.0, "", squares, 1)

    return judge


def test_the_search_finds_the_one_noisy_part_and_keeps_no_other(small):
    model, _ = small(use_attention=True)
    judge = _planted({"block2.conv_s": 9.0, "block1": 0.01, "block3.conv_v": 0.04, "fsa": 0.09})
    told = []
    found = search(model, judge, 1.0, recurrent=False, advance=lambda *each: told.append(each))
    assert [name.partition("/")[0] for name in found.precision.kept_nodes] in (["block2.conv_s"], ["block2.conv_s.0"])
    assert found.precision.half_share > 0.85 and found.measured.levels <= 1.0
    assert [done for done, _, _ in told] == list(range(1, len(found.table) + 1))
    again = search(model, judge, 1.0, recurrent=False)
    assert again.table == found.table
    assert again.model.SerializeToString(deterministic=True) == found.model.SerializeToString(deterministic=True)


def test_no_part_of_the_list_can_be_left_out(small):
    model, _ = small(use_attention=False)
    judge = _planted({f"block{n}.conv_{s}": 0.2 * n for n in range(1, 6) for s in "vst"})
    found = search(model, judge, 2.2, recurrent=False)
    keep = set(found.precision.kept_nodes)
    assert keep
    for name in keep:
        typed, _ = sensitivity.to_half(model, keep=keep - {name})
        assert judge(typed).levels > 2.2, name


@pytest.mark.parametrize("most", [4, 12, 64])
def test_an_impossible_tolerance_is_an_error_that_names_the_best(small, most):
    model, _ = small(use_attention=False)
    judge = _planted({f"block{n}": 4.0 for n in range(1, 6)})
    tries = []
    with pytest.raises(ExportError, match=r"within 0\.5 grey levels") as caught:
        search(model, judge, 0.5, recurrent=False, most=most, advance=lambda *each: tries.append(each))
    assert "at best in" in caught.value.seen and "--tolerance" in caught.value.fix
    assert len(tries) <= most


def test_a_real_search_meets_its_tolerance_on_the_typed_graph(small):
    model, judge = small(ch=4, use_attention=False)
    loose = search(model, judge, 50.0, recurrent=False).measured.levels
    found = search(model, judge, 0.9 * loose, recurrent=False, most=30)
    assert found.precision.kept_nodes and judge(found.model).levels <= 0.9 * loose
    assert half_share(found.model) >= SMALLEST_SHARE
    assert "half graphs tried" in str(found)


def test_attention_goes_to_float32_only_where_half_is_too_coarse(small):
    model, judge = small(ch=8, use_attention=True)
    assert half_graph(model, judge, recurrent=False, attention=True).precision.kept_nodes == ()
    calm = Measured(1.0, 60.0, "", 1.0, 1)
    answers = iter([Measured(5.0, 55.0, "", 1.0, 1), calm])
    found = half_graph(model, lambda _: next(answers), recurrent=False, attention=True)
    assert found.precision.kept_nodes == tuple(sorted(sensitivity.ATTENTION_PARTS[0])) and found.measured is calm
    assert len(found.table) == 2 and found.precision.half_share > SMALLEST_SHARE
    worse = iter([Measured(5.0, 55.0, "", 1.0, 1), Measured(4.0, 50.0, "", 1.0, 1), Measured(6.0, 50.0, "", 1.0, 1)])
    assert half_graph(model, lambda _: next(worse), recurrent=False, attention=True).measured.levels == 4.0


def test_the_report_names_every_float32_layer_and_its_rule(small):
    model, _ = small(use_attention=True)
    typed, precision = sensitivity.to_half(model, keep=["block1.conv_t", "block5/"])
    report = precision_report(typed, precision)
    assert report.half + len(report.kept) == report.layers and report.share > 0.7
    rules = {layer.rule for layer in report.kept}
    assert rules == {"Softmax", "Tanh", "after Tanh", "block1.conv_t", "block5/"}
    assert {layer.name for layer in report.kept} <= set(
        rules_for(typed.graph, recurrent=False, keep=precision.kept_nodes)
    )
    assert "block5/" in str(report) and len(report.to_dict()["kept"]) == len(report.kept)
    plain = precision_report(model, sensitivity.Precision())
    assert plain.half == 0 and {layer.rule for layer in plain.kept} == {"everything"}
