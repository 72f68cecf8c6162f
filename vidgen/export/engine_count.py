"""How much of a parsed network is half precision: counted before the build, since nothing can be read back after it.

Counted are the layers of the network, bodies of loops included, that compute or copy a floating-point tensor. Not
counted: constants (weights compute nothing), casts (they belong to neither side), reshapes and transpositions of the
SHUFFLE kind and its relatives (most of them only rename a tensor), and the plumbing of loops. All layers of one call of
a function, such as a separable convolution in standard operators, count as one: the same graph gives the same share
whether the operator is a body in the file, was inlined, or is a plugin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vidgen.errors import ExportError
from vidgen.runtime.tensorrt_library import TensorRT

#: Below this share of half layers the graph is not half, whatever it was called.
SMALLEST_SHARE = 0.5
#: TensorRT's layer types that are not counted.
NOT_COUNTED = frozenset(
    {
        "CONSTANT", "CAST", "SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "SHAPE", "ASSERTION", "TRIP_LIMIT",
        "RECURRENCE", "ITERATOR", "LOOP_OUTPUT", "CONDITION", "CONDITIONAL_INPUT", "CONDITIONAL_OUTPUT",
    }
)  # fmt: skip
FLOATS = ("float32", "float16", "bfloat16")
#: The parser's note on a layer: ``[ONNX Layer: Mul.7 | step/SeparableConvolution (SeparableConvolution)]``.
_NOTE = re.compile(r"\[ONNX Layer: (?P<node>[^|\]]*?)(?: \| (?P<call>.*?) \([^()]*\))?\]$")


@dataclass(frozen=True)
class LayerCount:
    """What was counted.

    Attributes:
        layers: of the network, all of them. floating: those that count. half: those of them whose floating-point
            outputs are half. not_half: names of the rest, in order.
    """

    layers: int
    floating: int
    half: int
    not_half: tuple[str, ...]

    @property
    def share(self) -> float:
        """Half layers among those that count, 0..1."""
        return self.half / self.floating if self.floating else 0.0

    def expect_half(self) -> None:
        """Raise unless at least half of the layers that count are half.

        Raises:
            ExportError: less are.
        """
        if self.share < SMALLEST_SHARE:
            kept = ", ".join(self.not_half[:5]) + (", ..." if len(self.not_half) > 5 else "")
            raise ExportError(
                "the engine would not be half precision",
                seen=f"{self.half} of {self.floating} floating-point layers are half ({self.share:.0%}), expected at "
                f"least {SMALLEST_SHARE:.0%}; float32: {kept or 'none'}",
                cause="most of the graph was kept in float32",
                fix="export with a larger --tolerance, or without --fp16",
            )


def count_layers(library: TensorRT, network: Any) -> LayerCount:
    """Count the layers of a parsed network by the types of their outputs (see the head of this file)."""
    groups: dict[str, bool] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in NOT_COUNTED:
            continue
        kinds = {kind for kind in _output_types(library, layer) if kind in FLOATS}
        if kinds:
            name = _counted_as(layer)
            groups[name] = groups.get(name, True) and kinds == {"float16"}
    not_half = tuple(name for name, half in groups.items() if not half)
    return LayerCount(network.num_layers, len(groups), len(groups) - len(not_half), not_half)


def _output_types(library: TensorRT, layer: Any) -> list[str]:
    outputs = (layer.get_output(index) for index in range(layer.num_outputs))
    return [library.dtype(tensor.dtype) for tensor in outputs if tensor is not None]


def _counted_as(layer: Any) -> str:
    """The call of a function that a layer is part of, else the layer's own name."""
    note = _NOTE.search(layer.metadata)
    if note is None:
        return str(layer.name)
    # A node that was inlined into the file is called scope/Operator/inner.
    scope, operator, inner = (*note["node"].split("/", 2), "", "")[:3]
    return note["call"] or (f"{scope}/{operator}" if inner else str(layer.name))
