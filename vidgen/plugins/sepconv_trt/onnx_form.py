"""Separable convolution in ONNX: the node, its function body in standard operators, and models without either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vidgen._imports import require
from vidgen.errors import ExportError

DOMAIN = "vidgen"
NAME = "SeparableConvolution"
VERSION = 1
#: The first operator set whose operators are written here.
FIRST_OPSET = 18
#: Up to this many taps the body is K x K slices; beyond it, one pass per row of taps.
LARGEST_SLICED = 13


def make_node(input: str, vertical: str, horizontal: str, output: str, name: str = "") -> Any:
    """A ``vidgen::SeparableConvolution`` node between named values (contracts 4: no attributes).

    Args:
        input: [N, C, H + K - 1, W + K - 1]. vertical, horizontal: [N, K, H, W]. output: [N, C, H, W].
    """
    helper = require("onnx.helper", "write .onnx files")
    return helper.make_node(NAME, [input, vertical, horizontal], [output], name=name, domain=DOMAIN)


def make_function(taps: int, opset: int) -> Any:
    """The function body for kernels of ``taps`` taps: any N, C, H, W and any floating type.

    Up to 13 taps it is K x K times Slice, Mul, Add. Beyond, all columns of taps are laid side by side once (K times
    the input in memory) and each row of taps is one Mul and one ReduceSum: 5 K nodes instead of 3 K x K.

    Args:
        taps: K, odd. opset: of the model, 18 or later.

    Raises:
        ExportError: K is not odd and positive, or the operator set is older.
    """
    if taps < 1 or taps % 2 == 0:
        raise _refused(
            f"{taps} taps, expected an odd number", "kernels are centred on a pixel", "use an odd kernel size"
        )
    if opset < FIRST_OPSET:
        raise _refused(
            f"operator set {opset}, expected {FIRST_OPSET} or later", "an old one was asked for", "--opset 20"
        )
    helper = require("onnx.helper", "write .onnx files")
    body = _Body(taps)
    if taps <= LARGEST_SLICED:
        _write_sliced(body)
    else:
        _write_rows(body)
    return helper.make_function(
        DOMAIN,
        NAME,
        ["input", "vertical", "horizontal"],
        ["output"],
        body.nodes,
        [helper.make_opsetid("", opset)],
        doc_string=f"Separable convolution with {taps} taps.",
    )


def add_function(model: Any, taps: int) -> None:
    """Make a model that uses the operator self-sufficient: append the function body and import the domain.

    An earlier body is replaced. Models need IR version 8 or later for functions; it is raised where it is older.

    Raises:
        ExportError: a node's kernels are known to have another number of taps (one body serves one number), or as
            ``make_function``.
    """
    helper = require("onnx.helper", "write .onnx files")
    check_taps(model, taps)
    function = make_function(taps, _opset(model))
    _remove_function(model)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    model.ir_version = max(model.ir_version, 8)


def check_taps(model: Any, taps: int) -> None:
    """Raise unless every node whose kernels have a known shape has ``taps`` taps.

    Shapes are those that the model states (inputs, initialisers, value infos), in its graph and all bodies within.

    Raises:
        ExportError: a node has another number of taps.
    """
    known: dict[str, int] = {}
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            shape = value.type.tensor_type.shape.dim
            if len(shape) == 4 and shape[1].HasField("dim_value"):
                known[value.name] = shape[1].dim_value
        known.update({tensor.name: tensor.dims[1] for tensor in graph.initializer if len(tensor.dims) == 4})
        for node in filter(_is_ours, graph.node):
            for kernel in node.input[1:]:
                if known.get(kernel, taps) != taps:
                    raise _refused(
                        f"{kernel} of node {node.name or node.output[0]} has {known[kernel]} taps, expected {taps}",
                        "one function body serves one kernel size",
                        "give all separable convolutions of a model the same kernel size",
                    )


def uses_operator(model: Any) -> bool:
    """Whether a model, or a body within it, has a node of ours."""
    return any(_is_ours(node) for graph in _graphs(model.graph) for node in graph.node)


def inline_standard(model: Any) -> Any:
    """A copy of the model in standard operators: each node of ours replaced by the function body, in subgraphs too.

    Raises:
        ExportError: it has nodes of ours but not the function body.
    """
    onnx = require("onnx", "rewrite .onnx files")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    function = next((each for each in result.functions if _names_ours(each.domain, each.name)), None)
    if function is None and uses_operator(result):
        raise _refused(
            f"no function body of {DOMAIN}::{NAME} in the file",
            "it was not written by vidgen, or the body was removed",
            "export it again: vidgen export CHECKPOINT.safetensors -o OUT.onnx --sepconv standard",
        )
    for number, graph in enumerate(_graphs(result.graph)):
        if any(map(_is_ours, graph.node)):
            _inline_graph(graph, function, f"sepconv.{number}")
    _remove_function(result)
    return result


def _inline_graph(graph: Any, function: Any, prefix: str) -> None:
    """Replace the nodes of one graph; constants are written once and shared by all its calls."""
    constants = [node for node in function.node if node.op_type == "Constant"]
    shared = {name: f"{prefix}.{name}" for node in constants for name in node.output}
    nodes = [_renamed(node, shared, f"{prefix}/") for node in constants]
    for call, node in enumerate(graph.node):
        if not _is_ours(node):
            nodes.append(node)
            continue
        scope = f"{node.name or f'{prefix}.{call}'}/"
        names = shared | dict(zip(function.input, node.input)) | dict(zip(function.output, node.output))
        for inner in function.node:
            for name in inner.output:
                names.setdefault(name, f"{prefix}.{call}.{name}")
        nodes += [_renamed(inner, names, scope) for inner in function.node if inner.op_type != "Constant"]
    del graph.node[:]
    graph.node.extend(nodes)


def _renamed(node: Any, names: dict[str, str], scope: str) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.name = scope + node.name
    for values in (copy.input, copy.output):
        for index, value in enumerate(values):
            values[index] = names[value]
    return copy


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and every graph within its nodes, outer ones first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _is_ours(node: Any) -> bool:
    return _names_ours(node.domain, node.op_type)


def _names_ours(domain: str, name: str) -> bool:
    return (domain, name) == (DOMAIN, NAME)


def _remove_function(model: Any) -> None:
    """Drop the function body and the import of the domain."""
    for index in reversed(range(len(model.functions))):
        if _names_ours(model.functions[index].domain, model.functions[index].name):
            del model.functions[index]
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain == DOMAIN:
            del model.opset_import[index]


def _opset(model: Any) -> int:
    return next((int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)


def _refused(seen: str, cause: str, fix: str) -> ExportError:
    return ExportError("cannot write separable convolution as ONNX", seen=seen, cause=cause, fix=fix)


class _Body:
    """Collects the nodes of a function body; functions have no initialisers, so constants are nodes."""

    def __init__(self, taps: int) -> None:
        self._helper = require("onnx.helper", "write .onnx files")
        self.taps = taps
        self.nodes: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        name = f"{kind}.{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), list(outputs), name=name, **attributes))

    def constant(self, name: str, values: Sequence[int]) -> str:
        self.node("Constant", [], [name], value_ints=list(values))
        return name

    def split(self, kernel: str) -> list[str]:
        """The taps of a kernel, each [N, 1, H, W]; sizes are given, so that another number of taps is an error."""
        names = [f"{kernel}.{tap}" for tap in range(self.taps)]
        self.node("Split", [kernel, "one_each"], names, axis=1)
        return names

    def end(self, tap: int) -> int:
        """Where the window of a tap ends, counted from the end of the axis, so that no size need be known."""
        return tap - (self.taps - 1) if tap < self.taps - 1 else 2**63 - 1


def _write_sliced(body: _Body) -> None:
    body.constant("one_each", [1] * body.taps)
    body.constant("axes", [2, 3])
    vertical, horizontal = body.split("vertical"), body.split("horizontal")
    total = ""
    for y in range(body.taps):
        row = ""
        for x in range(body.taps):
            at = f"{y}.{x}"
            starts, ends = (
                body.constant(f"starts.{at}", [y, x]),
                body.constant(f"ends.{at}", [body.end(y), body.end(x)]),
            )
            body.node("Slice", ["input", starts, ends, "axes"], [f"window.{at}"])
            row = _add(body, row, (f"window.{at}", horizontal[x]), f"row.{at}")
        total = _add(body, total, (row, vertical[y]), "output" if y == body.taps - 1 else f"total.{y}")


def _write_rows(body: _Body) -> None:
    body.constant("one_each", [1] * body.taps)
    for name, values in (("rows", [2]), ("columns", [3]), ("taps", [3]), ("channels", [1])):
        body.constant(name, values)
    starts = [body.constant(f"start.{tap}", [tap]) for tap in range(body.taps)]
    ends = [body.constant(f"end.{tap}", [body.end(tap)]) for tap in range(body.taps)]
    for x in range(body.taps):
        body.node("Slice", ["input", starts[x], ends[x], "columns"], [f"column.{x}"])
        body.node("Unsqueeze", [f"column.{x}", "taps"], [f"wide.{x}"])
    body.node("Concat", [f"wide.{x}" for x in range(body.taps)], ["windows"], axis=3)
    body.node("Transpose", ["horizontal"], ["turned"], perm=[0, 2, 1, 3])
    body.node("Unsqueeze", ["turned", "channels"], ["weights"])
    vertical = body.split("vertical")
    total = ""
    for y in range(body.taps):
        body.node("Slice", ["windows", starts[y], ends[y], "rows"], [f"window.{y}"])
        body.node("Mul", [f"window.{y}", "weights"], [f"product.{y}"])
        body.node("ReduceSum", [f"product.{y}", "taps"], [f"row.{y}"], keepdims=0)
        total = _add(body, total, (f"row.{y}", vertical[y]), "output" if y == body.taps - 1 else f"total.{y}")


def _add(body: _Body, total: str, factors: tuple[str, str], name: str) -> str:
    """``total + factors``, or the product alone where there is no total yet; returns the name of the sum."""
    if not total:
        body.node("Mul", factors, [name])
        return name
    body.node("Mul", factors, [f"{name}.term"])
    body.node("Add", [total, f"{name}.term"], [name])
    return name
