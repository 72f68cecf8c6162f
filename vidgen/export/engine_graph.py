"""What a builder must know of an ONNX graph before its parser sees it: the parser ends the process on some graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidgen._imports import require
from vidgen.errors import ExportError
from vidgen.export.onnx_graph import graphs

#: Forms of the separable convolution that are nodes without a body.
PLUGINS = ("aot", "python", "library")
FORMS = ("", "inlined", *PLUGINS)
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class GraphFacts:
    """What was found.

    Attributes:
        operators: each standard operator -> a node that uses it, in bodies too.
        taps, dtypes: of the separable convolutions that a plugin must serve; 0 and () without any.
        weight_bytes: size of all floating-point weights.
    """

    operators: dict[str, str]
    taps: int
    dtypes: tuple[str, ...]
    weight_bytes: int


def read_graph(content: bytes, sepconv: str) -> GraphFacts:
    """Look through a serialised ONNX model.

    Args:
        sepconv: form of the separable convolution: ``""``, ``inlined``, ``python``, ``library`` or ``aot``.

    Raises:
        ExportError: an operator is neither standard, nor has a body in the file, nor is served by the form.
    """
    onnx = require("onnx", "read .onnx files")
    if sepconv not in FORMS:
        raise ValueError(f"form {sepconv!r}, expected one of {FORMS}")
    model = onnx.load_from_string(content)
    bodies = {(function.domain, function.name) for function in model.functions}
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    ours = []
    operators: dict[str, str] = {}
    for node in nodes:
        if node.domain in _STANDARD:
            operators.setdefault(node.op_type, node.name)
        elif (node.domain, node.op_type) not in bodies:
            if not _is_ours(node) or sepconv not in PLUGINS:
                raise _no_body(node, sepconv)
            ours.append(node)
    if sepconv in PLUGINS and not ours:
        raise _nothing_for(sepconv)
    taps, dtypes = _kernels(onnx, model, ours) if ours else (0, ())
    return GraphFacts(operators, taps, dtypes, _weight_bytes(onnx, model))


def _is_ours(node: Any) -> bool:
    from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME

    return (node.domain, node.op_type) == (DOMAIN, NAME)


def _kernels(onnx: Any, model: Any, ours: list[Any]) -> tuple[int, tuple[str, ...]]:
    """Number of taps and dtypes of our nodes, by shape inference."""
    typed = onnx.shape_inference.infer_shapes(model, check_type=True)
    values: dict[str, Any] = {}
    for graph in graphs(typed.graph):
        values |= {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    taps, dtypes = set(), set()
    for node in ours:
        kind = values[node.input[1]].type.tensor_type if node.input[1] in values else None
        if kind is None or len(kind.shape.dim) != 4 or not kind.shape.dim[1].dim_value:
            raise ExportError(
                "cannot build the separable convolution as a plugin",
                seen=f"node {node.name or node.output[0]} with kernels of unknown shape",
                cause="plugins are compiled for one number of taps",
                fix="export with --sepconv custom",
            )
        taps.add(int(kind.shape.dim[1].dim_value))
        dtypes.add(str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
    if len(taps) > 1:
        raise ExportError(
            "cannot build the separable convolution as a plugin",
            seen=f"kernels of {' and '.join(map(str, sorted(taps)))} taps in one model, expected one size",
            cause="plugins are compiled for one number of taps",
            fix="export with --sepconv custom",
        )
    return taps.pop(), tuple(sorted(dtypes))


def _weight_bytes(onnx: Any, model: Any) -> int:
    sizes = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2}
    total = 0
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            count = 1
            for size in tensor.dims:
                count *= size
            total += count * sizes.get(tensor.data_type, 0)
    return total


def _no_body(node: Any, sepconv: str) -> ExportError:
    plugin = "the engine was asked for without its plugin" if not sepconv else f"the form asked for is {sepconv}"
    return ExportError(
        "cannot build an engine from this graph",
        seen=f"operator {node.domain}::{node.op_type} (node {node.name or node.output[0]}) without a body in the file",
        cause=f"TensorRT has no such operator, and {plugin}",
        fix="export with --sepconv custom, which writes the body into the file",
    )


def _nothing_for(sepconv: str) -> ExportError:
    return ExportError(
        f"cannot build an engine with the {sepconv} form of the separable convolution",
        seen="no node of it without a body",
        cause="a body in the file goes before a plugin in TensorRT's parser, or the model has no such operator",
        fix="export with --sepconv plugin, or leave --sepconv out",
    )
