"""Disentanglement: whether one latent moves the appearance of a video and the other its motion, and only that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import Floats, checked_features, subset_stream
from vidgen.bench.scores.intervals import Interval, bootstrap_interval
from vidgen.errors import ScoreError

#: Resamplings of the grid behind the intervals.
REPLICATES = 500
#: With fewer values of a latent than this, no interval is given.
_VALUES_FOR_INTERVAL = 4
#: A variance below this share of the mean square of the features is rounding.
_STILL = 1e-12


@dataclass(frozen=True)
class Disentanglement:
    """What the appearance latent za and the motion latent zm move, from videos of a grid of both.

    In a feature space, V(zm) is the variance of the features while zm changes and za stays, averaged over za, and
    V(za) the reverse; s(zm) = V(zm) / (V(za) + V(zm)) and s(za) = 1 - s(zm) are free of the scale of the features.
    ``motion`` asks what zm moves: s_motion(zm) / (s_motion(zm) + s_appearance(zm)). ``appearance`` asks what za
    moves: s_appearance(za) / (s_appearance(za) + s_motion(za)).

    Attributes:
        value: mean of the two; 1: each latent moves its own space alone; 1/2: both spaces are moved alike by both;
            0: they are swapped.
        appearance, motion: 0 to 1, higher is better; 1/2 where the latent moves nothing, which is warned of.
        appearance_share, motion_share: s(za) of the appearance space and s(zm) of the motion space, 0 to 1.
        intervals: by ratio, by resampling rows and columns of the grid; empty for small grids.
        grid: values of za and of zm. warnings: sentences.
    """

    value: float
    appearance: float
    motion: float
    appearance_share: float
    motion_share: float
    intervals: dict[str, Interval]
    grid: tuple[int, int]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        intervals = {name: vars(interval) for name, interval in self.intervals.items()}
        lists = {"grid": list(self.grid), "warnings": list(self.warnings)}
        return {**vars(self), **lists, "intervals": intervals}


def disentanglement(
    appearance: NDArray[np.floating],
    motion: NDArray[np.floating],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Disentanglement:
    """Judge videos of a grid: row a, column m is the video of the a-th za and the m-th zm.

    Args:
        appearance: [A, M, d]: features of each video that tell what is to be seen.
        motion: [A, M, e]: features that tell how it moves.
        replicates: resamplings behind the intervals; 0 gives none. seed: of them.

    Raises:
        ScoreError: the grids differ, are smaller than 2 x 2, or hold numbers that are not finite.
    """
    grids = [checked_features(features, axes=3) for features in (appearance, motion)]
    rows, columns = grids[0].shape[:2]
    if grids[1].shape[:2] != (rows, columns) or columns < 2:
        raise ScoreError(
            "cannot judge disentanglement",
            seen=f"appearance of {rows} x {columns} and motion of {grids[1].shape[0]} x {grids[1].shape[1]} videos",
            cause="both must be of one grid of at least 2 x 2 videos",
            fix="sample a grid, e.g. 16 za x 16 zm",
        )
    spaces = [_Space.of(grid) for grid in grids]
    ones = np.ones(rows), np.ones(columns)
    ratios = _ratios([space.variances(*ones) for space in spaces])
    intervals: dict[str, Interval] = {}
    if replicates >= 2 and min(rows, columns) >= _VALUES_FOR_INTERVAL:
        found = [_resampled(spaces, rows, columns, subset_stream(seed, which)) for which in range(replicates)]
        for name, value in ratios.items():
            spread = np.array([one[name] for one in found])
            interval = bootstrap_interval(value, spread, smallest=0.0, largest=1.0)
            if interval is not None:
                intervals[name] = interval
    warnings = [
        f"{latent} moves nothing in either space"
        for latent, which in (("za", 0), ("zm", 1))
        if not any(space.variances(*ones)[which] for space in spaces)
    ]
    return Disentanglement(**ratios, intervals=intervals, grid=(rows, columns), warnings=tuple(warnings))


@dataclass(frozen=True, eq=False)
class _Space:
    """Products of the features of a grid, from which the variances follow under any weights of rows and columns."""

    squares: Floats  # [A, M]: |f|^2
    of_rows: Floats  # [A, M, M]: products of the videos of one za
    of_columns: Floats  # [M, A, A]: products of the videos of one zm

    @classmethod
    def of(cls, grid: Floats) -> _Space:
        centred = grid - grid.mean(axis=(0, 1))
        squares = np.einsum("amd,amd->am", centred, centred)
        # What rounding left of equal features is no variance.
        if squares.sum() <= _STILL * np.square(grid).sum():
            centred, squares = np.zeros_like(centred), np.zeros_like(squares)
        turned = centred.transpose(1, 0, 2)
        return cls(squares, centred @ centred.transpose(0, 2, 1), turned @ turned.transpose(0, 2, 1))

    def variances(self, rows: Floats, columns: Floats) -> tuple[float, float]:
        """V(za) and V(zm), unbiased when all weights are 1."""
        of_za = _variance(self.squares.T, self.of_columns, rows, columns)
        of_zm = _variance(self.squares, self.of_rows, columns, rows)
        floor = _STILL * (of_za + of_zm)
        return of_za if of_za > floor else 0.0, of_zm if of_zm > floor else 0.0


def _variance(squares: Floats, products: Floats, changing: Floats, fixed: Floats) -> float:
    """Mean over the fixed latent of the variance over the changing one; squares [fixed, changing]."""
    total = float(changing.sum())
    means = products @ changing @ changing / total**2
    within = squares @ changing / total - means
    # A resampling has each value several times; the variance of its different ones is that of the whole set.
    different = 1 - float(np.square(changing).sum()) / total**2
    return max(0.0, float(within @ fixed) / float(fixed.sum()) / different)


def _resampled(spaces: list[_Space], rows: int, columns: int, stream: np.random.Generator) -> dict[str, float]:
    weights = []
    for count in (rows, columns):
        drawn = np.bincount(stream.integers(0, count, count), minlength=count).astype(np.float64)
        # One value alone varies in nothing.
        weights.append(drawn if np.count_nonzero(drawn) > 1 else np.ones(count))
    return _ratios([space.variances(*weights) for space in spaces])


def _ratios(variances: list[tuple[float, float]]) -> dict[str, float]:
    (appearance_za, appearance_zm), (motion_za, motion_zm) = (
        (za / (za + zm or 1.0), zm / (za + zm or 1.0)) for za, zm in variances
    )
    appearance = _share(appearance_za, motion_za)
    motion = _share(motion_zm, appearance_zm)
    return {
        "value": (appearance + motion) / 2,
        "appearance": appearance,
        "motion": motion,
        "appearance_share": _share(appearance_za, appearance_zm),
        "motion_share": _share(motion_zm, motion_za),
    }


def _share(part: float, rest: float) -> float:
    """part / (part + rest); 1/2 where both are 0, as nothing tells them apart."""
    return part / (part + rest) if part + rest else 0.5
