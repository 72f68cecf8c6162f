"""Small ONNX files with nodes of ours, and what TensorRT-RTX makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import onnx
from onnx import TensorProto, helper

from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME, make_function, make_node

ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
TARGETS = "SM86", "SM89", "SM120"
CHANNELS = 3
SIZE = 8


def node_model(
    taps: int,
    dtype: str = "float32",
    *,
    dynamic: bool = False,
    halo: int | None = None,
    body: bool = False,
    name: str = NAME,
) -> bytes:
    """One node between inputs and output.

    Args:
        dynamic: with no size known but channels. halo: what the input has more than the output; ``taps - 1``.
        body: with the function body. name: of the operator.
    """
    inner, kernels = ("size", "k") if dynamic else (SIZE, taps)
    outer = "outer" if dynamic else SIZE + (taps - 1 if halo is None else halo)
    inputs = _values(dtype, input=outer, vertical=(kernels, inner), horizontal=(kernels, inner))
    node = make_node("input", "vertical", "horizontal", "output", "fusion")
    node.op_type = name
    graph = helper.make_graph([node], "one", inputs, _values(dtype, output=inner))
    return _model(graph, [make_function(taps, 18)] if body else [])


def loop_model(taps: int, dtype: str = "float32") -> bytes:
    """A node inside of a loop whose number of steps is an input, over an image that each step makes anew."""
    bare = helper.make_tensor_value_info("running", TensorProto.BOOL, [])
    edge = (taps - 1) // 2
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, edge, edge, 0, 0, edge, edge])
    body = helper.make_graph(
        [
            helper.make_node("Pad", ["image", "pads"], ["wide"]),
            make_node("wide", "vertical", "horizontal", "next", "fusion"),
            helper.make_node("Constant", [], ["still"], value=helper.make_tensor("true", TensorProto.BOOL, [], [True])),
        ],
        "step",
        [helper.make_tensor_value_info("step", TensorProto.INT64, []), bare, *_values(dtype, image=SIZE)],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), *_values(dtype, next=SIZE)],
    )
    loop = helper.make_node("Loop", ["steps", "", "input"], ["output"], body=body)
    inputs = _values(dtype, input=SIZE, vertical=(taps, SIZE), horizontal=(taps, SIZE))
    length = helper.make_tensor_value_info("latent", ELEMENTS[dtype], ["steps"])
    nodes = [
        helper.make_node("Shape", ["latent"], ["length"]),
        helper.make_node("Squeeze", ["length"], ["steps"]),
        loop,
    ]
    graph = helper.make_graph(nodes, "loop", [*inputs, length], _values(dtype, output=SIZE), [pads])
    return _model(graph, [])


def _values(dtype: str, **sizes: Any) -> list[Any]:
    """Four-axis values, square, batch dynamic: a size alone is of an image, a pair of taps and size of kernels."""
    made = []
    for name, size in sizes.items():
        axis, side = size if isinstance(size, tuple) else (CHANNELS, size)
        made.append(helper.make_tensor_value_info(name, ELEMENTS[dtype], ["batch", axis, side, side]))
    return made


def _model(graph: Any, functions: Sequence[Any]) -> bytes:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def build(
    rtx: ModuleType,
    model: bytes,
    shapes: dict[str, Sequence[Sequence[int]]] | None = None,
    targets: Sequence[str] = TARGETS,
) -> bytes | None:
    """Parse and build for some targets; None where TensorRT-RTX refuses.

    Args:
        shapes: smallest, usual and largest of dynamic inputs.
    """
    logger = rtx.Logger(rtx.Logger.INTERNAL_ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    if not parser.parse(model):
        return None
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(targets)
    for place, target in enumerate(targets):
        config.set_compute_capability(getattr(rtx.ComputeCapability, target), place)
    profile = builder.create_optimization_profile()
    for name, sizes in (shapes or {}).items():
        profile.set_shape(name, *sizes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


def node_shapes(taps: int, halo: int | None = None) -> dict[str, list[tuple[int, ...]]]:
    """A profile for ``node_model``: batches of 1 to 4."""
    outer = SIZE + (taps - 1 if halo is None else halo)
    sides = {"input": (CHANNELS, outer), "vertical": (taps, SIZE), "horizontal": (taps, SIZE)}
    return {name: [(batch, axis, side, side) for batch in (1, 2, 4)] for name, (axis, side) in sides.items()}
