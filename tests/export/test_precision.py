"""Half graphs are typed half where it was decided, say so truly, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.combinations import chequered

from vidgen.errors import ExportError
from vidgen.export import precision
from vidgen.export.lowering_cpu import CpuGenerator
from vidgen.export.precision import half_share, to_half
from vidgen.export.prepare import PlainGenerator
from vidgen.export.to_onnx import to_onnx

LOWERINGS = {"cpu": CpuGenerator, "tensorrt": PlainGenerator}


def _write(generator, lowering, output="uint8"):
    interface = generator.config.interface(output)
    return to_onnx(LOWERINGS[lowering](generator, output), interface, opset=20, name="g3an", metadata={})


def _types(model):
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize(("mode", "attention", "lowering"), chequered(("1p2d", "2p1d", "3d"), (False, True), LOWERINGS))
def test_videos_stay_within_two_levels(filled, noise, reference, mode, attention, lowering):
    generator = filled(mode=mode, use_attention=attention)
    model, told = to_half(_write(generator, lowering))
    za, zm = noise(generator.config, 2, 1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frames = session.run(None, {"za": za.numpy(), "zm": zm.numpy()})[0].astype(int)
    off = frames - reference(generator, za, zm, "uint8")
    assert np.abs(off).max() <= 2
    assert 10 * np.log10(255**2 / max((off**2).mean(), 1e-9)) > 45
    assert told.kind == "float16" and told.half_share > 0.85


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_all_weights_and_products_are_half_and_the_list_is_kept(filled, lowering):
    model, told = to_half(_write(filled(use_attention=True), lowering))
    types = _types(model)
    for node in model.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name} - {TensorProto.INT64}
        if node.op_type in ("Softmax", "Tanh", "Round", "Clip"):
            assert kinds == {TensorProto.FLOAT}, node.name
        elif node.op_type in ("MatMul", "Conv", "ConvTranspose", "Relu"):
            assert kinds == {TensorProto.FLOAT16}, node.name
    assert [types[value.name] for value in model.graph.input] == [TensorProto.FLOAT] * 2
    assert types["video"] == TensorProto.UINT8
    assert told.kept_float32 == ("Softmax", "Tanh", "after Tanh")


def test_float32_output_stays_float32(filled):
    model, _ = to_half(_write(filled(), "cpu", "float32"))
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_the_share_is_counted_on_the_result(filled):
    model = _write(filled(), "tensorrt")
    assert half_share(model) == 0.0
    half, told = to_half(model)
    types = [kind for kind in _types(half).values() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    inputs = 2  # given by the caller, not held by the graph
    assert told.half_share == pytest.approx(types.count(TensorProto.FLOAT16) / (len(types) - inputs), abs=1e-4)
    assert len(half.SerializeToString()) < 0.55 * len(model.SerializeToString())


def test_the_float32_graph_is_not_changed(filled):
    model = _write(filled(), "cpu")
    before = model.SerializeToString(deterministic=True)
    to_half(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("value", [65536.0, -1e6])
def test_a_weight_too_large_for_half_is_named(filled, value):
    model = _write(filled(), "tensorrt")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "block3.conv_v.0.weight")
    array = numpy_helper.to_array(weight).copy()
    array[0, 0] = value
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    with pytest.raises(ExportError, match=r"block3\.conv_v\.0\.weight") as caught:
        to_half(model)
    assert "65504" in caught.value.seen


def test_a_graph_that_stays_float32_is_an_error(filled, monkeypatch):
    most = ("Conv", "ConvTranspose", "Relu", "Add", "MatMul", "Concat")
    monkeypatch.setattr(precision, "KEPT_OPERATORS", dict.fromkeys(most, "planted"))
    with pytest.raises(ExportError, match="not half"):
        to_half(_write(filled(), "tensorrt"))


def test_a_half_result_that_is_the_output_and_an_input_is_cast_once_for_each(filled):
    """A tensor can be the graph's output and be used inside."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"], name="1"),
            helper.make_node("Relu", ["a"], ["y"], name="2"),
            helper.make_node("Softmax", ["a"], ["b"], name="3"),
            helper.make_node("Relu", ["b"], ["z"], name="4"),
            helper.make_node("Relu", ["y"], ["c"], name="5"),
            helper.make_node("Relu", ["c"], ["w"], name="6"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("y", "z", "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    half, _ = to_half(model)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    runs = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for each in (model, half)
    ]
    for expected, found in zip(*runs):
        np.testing.assert_allclose(found, expected, atol=2e-3)
