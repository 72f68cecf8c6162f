"""Half precision by rewriting the graph: every tensor is typed, and what must stay float32 is listed here.

TensorRT 11 has no weak typing: a graph is half where its tensors are half. So nothing is left to a builder's
choice, and the share of half is counted on the finished graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from vidgen._imports import require
from vidgen.errors import ExportError
from vidgen.export.onnx_graph import check, graphs
from vidgen.runtime.manifest import Precision

#: Operators that stay float32, and why: half has steps of 1/16 grey level near white.
KEPT_OPERATORS = {
    "Softmax": "sums up to 1024 exponentials",
    "Tanh": "makes the grey levels",
}
#: Everything after these operators stays float32.
KEPT_AFTER = ("Tanh",)
#: What of TwoStreamVAN stays float32, by the names of its parts, and why: an error in what a step hands to the next
#: grows from frame to frame.
RECURRENT_SCOPES = {
    "opening": "handed from step to step",
    "opening.recurrence.*": "the recurrent state",
    "step": "handed from step to step",
    "step.recurrence*": "the recurrent state",
    "*.decoder.fusion64": "the frame, handed to the next step",
    "video": "the pixels",
    "mask_*": "the masks as they are given out",
}
#: And these operators in its decoder.
RECURRENT_OPERATORS = {"*.decoder.*/Tanh": "the frame, handed to the next step"}
#: Why a node stays float32 that a keep-list names.
LISTED = "keep-list"
#: The rule of nodes that hold a graph, such as loops. They are no layers.
BODY = ("body", "hands on what its body makes")
#: Below this share of half tensors the rewrite has failed, whatever it says.
SMALLEST_SHARE = 0.5


def to_half(model: Any, *, recurrent: bool = False, keep: Iterable[str] = ()) -> tuple[Any, Precision]:
    """A copy of a float32 graph in half precision; inputs and outputs, of loops too, keep their types.

    Args:
        model: a checked ModelProto with float32 tensors only, besides integers and booleans.
        recurrent: TwoStreamVAN's sampling path, for which other nodes stay float32.
        keep: names of nodes, or of parts of the model (``fsa``: every node below it; ``block4/``: its own nodes, not
            those of its parts), that stay float32 too.

    Raises:
        ExportError: a weight does not fit into half precision, or less than half of the tensors became half.
    """
    result, precision = type_graph(model, recurrent=recurrent, keep=keep)
    check(result)
    if precision.half_share < SMALLEST_SHARE:
        share = f"{precision.half_share:.0%} of floating-point tensors are half"
        raise ExportError(
            "the half-precision graph is not half",
            seen=f"{share}, expected at least {SMALLEST_SHARE:.0%}",
            cause="the list of what stays float32 is too long"
            if precision.kept_nodes
            else "a defect of this version of vidgen: most operations were kept in float32",
            fix="export without --fp16",
        )
    return result, precision


def type_graph(model: Any, *, recurrent: bool, keep: Iterable[str]) -> tuple[Any, Precision]:
    """As :func:`to_half`, whatever the share and unchecked: what a search tries on its way."""
    onnx = require("onnx", "write half-precision graphs")
    keep = tuple(sorted(keep))
    typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    caster = _Caster(onnx, typed.graph, recurrent, keep)
    caster.run()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    caster.replace(result.graph)
    return result, Precision("float16", round(half_share(result), 4), tuple(sorted(caster.kept)), keep)


def half_share(model: Any) -> float:
    """The share of floating-point tensors (weights and results of nodes) that are held in half, 0..1."""
    onnx = require("onnx", "read .onnx files")
    typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    kinds = []
    for graph in graphs(typed.graph):
        kinds += [tensor.data_type for tensor in graph.initializer]
        kinds += [value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)]
    floats = [kind for kind in kinds if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]
    return floats.count(onnx.TensorProto.FLOAT16) / len(floats) if floats else 0.0


def rules_for(graph: Any, *, recurrent: bool, keep: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """The nodes of one graph that stay float32, each with the rule it stays by and the reason for the rule."""
    rules: dict[str, tuple[str, str]] = {}
    after: set[str] = set()
    for node in graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            # What goes into a graph inside, and comes out of it, has the types it had.
            rules[node.name] = BODY
            continue
        rule = _recurrent_rule(node) if recurrent else _rule(node, after)
        listed = next((entry for entry in keep if is_below(node.name, entry)), None)
        if rule is not None or listed is not None:
            rules[node.name] = rule or (listed or "", LISTED)
    return rules


def is_below(name: str, entry: str) -> bool:
    """Whether a keep-list's entry names a node: by its name, a part of the model it is in, or its own part (``a/``)."""
    scope = name.rpartition("/")[0]
    return entry in (name, scope, f"{scope}/") or scope.startswith(f"{entry}.")


def _rule(node: Any, after: set[str]) -> tuple[str, str] | None:
    """The rule for a node of a model without recurrence; ``after`` gathers the tensors after the last operators."""
    follows = any(name in after for name in node.input)
    if follows or node.op_type in KEPT_AFTER:
        after.update(node.output)
    if follows:
        return "after " + ", ".join(KEPT_AFTER), "the grey levels"
    return (node.op_type, KEPT_OPERATORS[node.op_type]) if node.op_type in KEPT_OPERATORS else None


def _recurrent_rule(node: Any) -> tuple[str, str] | None:
    """The rule for a node of TwoStreamVAN's sampling path."""
    scope = node.name.rpartition("/")[0]
    found = [(rule, why) for rule, why in RECURRENT_SCOPES.items() if fnmatchcase(scope, rule)]
    found += [(rule, why) for rule, why in RECURRENT_OPERATORS.items() if fnmatchcase(node.name, rule)]
    return found[0] if found else None


@dataclass
class _Caster:
    """Walks over a graph in order; ``_half`` names the tensors that are half in the new graph.

    Attributes:
        outer: the caster of the graph that this one is the body of a loop in.
    """

    onnx: Any
    graph: Any
    recurrent: bool
    keep: tuple[str, ...] = ()
    outer: _Caster | None = None
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    _half: set[str] = field(default_factory=set)
    _casts: dict[tuple[str, bool], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._weights = {tensor.name: tensor for tensor in self.graph.initializer}
        values = (*self.graph.input, *self.graph.value_info, *self.graph.output)
        self._floats = {
            value.name for value in values if value.type.tensor_type.elem_type == self.onnx.TensorProto.FLOAT
        }
        self._floats |= {
            name for name, tensor in self._weights.items() if tensor.data_type == self.onnx.TensorProto.FLOAT
        }
        # Casts in a body must not bear the names of casts around it.
        self._suffix = ".body" if self.outer else ""
        if self.outer:
            self._floats |= self.outer._floats
            self._half |= self.outer._half
            self.kept = self.outer.kept

    def run(self) -> None:
        """Rewrite all nodes; afterwards outputs have the types they had."""
        rules = rules_for(self.graph, recurrent=self.recurrent, keep=self.keep)
        self.kept |= {rule for rule, why in rules.values() if why != LISTED and rule != BODY[0]}
        outputs = {value.name for value in self.graph.output}
        for source in self.graph.node:
            node = self.onnx.NodeProto()
            node.CopyFrom(source)
            self._run_bodies(node)
            half = source.name not in rules and any(name in self._floats for name in (*node.input, *node.output))
            for index, name in enumerate(node.input):
                # An operand left out has no name.
                node.input[index] = self._as(name, half) if name in self._floats else self._plain(name)
            self.nodes.append(node)
            for index, name in enumerate(node.output):
                if not half or name not in self._floats:
                    continue
                if name in outputs:
                    node.output[index] = self._casts[name, True] = f"{name}/half{self._suffix}"
                    self._append_cast(node.output[index], name, half=False)
                else:
                    self._half.add(name)

    def _run_bodies(self, node: Any) -> None:
        """Rewrite the graphs inside of a node; what they take from here is typed already."""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = _Caster(self.onnx, attribute.g, self.recurrent, self.keep, self)
                inner.run()
                inner.replace(attribute.g)

    def replace(self, graph: Any) -> None:
        """Put the new nodes and initialisers in the place of a graph's."""
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers.values())

    def _plain(self, name: str) -> str:
        """A tensor as it was."""
        if name in self._weights:
            self.initializers.setdefault(name, self._weights[name])
        elif self.outer:
            self.outer._plain(name)
        return name

    def _as(self, name: str, half: bool) -> str:
        """A floating-point tensor in the precision a node wants, cast where it is held in the other."""
        if self._owner(name) is not None:
            return self._half_weight(name) if half else self._plain(name)
        if (name in self._half) == half:
            return name
        key = (name, half)
        if key not in self._casts:
            self._casts[key] = f"{name}/{'half' if half else 'float'}{self._suffix}"
            self._append_cast(name, self._casts[key], half=half)
        return self._casts[key]

    def _owner(self, name: str) -> _Caster | None:
        """The caster of the graph that a weight is in; None for other tensors."""
        return self if name in self._weights else self.outer._owner(name) if self.outer else None

    def _append_cast(self, source: str, result: str, *, half: bool) -> None:
        kind = self.onnx.TensorProto.FLOAT16 if half else self.onnx.TensorProto.FLOAT
        # Not the name of the result: where that is an output, it is the name of the node that made it.
        self.nodes.append(
            self.onnx.helper.make_node("Cast", [source], [result], name=f"{source}/cast/{kind}{self._suffix}", to=kind)
        )

    def _half_weight(self, name: str) -> str:
        """A weight rounded to half, under another name: some node may want it in float32 too."""
        owner = self._owner(name)
        assert owner is not None
        if owner is not self:
            return owner._half_weight(name)
        renamed = f"{name}/half"
        if renamed in self.initializers:
            return renamed
        value = self.onnx.numpy_helper.to_array(self._weights[name])
        with np.errstate(over="ignore"):
            rounded = value.astype(np.float16)
        if not np.array_equal(np.isfinite(rounded), np.isfinite(value)):
            raise ExportError(
                "cannot write this network in half precision",
                seen=f"{name} holds {np.abs(value).max():.4g}, expected at most 65504",
                cause="the weight is too large for half precision",
                fix="export without --fp16",
            )
        self.initializers[renamed] = self.onnx.numpy_helper.from_array(rounded, renamed)
        return renamed
