"""Kernel distance (KID, KVD): the squared maximum mean discrepancy under a polynomial kernel, without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_pair, subset_stream
from vidgen.bench.scores.intervals import Interval, normal_interval
from vidgen.errors import SettingsError

Floats = NDArray[np.float64]

SUBSETS, SUBSET_SIZE, DEGREE = 100, 1000, 3
#: Rows of a kernel matrix that are in memory at once.
_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """The mean over subsets of the unbiased estimate of MMD^2 under k(x, y) = (x.y / d + 1)^degree.

    Attributes:
        value: lower is better; its expectation is 0 for sets of one distribution, so it may be a little below 0.
        standard_deviation: of the estimates of the subsets, the figure that papers print behind the value.
        interval: of the value, about sampling other clips: by the delete-d jackknife, from the spread of the subsets;
            about twice too wide for sets that are alike. None where a subset has all clips of a set, which leaves
            nothing to vary.
        n: clips of the two sets. subsets, subset_size, degree: as used.
        warnings: sentences.
    """

    value: float
    standard_deviation: float
    interval: Interval | None
    n: tuple[int, int]
    subsets: int
    subset_size: int
    degree: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = None if self.interval is None else vars(self.interval)
        return {**vars(self), "n": list(self.n), "interval": interval, "warnings": list(self.warnings)}


def kernel_distance(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    subsets: int = SUBSETS,
    subset_size: int | None = None,
    degree: int = DEGREE,
    seed: int = 0,
) -> KernelDistance:
    """Compare two sets of features.

    Args:
        first, second: [n, d] and [m, d].
        subsets: random subsets, drawn without replacement.
        subset_size: clips of each; None for 1000, or half of the smaller set where that is less.
        degree: of the kernel.
        seed: of the subsets; the same seed and sizes choose the same rows.

    Raises:
        ScoreError: features that cannot be used.
        SettingsError: numbers out of range, or a subset larger than a set.
    """
    a, b = checked_pair(first, second)
    smaller = min(len(a), len(b))
    size = max(2, min(SUBSET_SIZE, smaller // 2)) if subset_size is None else subset_size
    for name, number, low, high in (
        ("subsets", subsets, 1, None),
        ("subset_size", size, 2, smaller),
        ("degree", degree, 1, None),
    ):
        if number < low or (high is not None and number > high):
            raise SettingsError(
                f"cannot take a kernel distance with {name} {number}",
                seen=f"{number}, expected {low} to {high}" if high else f"{number}, expected at least {low}",
                cause="it is out of range" if high is None else f"the smaller set has {high} clips",
                fix=f"choose {name} in that range, or give more clips",
            )
    member_a, member_b = (_members(seed, which, len(rows), subsets, size) for which, rows in enumerate((a, b)))
    pairs = size * (size - 1)
    estimates = (
        _kernel_sums(a, a, member_a, member_a, degree) / pairs
        + _kernel_sums(b, b, member_b, member_b, degree) / pairs
        - 2 * _kernel_sums(a, b, member_a, member_b, degree) / size**2
    )
    value = float(estimates.mean())
    deviation = float(estimates.std(ddof=1)) if subsets > 1 else 0.0
    interval = None
    if subsets > 1 and size < smaller:
        # The subsets share clips: their spread is that of leaving clips out. The second term is that of the mean.
        interval = normal_interval(value, deviation * float(np.sqrt(size / (smaller - size) + 1 / subsets)))
    warnings = []
    if smaller < SUBSET_SIZE:
        warnings.append(f"only {smaller} clips on one side: the value is unbiased, but its interval is wide")
    return KernelDistance(value, deviation, interval, (len(a), len(b)), subsets, size, degree, tuple(warnings))


def _members(seed: int, which: int, n: int, subsets: int, size: int) -> NDArray[np.bool_]:
    """Which of n rows are in each subset, [n, subsets]."""
    chosen = np.zeros((n, subsets), dtype=np.bool_)
    for subset in range(subsets):
        chosen[subset_stream(seed, which, subset).choice(n, size, replace=False), subset] = True
    return chosen


def _kernel_sums(a: Floats, b: Floats, in_a: NDArray[np.bool_], in_b: NDArray[np.bool_], degree: int) -> Floats:
    """For each subset the sum of k(x, y) over its x of ``a`` and y of ``b``, without x = y where both are one set."""
    same, subsets = a is b, in_a.shape[1]
    # Either every pair of rows once, for all subsets together, or the pairs of each subset: whichever is less work.
    if len(a) * len(b) <= int(in_a.sum()) * int(in_b[:, 0].sum()):
        return _weighted_sums(a, b, in_a.astype(np.float64), in_b.astype(np.float64), degree, same)
    sums = np.empty(subsets)
    for subset in range(subsets):
        x, y = a[in_a[:, subset]], b[in_b[:, subset]]
        sums[subset] = _weighted_sums(x, y, np.ones((len(x), 1)), np.ones((len(y), 1)), degree, same)[0]
    return sums


def _weighted_sums(a: Floats, b: Floats, in_a: Floats, in_b: Floats, degree: int, same: bool) -> Floats:
    """The same for all subsets together, from blocks of the kernel matrix."""
    total = np.zeros(in_a.shape[1])
    for start in range(0, len(a), _ROWS):
        block = slice(start, start + _ROWS)
        base = a[block] @ b.T / a.shape[1] + 1
        kernel = base.copy()
        for _ in range(degree - 1):  # ten times faster than a power
            kernel *= base
        if same:
            own = np.arange(len(kernel))
            kernel[own, start + own] = 0
        total += np.einsum("ns,ns->s", in_a[block], kernel @ in_b)
    return total
