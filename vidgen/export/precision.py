"""Half precision by rewriting the graph: every tensor is typed, and what must stay float32 is listed here.

TensorRT 11 has no weak typing: a graph is half where its tensors are half. So nothing is left to a builder's
choice, and the share of half is counted on the finished graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from vidgen._imports import require
from vidgen.errors import ExportError
from vidgen.export.onnx_graph import check, graphs
from vidgen.runtime.manifest import Precision

#: Operators that stay float32: Softmax sums 1024 exponentials; Tanh and what follows it make the 8-bit levels, where
#: half has steps of 1/16 level. Keeping the attention scores, their projections or whole blocks in float32 as well
#: was measured and gained nothing.
KEPT_OPERATORS = ("Softmax", "Tanh")
#: Everything after these operators stays float32.
KEPT_AFTER = ("Tanh",)
#: What of TwoStreamVAN stays float32, by the names of its parts: all that a step hands to the next (frames, their
#: difference, the recurrent network), because an error there grows from frame to frame; and the pixels.
RECURRENT_SCOPES = (
    "opening",
    "opening.recurrence.*",
    "step",
    "step.recurrence*",
    "*.decoder.fusion64",
    "video",
    "mask_*",
)
#: And these operators in its decoder.
RECURRENT_OPERATORS = ("*.decoder.*/Tanh",)
#: Below this share of half tensors the rewrite has failed, whatever it says.
SMALLEST_SHARE = 0.5


def to_half(model: Any, *, recurrent: bool = False) -> tuple[Any, Precision]:
    """A copy of a float32 graph in half precision; inputs and outputs, of loops too, keep their types.

    Args:
        model: a checked ModelProto with float32 tensors only, besides integers and booleans.
        recurrent: TwoStreamVAN's sampling path, for which other nodes stay float32.

    Raises:
        ExportError: a weight does not fit into half precision, or less than half of the tensors became half.
    """
    onnx = require("onnx", "write half-precision graphs")
    typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    caster = _Caster(onnx, typed.graph, recurrent)
    caster.run()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    caster.replace(result.graph)
    check(result)
    share = half_share(result)
    if share < SMALLEST_SHARE:
        raise ExportError(
            "the half-precision graph is not half",
            seen=f"{share:.0%} of floating-point tensors are half, expected at least {SMALLEST_SHARE:.0%}",
            cause="a defect of this version of vidgen: most operations were kept in float32",
            fix="export without --fp16",
        )
    return result, Precision("float16", round(share, 4), tuple(sorted(caster.kept)))


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


@dataclass
class _Caster:
    """Walks over a graph in order; ``_half`` names the tensors that are half in the new graph.

    Attributes:
        outer: the caster of the graph that this one is the body of a loop in.
    """

    onnx: Any
    graph: Any
    recurrent: bool
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
        kept = self._kept_nodes()
        outputs = {value.name for value in self.graph.output}
        for source in self.graph.node:
            node = self.onnx.NodeProto()
            node.CopyFrom(source)
            self._run_bodies(node)
            half = not kept[source.name] and any(name in self._floats for name in (*node.input, *node.output))
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
                inner = _Caster(self.onnx, attribute.g, self.recurrent, self)
                inner.run()
                inner.replace(attribute.g)

    def replace(self, graph: Any) -> None:
        """Put the new nodes and initialisers in the place of a graph's."""
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers.values())

    def _stays(self, node: Any) -> str | None:
        """The rule of a recurrent model by which a node stays float32."""
        scope = node.name.rpartition("/")[0]
        rules = [rule for rule in RECURRENT_SCOPES if fnmatchcase(scope, rule)]
        rules += [rule for rule in RECURRENT_OPERATORS if fnmatchcase(node.name, rule)]
        return rules[0] if rules else None

    def _kept_nodes(self) -> dict[str, bool]:
        """For each node, whether it stays float32; notes the rules that applied."""
        if self.recurrent:
            rules = {node.name: "float32" if node.op_type == "Loop" else self._stays(node) for node in self.graph.node}
            self.kept |= {rule for rule in rules.values() if rule not in (None, "float32")}
            return {name: rule is not None for name, rule in rules.items()}
        kept: dict[str, bool] = {}
        after: set[str] = set()
        for node in self.graph.node:
            follows = any(name in after for name in node.input)
            if follows or node.op_type in KEPT_AFTER:
                after.update(node.output)
            if node.op_type in KEPT_OPERATORS:
                self.kept.add(node.op_type)
            if follows:
                self.kept.add("after " + ", ".join(KEPT_AFTER))
            kept[node.name] = follows or node.op_type in KEPT_OPERATORS
        return kept

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
        self.nodes.append(self.onnx.helper.make_node("Cast", [source], [result], name=result, to=kind))

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
