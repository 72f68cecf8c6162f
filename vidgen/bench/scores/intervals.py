"""Intervals of scores, and the weights of the bootstrap that they come from: the same for every score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Standard errors to either side of a value that hold 95 % of a normal distribution.
_Z95 = 1.959963984540054
#: With fewer clips than this, resampling says too little about a score, and no interval is given.
CLIPS_FOR_INTERVAL = 10
#: Resamplings that a standard error is taken from.
REPLICATES = 1000
#: Keeps the streams of the resampling apart from those of the latents, which are [seed, index, input].
_RESAMPLING = 0x7E5A


@dataclass(frozen=True, eq=False)
class Difference:
    """How much a score differs from that of another set, most often of the first artifact on the same latents.

    Attributes:
        value: this score minus the other one. interval: of the difference; None where there is none of the scores.
    """

    value: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"value": self.value, "interval": None if self.interval is None else vars(self.interval)}


@dataclass(frozen=True)
class Interval:
    """A 95 % interval: the value plus and minus 1.96 standard errors, cut to the range the metric has."""

    low: float
    high: float
    standard_error: float


def normal_interval(
    value: float, standard_error: float, smallest: float = -np.inf, largest: float = np.inf
) -> Interval:
    """The 95 % interval around a value whose error is normal, cut to ``smallest`` and ``largest``."""
    reach = _Z95 * standard_error
    return Interval(max(smallest, value - reach), min(largest, value + reach), standard_error)


def bootstrap_interval(
    value: float, replicates: Floats, smallest: float = -np.inf, largest: float = np.inf
) -> Interval | None:
    """The interval whose standard error is the spread of the replicates; None with fewer than two of them.

    The spread alone is used, and not the replicates' own place: scores such as the Fréchet distance are biased by the
    number of DIFFERENT clips, and a resampling has fewer of them.
    """
    if len(replicates) < 2:
        return None
    return normal_interval(value, float(np.std(replicates, ddof=1)), smallest, largest)


def padded_difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """a - b row by row; where one has fewer rows, the missing ones count as 0."""
    difference = np.zeros((max(len(a), len(b)), *a.shape[1:]))
    difference[: len(a)] += a
    difference[: len(b)] -= b
    return difference


def wilson_interval(hits: int, trials: int) -> Interval:
    """The 95 % interval of a share ``hits / trials`` after Wilson, which keeps its width where the share is 0 or 1."""
    share, z2 = hits / trials, _Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    error = float(np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # At 0 and 1 the bound is the share itself; rounding would put it to the wrong side.
    low, high = min(share, max(0.0, centre - _Z95 * error)), max(share, min(1.0, centre + _Z95 * error))
    return Interval(low, high, error)


def clip_weights(seed: int, indices: Sequence[int], replicates: int) -> Floats:
    """Weights float64 [1 + replicates, N]: ones, then one Poisson(1) draw for each resampling and clip.

    The draws of a clip depend on (seed, its index) alone: not on the order, the batch size or the sharding; and two
    sets with the same indices are resampled alike, so that their scores can be subtracted replicate by replicate.
    """
    weights = np.ones((1 + replicates, len(indices)))
    if replicates:
        for column, index in enumerate(indices):
            stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(index), _RESAMPLING, 1])))
            weights[1:, column] = stream.poisson(1.0, replicates)
    return weights
