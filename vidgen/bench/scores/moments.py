"""Mean and covariance of features, gathered a batch at a time in float64 and merged over shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import ScoreError

Floats = NDArray[np.float64]

#: Rows that are folded together. Rows wait until so many are there, whatever batches they come in.
_BLOCK = 512
#: Largest |sigma - sigma^T| over the largest |sigma|: files in single precision stay below, swapped arrays do not.
_ASYMMETRY = 1e-5


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features, which may come from another program.

    Attributes:
        mean: float64 [d]. covariance: float64 [d, d], symmetric, divided by n - 1.
        n: number of clips; None where nobody said.

    Raises:
        ScoreError: the arrays do not fit each other, hold numbers that are not finite, or are no covariance.
    """

    mean: Floats
    covariance: Floats
    n: int | None = None

    def __post_init__(self) -> None:
        mean = np.atleast_1d(np.asarray(self.mean, dtype=np.float64))
        covariance = np.atleast_2d(np.asarray(self.covariance, dtype=np.float64))
        d = mean.size
        if mean.shape != (d,) or not d or covariance.shape != (d, d):
            raise _no_gaussian(
                f"mu {list(mean.shape)} and sigma {list(covariance.shape)}, expected [d] and [d, d]",
                "they belong to different sets of features, or are mislabelled",
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise _no_gaussian("numbers that are not finite", "the features overflowed, or a file is damaged")
        largest = float(np.abs(covariance).max())
        asymmetry = float(np.abs(covariance - covariance.T).max())
        if asymmetry > _ASYMMETRY * largest:
            raise _no_gaussian("a sigma that is not symmetric", "the array is not a covariance, or is damaged")
        if covariance.diagonal().min() < -_ASYMMETRY * largest:
            raise _no_gaussian("a sigma with a negative variance", "the array is not a covariance, or is damaged")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2 if asymmetry else covariance)

    @property
    def dimension(self) -> int:
        """Features of a clip, d."""
        return len(self.mean)


def _no_gaussian(seen: str, cause: str) -> ScoreError:
    return ScoreError(
        "cannot use a mean and covariance of features",
        seen=seen,
        cause=cause,
        fix="make the statistics again: vidgen stats SRC -o STATS.npz",
    )


class Moments:
    """Number, mean and scatter of the rows seen so far; what :func:`numpy.cov` finds, to 1e-13 of its largest value.

    Rows are folded in blocks of a fixed size, so the same rows in the same order give the same bits whatever batches
    they come in; another order, or a merge of shards, agrees to rounding. The scatter is kept about the mean
    (Chan, Golub, LeVeque), so that features far from 0 lose nothing.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"features of dimension {dimension}")
        self._n = 0
        self._mean: Floats = np.zeros(dimension)
        self._scatter: Floats = np.zeros((dimension, dimension))
        self._waiting: list[Floats] = []

    @classmethod
    def empty(cls, dimension: int) -> Self:
        """The moments of no row."""
        return cls(dimension)

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> Self:
        """The moments of features [n, d]."""
        return cls(np.shape(features)[-1]).add(features)

    @classmethod
    def from_scatter(cls, n: int, mean: Floats, scatter: Floats) -> Self:
        """From a number of rows, their mean [d] and the sum of (x - mean)(x - mean)^T [d, d]."""
        made = cls(len(mean))
        made._n = int(n)
        made._mean = np.array(mean, dtype=np.float64)
        made._scatter = np.array(scatter, dtype=np.float64)
        return made

    @classmethod
    def from_sums(cls, n: int, total: Floats, outer: Floats) -> Self:
        """From a number of rows, the sum of x [d] and the sum of x x^T [d, d]; exact only where means are small."""
        mean = np.asarray(total, dtype=np.float64) / max(n, 1)
        return cls.from_scatter(n, mean, outer - n * np.outer(mean, mean))

    @property
    def dimension(self) -> int:
        """Features of a row, d."""
        return len(self._mean)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._n + sum(len(rows) for rows in self._waiting)

    @property
    def mean(self) -> Floats:
        """Float64 [d]; zeros where there is no row."""
        return self._folded()._mean.copy()

    @property
    def scatter(self) -> Floats:
        """Sum of (x - mean)(x - mean)^T, float64 [d, d]."""
        return self._folded()._scatter.copy()

    @property
    def covariance(self) -> Floats:
        """Float64 [d, d], divided by n - 1.

        Raises:
            ScoreError: there are fewer than two rows.
        """
        if self.n < 2:
            raise ScoreError(
                "cannot take the covariance of features",
                seen=f"{self.n} clips, expected at least 2",
                cause="too little was sampled or read",
                fix="give more clips, e.g. -n 5000",
            )
        covariance: Floats = self._folded()._scatter / (self.n - 1)
        return covariance

    @property
    def sum(self) -> Floats:
        """Sum of x, float64 [d]."""
        return self.n * self.mean

    @property
    def outer(self) -> Floats:
        """Sum of x x^T, float64 [d, d]."""
        folded = self._folded()
        outer: Floats = folded._scatter + self.n * np.outer(folded._mean, folded._mean)
        return outer

    def gaussian(self) -> Gaussian:
        """Mean, covariance and number of rows."""
        return Gaussian(self.mean, self.covariance, self.n)

    def add(self, features: NDArray[np.floating]) -> Self:
        """Take some more rows in; returns itself.

        Args:
            features: float32 or float64 [k, d]; they are copied.

        Raises:
            ScoreError: another dimension, or a number that is not finite; nothing of the batch is then taken in.
        """
        rows = np.asarray(features)
        if rows.dtype not in (np.float32, np.float64):
            raise ValueError(f"features of {rows.dtype}, expected float32 or float64")
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise _no_features(f"an array {list(rows.shape)}, expected [clips, {self.dimension}]", "another extractor")
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            which = self.n + int(np.argmin(finite))
            raise _no_features(
                f"a feature of clip {which} of the set is not finite", "the clip or the weights are damaged"
            )
        position = 0
        while position < len(rows):
            free = _BLOCK - sum(len(part) for part in self._waiting)
            self._waiting.append(rows[position : position + free].astype(np.float64))
            position += free
            if position <= len(rows):
                self._fold()
        return self

    def merged(self, other: Moments) -> Moments:
        """The moments of the rows of both, which must share none; neither of them changes.

        Raises:
            ScoreError: they are of different dimensions.
        """
        if other.dimension != self.dimension:
            raise _no_features(f"{self.dimension} and {other.dimension} features a clip", "another extractor")
        a, b = self._folded(), other._folded()
        n = a._n + b._n
        if not b._n or not a._n:
            return Moments.from_scatter(n, *((a._mean, a._scatter) if a._n else (b._mean, b._scatter)))
        delta = b._mean - a._mean
        step = np.sqrt(a._n) * np.sqrt(b._n / n) * delta
        return Moments.from_scatter(n, a._mean + delta * (b._n / n), a._scatter + b._scatter + np.outer(step, step))

    def _fold(self) -> None:
        """Take the waiting rows into the sums."""
        rows = np.concatenate(self._waiting)
        self._waiting = []
        n = self._n + len(rows)
        delta = rows.mean(axis=0) - self._mean
        # The move of the mean is one more row, so that a fold is one product.
        spread = np.vstack([rows - rows.mean(axis=0), np.sqrt(self._n) * np.sqrt(len(rows) / n) * delta])
        self._scatter += spread.T @ spread
        self._mean = self._mean + delta * (len(rows) / n)
        self._n = n

    def _folded(self) -> Moments:
        """These moments with no row waiting. Looking must not move the borders of the blocks, hence a copy."""
        if not self._waiting:
            return self
        copy = Moments.from_scatter(self._n, self._mean, self._scatter)
        copy._waiting = list(self._waiting)
        copy._fold()
        return copy


def _no_features(seen: str, cause: str) -> ScoreError:
    return ScoreError(
        "cannot use features of clips",
        seen=seen,
        cause=cause,
        fix="use one extractor for all clips, and an earlier checkpoint if the clips are not finite",
    )
