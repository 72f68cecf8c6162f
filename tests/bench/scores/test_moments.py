"""Streamed moments equal numpy's, however rows are grouped, ordered and sharded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.bench.scores.moments import Gaussian, Moments
from vidgen.errors import ScoreError


@st.composite
def grouped_rows(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows, near 0 or far from it, and their numbers in groups and in any order."""
    n, d = draw(st.sampled_from([2, 3, 17, 511, 512, 513, 1100])), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, offset = 10.0 ** draw(st.integers(-3, 3)), draw(st.sampled_from([0.0, 1.0, 1e4]))
    rows = (rng.standard_normal((n, d)) + offset) * scale
    order = rng.permutation(n) if draw(st.booleans()) else np.arange(n)
    cuts = np.sort(rng.integers(0, n + 1, draw(st.integers(0, 8))))
    return rows.astype(draw(st.sampled_from([np.float32, np.float64]))), np.split(order, cuts)


def assert_same_moments(found: Moments, rows: np.ndarray) -> None:
    exact = rows.astype(np.float64)
    expected = np.atleast_2d(np.cov(exact, rowvar=False))
    # Rounding of the rows themselves, which a far mean makes felt.
    rounding = 4e-15 * np.abs(exact).max() * np.sqrt(np.abs(expected).max())
    np.testing.assert_allclose(found.covariance, expected, rtol=0, atol=1e-13 * np.abs(expected).max() + rounding)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=0, atol=1e-14 * np.abs(exact).max())
    np.testing.assert_allclose(found.sum, exact.sum(axis=0), rtol=0, atol=1e-12 * np.abs(exact).sum())
    np.testing.assert_allclose(found.outer, exact.T @ exact, rtol=0, atol=1e-12 * np.square(exact).sum())
    assert found.n == len(rows)
    assert np.array_equal(found.covariance, found.covariance.T)


@given(grouped_rows())
def test_streamed_moments_equal_numpy_in_any_order_and_grouping(case: tuple[np.ndarray, list[np.ndarray]]) -> None:
    rows, groups = case
    moments = Moments.empty(rows.shape[1])
    for group in groups:
        moments.add(rows[group])
    assert_same_moments(moments, rows)


@given(grouped_rows())
def test_merged_shards_equal_one_process(case: tuple[np.ndarray, list[np.ndarray]]) -> None:
    rows, groups = case
    total = Moments.empty(rows.shape[1])
    for group in groups:
        total = Moments.of(rows[group]).merged(total)
    assert_same_moments(total, rows)


@given(st.integers(1, 1300), st.integers(0, 1000))
def test_the_same_rows_in_order_give_the_same_bits_whatever_the_batch(batch: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((1200, 3)).astype(np.float32) + 7
    moments = Moments.empty(3)
    for start in range(0, len(rows), batch):
        moments.add(rows[start : start + batch])
        assert np.isfinite(moments.mean).all()  # looking on the way changes nothing
    assert np.array_equal(moments.covariance, Moments.of(rows).covariance)
    assert np.array_equal(moments.mean, Moments.of(rows).mean)


def test_covariance_of_many_features_is_exact_to_1e_13() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((3000, 200)) @ rng.standard_normal((200, 200)) + 5).astype(np.float32)
    expected = np.cov(rows.astype(np.float64), rowvar=False)
    found = Moments.of(rows[1000:]).merged(Moments.of(rows[:1000])).covariance
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


def test_means_far_from_zero_lose_no_digits() -> None:
    rows = np.random.default_rng(2).standard_normal((4000, 4)) + 1e7
    expected = np.cov(rows, rowvar=False)
    merged = Moments.of(rows[:100]).merged(Moments.of(rows[100:]))
    assert np.abs(merged.covariance - expected).max() < 1e-8
    # Sums of squares alone could not: 1e14 is kept to two digits behind the point.
    naive = (rows.T @ rows - len(rows) * np.outer(rows.mean(axis=0), rows.mean(axis=0))) / (len(rows) - 1)
    assert np.abs(naive - expected).max() > 1e-5


def test_batches_that_cannot_be_used_change_nothing() -> None:
    good = np.random.default_rng(3).standard_normal((20, 3))
    moments = Moments.of(good)
    bad = good.copy()
    bad[7, 1] = np.nan
    with pytest.raises(ScoreError, match="clip 27"):
        moments.add(bad)
    with pytest.raises(ScoreError, match="expected"):
        moments.add(good[:, :2])
    with pytest.raises(ValueError, match="int64"):
        moments.add(np.ones((2, 3), np.int64))
    with pytest.raises(ScoreError, match="3 and 2"):
        moments.merged(Moments.empty(2))
    assert np.array_equal(moments.covariance, Moments.of(good).covariance)


def test_rows_are_copied() -> None:
    rows = np.random.default_rng(4).standard_normal((5, 2))
    moments, expected = Moments.of(rows), np.cov(rows, rowvar=False)
    rows[:] = 0
    np.testing.assert_allclose(moments.covariance, expected)


@pytest.mark.parametrize("n", [0, 1])
def test_one_row_has_no_covariance(n: int) -> None:
    with pytest.raises(ScoreError, match=f"{n} clips"):
        _ = Moments.of(np.ones((n, 3))).covariance


def test_sums_of_another_program_are_taken() -> None:
    rows = np.random.default_rng(5).standard_normal((50, 3))
    moments = Moments.from_sums(50, rows.sum(axis=0), rows.T @ rows)
    np.testing.assert_allclose(moments.covariance, np.cov(rows, rowvar=False), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("mean", "covariance", "word"),
    [
        (np.zeros(2), np.eye(3), "expected"),
        (np.zeros((2, 1)), np.eye(2), "expected"),
        (np.zeros(2), np.zeros(4), "expected"),
        (np.array([0, np.nan]), np.eye(2), "finite"),
        (np.zeros(2), np.array([[1, np.inf], [np.inf, 1]]), "finite"),
        (np.zeros(2), np.array([[1, 0.5], [0.4, 1]]), "symmetric"),
        (np.zeros(2), np.diag([1.0, -0.1]), "negative"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(mean: np.ndarray, covariance: np.ndarray, word: str) -> None:
    with pytest.raises(ScoreError, match=word):
        Gaussian(mean, covariance)
