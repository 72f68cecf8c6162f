"""Temporal consistency: whether successive frames of a video show the same thing, from their appearance features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import Floats, checked_features
from vidgen.bench.scores.intervals import (
    CLIPS_FOR_INTERVAL,
    REPLICATES,
    Interval,
    bootstrap_interval,
    clip_weights,
)
from vidgen.errors import ScoreError

#: Share of the features' mean square below which a distance is rounding.
_STILL = 1e-12


@dataclass(frozen=True)
class TemporalConsistency:
    """How near the features of frames are to each other, in mean square distances.

    ``step``: of successive frames of a video; ``within``: of any two frames of a video; ``across``: of frames of two
    videos. All three figures compare with those of real videos: further from them is worse, in either direction.

    Attributes:
        value: 1 - step / across. 1: nothing changes from frame to frame (frozen videos have 1); 0: the next frame
            might be of another video; at least -1. NaN where all frames of all videos are the same.
        order: 1 - step / within. Near 1: smooth motion; expected 0 where frames are shuffled; below 0: flicker, each
            frame nearer to the one after the next than to the next. NaN where nothing moves.
        motion: within / across. 0: frozen; 1: a video changes as much as videos differ. NaN as ``value``.
        intervals: by figure, by a bootstrap over videos; empty with few videos.
        n: videos. frames: of each. warnings: sentences.
    """

    value: float
    order: float
    motion: float
    intervals: dict[str, Interval]
    n: int
    frames: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None stands for NaN."""
        intervals = {name: vars(interval) for name, interval in self.intervals.items()}
        figures = {name: getattr(self, name) for name in ("value", "order", "motion")}
        plain = {name: None if np.isnan(figure) else figure for name, figure in figures.items()}
        return {**vars(self), **plain, "intervals": intervals, "warnings": list(self.warnings)}


def temporal_consistency(
    features: NDArray[np.floating],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> TemporalConsistency:
    """Judge videos by features of their frames.

    It is blind to what the extractor does not see, to a slow drift into something else, to motion that is smooth and
    wrong, and to videos that all show the same: ``across`` is then small, and 1 - step / across says nothing.

    Args:
        features: [n, T, d]: a row of appearance features for each frame, in the order of time.
        replicates: resamplings behind the intervals; 0 gives none. seed: of them.
        indices: the number of each video in its set; 0, 1, ... when None.

    Raises:
        ScoreError: fewer than 2 videos or 3 frames, or numbers that are not finite.
    """
    videos = np.asarray(features)
    if videos.ndim != 3 or videos.shape[1] < 3:
        raise _unusable(f"features {list(videos.shape)}, expected [videos, at least 3 frames, d]", "too few frames")
    sums = _VideoSums.of(checked_features(videos, axes=3))
    numbers = range(len(videos)) if indices is None else indices
    resampled = replicates if len(videos) >= CLIPS_FOR_INTERVAL else 0
    weights = clip_weights(seed, numbers, resampled)
    # A resampling of one video has no other to compare with; it stands for the whole set.
    weights[np.count_nonzero(weights, axis=1) < 2] = 1
    step, within, across = sums.means(weights)
    floor = _STILL * sums.size
    step, within = (np.where(distances <= floor, 0.0, distances) for distances in (step, within))
    figures = {
        "value": np.maximum(1 - _ratio(step, across, floor), -1),
        "order": 1 - _ratio(step, within, floor),
        "motion": _ratio(within, across, floor),
    }
    intervals = {}
    for name, found in figures.items():
        if resampled and np.isfinite(found).all():
            interval = bootstrap_interval(float(found[0]), found[1:], -np.inf if name == "order" else -1.0)
            if interval is not None:
                intervals[name] = interval
    frozen = int(np.sum(sums.within <= floor))
    warnings = [f"{frozen} of {len(videos)} videos do not move at all"] if frozen else []
    if across[0] <= floor:
        warnings.append("all videos are one and the same picture: consistency and motion say nothing")
    return TemporalConsistency(
        **{name: float(found[0]) for name, found in figures.items()},
        intervals=intervals,
        n=len(videos),
        frames=videos.shape[1],
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, eq=False)
class _VideoSums:
    """What is kept of each video: float64 [n], and the mean of its frames [n, d]."""

    step: Floats
    within: Floats
    square: Floats  # mean over frames of |f|^2, about the mean of all
    mean: Floats
    size: float  # mean of |f|^2 as it came

    @classmethod
    def of(cls, videos: Floats) -> _VideoSums:
        frames = videos.shape[1]
        mean = videos.mean(axis=1)
        origin = mean.mean(axis=0)
        spread = np.square(videos - mean[:, None]).sum(axis=2).mean(axis=1)
        centred = mean - origin
        return cls(
            step=np.square(np.diff(videos, axis=1)).sum(axis=2).mean(axis=1),
            within=2 * spread * frames / (frames - 1),
            square=spread + np.square(centred).sum(axis=1),
            mean=centred,
            size=float(np.square(videos).sum(axis=2).mean()),
        )

    def means(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Step, within and across under each set of weights [R, n], float64 [R]."""
        total = weights.sum(axis=1)
        # Pairs of different videos: all pairs without those of a video with itself.
        own = np.square(weights)
        pairs = np.square(total) - own.sum(axis=1)
        squares = 2 * (total * (weights @ self.square) - own @ self.square)
        products = np.square(weights @ self.mean).sum(axis=1) - own @ np.square(self.mean).sum(axis=1)
        return weights @ self.step / total, weights @ self.within / total, (squares - 2 * products) / pairs


def _ratio(part: Floats, whole: Floats, floor: float) -> Floats:
    """part / whole, NaN where the whole is rounding alone."""
    still = whole <= floor
    ratio: Floats = np.where(still, np.nan, part / np.where(still, 1, whole))
    return ratio


def _unusable(seen: str, cause: str) -> ScoreError:
    return ScoreError(
        "cannot judge temporal consistency",
        seen=seen,
        cause=cause,
        fix="give different videos of at least 3 frames, with appearance features of each frame",
    )
