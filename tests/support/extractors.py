"""Extractors for tests: small, exact, and without weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.errors import BackendError


class PixelExtractor(Extractor):
    """Sines of fixed projections of a clip's mean colours over time and of a coarse picture; clip by clip.

    Args:
        fail_after: clips after which it breaks down; None never does.
    """

    licence = "none needed"

    def __init__(
        self,
        dimension: int = 12,
        frames: int | None = 16,
        spaces: tuple[str, ...] = ("features",),
        fail_after: int | None = None,
    ) -> None:
        self.name, self.spaces, self.frames, self.size = "pixels", spaces, frames, None
        self.weight_sha256 = f"{dimension:064x}"
        self.dimension, self.fail_after, self.seen = dimension, fail_after, 0
        self.shapes: list[tuple[int, ...]] = []

    def features(self, clips: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        assert clips.dtype == np.uint8 and clips.ndim == 5
        self.shapes.append(clips.shape)
        self.seen += len(clips)
        if self.fail_after is not None and self.seen > self.fail_after:
            raise BackendError("the extractor broke", seen="clips", cause="it was told to", fix="--resume")
        return {space: np.stack([self._one(clip, at) for clip in clips]) for at, space in enumerate(self.spaces)}

    def _one(self, clip: np.ndarray[Any, Any], space: int) -> np.ndarray[Any, Any]:
        clip = clip.astype(np.float64)
        picture = clip[:, ::8, ::8].mean(axis=0).ravel()
        values = np.concatenate([clip.mean(axis=(1, 2)).ravel(), picture]) / 255
        weights = np.sin(np.outer(np.arange(1, self.dimension + 1), np.arange(1, len(values) + 1)) + space)
        return (weights @ values).astype(np.float32)

    @property
    def has_logits(self) -> bool:
        return True

    def logits(self, clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        means = clips.astype(np.float64).mean(axis=(1, 2, 3))
        return np.concatenate([means, -means], axis=1).astype(np.float32) / 32
