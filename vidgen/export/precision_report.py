"""Which layers of a typed graph are half, which stay float32, and by what rule or list."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

from vidgen._imports import require
from vidgen.export.onnx_graph import graphs
from vidgen.export.precision import BODY, LISTED, rules_for
from vidgen.runtime.manifest import Precision

#: Nodes that compute nothing in floating point, or only change the type.
NO_LAYERS = ("Cast", "Shape", "Constant", "Identity")


@dataclass(frozen=True)
class KeptLayer:
    """A node that stays float32: its name and operator, the ``rule`` or keep-list entry, and ``why``."""

    name: str
    operator: str
    rule: str
    why: str


@dataclass(frozen=True)
class PrecisionReport:
    """Layers (nodes with a floating-point result, casts left out) of a graph and of the graphs inside of it.

    Attributes:
        layers: how many there are. half: how many of them make half tensors.
        kept: those that do not, in the graph's order.
    """

    layers: int
    half: int
    kept: tuple[KeptLayer, ...] = ()

    @property
    def share(self) -> float:
        """The share of layers in half, 0..1."""
        return self.half / self.layers if self.layers else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.half} of {self.layers} layers are half ({self.share:.0%})"]
        counts = Counter((layer.rule, layer.why) for layer in self.kept)
        for (rule, why), count in counts.items():
            lines.append(f"  float32: {rule}, {count} {'layer' if count == 1 else 'layers'}: {why}")
        return "\n".join(lines)


def precision_report(model: Any, precision: Precision, *, recurrent: bool = False) -> PrecisionReport:
    """Count on a typed graph what is half, and name the rest.

    Args:
        model: as :func:`vidgen.export.precision.to_half` makes it, or a float32 graph. precision: from its manifest.
        recurrent: as for ``to_half``.
    """
    onnx = require("onnx", "read .onnx files")
    typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    layers, half = 0, 0
    kept: list[KeptLayer] = []
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for graph in graphs(typed.graph):
        types = {
            value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output, *graph.input)
        }
        rules = rules_for(graph, recurrent=recurrent, keep=precision.kept_nodes)
        for node in graph.node:
            made = {types.get(name) for name in node.output} & set(floats)
            if not made or node.op_type in NO_LAYERS or rules.get(node.name) == BODY:
                continue
            layers += 1
            if floats[1] in made:
                half += 1
                continue
            rule, why = rules.get(node.name, ("", "is between layers that stay float32"))
            if precision.kind == "float32":
                rule, why = "everything", "exported without --fp16"
            kept.append(
                KeptLayer(node.name, node.op_type, rule, f"{LISTED}: half is too coarse" if why == LISTED else why)
            )
    return PrecisionReport(layers, half, tuple(kept))
