"""Curves over time from which motions are made: gestures, waves, keyframes, and the manner of a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.draws import sign, uniform

#: float32 [T]; numpy's own annotations lose the width in arithmetic.
Curve: TypeAlias = npt.NDArray[np.floating[Any]]


class Curves:
    """Named curves over the same times, each float32 [T]; one that was never added to is at rest.

    Args:
        times: seconds, [T].
        channels: curves by name.
    """

    #: Value at rest of the channels that do not rest at 0.
    rest: ClassVar[Mapping[str, float]] = {}

    def __init__(self, times: Curve, channels: Mapping[str, Curve] | None = None) -> None:
        self.times = times
        self.channels: dict[str, Curve] = dict(channels or {})

    def __getitem__(self, channel: str) -> Curve:
        if channel in self.channels:
            return self.channels[channel]
        return np.full_like(self.times, self.rest.get(channel, 0.0))

    def add(self, channel: str, curve: npt.ArrayLike) -> None:
        """Add a curve, or a constant, to a channel."""
        self.channels[channel] = np.asarray(self[channel] + np.asarray(curve), np.float32)

    def frames(self, block: slice) -> Self:
        """The curves of some of the frames."""
        return type(self)(self.times[block], {name: curve[block] for name, curve in self.channels.items()})


@dataclass(frozen=True)
class Manner:
    """How strongly and how fast a person moves in a clip.

    Attributes:
        strength: multiplies amplitudes.
        speed: multiplies frequencies.
        start: share of a period that has passed at the first frame.
        side: -1 or 1, where a motion has a side.
    """

    strength: float
    speed: float
    start: float
    side: float


def draw_manner(rng: np.random.Generator) -> Manner:
    """A manner within the natural range."""
    return Manner(uniform(rng, 0.8, 1.15), uniform(rng, 0.88, 1.12), uniform(rng, 0.0, 0.3), sign(rng))


def pulse(times: Curve, period: float, start: float, rise: float, hold: float, fall: float) -> Curve:
    """A gesture from 0 to 1 and back, once a period; all in seconds.

    Rise and fall are minimum-jerk curves, the shape of natural point-to-point movements.
    """
    local = np.mod(times - start, period)
    up = _minimum_jerk(local / rise)
    down = _minimum_jerk((local - rise - hold) / fall)
    return np.asarray(up - down, np.float32)


def _minimum_jerk(x: Curve) -> Curve:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * x * (x * (x * 6.0 - 15.0) + 10.0), np.float32)


def wave(times: Curve, frequency: float, phase: float) -> Curve:
    """A sine of the given frequency in hertz; ``phase`` in turns."""
    return np.asarray(np.sin(2.0 * np.pi * (frequency * times + phase)), np.float32)


def cycle(phase: Curve, keys: Sequence[tuple[float, float]]) -> Curve:
    """A smooth closed curve through keyframes.

    Args:
        phase: position in the cycle, [T]; only its fraction counts.
        keys: (position in [0, 1), value), in order; the curve goes on from the last to the first.
    """
    places = np.array([place for place, _ in keys], np.float64)
    values = np.array([value for _, value in keys], np.float64)
    places = np.concatenate([places[-1:] - 1.0, places, places[:2] + 1.0])
    values = np.concatenate([values[-1:], values, values[:2]])
    # Cubic Hermite with the slope between a key's two neighbours: no corners, little overshoot.
    slopes = (values[2:] - values[:-2]) / (places[2:] - places[:-2])
    place = np.mod(np.asarray(phase, np.float64) - places[1], 1.0) + places[1]
    left = np.clip(np.searchsorted(places, place, side="right") - 1, 1, len(places) - 3)
    width = places[left + 1] - places[left]
    x = (place - places[left]) / width
    start, end = slopes[left - 1] * width, slopes[left] * width
    square, cube = x * x, x * x * x
    curve = (
        (2 * cube - 3 * square + 1) * values[left]
        + (cube - 2 * square + x) * start
        + (3 * square - 2 * cube) * values[left + 1]
        + (cube - square) * end
    )
    return np.asarray(curve, np.float32)
