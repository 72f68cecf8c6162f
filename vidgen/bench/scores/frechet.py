"""Fréchet distance of two sets of features (FID, FVD), in float64 and without a general matrix square root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidgen.bench.scores.moments import Gaussian, Moments
from vidgen.errors import ScoreError

Floats = NDArray[np.float64]

#: Up to so many singular values are taken directly; above, as roots of eigenvalues, which is 4 times faster.
_FEW = 1024
#: Share of the trace that negative eigenvalues may hold: above the first it is told, above the second refused.
_TELL, _REFUSE = 1e-9, 1e-3
#: Share of the squared mean below which a variance is rounding.
_STILL = 1e-20
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class FrechetDistance:
    """The distance |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1^(1/2) S2 S1^(1/2))^(1/2)) and what to know of it.

    Attributes:
        value: at least 0; lower is better. It is biased upwards where clips are few: compare equal n only.
        mean_term: |mu1 - mu2|^2. covariance_term: the rest.
        dimension: features of a clip. n: clips of the two sides; None where nobody said.
        forms: how the root of each covariance was had: ``cholesky``, ``eigh`` or ``features``.
        clipped: sum of the negative eigenvalues that were set to 0, over the traces; rounding alone is below 1e-12.
        warnings: sentences.
    """

    value: float
    mean_term: float
    covariance_term: float
    dimension: int
    n: tuple[int | None, int | None]
    forms: tuple[str, str]
    clipped: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class FrechetSide:
    """One set of features, with the root of its covariance; made once and compared with many.

    Attributes:
        mean: float64 [d]. factor: float64 [d, k], factor @ factor.T is the covariance over ``scale``; k is its rank,
            or the number of clips. scale, trace: of the covariance. n: clips.
        form: how the factor was had. clipped: what was set to 0, as a share of the trace.
    """

    mean: Floats
    factor: Floats
    scale: float
    trace: float
    n: int | None
    form: str
    clipped: float = 0.0

    @classmethod
    def of_gaussian(cls, gaussian: Gaussian) -> Self:
        """From a mean and a covariance.

        Raises:
            ScoreError: the matrix has negative eigenvalues beyond rounding, so it is no covariance.
        """
        covariance = gaussian.covariance
        scale = float(np.abs(covariance).max()) or 1.0
        factor, form, clipped = _root(covariance / scale)
        return cls(gaussian.mean, factor, scale, float(np.trace(covariance)), gaussian.n, form, clipped)

    @classmethod
    def of_features(cls, features: NDArray[np.floating], weights: Floats | None = None) -> Self:
        """From features [n, d]; with fewer rows than d the centred rows themselves are the factor.

        Args:
            weights: how often each row counts, float64 [n], for resamplings; once each when None.

        Raises:
            ScoreError: fewer than two rows, or numbers that are not finite.
        """
        rows = np.asarray(features)
        if rows.ndim != 2 or not rows.size:
            raise ValueError(f"features {list(rows.shape)}, expected [clips, d]")
        if weights is not None:
            rows, weights = rows[weights > 0], weights[weights > 0]
        count = float(len(rows) if weights is None else weights.sum())
        if count < 2:
            raise _too_few(int(count))
        if len(rows) >= rows.shape[1]:
            gaussian = Moments.of(rows).gaussian() if weights is None else _weighted(rows, weights, count)
            return cls.of_gaussian(gaussian)
        if not np.isfinite(rows).all():
            Moments.of(rows)  # names the row
        centred = rows.astype(np.float64)
        mean = np.average(centred, axis=0, weights=weights)
        centred -= mean
        if weights is not None:
            centred *= np.sqrt(weights)[:, None]
        scale = float(np.abs(centred).max()) ** 2 or 1.0
        factor = centred.T / np.sqrt(scale * (count - 1))
        return cls(mean, factor, scale, scale * float(np.square(factor).sum()), int(count), "features")

    def to(self, other: FrechetSide) -> FrechetDistance:
        """The distance of two sides; warnings call this one the scored set and the other the reference.

        Raises:
            ScoreError: they have other dimensions, or the distance is not finite.
        """
        if len(self.mean) != len(other.mean):
            raise ScoreError(
                "cannot compare features",
                seen=f"{len(self.mean)} and {len(other.mean)} features a clip",
                cause="they come from different extractors",
                fix="make both statistics with one --extractor",
            )
        with np.errstate(over="ignore", invalid="ignore"):
            mean_term = float(np.square(self.mean - other.mean).sum())
            root, clipped = _nuclear_norm(self.factor, other.factor)
            root_trace = float(np.sqrt(self.scale) * np.sqrt(other.scale)) * root
            covariance_term = self.trace + other.trace - 2 * root_trace
        value = mean_term + covariance_term
        if not np.isfinite(value):
            raise ScoreError(
                "cannot take the Fréchet distance",
                seen=f"{value}",
                cause="features too large for float64",
                fix="use an extractor whose features are below 1e150",
            )
        clipped = max(self.clipped, other.clipped, clipped)
        return FrechetDistance(
            value=max(value, 0.0),
            mean_term=mean_term,
            covariance_term=covariance_term,
            dimension=len(self.mean),
            n=(self.n, other.n),
            forms=(self.form, other.form),
            clipped=clipped,
            warnings=tuple(_warnings(self, other, clipped)),
        )


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """The squared Fréchet distance of two normal distributions, at least 0.

    Equals ``|mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrtm(S1 S2))``, also where the covariances are singular.

    Args:
        mu1, mu2: [d]. sigma1, sigma2: [d, d]; all are taken as float64.

    Raises:
        ScoreError: shapes that do not fit, values that are not finite, or matrices that are no covariances.
    """
    first, second = (
        Gaussian(np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64))
        for mu, sigma in ((mu1, sigma1), (mu2, sigma2))
    )
    return frechet(first, second).value


def frechet(first: Gaussian | FrechetSide, second: Gaussian | FrechetSide) -> FrechetDistance:
    """The distance of two sets with all that is to be known of it.

    Give :meth:`FrechetSide.of_features` where there are fewer clips than features: it is exact there, and faster.

    Raises:
        ScoreError: as :func:`frechet_distance`.
    """
    a, b = (FrechetSide.of_gaussian(side) if isinstance(side, Gaussian) else side for side in (first, second))
    return a.to(b)


def _root(covariance: Floats) -> tuple[Floats, str, float]:
    """A factor F [d, k] with F F^T the covariance, how it was had, and the share of the trace that was clipped."""
    tolerance = len(covariance) * _EPS
    try:
        factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        pivots = np.square(factor.diagonal())
        if pivots.min() > tolerance * pivots.max():
            return factor, "cholesky", 0.0
    except np.linalg.LinAlgError:
        pass  # not positive definite: the eigenvalues tell whether that is rounding
    values, vectors = _checked(np.linalg.eigh, covariance)
    total = float(np.abs(values).sum())
    clipped = float(-values[values < 0].sum()) / total if total else 0.0
    if clipped > _REFUSE:
        raise ScoreError(
            "cannot take the root of a covariance",
            seen=f"negative eigenvalues hold {clipped:.2%} of it, the smallest is {values[0] / values[-1]:.2g} of the "
            "largest",
            cause="the matrix is no covariance: it is damaged, or was stored in half precision",
            fix="make the statistics again: vidgen stats SRC -o STATS.npz",
        )
    # Eigenvalues that are 0 but for rounding would add their roots, a thousand of 1e-8 each.
    kept = values > tolerance * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept]), "eigh", clipped


def symmetric_eigen(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues of a symmetric matrix, increasing, and its eigenvectors as columns.

    Raises:
        ScoreError: they were not found.
    """
    values, vectors = _checked(np.linalg.eigh, matrix)
    return values, vectors


def _nuclear_norm(a: Floats, b: Floats) -> tuple[float, float]:
    """Sum of the singular values of a^T b, which is tr((S1^(1/2) S2 S1^(1/2))^(1/2)), and the share clipped."""
    product = a.T @ b
    if not product.size:
        return 0.0, 0.0
    if min(product.shape) <= _FEW:
        singular = _checked(lambda m: np.linalg.svd(m, compute_uv=False), product)
        return float(singular.sum()), 0.0
    if product.shape[0] > product.shape[1]:
        product = product.T
    gram = product @ product.T
    del product  # the peak of memory is in the eigenvalues
    values = _checked(np.linalg.eigvalsh, gram)
    clipped = float(-values[values < 0].sum()) / float(np.abs(values).sum() or 1.0)
    return float(np.sqrt(values.clip(min=0)).sum()), clipped


def _checked(function: Any, matrix: Floats) -> Any:
    try:
        return function(matrix)
    except np.linalg.LinAlgError as error:
        raise ScoreError(
            "cannot take the Fréchet distance",
            seen=str(error),
            cause="the eigenvalues of a covariance were not found: its values may be far too large",
            fix="make the statistics again: vidgen stats SRC -o STATS.npz",
        ) from error


def _weighted(rows: NDArray[np.floating], weights: Floats, count: float) -> Gaussian:
    """Mean and covariance of rows that count so often each."""
    values = rows.astype(np.float64)
    mean = weights @ values / count
    values -= mean
    values *= np.sqrt(weights)[:, None]
    return Gaussian(mean, values.T @ values / (count - 1), int(count))


def _too_few(count: int) -> ScoreError:
    return ScoreError(
        "cannot take the covariance of features",
        seen=f"{count} clips, expected at least 2",
        cause="too little was sampled or read",
        fix="give more clips, e.g. -n 5000",
    )


def _warnings(a: FrechetSide, b: FrechetSide, clipped: float) -> list[str]:
    d = len(a.mean)
    found = []
    for name, side in (("scored set", a), ("reference", b)):
        if side.trace <= _STILL * float(np.square(side.mean).sum()):
            found.append(
                f"all clips of the {name} have the same features: they show the same, or the extractor sees nothing"
            )
        # A set of unknown size shows itself by a covariance without full rank.
        if side.n is not None and side.n <= d:
            found.append(
                f"the {name} has {side.n} clips for {d} features: its covariance is singular and the distance "
                "depends on the number of clips more than on their quality"
            )
        elif side.n is None and side.factor.shape[1] < d:
            found.append(
                f"the covariance of the {name} has rank {side.factor.shape[1]} of {d}: it was taken from fewer clips "
                "than features, or some features are constant"
            )
    if clipped > _TELL:
        found.append(f"negative eigenvalues, {clipped:.1g} of the whole, were set to 0")
    return found
