"""A typed half-precision graph as a float32 graph that rounds where the typed one does, to see what half costs.

ONNX Runtime has no half kernels for most operators on a CPU: it computes them in float32 and *leaves out* the rounding
between one such operator and the next (its casts are named ``InsertedPrecisionFreeCast``). What it makes of a typed
graph is therefore better than what a device makes of it. Here every half tensor is rounded to half, sums are float32
as on tensor cores, and the result runs about as fast as the float32 graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vidgen._imports import require
from vidgen.export.onnx_graph import graphs
from vidgen.plugins.sepconv_trt.onnx_form import inline_standard

#: Operators that only move or choose values: of half values they make half values, there is nothing to round.
EXACT = frozenset({
    "Cast", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Max", "MaxPool", "Min", "Neg",
    "Pad", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
#: Operators whose results are not of the type of what they read.
UNTYPED = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Shape", "Size", "Loop", "If", "Scan"}
)


def as_device(model: Any) -> Any:
    """The float32 graph that computes what a device makes of a typed graph; a float32 graph is returned as it is.

    What is written for TensorRT has our own operator's function body inlined there, each of its operations rounded;
    where the file carries no body, or is for CPUs, a kernel runs that sums in float32.
    """
    onnx = require("onnx", "verify half-precision .onnx files")
    weights = (tensor for graph in graphs(model.graph) for tensor in graph.initializer)
    if all(tensor.data_type != onnx.TensorProto.FLOAT16 for tensor in weights):
        return model
    lowering = next((entry.value for entry in model.metadata_props if entry.key == "vidgen.lowering"), "")
    return round_like_half(inline_standard(model) if lowering == "tensorrt" and model.functions else model)


def round_like_half(model: Any) -> Any:
    """A copy in float32 in which each tensor that was half holds half-precision values.

    Args:
        model: a typed ModelProto as :func:`vidgen.export.precision.to_half` makes it. Operators with a function body
            are taken as one operation, summed in float32; inline them first where the device will.
    """
    onnx = require("onnx", "verify half-precision .onnx files")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for graph in graphs(result.graph):
        for index, tensor in enumerate(graph.initializer):
            if tensor.data_type == onnx.TensorProto.FLOAT16:
                value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
                graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    weights = {
        tensor.name
        for graph in graphs(model.graph)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT16
    }
    _round_graph(onnx, result.graph, weights)
    return result


def _round_graph(onnx: Any, graph: Any, outer: set[str]) -> None:
    """Rewrite one graph and those inside of it; ``outer`` names the tensors around it that were half."""
    half = set(outer)
    kinds = (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _round_graph(onnx, attribute.g, half)
        target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
        if node.op_type == "Cast" and target == kinds[1] and node.input[0] in half:
            node.CopyFrom(onnx.helper.make_node("Identity", list(node.input), list(node.output), name=node.name))
            nodes.append(node)
            continue
        made = _made_half(onnx, node, half)
        half.update(made)
        if not made or (node.op_type in EXACT and target is None):
            nodes.append(node)
            continue
        nodes += _rounded(onnx, node, made, kinds)
    copies = [onnx.NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes):
        copy.CopyFrom(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)


def _made_half(onnx: Any, node: Any, half: set[str]) -> list[str]:
    """Those of a node's results that are half in the typed graph."""
    results = [name for name in node.output if name]
    if node.op_type == "Cast":
        return results if node.attribute[0].i == onnx.TensorProto.FLOAT16 else []
    given = any(attribute.t.data_type == onnx.TensorProto.FLOAT16 for attribute in node.attribute)
    reads = node.op_type not in UNTYPED and any(name in half for name in node.input)
    return results if given or reads else []


def _rounded(onnx: Any, node: Any, made: list[str], kinds: tuple[int, int]) -> list[Any]:
    """The node with its results cast to half and back."""
    if node.op_type == "Cast":
        half = f"{node.output[0]}/rounded"
        back = onnx.helper.make_node("Cast", [half], [node.output[0]], name=f"{node.name}/back", to=kinds[1])
        node.output[0] = half
        return [node, back]
    nodes = [node]
    for index, name in enumerate(node.output):
        if name in made:
            node.output[index] = f"{name}/exact"
            for source, target, kind in zip(("exact", "rounded"), ("/rounded", ""), kinds):
                result = f"{name}{target}"
                nodes.append(
                    onnx.helper.make_node("Cast", [f"{name}/{source}"], [result], name=f"{result}/{source}", to=kind)
                )
    return nodes
