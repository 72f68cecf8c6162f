"""A typed graph's arithmetic is that of a device: each half tensor is rounded, which ONNX Runtime leaves out."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vidgen.export.half_arithmetic import as_device, round_like_half
from vidgen.export.onnx_graph import check
from vidgen.export.precision import to_half


def _run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def _products(weights):
    """x -> tanh(relu(x @ w1) @ w2 ...), in float32."""
    nodes, tensors, name = [], [], "x"
    for number, weight in enumerate(weights):
        tensors.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"m{number}"], name=f"m{number}"))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"r{number}"], name=f"r{number}"))
        name = f"r{number}"
    nodes.append(helper.make_node("Tanh", [name], ["y"], name="y"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@given(st.integers(0, 2**16), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_it_computes_what_numpy_computes_with_every_half_tensor_rounded(seed, depth):
    random = np.random.default_rng(seed)
    weights = [random.standard_normal((8, 8)).astype(np.float32) for _ in range(depth)]
    x = random.standard_normal((4, 8)).astype(np.float32)
    typed, _ = to_half(_products(weights))
    rounded = x.astype(np.float16)
    for weight in weights:
        exact = rounded.astype(np.float32) @ weight.astype(np.float16).astype(np.float32)
        rounded = np.maximum(exact.astype(np.float16), np.float16(0))
    # The order of a sum may move it over the border between two half values, rarely.
    np.testing.assert_allclose(_run(as_device(typed), x=x), np.tanh(rounded.astype(np.float32)), atol=2e-3)
    one_layer = _run(as_device(to_half(_products(weights[:1]))[0]), x=x)
    levels = np.arctanh(np.clip(one_layer.astype(np.float64), -0.99, 0.99))
    expected = np.maximum(
        (x.astype(np.float16).astype(np.float32) @ weights[0].astype(np.float16).astype(np.float32)).astype(np.float16),
        0,
    ).astype(np.float64)
    inside = expected < 2
    assert np.mean(np.abs(levels - expected)[inside] < 1e-5) > 0.9


def test_onnx_runtime_alone_does_not_round_between_operators():
    """The reason for this module; where this fails, it is no longer needed."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal((8, 8)).astype(np.float32) for _ in range(6)]
    x = random.standard_normal((64, 8)).astype(np.float32)
    model = _products(weights)
    typed, _ = to_half(model)
    exact = _run(model, x=x)
    as_run, rounded = (np.square(_run(each, x=x) - exact).mean() for each in (typed, as_device(typed)))
    assert as_run < 0.9 * rounded


def test_float32_graphs_are_left_as_they_are():
    model = _products([np.eye(8, dtype=np.float32)])
    assert as_device(model) is model


def test_values_beyond_half_become_infinite_as_on_a_device():
    typed, _ = to_half(_products([np.full((8, 8), 3e4, np.float32)]))
    x = np.ones((1, 8), np.float32)
    marked = round_like_half(typed)
    marked.graph.output.append(helper.make_tensor_value_info("m0", TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(marked.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.isinf(session.run(["m0"], {"x": x})[0]).all()


@pytest.mark.parametrize("masks", [False, True])
def test_loops_are_rounded_inside_and_keep_their_types(actor, masks):
    from vidgen.export.pipeline import write_path

    generator = actor()
    interface = generator.config.interface("uint8", masks=masks)
    model = write_path(generator, interface, "tensorrt", "custom", opset=20, name="t", metadata={})
    typed, _ = to_half(model, recurrent=True)
    result = as_device(typed)
    check(result)
    bodies = [a.g for node in result.graph.node for a in node.attribute if a.name == "body"]
    casts = [node for node in bodies[0].node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16]
    assert len(casts) > 50
    names = [node.name for node in (*result.graph.node, *bodies[0].node)]
    assert len(set(names)) == len(names)
    halves = [t.name for g in (result.graph, bodies[0]) for t in g.initializer if t.data_type == TensorProto.FLOAT16]
    assert not halves and onnx.load_from_string(typed.SerializeToString()) == typed
