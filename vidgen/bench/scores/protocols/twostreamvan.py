"""The protocol `twostreamvan`: what a classifier is shown of each class (spec twostreamvan 7)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class TwoStreamVANProtocol:
    """All that two reports must agree in for their numbers to compare, besides the classifier.

    Attributes:
        frames, size: of the clips that the classifier takes.
        n_per_class: clips of each class; None for all there are. n_per_class_of_engines: videos made of each class.
        passes: videos from each first frame; None where none are given.
        seed: of latents and resampling. batch: clips generated and classified together.
        split, held_out, split_seed, frame_step: which clips of stores, and which of their frames.
        range, resize: of the pixels. logarithm: of the entropies. intervals: how they are had.
    """

    name: ClassVar[str] = "twostreamvan"

    frames: int
    size: int
    n_per_class: int | None
    n_per_class_of_engines: int
    passes: int | None
    seed: int
    batch: int
    split: str
    held_out: float
    split_seed: int
    frame_step: int | None
    range: str = "[-1, 1], as 8 bits unless a file holds floats"
    resize: str = "none"
    logarithm: str = "natural"
    intervals: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the name first."""
        return {"name": self.name, **dataclasses.asdict(self)}
