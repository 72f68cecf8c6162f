"""Summaries of timings, and how far two contenders' videos of the same latents lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Fewer runs than this say nothing about a percentile: one slow run in a hundred is not a 99th percentile.
RUNS_FOR = {"p90": 10, "p99": 1024}


@dataclass(frozen=True)
class Distribution:
    """Durations of runs of one batch, in milliseconds; no run is left out. Percentiles interpolate linearly.

    Attributes:
        p90: None below 10 runs, and rough below 1024. p99: None below 1024 runs.
    """

    runs: int
    mean: float
    p50: float
    p90: float | None
    p99: float | None
    smallest: float
    largest: float


def distribution(seconds: Sequence[float]) -> Distribution:
    """The summary of at least one duration in seconds."""
    values = np.asarray(seconds, dtype=np.float64) * 1000
    percentiles = {
        name: float(np.percentile(values, int(name[1:]))) if len(values) >= least else None
        for name, least in RUNS_FOR.items()
    }
    return Distribution(
        runs=len(values),
        mean=float(values.mean()),
        p50=float(np.median(values)),
        p90=percentiles["p90"],
        p99=percentiles["p99"],
        smallest=float(values.min()),
        largest=float(values.max()),
    )


def spread(rounds: Sequence[Sequence[float]]) -> float:
    """How much the rounds' medians differ: (largest - smallest) / their median; 0 for one round."""
    medians = [float(np.median(one)) for one in rounds]
    return (max(medians) - min(medians)) / float(np.median(medians))


def speedup(reference: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """How many times faster than the reference: the median over rounds of the ratio of the rounds' medians.

    Rounds are neighbours in time, so a machine that slows down for a while slows both sides of a ratio.
    """
    ratios = [float(np.median(a)) / float(np.median(b)) for a, b in zip(reference, other)]
    return float(np.median(ratios))


@dataclass(frozen=True)
class Agreement:
    """How far videos lie from the reference's, made from the same latents.

    Attributes:
        max_grey_levels: largest difference of two 8-bit values. differing: share of values that differ.
        psnr: in dB over all videos; None where all are equal.
        worst_video: index of the video with the largest difference.
        same_weights: whether both were made from the same checkpoint; without it a difference proves nothing.
    """

    max_grey_levels: int
    differing: float
    psnr: float | None
    worst_video: int
    same_weights: bool


def agreement(reference: NDArray[np.uint8], other: NDArray[np.uint8], *, same_weights: bool) -> Agreement:
    """Compare videos, uint8 [n, frames, height, width, 3], both of the same shape."""
    levels = np.zeros(len(reference), dtype=np.int64)
    squares = 0.0
    differing = 0
    for index, (a, b) in enumerate(zip(reference, other, strict=True)):
        difference = np.abs(a.astype(np.int16) - b.astype(np.int16))
        levels[index] = difference.max()
        differing += int(np.count_nonzero(difference))
        squares += float(np.square(difference.astype(np.float64)).sum())
    mean = squares / reference.size
    return Agreement(
        max_grey_levels=int(levels.max()),
        differing=differing / reference.size,
        psnr=float(10 * np.log10(255**2 / mean)) if mean else None,
        worst_video=int(levels.argmax()),
        same_weights=same_weights,
    )
