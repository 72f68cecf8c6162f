"""Precision and recall, density and coverage: whose nearest neighbours the samples of two sets are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_pair
from vidgen.bench.scores.intervals import (
    Difference,
    Interval,
    normal_interval,
    padded_difference,
    wilson_interval,
)
from vidgen.errors import SettingsError

Floats = NDArray[np.float64]

#: Neighbours of the papers: 3 for precision and recall, 5 for density and coverage.
K_PRECISION, K_DENSITY = 3, 5
#: Bytes of distances that are in memory at once.
BLOCK_BYTES = 64 * 2**20
SCORES = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class NeighbourScores:
    """Fidelity and variety apart from each other.

    The manifold of a set is the union of balls, one around each sample as far as its k-th neighbour in the set.

    Attributes:
        precision: share of generated samples on the real manifold: fidelity. 0 to 1.
        recall: share of real samples on the generated manifold: variety. 0 to 1.
        density: number of real balls that a generated sample is in, over k: fidelity that one outlier among the
            real samples does not spoil. From 0; 1 is expected for two sets of one distribution.
        coverage: share of real samples with a generated one in their ball: variety. 0 to 1.
        intervals: by score: how it varies with the clips that are judged, the other set's balls as they are.
        k: neighbours for precision and recall, and for density and coverage. n: real and generated clips.
        warnings: sentences.
        judged: by score: what each clip that is judged adds, float64 [m] of generated clips (precision, density) or
            [n] of real ones (recall, coverage); the score is its mean.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    intervals: dict[str, Interval]
    k: tuple[int, int]
    n: tuple[int, int]
    warnings: tuple[str, ...]
    judged: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def minus(self, other: NeighbourScores) -> dict[str, Difference]:
        """The differences to the scores of another generated set, beside the same real one, with intervals.

        Clips that are judged are taken for pairs row by row, as with artifacts on the same latents; the balls they are
        judged by stay as they are. Shares count one more clip that is judged otherwise, each way, so that none found
        does not mean that there is none (Bonett and Price 2012).
        """
        found = {}
        for name in SCORES:
            mine, theirs = (
                (one.judged[name] - one.judged[name].mean()) / len(one.judged[name]) for one in (self, other)
            )
            change = padded_difference(mine, theirs)
            variance = float(change @ change)
            if name != "density":
                variance += 1 / len(mine) ** 2 + 1 / len(theirs) ** 2
            difference = float(getattr(self, name) - getattr(other, name))
            found[name] = Difference(difference, normal_interval(difference, float(np.sqrt(variance))))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        intervals = {name: vars(interval) for name, interval in self.intervals.items()}
        values = {name: value for name, value in vars(self).items() if name != "judged"}
        lists = {"k": list(self.k), "n": list(self.n), "warnings": list(self.warnings)}
        return {**values, **lists, "intervals": intervals}


def neighbour_scores(
    real: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    k_precision: int = K_PRECISION,
    k_density: int = K_DENSITY,
    block_bytes: int = BLOCK_BYTES,
) -> NeighbourScores:
    """Compare generated with real features by Euclidean distance.

    Precision and recall count a sample on the border of a ball as inside, density and coverage as outside, as their
    papers' programs do.

    Args:
        real, generated: [n, d] and [m, d].
        k_precision: neighbours for precision and recall. k_density: for density and coverage.
        block_bytes: memory for distances; the result does not depend on it.

    Raises:
        ScoreError: features that cannot be used.
        SettingsError: not more clips than neighbours.
    """
    x, y = checked_pair(real, generated)
    k_largest = max(k_precision, k_density)
    if min(k_precision, k_density) < 1 or min(len(x), len(y)) <= k_largest:
        raise SettingsError(
            "cannot look for neighbours",
            seen=f"the {k_precision}. and {k_density}. neighbour of {min(len(x), len(y))} clips, expected 1 to "
            f"{min(len(x), len(y)) - 1}",
            cause="there are not more clips than neighbours",
            fix="give more clips, e.g. -n 5000",
        )
    # Distances do not change with the origin; near it they are the most exact.
    origin = x.mean(axis=0)
    x, y = x - origin, y - origin
    rows = max(1, block_bytes // (8 * 3 * max(len(x), len(y))))
    radii_real = _radii(x, (k_precision, k_density), rows)
    radii_generated = _radii(y, (k_precision,), rows)
    on_real = np.zeros(len(y), dtype=np.bool_)
    on_generated = np.zeros(len(x), dtype=np.bool_)
    balls = np.zeros(len(y), dtype=np.int64)
    covered = np.zeros(len(x), dtype=np.bool_)
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        squares = _square_distances(x[block], y)
        on_real |= (squares <= radii_real[0][block, None]).any(axis=0)
        on_generated[block] = (squares <= radii_generated[0]).any(axis=1)
        inside = squares < radii_real[1][block, None]
        balls += inside.sum(axis=0)
        covered[block] = inside.any(axis=1)
    return _result(on_real, on_generated, balls / k_density, covered, (k_precision, k_density))


def _result(
    on_real: NDArray[np.bool_],
    on_generated: NDArray[np.bool_],
    density: Floats,
    covered: NDArray[np.bool_],
    k: tuple[int, int],
) -> NeighbourScores:
    shares = {"precision": on_real, "recall": on_generated, "coverage": covered}
    intervals = {name: wilson_interval(int(hits.sum()), len(hits)) for name, hits in shares.items()}
    mean = float(density.mean())
    intervals["density"] = normal_interval(mean, float(density.std(ddof=1) / np.sqrt(len(density))), smallest=0.0)
    warnings = []
    n, m = len(covered), len(density)
    if max(n, m) > 1.5 * min(n, m):
        warnings.append(
            f"{n} real and {m} generated clips: more clips of a set make its balls smaller; compare equal n"
        )
    return NeighbourScores(
        precision=float(on_real.mean()),
        recall=float(on_generated.mean()),
        density=mean,
        coverage=float(covered.mean()),
        intervals=intervals,
        k=k,
        n=(n, m),
        warnings=tuple(warnings),
        judged={**{name: hits.astype(np.float64) for name, hits in shares.items()}, "density": density},
    )


def _radii(x: Floats, neighbours: tuple[int, ...], rows: int) -> list[Floats]:
    """Square distances of each row to its k-th neighbour among the others, float64 [n], for each k."""
    radii = [np.empty(len(x)) for _ in neighbours]
    for start in range(0, len(x), rows):
        squares = _square_distances(x[start : start + rows], x)
        own = np.arange(len(squares))
        squares[own, start + own] = np.inf
        squares.partition(sorted({k - 1 for k in neighbours}), axis=1)
        for radius, k in zip(radii, neighbours):
            radius[start : start + rows] = squares[:, k - 1]
    return radii


def _square_distances(a: Floats, b: Floats) -> Floats:
    """|x - y|^2 for rows x of a and y of b; exactly 0 for equal rows."""
    norms = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("nd,nd->n", b, b)
    squares: Floats = norms - 2 * (a @ b.T)
    # What rounding leaves of equal rows must not count as a distance.
    squares[squares < 8 * np.finfo(np.float64).eps * norms] = 0
    return squares
