"""Disentanglement: known grids have known ratios, whatever the scale of the features, and intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from vidgen.bench.scores.disentanglement import disentanglement
from vidgen.errors import ScoreError


def grid(by_za: float, by_zm: float, rows: int = 8, columns: int = 6, d: int = 5, seed: int = 0) -> np.ndarray:
    """Features [rows, columns, d] that za and zm move with these standard deviations."""
    rng = np.random.default_rng(seed)
    za, zm = rng.standard_normal((rows, 1, d)), rng.standard_normal((1, columns, d))
    return by_za * za + by_zm * zm + 3


def test_known_grids_have_known_ratios() -> None:
    apart = disentanglement(grid(1, 0), grid(0, 1, seed=1))
    assert (apart.value, apart.appearance, apart.motion) == pytest.approx((1, 1, 1))
    assert (apart.appearance_share, apart.motion_share) == pytest.approx((1, 1))
    swapped = disentanglement(grid(0, 1), grid(1, 0, seed=1))
    assert (swapped.value, swapped.appearance, swapped.motion) == pytest.approx((0, 0, 0))
    alike = disentanglement(grid(1, 2), grid(1, 2) * 7)
    assert (alike.value, alike.appearance, alike.motion) == pytest.approx((0.5, 0.5, 0.5))
    assert not apart.warnings and apart.grid == (8, 6)


def test_ratios_are_those_of_variances() -> None:
    appearance, motion = grid(2, 1) + 0.3 * grid(1, 1, seed=9) ** 2, grid(1, 3, seed=1)
    shares = []
    for space in (appearance, motion):
        of_za = space.var(axis=0, ddof=1).sum(axis=-1).mean()
        of_zm = space.var(axis=1, ddof=1).sum(axis=-1).mean()
        shares.append((of_za / (of_za + of_zm), of_zm / (of_za + of_zm)))
    found = disentanglement(appearance, motion, replicates=0)
    assert found.appearance == pytest.approx(shares[0][0] / (shares[0][0] + shares[1][0]))
    assert found.motion == pytest.approx(shares[1][1] / (shares[1][1] + shares[0][1]))
    assert found.value == pytest.approx((found.appearance + found.motion) / 2)
    assert (found.appearance_share, found.motion_share) == pytest.approx((shares[0][0], shares[1][1]))
    assert not found.intervals


@given(*(st.floats(0.01, 10) for _ in range(4)), st.floats(1e-3, 1e3), st.integers(0, 99))
@limits(max_examples=30)
def test_ratios_have_bounds_and_no_scale(a: float, b: float, c: float, e: float, scale: float, seed: int) -> None:
    first, second = grid(a, b, seed=seed), grid(c, e, seed=seed + 1)
    found = disentanglement(first, second, replicates=10)
    for name in ("value", "appearance", "motion", "appearance_share", "motion_share"):
        value, interval = getattr(found, name), found.intervals[name]
        assert 0 <= interval.low <= value <= interval.high <= 1
    scaled = disentanglement(first * scale, second + 5, replicates=0)
    assert scaled.value == pytest.approx(found.value, rel=1e-6)
    # The same grid with the roles changed.
    swapped = disentanglement(second, first, replicates=0)
    assert swapped.value == pytest.approx(1 - found.value, abs=1e-9)


def test_leaks_lower_the_value() -> None:
    values = [disentanglement(grid(1, leak), grid(leak, 1, seed=1), replicates=0).value for leak in (0, 0.3, 0.6, 1)]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(1) and values[-1] < 0.65


def test_interval_is_as_wide_as_the_values_of_other_latents_spread() -> None:
    found = [
        disentanglement(grid(1, 0.6, 12, 12, 3, 2 * seed), grid(0.7, 1, 12, 12, 3, 2 * seed + 1), replicates=60)
        for seed in range(30)
    ]
    told = np.mean([one.intervals["value"].standard_error for one in found])
    assert 0.6 < told / np.std([one.value for one in found]) < 1.6


def test_a_latent_that_moves_nothing_is_told() -> None:
    found = disentanglement(grid(1, 0), grid(1, 0, seed=1).astype(np.float32))
    assert (
        found.motion == 0.5
        and found.appearance == pytest.approx(0.5)
        and found.warnings == ("zm moves nothing in either space",)
    )
    still = disentanglement(grid(0, 0) + 1e3, grid(0, 0))
    assert still.value == 0.5 and len(still.warnings) == 2


def test_seeds_and_small_grids() -> None:
    first, second = grid(1, 0.5), grid(0.5, 1, seed=1)
    assert disentanglement(first, second).intervals == disentanglement(first, second).intervals
    assert disentanglement(first, second).intervals != disentanglement(first, second, seed=1).intervals
    small = disentanglement(first[:3], second[:3])
    assert not small.intervals and small.to_dict()["grid"] == [3, 6]


def test_grids_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ScoreError, match="8 x 6 and motion of 8 x 5"):
        disentanglement(grid(1, 1), grid(1, 1)[:, :5])
    with pytest.raises(ScoreError, match="8 x 1"):
        disentanglement(grid(1, 1)[:, :1], grid(1, 1)[:, :1])
    with pytest.raises(ScoreError, match="expected at least 2"):
        disentanglement(grid(1, 1)[:1], grid(1, 1)[:1])
    with pytest.raises(ScoreError, match="not finite"):
        disentanglement(grid(1, 1) * np.nan, grid(1, 1))
