"""Kernel distance (KID, KVD): the squared maximum mean discrepancy under a polynomial kernel, without bias."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.features import checked_pair, subset_stream
from vidgen.bench.scores.intervals import (
    CLIPS_FOR_INTERVAL,
    Difference,
    Interval,
    normal_interval,
    padded_difference,
)
from vidgen.errors import ScoreError, SettingsError

Floats = NDArray[np.float64]

SUBSETS, SUBSET_SIZE, DEGREE = 100, 1000, 3
#: Rows of a kernel matrix that are in memory at once.
_ROWS = 1024
#: Pairs of clips that are looked at together. Larger sets are cut into blocks, whose estimates are averaged.
_PAIRS = 10**8
#: Random signs by which the size of a kernel matrix is told without keeping it: to 1/8 at worst.
_SIGNS = 64
#: The streams of signs and of blocks, beside those of the subsets of the two sets, 0 and 1.
_SIGN_STREAM, _BLOCK_STREAM = 2, 4
#: Numbers beyond this are none that squares can be summed of.
_LARGEST = 1e150


@dataclass(frozen=True, eq=False)
class KernelTerms:
    """How each clip moves a kernel distance, alone and in pairs; the terms of two distances subtract.

    Attributes:
        first, second: float64 [n] and [m], what a clip of either set adds to the distance, to first order.
        pairs: what pairs of clips add beyond that, within the first set, within the second, and between them: the
            centred kernel matrices times random signs, float32 [n or m, signs], scaled so that the mean square over
            the signs, summed over the rows, is their share of the variance.
    """

    first: Floats
    second: Floats
    pairs: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]

    @property
    def usable(self) -> bool:
        """Whether a standard error can be taken of them: their squares are finite."""
        single = all(float(np.abs(part).max(initial=0.0)) < _LARGEST for part in (self.first, self.second))
        return single and all(bool(np.isfinite(part).all()) for part in self.pairs)

    def minus(self, other: KernelTerms) -> KernelTerms:
        """The terms of the difference of two distances; row i of both is taken for the same clip."""
        within, reference, between = (padded_difference(a, b) for a, b in zip(self.pairs, other.pairs))
        first, second = padded_difference(self.first, other.first), padded_difference(self.second, other.second)
        return KernelTerms(first, second, (within, reference, between))

    def standard_error(self) -> float:
        """By the jackknife, less what it counts twice: it holds the variance that is of pairs two times."""
        of_pairs = sum(float(np.square(part, dtype=np.float64).sum()) / _SIGNS for part in self.pairs)
        jackknife = float(self.first @ self.first + self.second @ self.second)
        return float(np.sqrt(max(jackknife - of_pairs, of_pairs)))


@dataclass(frozen=True)
class KernelDistance:
    """The unbiased estimate of MMD^2 under k(x, y) = (x.y / d + 1)^degree.

    Attributes:
        value: of all clips; lower is better. Its expectation is 0 for sets of one distribution, so it may be a little
            below 0.
        interval: of the value, about sampling other clips of both sets; None with too few clips.
        subset_mean, subset_deviation: mean and standard deviation of the estimates of random subsets, the figures that
            papers print. The mean has the same expectation as the value, and varies more.
        n: clips of the two sets. subsets, subset_size, degree: as used.
        warnings: sentences.
        terms: what the interval is taken from; None with too few clips.
    """

    value: float
    interval: Interval | None
    subset_mean: float
    subset_deviation: float
    n: tuple[int, int]
    subsets: int
    subset_size: int
    degree: int
    warnings: tuple[str, ...]
    terms: KernelTerms | None = field(default=None, repr=False, compare=False)

    def minus(self, other: KernelDistance) -> Difference:
        """The difference of two distances to one second set, and its interval.

        Row i of both first sets is taken for a pair, as with artifacts on the same latents; where they have nothing
        to do with each other the interval holds as well, and is no narrower.
        """
        difference = self.value - other.value
        if self.terms is None or other.terms is None or self.n[1] != other.n[1]:
            return Difference(difference, None)
        return Difference(difference, normal_interval(difference, self.terms.minus(other.terms).standard_error()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "terms"}
        interval = None if self.interval is None else vars(self.interval)
        return {**values, "n": list(self.n), "interval": interval, "warnings": list(self.warnings)}


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
    members = [_members(seed, which, len(rows), subsets, size) for which, rows in enumerate((a, b))]
    kernel = _Kernel.of(a, b, degree)
    with np.errstate(over="ignore", invalid="ignore"):
        within, reference = (
            _block_means(kernel, rows, rows, chosen, chosen, seed) for rows, chosen in zip((a, b), members)
        )
        between = _block_means(kernel, a, b, members[0], members[1], seed)
    value = within.mean + reference.mean - 2 * between.mean
    if not np.isfinite(value):
        raise ScoreError(
            "cannot take the kernel distance",
            seen=f"{value}",
            cause="features too large for float64",
            fix="use an extractor whose features are below 1e50",
        )
    estimates = within.subsets + reference.subsets - 2 * between.subsets
    terms = _terms(within, reference, between) if smaller >= CLIPS_FOR_INTERVAL else None
    warnings = []
    if terms is not None and not terms.usable:
        terms = None
        warnings.append("features so large that the squares of the kernel overflow: no interval")
    if smaller < SUBSET_SIZE:
        warnings.append(f"only {smaller} clips on one side: the value is unbiased, but its interval is wide")
    return KernelDistance(
        value=value,
        interval=None if terms is None else normal_interval(value, terms.standard_error()),
        subset_mean=float(estimates.mean()),
        subset_deviation=_deviation(estimates) if subsets > 1 else 0.0,
        n=(len(a), len(b)),
        subsets=subsets,
        subset_size=size,
        degree=degree,
        warnings=tuple(warnings),
        terms=terms,
    )


def _deviation(values: Floats) -> float:
    scale = float(np.abs(values).max()) or 1.0  # their squares may overflow
    return scale * float((values / scale).std(ddof=1))


@dataclass(frozen=True)
class _Kernel:
    """(x.y / d + 1)^degree less a constant, which cancels in the distance and would hide its digits."""

    degree: int
    constant: float

    @classmethod
    def of(cls, a: Floats, b: Floats, degree: int) -> _Kernel:
        centre = (a.mean(axis=0) + b.mean(axis=0)) / 2
        with np.errstate(over="ignore"):
            return cls(degree, float((np.square(centre).mean() + 1) ** degree))

    def __call__(self, x: Floats, y: Floats) -> Floats:
        base: Floats = x @ y.T / x.shape[1] + 1
        values = base.copy()
        for _ in range(self.degree - 1):  # ten times faster than a power
            values *= base
        values -= self.constant
        return values


@dataclass(frozen=True, eq=False)
class _Means:
    """What is kept of a kernel matrix [n, m], without its diagonal where both sets are one.

    Attributes:
        mean: of it. pairs: its number of entries.
        rows, columns: by how much rows and columns lie above the mean, float64 [n] and [m].
        signs: float64 [n, signs], what rows and columns do not explain, times random signs.
        freedom: expected sum of squares of that, over the variance of an entry.
        subsets: means over the pairs of each subset.
    """

    mean: float
    pairs: int
    rows: Floats
    columns: Floats
    signs: Floats
    freedom: int
    subsets: Floats


def _block_means(
    kernel: _Kernel, a: Floats, b: Floats, in_a: NDArray[np.bool_], in_b: NDArray[np.bool_], seed: int
) -> _Means:
    """The means over all pairs, or, where these are too many, over those of blocks that share no clip."""
    same = a is b
    number = min(-(-len(a) * len(b) // _PAIRS), len(a) // CLIPS_FOR_INTERVAL, len(b) // CLIPS_FOR_INTERVAL) or 1
    orders = [subset_stream(seed, _BLOCK_STREAM, len(rows)).permutation(len(rows)) for rows in (a, b)]
    total, count, freedom = 0.0, 0, 0
    rows, columns, signs = np.empty(len(a)), np.empty(len(b)), np.empty((len(a), _SIGNS))
    drawn = _random_signs(seed, len(b))
    together = number == 1 and len(a) * len(b) <= int(in_a.sum()) * int(in_b[:, 0].sum())
    subsets = np.empty(0)
    for block in range(number):
        i, j = (np.sort(order[block::number]) for order in orders)
        x = a[i]
        y = x if same else b[j]
        chosen = (in_a[i].astype(np.float64), in_b[j].astype(np.float64)) if together else None
        found = _sums(kernel, x, y, drawn[j], chosen)
        total, count, freedom = total + found.mean, count + found.pairs, freedom + found.freedom
        rows[i], columns[j], signs[i], subsets = found.rows, found.columns, found.signs, found.subsets
    if not together:
        subsets = np.empty(in_a.shape[1])
        for subset in range(len(subsets)):
            x = a[in_a[:, subset]]
            y = x if same else b[in_b[:, subset]]
            subsets[subset] = _sums(kernel, x, y).mean
    return _Means(total / number, count, rows, columns, signs, freedom, subsets)


def _sums(
    kernel: _Kernel,
    a: Floats,
    b: Floats,
    signs: Floats | None = None,
    chosen: tuple[Floats, Floats] | None = None,
) -> _Means:
    """The means of one kernel matrix, taken from some of its rows at a time.

    Args:
        signs: [m, signs] random signs. chosen: [n, subsets] and [m, subsets], 1 for the members of subsets.
    """
    same = a is b
    drawn = np.empty((len(b), 0)) if signs is None else signs
    in_a, in_b = (np.empty((len(rows), 0)) for rows in (a, b)) if chosen is None else chosen
    right = np.hstack([drawn, in_b])
    rows, columns = np.empty(len(a)), np.zeros(len(b))
    products, subsets = np.empty((len(a), drawn.shape[1])), np.zeros(in_a.shape[1])
    for start in range(0, len(a), _ROWS):
        block = slice(start, start + _ROWS)
        values = kernel(a[block], b)
        if same:
            own = np.arange(len(values))
            values[own, start + own] = 0
        rows[block] = values.sum(axis=1)
        columns += values.sum(axis=0)
        found = values @ right
        products[block] = found[:, : drawn.shape[1]]
        subsets += np.einsum("ns,ns->s", in_a[block], found[:, drawn.shape[1] :])
    n, m = len(a), len(b)
    pairs = n * (m - same)
    mean = float(rows.sum()) / pairs
    sizes = in_a.sum(axis=0)
    subsets /= sizes * (sizes - 1 if same else in_b.sum(axis=0))
    if same:
        # Without its diagonal a row lacks its own part of the column means (Szekely and Rizzo 2014).
        rows = columns = (rows - (n - 1) * mean) / max(n - 2, 1)
        products -= np.outer(rows + mean, drawn.sum(axis=0)) + rows @ drawn - (2 * rows + mean)[:, None] * drawn
        return _Means(mean, pairs, rows, columns, products, n * (n - 3), subsets)
    rows, columns = rows / m - mean, columns / n - mean
    products -= np.outer(rows + mean, drawn.sum(axis=0)) + columns @ drawn
    return _Means(mean, pairs, rows, columns, products, (n - 1) * (m - 1), subsets)


def _terms(within: _Means, reference: _Means, between: _Means) -> KernelTerms:
    """The terms of within + reference - 2 between, see :class:`KernelTerms`."""
    parts = ((2, within), (2, reference), (4, between))
    with np.errstate(over="ignore", invalid="ignore"):
        pairs = [
            (part.signs * np.sqrt(share / (part.pairs * part.freedom))).astype(np.float32) for share, part in parts
        ]
    first, second = 2 * (within.rows - between.rows), 2 * (reference.rows - between.columns)
    n, m = len(first), len(second)
    return KernelTerms(first / np.sqrt(n * (n - 1)), second / np.sqrt(m * (m - 1)), (pairs[0], pairs[1], pairs[2]))


def _members(seed: int, which: int, n: int, subsets: int, size: int) -> NDArray[np.bool_]:
    """Which of n rows are in each subset, [n, subsets]."""
    chosen = np.zeros((n, subsets), dtype=np.bool_)
    for subset in range(subsets):
        chosen[subset_stream(seed, which, subset).choice(n, size, replace=False), subset] = True
    return chosen


def _random_signs(seed: int, n: int) -> Floats:
    """-1 or 1, float64 [n, signs]; more rows go on with those of fewer."""
    drawn = subset_stream(seed, _SIGN_STREAM).integers(0, 2, (n, _SIGNS))
    return 2 * drawn.astype(np.float64) - 1
