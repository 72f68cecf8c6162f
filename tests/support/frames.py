"""An extractor of single frames for tests: colour and place of what is bright, exact, and without weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidgen.bench.scores.extractors.base import Description
from vidgen.bench.scores.extractors.clips import FrameExtractor
from vidgen.errors import BackendError


class Colours:
    """Mean colours of frames, and where the brightness lies: what a network of frames would be."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, items: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        self.runs.append(len(items))
        pixels = items.astype(np.float64) / 255
        waves = np.sin(np.outer([1, 2], np.linspace(0, np.pi, items.shape[1])))
        rows = [np.concatenate([p.mean(axis=(0, 1)), (waves @ p.mean(axis=(1, 2))) / len(p)]) for p in pixels]
        return {"features": np.array(rows or np.empty((0, 5)), np.float32)}

    def close(self) -> None:
        """Nothing to give back."""


class ColourExtractor(FrameExtractor):
    """The network above as an extractor.

    Args:
        fail_after: clips after which it breaks down; None never does.
    """

    def __init__(self, fail_after: int | None = None) -> None:
        self.network = Colours()
        facts = {"name": "colours", "size": None, "weight_sha256": "c0" * 32, "licence": "none needed"}
        super().__init__(self.network, facts, {})
        self.fail_after, self.shapes = fail_after, list[tuple[int, ...]]()

    def describe(self, clips: np.ndarray[Any, Any], *, logits: bool = False) -> Description:
        self.shapes.append(clips.shape)
        if self.fail_after is not None and sum(shape[0] for shape in self.shapes) > self.fail_after:
            raise BackendError("the extractor broke", seen="clips", cause="it was told to", fix="--resume")
        return super().describe(clips, logits=logits)
