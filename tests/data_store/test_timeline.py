"""Even frame rates from timestamps: nothing changes where frames are even, motion keeps its speed where not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.data.timeline import Timeline, make_timeline

rates = st.sampled_from([10.0, 12.5, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0, 120.0])


def timeline(
    times: list, stated: tuple[float, ...] = (), tick: float = 0.0, fps: float | None = None, **more: object
) -> Timeline:
    return make_timeline(times, stated, tick, fps=fps, resample=bool(more.get("resample", True)), max_frames=100_000)


@given(rate=rates, count=st.integers(2, 400), tick=st.sampled_from([0.0, 0.001, 1 / 90000]), start=st.floats(-5, 500))
def test_even_frames_are_kept_as_they_are(rate: float, count: int, tick: float, start: float) -> None:
    times = [start + number / rate for number in range(count)]
    if tick:
        times = [round(time / tick) * tick for time in times]
    line = timeline(times, (rate,), tick)
    assert line.order.tolist() == list(range(count)) and line.notes == ()
    # The clock's ticks move the first and the last frame by half a tick each.
    clock = 1.2 * tick * rate / (count - 1)
    assert line.fps == pytest.approx(rate, rel=max(clock, 0.06 if count < 20 else 0.005))


def test_the_stated_rate_is_taken_where_a_coarse_clock_agrees() -> None:
    times = [round(number * 1001 / 30) / 1000 for number in range(90)]
    assert timeline(times, (30000 / 1001,), 0.001).fps == 30000 / 1001


def test_a_stated_rate_that_the_times_contradict_is_not_believed() -> None:
    assert timeline([number / 24 for number in range(95)], (23.67, 24.0)).fps == 24.0
    assert timeline([number / 24 for number in range(95)], (90000.0,)).fps == pytest.approx(24)


@settings(deadline=None)
@given(
    gaps=st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=15, max_size=80),
    wanted=st.none() | rates,
)
def test_every_moment_shows_a_frame_of_that_moment(gaps: list[int], wanted: float | None) -> None:
    times = np.cumsum([0, *gaps]) / 30
    line = timeline(times.tolist(), (30.0,), 0.0, wanted)
    clock = np.arange(len(line.order)) / line.fps
    nearest = np.abs(times[None, :] - clock[:, None]).min(axis=1)
    assert np.abs(times[line.order] - clock) == pytest.approx(nearest, abs=1e-5)
    assert bool((np.diff(line.order) >= 0).all())
    assert len(line.order) / line.fps == pytest.approx(times[-1] + np.median(gaps) / 30, abs=1 / line.fps)


@given(count=st.integers(16, 200), factor=st.integers(1, 4))
def test_a_lower_rate_takes_each_nth_frame(count: int, factor: int) -> None:
    line = timeline([number / 60 for number in range(count)], (60.0,), 0.0, 60 / factor)
    assert line.order.tolist() == list(range(0, count, factor))[: len(line.order)]
    assert abs(len(line.order) - count / factor) <= 1 and line.fps == 60 / factor
    assert bool(line.notes) == (factor > 1)


def test_a_dropped_frame_is_filled_with_its_neighbour() -> None:
    times = [number / 30 for number in range(60) if number != 20]
    line = timeline(times, (30.0,))
    assert line.fps == 30 and len(line.order) == 60
    assert line.order[:20].tolist() == list(range(20)) and line.order[21:].tolist() == list(range(20, 59))
    assert "resampled" in line.notes[0]


def test_never_resampling_takes_frames_as_they_come_and_says_so() -> None:
    times = [0, 0.1, 0.15, 0.5, 0.6, 0.9]
    line = timeline(times, (10.0,), 0.0, None, resample=False)
    assert line.order.tolist() == list(range(6)) and "varies" in line.notes[0]
    assert timeline(times, (10.0,), 0.0, 50.0, resample=False).fps == 50


def test_frames_without_times_have_the_rate_that_is_given() -> None:
    assert timeline([None] * 20).fps == 25
    assert timeline([None] * 20, fps=50).fps == 50
    assert timeline([None] * 20, fps=50).order.tolist() == list(range(20))
    assert timeline([None] * 20, (30.0,)).fps == 30
    assert timeline([None] * 20, (30.0,), 0.0, 15.0).order.tolist() == list(range(0, 20, 2))
    assert timeline([0.0], (30.0,), 0.0, 15.0).order.tolist() == [0]


def test_times_that_go_back_are_named() -> None:
    line = timeline([0, 0.04, 0.08, 0.02, 0.06, 0.1], (25.0,))
    assert line.order.tolist() == list(range(6)) and "do not increase" in line.notes[0]


def test_a_long_pause_does_not_multiply_the_frames() -> None:
    times = [number / 30 for number in range(50)] + [3600 + number / 30 for number in range(50)]
    assert len(timeline(times, (30.0,)).order) <= 110
    with pytest.raises(ValueError, match="108050 frames"):
        timeline(times, (30.0,), 0.0, 30.0)
