"""Summaries of timings leave nothing out, and agreement is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vidgen.bench.statistics import agreement, distribution, speedup, spread

DURATIONS = st.lists(st.floats(1e-6, 100), min_size=1, max_size=200)


@given(DURATIONS)
def test_every_run_counts(seconds: list[float]) -> None:
    found = distribution(seconds)
    assert found.runs == len(seconds)
    assert found.mean == pytest.approx(1000 * sum(seconds) / len(seconds))
    assert found.smallest == pytest.approx(1000 * min(seconds)) and found.largest == pytest.approx(1000 * max(seconds))
    assert found.smallest <= found.p50 <= (found.p90 or found.largest) <= found.largest


def test_percentiles_wait_for_enough_runs() -> None:
    assert distribution([0.001] * 9).p90 is None
    assert distribution([0.001] * 10).p90 == pytest.approx(1)
    assert distribution([0.001] * 1023).p99 is None
    slow = distribution([0.001] * 1000 + [1.0] * 24)
    assert slow.p99 == pytest.approx(1000) and slow.p90 == pytest.approx(1) and slow.largest == pytest.approx(1000)


@given(st.floats(0.1, 10), st.lists(st.floats(0.5, 20), min_size=1, max_size=9))
def test_speedup_is_blind_to_what_slows_both(ratio: float, loads: list[float]) -> None:
    """A machine that is busy in some rounds slows both contenders of that round."""
    reference = [[ratio * load] * 3 for load in loads]
    other = [[load] * 3 for load in loads]
    assert speedup(reference, other) == pytest.approx(ratio)


def test_spread_tells_rounds_apart() -> None:
    assert spread([[1.0, 1.0], [1.0, 9.0, 1.0]]) == 0
    assert spread([[1.0], [1.2]]) == pytest.approx(0.2 / 1.1)


VIDEOS = npst.arrays(np.uint8, (2, 3, 4, 5, 3))


@given(VIDEOS, VIDEOS)
def test_agreement_matches_its_definition(a: np.ndarray, b: np.ndarray) -> None:
    found = agreement(a, b, same_weights=True)
    difference = np.abs(a.astype(float) - b.astype(float))
    assert found.max_grey_levels == difference.max()
    assert found.differing == pytest.approx((difference > 0).mean())
    assert difference[found.worst_video].max() == difference.max()
    if found.psnr is None:
        assert difference.max() == 0
    else:
        assert found.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)))
    assert agreement(b, a, same_weights=True).max_grey_levels == found.max_grey_levels
