"""How much a Fréchet distance varies with the clips it was taken from: what each of them adds to it, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_features
from vidgen.bench.scores.frechet import FrechetDistance, FrechetSide, symmetric_eigen
from vidgen.bench.scores.intervals import (
    CLIPS_FOR_INTERVAL,
    Difference,
    Interval,
    normal_interval,
    padded_difference,
)

Floats = NDArray[np.float64]

#: Clips whose influence is taken together.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class FrechetEstimate:
    """A Fréchet distance with an interval.

    Attributes:
        distance: of all clips. value: its value.
        interval: 95 %, about sampling other clips, the reference staying as it is; not below 0. None with too few
            clips, or where nobody asked.
        influence: float64 [n], what each clip adds to the distance, less their mean, over n: the distance of other
            clips differs by the sum of theirs, to first order. None where there is no interval.
    """

    distance: FrechetDistance
    interval: Interval | None = None
    influence: Floats | None = None

    @property
    def value(self) -> float:
        """The distance of all clips."""
        return self.distance.value

    def minus(self, other: FrechetEstimate) -> Difference:
        """The difference of two distances to one reference, and its interval.

        Row i of both is taken for a pair, as with artifacts on the same latents: what moves both distances alike is
        then not in the interval, which is far narrower than those of the distances. Where rows have nothing to do
        with each other it holds as well.
        """
        difference = self.value - other.value
        if self.influence is None or other.influence is None:
            return Difference(difference, None)
        error = _error(padded_difference(self.influence, other.influence))
        return Difference(difference, normal_interval(difference, error))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.distance.to_dict(), "interval": None if self.interval is None else vars(self.interval)}


def frechet_estimate(features: NDArray[np.floating], reference: FrechetSide) -> FrechetEstimate:
    """The distance of features to a reference, and how much it varies.

    The interval is that of the infinitesimal jackknife: the standard error is the root of the sum of the squared
    influences of the clips. It takes one decomposition, where a bootstrap takes one a replicate, and holds also with
    fewer clips than features.

    Args:
        features: [n, d], one row a clip.
        reference: the other side, prepared once.

    Raises:
        ScoreError: features that cannot be used.
    """
    rows = checked_features(features)
    side = FrechetSide.of_features(rows)
    distance = side.to(reference)
    if len(rows) < CLIPS_FOR_INTERVAL:
        return FrechetEstimate(distance)
    influence = frechet_influence(rows, side, reference) / len(rows)
    return FrechetEstimate(distance, normal_interval(distance.value, _error(influence), smallest=0.0), influence)


def frechet_influence(rows: Floats, side: FrechetSide, reference: FrechetSide) -> Floats:
    """The derivative of the distance by the weight of each clip, less its mean.

    It is 2 (m - r).(x - m) + |x - m|^2 - (x - m)^T T (x - m), with m and r the means and T the map that moves the
    clips' normal distribution to the reference's. T is taken within the clips' own span, so they may be fewer than
    their features.

    Args:
        rows: [n, d]. side: of these rows. reference: the other one.

    Returns:
        float64 [n].
    """
    product = reference.factor.T @ side.factor
    wide = product.shape[0] <= product.shape[1]
    values, vectors = symmetric_eigen(product @ product.T if wide else product.T @ product)
    kept = values > len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
    values, vectors = values[kept], vectors[:, kept]
    # A root of T: T = half @ half.T, for T = R (R^T S R)^(-1/2) R^T with R R^T the covariance of the reference.
    half = reference.factor @ (vectors * values**-0.25 if wide else product @ (vectors * values**-0.75))
    half *= (reference.scale / side.scale) ** 0.25
    influence = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        centred = rows[block] - side.mean
        influence[block] = 2 * centred @ (side.mean - reference.mean)
        influence[block] += np.square(centred).sum(axis=1) - np.square(centred @ half).sum(axis=1)
    influence -= influence.mean()
    return influence


def _error(influence: Floats) -> float:
    n = len(influence)
    return float(np.sqrt(influence @ influence * n / (n - 1)))
