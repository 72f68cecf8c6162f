"""What tensors the plugin takes, and the sentence about those it does not; without TensorRT's types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from vidgen.errors import OperatorError
from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, LARGEST_TAPS, DType

INPUTS, OUTPUTS = ARGUMENTS["forward"]
NAMES = (*INPUTS, *OUTPUTS)
#: What a TensorRT plugin of ours computes in.
DTYPES: tuple[DType, ...] = ("float32", "float16")
AXES = 4


@dataclass(frozen=True)
class Axis:
    """The sizes that an axis may have, both ends included."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def __add__(self, other: int) -> Axis:
        return Axis(self.least + other, self.most + other)

    def meets(self, other: Axis) -> bool:
        """Whether some size is in both."""
        return self.least <= other.most and other.least <= self.most


#: An axis of which nothing is known.
ANY = Axis(0, 2**31 - 1)


def fixed(sizes: Sequence[int]) -> tuple[Axis, ...]:
    """Axes of known sizes; a negative one is unknown, as in TensorRT."""
    return tuple(Axis(size, size) if size >= 0 else ANY for size in sizes)


def check_taps(taps: object) -> int:
    """K, or the sentence why no plugin serves it.

    Raises:
        OperatorError: not an odd number from 1 to 63.
    """
    if isinstance(taps, bool) or not isinstance(taps, int) or not 1 <= taps <= LARGEST_TAPS or taps % 2 == 0:
        raise refused(
            f"K = {taps!r}, expected an odd number from 1 to {LARGEST_TAPS}",
            "kernels are centred on a pixel, and what a block of threads can hold bounds their size",
        )
    return taps


def check_dtypes(dtypes: Sequence[str]) -> tuple[DType, ...]:
    """The dtypes a plugin is to serve, each once.

    Raises:
        OperatorError: none, or one that is neither float32 nor float16.
    """
    asked = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
    chosen = tuple(dtype for dtype in DTYPES if dtype in asked)
    if not chosen or not set(asked) <= set(DTYPES):
        seen = ", ".join(map(str, asked)) or "no dtype"
        raise refused(f"{seen}, expected {' or '.join(DTYPES)}", "the kernels of engines are compiled for these two")
    return chosen


def dtype_name(module: ModuleType, kind: Any) -> str:
    """TensorRT's name of a dtype as NumPy's."""
    names = {module.float32: "float32", module.float16: "float16"}
    return names.get(kind) or str(getattr(kind, "name", kind)).lower()


def check_types(found: Sequence[str], dtypes: Sequence[DType]) -> DType:
    """The dtype that all tensors share.

    Raises:
        OperatorError: they differ, are not three (or four with the output), or are not among ``dtypes``.
    """
    if len(found) not in (len(INPUTS), len(NAMES)):
        raise refused(f"{len(found)} tensors, expected {', '.join(INPUTS)}", "a node with inputs missing or too many")
    shared = next((dtype for dtype in dtypes if set(found) == {dtype}), None)
    if shared is None:
        seen = ", ".join(f"{name} {dtype}" for name, dtype in zip(NAMES, found))
        raise refused(f"{seen}, expected all {' or all '.join(dtypes)}", "all tensors of the operator share one dtype")
    return shared


def check_shapes(shapes: Sequence[Sequence[Axis]], taps: int) -> None:
    """Raise where the shapes cannot belong together, whatever their unknown sizes turn out to be.

    Args:
        shapes: of input [N, C, H + K - 1, W + K - 1], vertical and horizontal [N, K, H, W], and, where it is known,
            of output [N, C, H, W].
        taps: K.

    Raises:
        OperatorError: a rank, a size or the number of taps does not fit.
    """
    if len(shapes) not in (len(INPUTS), len(NAMES)):
        raise refused(f"{len(shapes)} tensors, expected {', '.join(INPUTS)}", "a node with inputs missing or too many")
    for name, shape in zip(NAMES, shapes):
        if len(shape) != AXES:
            raise refused(f"{name} has {len(shape)} axes, expected 4", "batch, channels or taps, height, width")
    batch, channels, height, width = (*shapes[0][:2], *shapes[1][2:])
    kernels = (batch, Axis(taps, taps), height, width)
    wanted = {
        "vertical": kernels,
        "horizontal": kernels,
        "input": (batch, channels, height + (taps - 1), width + (taps - 1)),
        "output": (batch, channels, height, width),
    }
    found = dict(zip(NAMES, shapes))
    # Taps first: where K is another one, nothing else fits either.
    for name, expected in wanted.items():
        shape = found.get(name, expected)
        if not all(axis.meets(other) for axis, other in zip(shape, expected)):
            meaning = {"input": "[N, C, H + K - 1, W + K - 1]", "output": "[N, C, H, W]"}.get(name, "[N, K, H, W]")
            raise refused(
                f"{name} {_text(shape)}, expected {_text(expected)}",
                f"{name} must be {meaning} with K = {taps}, for which the plugin was registered",
            )


def _text(shape: Sequence[Axis]) -> str:
    return f"[{', '.join('?' if axis == ANY else str(axis) for axis in shape)}]"


def refused(seen: str, cause: str) -> OperatorError:
    """The error of a node that no plugin of ours can serve."""
    return OperatorError(
        "the TensorRT plugin of the separable convolution refuses a node",
        seen=seen,
        cause=cause,
        fix="export it again: vidgen export CHECKPOINT.safetensors -o OUT.plan --sepconv custom, which needs no plugin",
    )
