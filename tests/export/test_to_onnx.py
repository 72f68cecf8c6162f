"""The written graphs are clean, named, checked, and compute what torch computes, in both lowerings."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import vectors
from support.combinations import chequered
from torch import nn

from vidgen.errors import ExportError
from vidgen.export.lowering_cpu import CpuGenerator
from vidgen.export.onnx_graph import OPSETS, OnnxGraph, check
from vidgen.export.prepare import PlainGenerator
from vidgen.export.to_onnx import to_onnx
from vidgen.models.config import G3ANConfig

LOWERINGS = {"cpu": CpuGenerator, "tensorrt": PlainGenerator}
MODES = ("1p2d", "2p1d", "3d")
ATTENTION = {
    "none": {"use_attention": False},
    "reference": {"use_attention": True},
    "clean": {"use_attention": True, "attention_merge": "clean"},
}


def _write(generator, lowering, output="float32", opset=20):
    module = LOWERINGS[lowering](generator, output)
    interface = generator.config.interface(output)
    return to_onnx(module, interface, opset=opset, name="g3an", metadata={"vidgen.model": "g3an"})


def _run(model, za, zm):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"za": za.numpy(), "zm": zm.numpy()})[0]


@pytest.mark.parametrize(("mode", "attention", "lowering"), chequered(MODES, ATTENTION, LOWERINGS))
def test_one_file_serves_every_batch_and_length(filled, noise, reference, mode, attention, lowering):
    generator = filled(mode=mode, **ATTENTION[attention])
    model = _write(generator, lowering)
    for batch, length in ((1, 1), (3, 1), (2, 3)):
        za, zm = noise(generator.config, batch, length)
        np.testing.assert_allclose(_run(model, za, zm), reference(generator, za, zm), rtol=0, atol=3e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_8_bit_output_has_the_contracts_layout(filled, noise, reference, lowering):
    generator = filled()
    za, zm = noise(generator.config, 2, 2)
    frames, expected = _run(_write(generator, lowering, "uint8"), za, zm), reference(generator, za, zm, "uint8")
    assert frames.dtype == np.uint8 and frames.shape == (2, 20, 64, 64, 3)
    off = np.abs(frames.astype(int) - expected.astype(int))
    assert off.max() <= 1 and (off > 0).mean() < 1e-3


@pytest.mark.parametrize(("opset", "lowering"), chequered(OPSETS, LOWERINGS))
def test_every_opset_that_is_offered_works(filled, noise, reference, opset, lowering):
    generator = filled(ch=2, use_attention=True)
    za, zm = noise(generator.config, 2, 1)
    model = _write(generator, lowering, opset=opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    np.testing.assert_allclose(_run(model, za, zm), reference(generator, za, zm), rtol=0, atol=3e-5)


def test_the_same_network_gives_the_same_bytes(filled):
    first, second = (_write(filled(), "cpu").SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_inputs_outputs_and_dynamic_axes_have_their_names(filled, lowering):
    graph = _write(filled(), lowering, "uint8").graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    expected = {"za": ["batch", 128], "zm": ["batch", 10, "time"], "video": ["batch", "frames", 64, 64, 3]}
    assert shapes == expected


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_graph_is_clean(filled, lowering):
    generator = filled(use_attention=True)
    model = _write(generator, lowering)
    nodes, weights = model.graph.node, model.graph.initializer
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names) and all("/" in name for name in names)
    assert {node.domain for node in nodes} == {""} and len(model.functions) == 0
    kinds = {node.op_type for node in nodes}
    assert not kinds & {"Constant", "Identity", "If", "Loop", "BatchNormalization"}
    assert len(nodes) < 420
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT and not tensor.external_data for tensor in weights)
    used = {name for node in nodes for name in node.input}
    assert {tensor.name for tensor in weights} <= used
    assert (model.producer_name, {prop.key: prop.value for prop in model.metadata_props}) == (
        "vidgen",
        {"vidgen.model": "g3an"},
    )


def test_plain_weights_have_the_names_of_the_state_dict(filled):
    generator = filled(use_attention=True)
    names = {tensor.name for tensor in _write(generator, "tensorrt").graph.initializer}
    expected = {name for name, _ in PlainGenerator(generator).named_parameters()}
    assert expected <= names and all(name.startswith("constant.") for name in names - expected)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_no_constant_is_blown_up(filled, lowering):
    generator = filled(ch=16)
    weights = sum(value.numel() for value in PlainGenerator(generator).parameters())
    stored = sum(int(np.prod(tensor.dims)) for tensor in _write(generator, lowering).graph.initializer)
    # The CPU lowering spreads the 3x3 head over four phases, and repeats biases.
    assert stored < weights + 150_000


def _vector_cases():
    """Each small one by the lowering that the official checkpoints' own tests, which take one large one too, leave."""
    large = itertools.product(vectors.cases("g3an_gen_ch64_*"), LOWERINGS)
    return [
        *chequered(vectors.cases("g3an_gen_ch8_*"), ("tensorrt", "cpu")),
        *(pytest.param(*combination, marks=pytest.mark.slow) for combination in large),
    ]


@pytest.mark.parametrize(("case", "lowering"), _vector_cases())
def test_vectors_are_met(filled, case, lowering):
    stored = vectors.load(case)
    width, attention, mode, _ = case.removeprefix("g3an_gen_").split("_")
    generator = filled(ch=int(width[2:]), use_attention=attention == "att", mode=mode)
    za, zm = (torch.from_numpy(stored[name]).flatten(first) for name, first in (("in_za", 1), ("in_zm", 2)))
    video = _run(_write(generator, lowering), za, zm)
    tolerance = 1e-3 if case == "g3an_gen_ch64_att_1p2d_b2t1" else 2e-4
    name = next(key for key in stored if key.startswith("out_")).removesuffix("__shape").split("__")[0]
    vectors.assert_matches(video, stored, name, tolerance)


class _Unknown(nn.Module):
    def forward(self, za: torch.Tensor, zm: torch.Tensor) -> torch.Tensor:
        return torch.erf(zm) + za[:, :10, None]


def test_an_unknown_operation_is_named():
    with pytest.raises(ExportError, match="erf"):
        to_onnx(_Unknown(), G3ANConfig().interface(), opset=20, name="x", metadata={})


def test_a_file_larger_than_onnx_allows_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr("vidgen.export.onnx_graph.LARGEST_FILE", 100)
    graph = OnnxGraph()
    weight = graph.weight("w", np.zeros(64, np.float32))
    (out,) = graph.node("Add", ["za", weight], "layer")
    graph.rename(out, "video")
    with pytest.raises(ExportError, match="2 GiB"):
        graph.build(G3ANConfig().interface(), 20, "x", {})


def test_the_checker_refuses_a_broken_graph(filled):
    model = _write(filled(ch=2), "tensorrt")
    model.graph.node[5].input[0] = "nowhere"
    with pytest.raises(ExportError, match="not valid ONNX"):
        check(model)
