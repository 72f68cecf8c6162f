"""What scores ask of features before they use them, and small subsets of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import ScoreError

Floats = NDArray[np.float64]

#: Keeps the streams that choose subsets apart from those of latents and of the bootstrap.
_SUBSETS = 0x5B5E7


def checked_features(features: NDArray[np.floating], axes: int = 2, least: int = 2) -> Floats:
    """The features as float64.

    Args:
        features: real numbers; the first axis is the clips, the last one the features.
        axes: number of axes there must be.
        least: clips there must be.

    Raises:
        ScoreError: too few clips, another number of axes, or a number that is not finite.
    """
    rows = np.asarray(features)
    if rows.ndim != axes or rows.dtype.kind != "f" or 0 in rows.shape[1:]:
        raise _unusable(f"an array {list(rows.shape)} of {rows.dtype}", "they are no features of clips")
    if len(rows) < least:
        raise _unusable(f"{len(rows)} clips, expected at least {least}", "too little was sampled or read")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        which = int(np.argmin(np.isfinite(rows).reshape(len(rows), -1).all(axis=1)))
        raise _unusable(f"a feature of clip {which} is not finite", "the clip or the extractor's weights are damaged")
    return rows


def checked_pair(first: NDArray[np.floating], second: NDArray[np.floating], least: int = 2) -> tuple[Floats, Floats]:
    """Features [n, d] and [m, d] of two sets as float64.

    Raises:
        ScoreError: as :func:`checked_features`, or the two have other dimensions.
    """
    a, b = checked_features(first, least=least), checked_features(second, least=least)
    if a.shape[1] != b.shape[1]:
        raise _unusable(f"{a.shape[1]} and {b.shape[1]} features a clip", "they come from different extractors")
    return a, b


def subset_stream(seed: int, *which: int) -> np.random.Generator:
    """Random numbers that depend on the seed and on which subset it is, and on nothing that ran before."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SUBSETS, *which])))


def _unusable(seen: str, cause: str) -> ScoreError:
    return ScoreError(
        "cannot score features",
        seen=seen,
        cause=cause,
        fix="give more clips, e.g. -n 5000, all through one extractor",
    )
