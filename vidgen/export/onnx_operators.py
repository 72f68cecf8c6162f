"""How each torch operation of our generators is written in ONNX; ``to_onnx`` looks them up here."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import vidgen.plugins.sepconv_trt.op  # noqa: F401 - registers the operator

if TYPE_CHECKING:
    from vidgen.export.to_onnx import Writer


@dataclass(frozen=True)
class Dimension:
    """A size known only at run time: the name of an int64 tensor [1]."""

    name: str


@dataclass(frozen=True)
class Padded:
    """A tensor whose zero padding is left to the convolutions that use it; ``pads`` in ONNX order."""

    name: str
    pads: tuple[int, ...]


def at_step(sequence: Tensor, iteration: Tensor) -> Tensor:
    """Element ``iteration`` (int64 scalar) of a sequence [S, ...]; whoever traces it wraps it, as one operation."""
    return sequence.index_select(0, iteration.reshape(1)).squeeze(0)


#: Our operator in ONNX (contracts 4).
DOMAIN, SEPARABLE = "vidgen", "SeparableConvolution"
#: The end of a slice that goes to the end.
_END = 2**31 - 1
Handler = Callable[["Writer", fx.Node], Any]
#: Torch functions, names of tensor methods, and classes of modules that have an ONNX form here; layers with weights
#: have theirs in ``onnx_layers``.
FUNCTIONS: dict[Any, Handler] = {}
METHODS: dict[str, Handler] = {}
MODULES: dict[type[nn.Module], Handler] = {}


def _writes(*targets: Any) -> Callable[[Handler], Handler]:
    """Register a handler for functions, tensor methods (by name) and modules (by class)."""

    def register(handler: Handler) -> Handler:
        for target in targets:
            if isinstance(target, str):
                METHODS[target] = handler
            elif isinstance(target, type):
                MODULES[target] = handler
            else:
                FUNCTIONS[target] = handler
        return handler

    return register


def _arguments(writer: Writer, node: fx.Node, **defaults: Any) -> list[Any]:
    """Arguments after the first, by position or name, with their defaults; operations replaced."""
    given = dict(zip(defaults, node.args[1:]))
    return [writer.argument({**defaults, **given, **node.kwargs}[name]) for name in defaults]


def _elementwise(kind: str) -> Handler:
    def handler(writer: Writer, node: fx.Node) -> str:
        return writer.emit(node, kind, [writer.name(node.args[0])])

    return handler


def _elementwise_pair(kind: str) -> Handler:
    def handler(writer: Writer, node: fx.Node) -> str:
        return writer.emit(node, kind, [writer.name(node.args[0]), writer.name(node.args[1])])

    return handler


for _kind, _targets in {
    "Relu": (torch.relu, nn.ReLU),
    "Tanh": (torch.tanh, nn.Tanh),
    "Sigmoid": (torch.sigmoid,),
    "Round": ("round",),
}.items():
    _writes(*_targets)(_elementwise(_kind))


@_writes("mean")
def _mean(writer: Writer, node: fx.Node) -> str:
    axes, keep = _arguments(writer, node, dim=None, keepdim=False)
    axes = [axis % writer.rank(node.args[0]) for axis in ([axes] if isinstance(axes, int) else axes)]
    return writer.emit(node, "ReduceMean", [writer.name(node.args[0]), writer.ints(axes)], keepdims=int(keep))


@_writes(nn.Identity, "contiguous")
def _same(writer: Writer, node: fx.Node) -> Any:
    return writer.argument(node.args[0])


def _arithmetic(kind: str, compute: Callable[[int, int], int]) -> Handler:
    def handler(writer: Writer, node: fx.Node) -> Any:
        left, right = writer.argument(node.args[0]), writer.argument(node.args[1])
        if isinstance(left, int) and isinstance(right, int):
            return compute(left, right)
        if isinstance(left, Dimension) or isinstance(right, Dimension):
            sides = [side.name if isinstance(side, Dimension) else writer.ints([side]) for side in (left, right)]
            return Dimension(writer.emit(node, kind, sides))
        return writer.emit(node, kind, [writer.name(node.args[0]), writer.name(node.args[1])])

    return handler


_writes(operator.add)(_arithmetic("Add", operator.add))
_writes(operator.sub)(_elementwise_pair("Sub"))
_writes(operator.mul)(_arithmetic("Mul", operator.mul))
_writes(operator.floordiv)(_arithmetic("Div", operator.floordiv))
_writes(operator.truediv)(_elementwise_pair("Div"))


@_writes(operator.gt)
def _greater(writer: Writer, node: fx.Node) -> str:
    bound = writer.graph.constant(node.args[1], "int64")
    return writer.emit(node, "Greater", [writer.name(node.args[0]), bound])


@_writes(torch.where)
def _where(writer: Writer, node: fx.Node) -> str:
    return writer.emit(node, "Where", [writer.name(value) for value in node.args])


@_writes(torch.addmm)
def _addmm(writer: Writer, node: fx.Node) -> str:
    added, left, right = (writer.name(value) for value in node.args)
    return writer.emit(node, "Gemm", [left, right, added])


@_writes(functional.embedding)
def _embedding(writer: Writer, node: fx.Node) -> str:
    index, table = (writer.name(value) for value in node.args)
    return writer.emit(node, "Gather", [table, index], axis=0)


@_writes(at_step)
def _at_step(writer: Writer, node: fx.Node) -> str:
    return writer.emit(node, "Gather", [writer.name(value) for value in node.args], axis=0)


@_writes(torch.ops.vidgen.separable_convolution)
def _separable_convolution(writer: Writer, node: fx.Node) -> str:
    return writer.emit(node, SEPARABLE, [writer.name(value) for value in node.args], domain=DOMAIN)


@_writes(operator.matmul, torch.matmul)
def _matmul(writer: Writer, node: fx.Node) -> str:
    return writer.emit(node, "MatMul", [writer.name(node.args[0]), writer.name(node.args[1])])


@_writes(torch.softmax)
def _softmax(writer: Writer, node: fx.Node) -> str:
    (axis,) = _arguments(writer, node, dim=-1)
    return writer.emit(node, "Softmax", [writer.name(node.args[0])], axis=axis % writer.rank(node))


@_writes("clamp")
def _clamp(writer: Writer, node: fx.Node) -> str:
    low, high = (writer.graph.constant(bound, "float32") for bound in _arguments(writer, node, min=None, max=None))
    return writer.emit(node, "Clip", [writer.name(node.args[0]), low, high])


@_writes("to")
def _to(writer: Writer, node: fx.Node) -> str:
    import onnx

    (dtype,) = _arguments(writer, node, dtype=None)
    kind = {torch.uint8: onnx.TensorProto.UINT8, torch.float32: onnx.TensorProto.FLOAT}[dtype]
    return writer.emit(node, "Cast", [writer.name(node.args[0])], to=kind)


@_writes(getattr)
def _attribute(writer: Writer, node: fx.Node) -> Any:
    source, attribute = node.args
    assert isinstance(source, fx.Node) and attribute == "shape", f"unknown attribute {attribute}"
    return [writer.dimension(source, axis) for axis in range(writer.rank(source))]


@_writes(operator.getitem)
def _item(writer: Writer, node: fx.Node) -> Any:
    source, index = node.args
    value, places = writer.argument(source), writer.argument(index)
    if isinstance(value, list):
        return value[places]
    cuts: list[tuple[int, int, int]] = []  # start, end, axis
    dropped: list[int] = []
    added: list[int] = []
    axis = 0
    for place in places if isinstance(places, list) else [places]:
        if place is None:
            added.append(axis - len(dropped) + len(added))
            continue
        if isinstance(place, int):
            dropped.append(axis)
            cuts.append((place, place + 1 if place != -1 else _END, axis))
        elif place != slice(None):
            cuts.append((place.start or 0, _END if place.stop is None else place.stop, axis))
        axis += 1
    name = writer.name(source)
    if cuts:
        starts, ends, axes = (writer.ints(column) for column in zip(*cuts, strict=True))
        name = writer.emit(node, "Slice", [name, starts, ends, axes])
    if dropped:
        name = writer.emit(node, "Squeeze", [name, writer.ints(dropped)])
    if added:
        name = writer.emit(node, "Unsqueeze", [name, writer.ints(added)])
    return name


@_writes("permute", "transpose")
def _permute(writer: Writer, node: fx.Node) -> str:
    rank, axes = writer.rank(node), [writer.argument(axis) for axis in node.args[1:]]
    order = list(range(rank))
    if node.target == "transpose":
        first, second = (axis % rank for axis in axes)
        order[first], order[second] = second, first
    else:
        order = [axis % rank for axis in axes]
    return writer.emit(node, "Transpose", [writer.name(node.args[0])], perm=order)


@_writes("reshape", "view", "flatten", "squeeze")
def _reshape(writer: Writer, node: fx.Node) -> str:
    given = [writer.argument(size) for size in node.args[1:]] if node.target in ("reshape", "view") else None
    return writer.reshape(node, node.args[0], given)


@_writes("expand")
def _expand(writer: Writer, node: fx.Node) -> str:
    sizes = [1 if size == -1 else size for size in (writer.argument(size) for size in node.args[1:])]
    return writer.emit(node, "Expand", [writer.name(node.args[0]), writer.shape(node, sizes)])


@_writes(torch.ones)
def _ones(writer: Writer, node: fx.Node) -> str:
    one = writer.graph.constant([1.0], "float32")
    return writer.emit(node, "Expand", [one, writer.shape(node, [writer.argument(size) for size in node.args])])


@_writes("new_ones", "new_zeros")
def _new(writer: Writer, node: fx.Node) -> str:
    value = writer.graph.constant([1.0 if node.target == "new_ones" else 0.0], "float32")
    return writer.emit(node, "Expand", [value, writer.shape(node, writer.argument(node.args[1]))])


@_writes("chunk")
def _chunk(writer: Writer, node: fx.Node) -> list[str]:
    pieces, axis = _arguments(writer, node, chunks=1, dim=0)
    source = node.args[0]
    axis %= writer.rank(source)
    names = [writer.name(source)]
    return writer.graph.node("Split", names, writer.scope(node), outputs=pieces, axis=axis, num_outputs=pieces)


@_writes(torch.cat, torch.stack)
def _cat(writer: Writer, node: fx.Node) -> str:
    (axis,) = _arguments(writer, node, dim=0)
    axis %= writer.rank(node)
    parts = node.args[0]
    assert isinstance(parts, tuple | list)
    names = [writer.name(part) for part in parts]
    if node.target is torch.stack:
        names = [writer.emit(node, "Unsqueeze", [name, writer.ints([axis])]) for name in names]
    return writer.emit(node, "Concat", names, axis=axis)


@_writes(functional.pad)
def _pad(writer: Writer, node: fx.Node) -> str | Padded:
    pairs, mode = _arguments(writer, node, pad=None, mode="constant")
    rank = writer.rank(node)
    before, after = [0] * rank, [0] * rank
    for index in range(len(pairs) // 2):
        before[rank - 1 - index], after[rank - 1 - index] = pairs[2 * index], pairs[2 * index + 1]
    name = writer.name(node.args[0])
    if mode == "replicate":
        return writer.emit(node, "Pad", [name, writer.ints(before + after)], mode="edge")
    to_convolutions = all(
        user.op == "call_module" and isinstance(writer.traced.get_submodule(str(user.target)), nn.Conv2d)
        for user in node.users
    )
    if to_convolutions and not any(before[:2] + after[:2]):
        return Padded(name, (*before[2:], *after[2:]))
    return writer.emit(node, "Pad", [name, writer.ints(before + after)])
