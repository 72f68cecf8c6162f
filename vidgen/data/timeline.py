"""Which decoded frames make a clip of constant rate: by their timestamps, not by their count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Assumed where neither the file nor the user gives a rate.
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Timeline:
    """Which frames to take, and at what rate they are then shown.

    Args:
        order: int64 [T]: numbers of decoded frames, never decreasing.
        fps: frames a second of that sequence.
        notes: what a person should know of how it was made.
    """

    order: npt.NDArray[np.int64]
    fps: float
    notes: tuple[str, ...] = ()


def make_timeline(
    times: Sequence[float | None],
    rates: Sequence[float],
    tick: float,
    *,
    fps: float | None,
    resample: bool,
    max_frames: int,
) -> Timeline:
    """Choose frames so that they are evenly spaced in time.

    Args:
        times: seconds of each decoded frame, None where unknown.
        rates: rates that the file states, the most trusted first.
        tick: seconds by which times are rounded.
        fps: the rate that is wanted; None to keep the file's.
        resample: whether frames may be repeated and left out; if not, ``fps`` only says what the rate is.
        max_frames: most frames that may come of it.

    Returns:
        All frames in order where they are evenly spaced at the wanted rate already.

    Raises:
        ValueError: at that rate there would be more than ``max_frames``.
    """
    everything = np.arange(len(times), dtype=np.int64)
    rates = [rate for rate in rates if math.isfinite(rate) and rate > 0]
    seconds = _increasing(times)
    notes: tuple[str, ...] = ()
    if seconds is None:
        if sum(time is not None for time in times) > 1:
            notes = ("its timestamps do not increase: frames are taken to be evenly spaced",)
        rate = rates[0] if rates else fps or DEFAULT_FPS
        seconds, interval, regular = everything / rate, 1 / rate, True
    else:
        gaps = np.diff(seconds)
        interval = float(np.median(gaps))
        regular = float(np.abs(gaps - interval).max()) <= max(0.1 * interval, 1.5 * tick)
        rate = _snap(_usual_rate(seconds, interval, regular), rates)
    if not resample and not regular:
        notes += ("its frame rate varies: frames are taken as they come",)
    if not resample or (regular and fps is None) or len(times) < 2:
        return Timeline(everything, fps or rate, notes)
    target = fps or rate
    order = _nearest(seconds, interval, target, max_frames)
    if not np.array_equal(order, everything):
        was = f"{rate:.6g} frames a second" if regular else f"a varying rate (about {rate:.6g})"
        notes += (f"resampled by timestamps from {was} to {target:.6g}: {len(times)} frames became {len(order)}",)
    return Timeline(order, target, notes)


def _increasing(times: Sequence[float | None]) -> npt.NDArray[np.float64] | None:
    """The times as an array if there are two or more, all known, each after the one before."""
    if len(times) < 2 or any(time is None for time in times):
        return None
    seconds = np.asarray(times, dtype=np.float64)
    return seconds if bool((np.diff(seconds) > 0).all()) else None


def _snap(measured: float, rates: Sequence[float]) -> float:
    """The stated rate if the measured one agrees with it: 30000/1001, not 29.9694 off a millisecond clock."""
    return next((rate for rate in rates if rate > 0 and abs(measured / rate - 1) < 0.005), measured)


def _usual_rate(seconds: npt.NDArray[np.float64], interval: float, regular: bool) -> float:
    """The mean rate; for uneven frames the rate of most, unless that would double or halve their number."""
    mean = (len(seconds) - 1) / float(seconds[-1] - seconds[0])
    return 1 / interval if not regular and 0.5 <= mean * interval <= 2 else mean


def _nearest(
    seconds: npt.NDArray[np.float64], last_interval: float, fps: float, max_frames: int
) -> npt.NDArray[np.int64]:
    """For each tick of a clock at ``fps``, the frame whose time is nearest."""
    span = float(seconds[-1] - seconds[0]) + last_interval
    count = max(1, round(span * fps))
    if count > max_frames:
        raise ValueError(f"{span:.0f} seconds at {fps:.6g} frames a second are {count} frames")
    clock = seconds[0] + np.arange(count) / fps
    after = np.clip(np.searchsorted(seconds, clock), 1, len(seconds) - 1)
    # A tiny bias settles ties towards the earlier frame, whatever the rounding of the times.
    later = seconds[after] - clock < clock - seconds[after - 1] - 1e-6 * last_interval
    order: npt.NDArray[np.int64] = np.where(later, after, after - 1).astype(np.int64)
    return order
