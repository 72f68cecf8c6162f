"""The kernel distance: its definition, no bias, an interval that holds, and seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.kernel_distance import kernel_distance
from vidgen.errors import ScoreError, SettingsError


def draw(seed: int, n: int, d: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def by_definition(a: np.ndarray, b: np.ndarray, degree: int = 3) -> float:
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** degree)

    within = [np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    return within[0] + within[1] - 2 * float(np.mean([kernel(x, y) for x in a for y in b]))


@given(st.integers(0, 999), st.integers(2, 9), st.integers(1, 4))
@limits(max_examples=25)
def test_all_clips_in_one_subset_are_the_definition(seed: int, n: int, degree: int) -> None:
    a, b = draw(seed, n), draw(seed + 1, n, shift=0.5)
    found = kernel_distance(a, b, subsets=1, subset_size=n, degree=degree)
    assert found.value == pytest.approx(by_definition(a, b, degree), rel=1e-9, abs=1e-9)
    assert found.subset_mean == pytest.approx(found.value, rel=1e-9, abs=1e-9)
    assert found.interval is None and found.n == (n, n) and found.subset_size == n


# Few clips go into the sums of all subsets at once; of thousands each subset is summed by itself.
@pytest.mark.parametrize("n", [60, 2500])
def test_subsets_are_the_seeds_and_nothing_else(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    from vidgen.bench.scores import kernel_distance as module

    a, b = draw(0, n), draw(1, n, shift=0.2)
    found = kernel_distance(a, b, subsets=7, subset_size=30, seed=5)
    members = [module._members(5, which, n, 7, 30) for which in (0, 1)]
    exact = [by_definition(a[members[0][:, s]], b[members[1][:, s]]) for s in range(7)]
    assert found.subset_mean == pytest.approx(np.mean(exact), rel=1e-9)
    assert found.subset_deviation == pytest.approx(np.std(exact, ddof=1), rel=1e-9)
    monkeypatch.setattr(module, "_ROWS", 7)
    assert kernel_distance(a, b, subsets=7, subset_size=30, seed=5).value == pytest.approx(found.value, rel=1e-9)
    other = kernel_distance(a, b, subsets=7, subset_size=30, seed=6)
    assert other.subset_mean != found.subset_mean and other.value == pytest.approx(found.value, rel=1e-9)


# Of sets that are alike there is no first order; a plain jackknife is then 1.4 times too wide.
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_distance_has_no_bias_and_its_interval_holds(shift: float) -> None:
    found = [kernel_distance(draw(2 * i, 120), draw(2 * i + 1, 120, shift=shift), subsets=2) for i in range(100)]
    values = np.array([one.value for one in found])
    exact = kernel_distance(draw(1001, 2000), draw(1002, 2000, shift=shift), subsets=1, subset_size=2000).value
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(len(values)) + 0.01
    told = np.mean([one.interval.standard_error for one in found if one.interval])
    assert 0.8 < told / values.std() < 1.3
    inside = np.mean([one.interval.low <= exact <= one.interval.high for one in found if one.interval])
    assert inside >= 0.9


def test_a_difference_of_pairs_holds_and_is_narrow() -> None:
    values, told, alone = [], [], []
    for i in range(60):
        a, b = draw(2 * i, 80, shift=0.1), draw(2 * i + 1, 100)
        noisy = a + 0.1 * np.tanh(3 * a[:, ::-1])
        first, second = (kernel_distance(one, b, subsets=2) for one in (a, noisy))
        difference = second.minus(first)
        assert difference.interval is not None and second.interval is not None
        assert difference.value == second.value - first.value
        values.append(difference.value)
        told.append(difference.interval.standard_error)
        alone.append(second.interval.standard_error)
    covered = np.mean(np.abs(values - np.mean(values)) < 1.96 * np.array(told))
    assert covered >= 0.9 and 0.75 < np.mean(told) / np.std(values) < 1.3
    assert np.mean(told) < np.mean(alone) / 3


def test_differences_of_unlike_sizes_and_of_nothing() -> None:
    a, b = draw(0, 60), draw(1, 70)
    first, again, shorter = (kernel_distance(one, b, subsets=2) for one in (a, a.copy(), draw(2, 40)))
    assert again.minus(first).interval == Interval(0.0, 0.0, 0.0)
    apart = shorter.minus(first).interval
    assert apart is not None and first.interval is not None
    assert apart.standard_error > first.interval.standard_error / 2
    assert first.minus(kernel_distance(a, b[:50], subsets=2)).interval is None
    few = kernel_distance(a[:9], b, subsets=2)
    assert few.interval is None and few.minus(first).interval is None


def test_blocks_of_large_sets_have_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgen.bench.scores import kernel_distance as module

    pairs = [(draw(2 * i, 60, shift=0.3), draw(2 * i + 1, 90)) for i in range(60)]
    whole = [kernel_distance(a, b, subsets=2) for a, b in pairs]
    monkeypatch.setattr(module, "_PAIRS", 500)
    cut = [kernel_distance(a, b, subsets=2) for a, b in pairs]
    apart = np.array([one.value - other.value for one, other in zip(cut, whole)])
    assert abs(apart.mean()) < 3 * apart.std() / np.sqrt(len(apart)) and apart.std() > 0
    told = np.mean([one.interval.standard_error for one in cut if one.interval])
    assert 0.75 < told / np.std([one.value for one in cut]) < 1.35


def test_features_far_from_zero_keep_their_digits() -> None:
    a, b = draw(0, 50), draw(1, 50, shift=0.3)
    near, far = (kernel_distance(a + away, b + away, degree=1, subsets=2) for away in (0.0, 1e5))
    assert far.value == pytest.approx(near.value, rel=1e-4)
    assert far.interval is not None and near.interval is not None
    assert far.interval.standard_error == pytest.approx(near.interval.standard_error, rel=1e-3)
    with pytest.raises(ScoreError, match="too large"):
        kernel_distance(a * 1e150, b)


def test_farther_sets_are_farther() -> None:
    values = [kernel_distance(draw(0, 400), draw(1, 400, shift=shift)).value for shift in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values) and abs(values[0]) < 0.05 < values[1]


def test_small_sets_use_half_of_their_clips_and_say_so() -> None:
    found = kernel_distance(draw(0, 50), draw(1, 80))
    assert found.subset_size == 25 and "50 clips" in found.warnings[0]
    assert "terms" not in found.to_dict()
    assert found.to_dict()["interval"]["low"] < found.value < found.to_dict()["interval"]["high"]


@pytest.mark.parametrize("options", [{"subset_size": 11}, {"subset_size": 1}, {"subsets": 0}, {"degree": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        kernel_distance(draw(0, 10), draw(1, 20), **options)


def test_features_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ScoreError, match="4 and 3 features"):
        kernel_distance(draw(0, 10), draw(1, 10, 3))
    with pytest.raises(ScoreError, match="clip 3 is not finite"):
        kernel_distance(draw(0, 10), np.where(np.arange(10)[:, None] == 3, np.nan, draw(1, 10)))
    with pytest.raises(ScoreError, match="1 clips"):
        kernel_distance(draw(0, 10), draw(1, 1))
    with pytest.raises(ScoreError, match="no features"):
        kernel_distance(draw(0, 10), np.zeros((10, 4), np.int64))


@pytest.mark.parametrize("size", [1e20, 1e30, 1e36])
def test_huge_features_leave_nothing_that_json_cannot_hold(size: float) -> None:
    rng = np.random.default_rng(0)
    a, b = (((rng.standard_normal((20, 3)) + 5) * size).astype(np.float32) for _ in range(2))
    found = kernel_distance(a, b)
    json.dumps([found.to_dict(), found.minus(kernel_distance(b, a)).to_dict()], allow_nan=False)
    assert found.interval is not None or any("overflow" in warning for warning in found.warnings)
