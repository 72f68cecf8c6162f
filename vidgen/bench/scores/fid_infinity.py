"""Fréchet distance of infinitely many samples: distances of growing subsets, and where their line in 1/n ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_features, subset_stream
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.intervals import Interval, normal_interval
from vidgen.errors import SettingsError

#: Subset sizes, evenly spaced from a tenth of the clips to all of them (Chong and Forsyth 2020).
POINTS, SMALLEST_SHARE = 15, 0.1
#: Below this share of the variance explained, the distances do not lie on a line.
_LINE = 0.9


@dataclass(frozen=True)
class FidInfinity:
    """The distance extrapolated to infinitely many generated clips; the reference's number of clips still biases it.

    Attributes:
        value: where the line meets 1/n = 0. It may be a little below 0 where the sets are alike.
        interval: how well the line is determined by its points; the clips at hand are taken as given.
        slope: of the line: the distance grows by slope/n with fewer clips.
        sizes: clips of the subsets. distances: to the reference, in the same order.
        r2: share of the distances' variance that the line explains.
        n: generated clips. seed: of the subsets.
        warnings: sentences.
    """

    value: float
    interval: Interval
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]
    r2: float
    n: int
    seed: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lists = {name: list(getattr(self, name)) for name in ("sizes", "distances", "warnings")}
        return {**vars(self), **lists, "interval": vars(self.interval)}


def fid_infinity(
    features: NDArray[np.floating],
    reference: FrechetSide,
    *,
    points: int = POINTS,
    smallest: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FidInfinity:
    """Extrapolate the distance of generated features.

    Args:
        features: [n, d] of generated clips.
        reference: the other side, prepared once; it stays as it is.
        points: subset sizes, at least 3.
        smallest: clips of the smallest subset; a tenth of all when None.
        seed: of the subsets, which are drawn without replacement; the largest is the whole set.
        progress: called with (distances done, distances in all).

    Raises:
        ScoreError: features that cannot be used.
        SettingsError: numbers out of range.
    """
    rows = checked_features(features, least=4)
    n, d = rows.shape
    first = max(2, round(SMALLEST_SHARE * n)) if smallest is None else smallest
    if points < 3 or not 2 <= first <= n - 2:
        raise SettingsError(
            "cannot extrapolate a distance",
            seen=f"{points} points from {first} to {n} clips, expected at least 3 points from 2 to {n - 2}",
            cause="too few points, or too few clips",
            fix="choose more points, a smaller subset, or more clips",
        )
    sizes = sorted({round(float(size)) for size in np.linspace(first, n, points)})
    distances = []
    for size in sizes:
        chosen = np.sort(subset_stream(seed, size).choice(n, size, replace=False))
        distances.append(FrechetSide.of_features(rows[chosen]).to(reference).value)
        if progress is not None:
            progress(len(distances), len(sizes))
    value, slope, error, r2 = _line(1 / np.array(sizes, dtype=np.float64), np.array(distances))
    warnings = []
    if sizes[0] <= d:
        warnings.append(
            f"subsets from {sizes[0]} clips for {d} features: below the number of features the distance is no line in "
            "1/n, and the value is too low or too high"
        )
    if r2 < _LINE:
        warnings.append(f"the distances do not lie on a line (R2 {r2:.2f}): too few clips, or too alike in size")
    return FidInfinity(
        value=value,
        interval=normal_interval(value, error),
        slope=slope,
        sizes=tuple(sizes),
        distances=tuple(distances),
        r2=r2,
        n=n,
        seed=seed,
        warnings=tuple(warnings),
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Value at 0, slope, standard error of the value, and R2 of the line of least squares."""
    centred = x - x.mean()
    spread = float(np.square(centred).sum())
    slope = float(centred @ y) / spread
    value = float(y.mean()) - slope * float(x.mean())
    left = y - value - slope * x
    freedom = max(len(x) - 2, 1)
    error = np.sqrt(float(left @ left) / freedom * (1 / len(x) + float(x.mean()) ** 2 / spread))
    total = float(np.square(y - y.mean()).sum())
    r2 = 1 - float(left @ left) / total if total else 1.0
    return value, slope, float(error), r2
