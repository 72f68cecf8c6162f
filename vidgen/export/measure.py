"""How far a graph's videos are from the checkpoint's, and how far they may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.export.unrounded import LEVELS, grey_levels, run_unrounded
from vidgen.runtime.manifest import Manifest


@dataclass(frozen=True)
class Tolerance:
    """What an artifact may differ by.

    Attributes:
        levels: largest difference before rounding, in grey levels; in half precision with every half tensor rounded,
            which ONNX Runtime leaves out on a CPU.
        psnr: smallest PSNR before rounding, in dB.
        moved: largest share of 8-bit values that may be rounded to a neighbouring level.
        made: largest difference between the 8-bit values that the artifact makes here and the checkpoint's, in levels.
    """

    levels: float
    psnr: float
    moved: float
    made: int


FLOAT32 = Tolerance(levels=2e-4 * LEVELS, psnr=80.0, moved=0.01, made=1)
HALF = Tolerance(levels=2.0, psnr=45.0, moved=1.0, made=2)
#: Attention without a scale (spec g3an 1.4) amplifies rounding. With every weight of 64 channels filled and what it
#: depends on in float32 (:mod:`vidgen.export.sensitivity`), single values of 64 videos are up to 2.5 levels off with
#: every half tensor rounded, at 68 dB, and 1.7 in ONNX Runtime, which rounds less: what it makes stays within 2.
HALF_ATTENTION = Tolerance(levels=3.0, psnr=45.0, moved=1.0, made=2)


def tolerance_for(manifest: Manifest) -> Tolerance:
    """What an artifact of this precision and model may differ by."""
    precision = manifest.precision
    if precision.kind == "float32":
        return FLOAT32
    attention = getattr(manifest.config, "use_attention", False)
    if precision.tolerance is None:
        return HALF_ATTENTION if attention else HALF
    return half_tolerance(precision.tolerance, attention=attention)


def half_tolerance(levels: float, *, attention: bool = False) -> Tolerance:
    """The tolerance of a half graph that may be so many grey levels off."""
    if levels == HALF_ATTENTION.levels and attention:
        return HALF_ATTENTION
    return dataclasses.replace(HALF, levels=levels, made=max(1, math.ceil(levels)))


@dataclass(frozen=True)
class Case:
    """One run: ``batch`` videos from motion latents of ``length``, whose dynamic axis is called ``dimension``."""

    batch: int
    length: int
    dimension: str = "time"

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.dimension} {self.length}"


@dataclass(frozen=True)
class Reference:
    """What the checkpoint makes of one case: raw float32 videos [B, 3, F, H, W], computed by plain torch.

    Attributes:
        extras: further outputs by name, such as masks [B, F, R, R] in [0, 1].
    """

    case: Case
    inputs: dict[str, NDArray[Any]]
    video: NDArray[np.float32]
    extras: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def levels(self) -> NDArray[np.float32]:
        """Unrounded grey levels [B, F, H, W, 3]."""
        return grey_levels(self.video)


def quantise(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey levels as 8-bit values; NaN becomes 0, as in the graph."""
    rounded: NDArray[np.uint8] = np.nan_to_num(np.clip(np.rint(levels), 0, 255)).astype(np.uint8)
    return rounded


@dataclass(frozen=True)
class Measured:
    """How far videos are from the checkpoint's.

    Attributes:
        levels: largest difference before rounding, in grey levels; infinite where one is NaN or infinite.
        psnr: in dB over all cases; None where the two are equal.
        place: case and sample of the largest difference.
        squares, values: sum of the squared differences, and how many values there are.
    """

    levels: float = 0.0
    psnr: float | None = None
    place: str = ""
    squares: float = 0.0
    values: int = 0

    def plus(self, levels: NDArray[np.float32], reference: Reference) -> Measured:
        """With one more case, of grey levels [B, F, H, W, 3]."""
        levels = np.where(np.isfinite(levels), levels, np.float32(math.inf))
        difference = np.abs(levels.astype(np.float64) - reference.levels())
        largest = difference.reshape(len(difference), -1).max(axis=1)
        worst, place = self.levels, self.place
        if largest.max() > worst or not place:
            worst, place = float(largest.max()), f"{reference.case}, sample {int(largest.argmax())}"
        squares, values = self.squares + float((difference**2).sum()), self.values + difference.size
        psnr = None if squares == 0 else 10 * math.log10(255**2 * values / squares) if squares < math.inf else -math.inf
        return Measured(worst, psnr, place, squares, values)

    def within(self, tolerance: Tolerance) -> bool:
        """Whether the difference is allowed."""
        return self.levels <= tolerance.levels and (self.psnr is None or self.psnr >= tolerance.psnr)


def measure(model: Any, expected: Sequence[Reference], *, stop: float = math.inf) -> Measured:
    """How far a typed or float32 graph is from the checkpoint, every half tensor rounded, before the 8-bit rounding.

    Args:
        model: a ModelProto of ours. stop: go no further once the difference is larger, in grey levels.
    """
    measured = Measured()
    # Errors grow with length: where there is one, it is found at once.
    ordered = sorted(expected, key=lambda reference: -reference.case.length)
    for levels, reference in zip(run_unrounded(model, (each.inputs for each in ordered)), ordered, strict=True):
        measured = measured.plus(levels, reference)
        if measured.levels > stop:
            break
    return measured
