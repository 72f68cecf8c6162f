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
from vidgen.bench.scores.moments import Moments
from vidgen.errors import ScoreError

#: Share of the features' mean square below which a distance is rounding.
_STILL = 1e-12
#: The least that a figure can be.
_SMALLEST = {"value": -1.0, "order": -np.inf, "motion": 0.0}
#: Videos that are weighted together: memory does not grow with their number times that of resamplings.
_BLOCK = 1024


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
    checked = checked_features(videos, axes=3)
    means, changes = checked.mean(axis=1), np.stack([frame_changes(video) for video in checked])
    return consistency_of_means(
        means, changes, frames=videos.shape[1], replicates=replicates, seed=seed, indices=indices
    )


def frame_changes(video: Floats) -> Floats:
    """What of a video's frames the figures need beside the mean of their features; mergeable, as it is of one video.

    Args:
        video: float64 [T, d], T >= 2: a row of features for each frame.

    Returns:
        Float64 [3], mean square distances: of successive frames; of any two different frames; of frames to their mean.
    """
    frames = len(video)
    step = np.square(np.diff(video, axis=0)).sum(axis=1).mean()
    spread = np.square(video - video.mean(axis=0)).sum(axis=1).mean()
    return np.array([step, 2 * spread * frames / (frames - 1), spread])


def consistency_of_means(
    means: NDArray[np.floating],
    changes: Floats,
    *,
    frames: int,
    replicates: int = REPLICATES,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> TemporalConsistency:
    """The same as :func:`temporal_consistency`, from what is kept of each video, in memory bounded beside it.

    Args:
        means: [n, d], the mean of each video's frames.
        changes: float64 [n, 3] of :func:`frame_changes`. frames: of each video.
        replicates, seed, indices: as there.

    Raises:
        ScoreError: fewer than 2 videos or 3 frames, or numbers that are not finite.
    """
    _check(len(means), frames)
    if not np.isfinite(means).all():
        raise _unusable("a mean that is not finite", "a clip or the extractor's weights are damaged")
    numbers = range(len(means)) if indices is None else indices
    resampled = replicates if len(means) >= CLIPS_FOR_INTERVAL else 0
    origin = means.mean(axis=0, dtype=np.float64)
    sums = _Sums(1 + resampled, means.shape[1])
    for at in range(0, len(means), _BLOCK):
        part = slice(at, at + _BLOCK)
        weights = clip_weights(seed, numbers[part], resampled)
        sums.add(weights, means[part].astype(np.float64) - origin, changes[part])
    size = changes[:, 2].mean() + sums.far / len(means) + np.square(origin).sum()
    return _figures(*sums.means(), size=float(size), changes=changes, frames=frames)


def consistency_of_moments(moments: Moments, changes: Floats, *, frames: int) -> TemporalConsistency:
    """The same where the means of the single videos were not kept, only their moments; it has no intervals.

    Args:
        moments: of the means of the videos' frames. changes, frames: as of :func:`consistency_of_means`.

    Raises:
        ScoreError: fewer than 2 videos or 3 frames.
    """
    _check(moments.n, frames)
    step, within, spread = changes.mean(axis=0)
    across = 2 * spread + 2 * np.trace(moments.covariance)
    far = np.trace(moments.scatter) / moments.n + np.square(moments.mean).sum()
    means = (np.array([figure]) for figure in (step, within, across))
    return _figures(*means, size=float(spread + far), changes=changes, frames=frames)


def _check(videos: int, frames: int) -> None:
    if videos < 2 or frames < 3:
        seen = f"{videos} videos of {frames} frames, expected at least 2 of at least 3"
        raise _unusable(seen, "too little was sampled or read")


class _Sums:
    """Sums over videos under each of several sets of weights; the first set is all ones."""

    def __init__(self, sets: int, dimension: int) -> None:
        self.total, self.own = np.zeros(sets), np.zeros(sets)
        self.step, self.within = np.zeros(sets), np.zeros(sets)
        #: Of the frames' mean square distance to the origin: under the weights, and under their squares.
        self.square, self.own_square = np.zeros(sets), np.zeros(sets)
        self.mean, self.own_mean = np.zeros((sets, dimension)), np.zeros(sets)
        #: Of the square distance of means to the origin, each video once.
        self.far = 0.0

    def add(self, weights: Floats, means: Floats, changes: Floats) -> None:
        """Take some videos in: weights [sets, k], means about the origin [k, d], changes [k, 3]."""
        step, within, spread = changes.T
        own, far = np.square(weights), np.square(means).sum(axis=1)
        self.total += weights.sum(axis=1)
        self.own += own.sum(axis=1)
        self.step += weights @ step
        self.within += weights @ within
        self.square += weights @ (spread + far)
        self.own_square += own @ (spread + far)
        self.mean += weights @ means
        self.own_mean += own @ far
        self.far += float(far.sum())

    def means(self) -> tuple[Floats, Floats, Floats]:
        """Step, within and across under each set of weights, float64 [sets]."""
        # Pairs of different videos: all pairs without those of a video with itself.
        pairs = np.square(self.total) - self.own
        squares = 2 * (self.total * self.square - self.own_square)
        products = np.square(self.mean).sum(axis=1) - self.own_mean
        # A resampling of one video has no other to compare with; it stands for the whole set.
        alone = pairs <= 0
        counts, couples = np.where(alone, 1, self.total), np.where(alone, 1, pairs)
        found = (self.step / counts, self.within / counts, (squares - 2 * products) / couples)
        step, within, across = (np.where(alone, values[0], values) for values in found)
        return step, within, across


def _figures(
    step: Floats, within: Floats, across: Floats, *, size: float, changes: Floats, frames: int
) -> TemporalConsistency:
    """The figures of mean square distances, of which the first are of the whole set, the others of its resamplings.

    Args:
        size: mean square of the features as they came.
    """
    floor = _STILL * size
    step, within = (np.where(distances <= floor, 0.0, distances) for distances in (step, within))
    figures = {
        "value": np.maximum(1 - _ratio(step, across, floor), -1),
        "order": 1 - _ratio(step, within, floor),
        "motion": _ratio(within, across, floor),
    }
    intervals = {}
    for name, found in figures.items():
        if len(found) > 1 and np.isfinite(found).all():
            interval = bootstrap_interval(float(found[0]), found[1:], smallest=_SMALLEST[name])
            if interval is not None:
                intervals[name] = interval
    frozen = int(np.sum(changes[:, 1] <= floor))
    warnings = [f"{frozen} of {len(changes)} videos do not move at all"] if frozen else []
    if across[0] <= floor:
        warnings.append("all videos are one and the same picture: consistency and motion say nothing")
    return TemporalConsistency(
        **{name: float(found[0]) for name, found in figures.items()},
        intervals=intervals,
        n=len(changes),
        frames=frames,
        warnings=tuple(warnings),
    )


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
