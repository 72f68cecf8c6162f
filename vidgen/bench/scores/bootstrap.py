"""How much a Fréchet distance varies with the clips it was taken from: a bootstrap over features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_features
from vidgen.bench.scores.frechet import FrechetDistance, FrechetSide
from vidgen.bench.scores.intervals import CLIPS_FOR_INTERVAL, Interval, bootstrap_interval, clip_weights

Floats = NDArray[np.float64]

#: Resamplings behind an interval: its width is then known to a tenth.
REPLICATES = 50
#: Added to the seed for the reference, so that clip i of one set is not resampled with clip i of the other.
_OTHER_SET = 0x0E5E7


@dataclass(frozen=True, eq=False)
class FrechetBootstrap:
    """A Fréchet distance with an interval.

    Attributes:
        distance: of all clips. value: its value.
        interval: 95 %, the value and 1.96 times the spread of the replicates to either side, not below 0; None with
            too few clips or replicates.
        replicates: float64 [R], the distances of the resamplings. They lie above the value, as a resampling has fewer
            different clips, and a distance grows with fewer clips; only their spread and their differences count.
    """

    distance: FrechetDistance
    interval: Interval | None
    replicates: Floats

    @property
    def value(self) -> float:
        """The distance of all clips."""
        return self.distance.value

    def minus(self, other: FrechetBootstrap) -> tuple[float, Interval | None]:
        """The difference of two distances to one reference, and its interval.

        Where both were made from the same latents, with the same indices and seed, the replicates are paired and the
        interval is that of the difference itself, which is far narrower than of two distances by themselves.
        """
        difference = self.value - other.value
        if self.interval is None or other.interval is None or len(self.replicates) != len(other.replicates):
            return difference, None
        return difference, bootstrap_interval(difference, self.replicates - other.replicates)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = None if self.interval is None else vars(self.interval)
        return {**self.distance.to_dict(), "interval": interval, "replicates": len(self.replicates)}


def frechet_bootstrap(
    features: NDArray[np.floating],
    reference: FrechetSide | NDArray[np.floating],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FrechetBootstrap:
    """The distance of features to a reference, and how much it varies.

    In a resampling each clip counts Poisson(1) times, by a weight that depends on (seed, its index) alone: the
    interval does not depend on the order or the sharding.

    Args:
        features: [n, d].
        reference: a side that stays as it is, or features [m, d] that are resampled too.
        replicates: resamplings; 0 gives no interval. Each takes as long as a distance.
        seed: of the resampling.
        indices: the number of each row in its set; 0, 1, ... when None.
        progress: called with (replicates done, replicates in all).

    Raises:
        ScoreError: features that cannot be used.
    """
    rows = checked_features(features)
    numbers = range(len(rows)) if indices is None else indices
    if len(numbers) != len(rows) or replicates < 0:
        raise ValueError(f"{len(rows)} rows, {len(numbers)} indices, {replicates} replicates")
    other = None if isinstance(reference, FrechetSide) else checked_features(reference)
    side = reference if isinstance(reference, FrechetSide) else FrechetSide.of_features(reference)
    distance = FrechetSide.of_features(rows).to(side)
    smallest = len(rows) if other is None else min(len(rows), len(other))
    if replicates < 2 or smallest < CLIPS_FOR_INTERVAL:
        return FrechetBootstrap(distance, None, np.zeros(0))
    weights = _weights(seed, numbers, replicates)
    other_weights = None if other is None else _weights(seed + _OTHER_SET, range(len(other)), replicates)
    values = np.empty(replicates)
    for replicate in range(replicates):
        if other is not None and other_weights is not None:
            side = FrechetSide.of_features(other, other_weights[replicate])
        values[replicate] = FrechetSide.of_features(rows, weights[replicate]).to(side).value
        if progress is not None:
            progress(replicate + 1, replicates)
    return FrechetBootstrap(distance, bootstrap_interval(distance.value, values, smallest=0.0), values)


def _weights(seed: int, indices: Sequence[int], replicates: int) -> Floats:
    weights = clip_weights(seed, indices, replicates)[1:]
    # A handful of clips may leave a resampling with none; it stands for itself then.
    weights[weights.sum(axis=1) < 2] = 1
    return weights
