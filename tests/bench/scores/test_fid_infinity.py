"""Extrapolated distances: nearer to the truth than the distance at hand, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.bench.scores.fid_infinity import _line, fid_infinity
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.moments import Gaussian
from vidgen.errors import ScoreError, SettingsError

D = 12
TRUTH = FrechetSide.of_gaussian(Gaussian(np.zeros(D), np.eye(D)))


def draw(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, D)) + shift


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_extrapolation_takes_the_bias_away(shift: float) -> None:
    exact = D * shift**2
    at_hand, beyond = [], []
    for seed in range(12):
        found = fid_infinity(draw(seed, 600, shift), TRUTH)
        assert found.distances[-1] == pytest.approx(FrechetSide.of_features(draw(seed, 600, shift)).to(TRUTH).value)
        at_hand.append(found.distances[-1] - exact)
        beyond.append(found.value - exact)
    assert np.mean(at_hand) > 0.05
    assert abs(np.mean(beyond)) < np.mean(at_hand) / 2


def test_subsets_depend_on_the_seed_alone() -> None:
    rows = draw(0, 300)
    found = fid_infinity(rows, TRUTH)
    assert found == fid_infinity(rows, TRUTH) and found != fid_infinity(rows, TRUTH, seed=1)
    assert found.sizes[0] == 30 and found.sizes[-1] == 300 and len(found.sizes) == len(found.distances) == 15
    # A size has its subset, whatever the other sizes are.
    fewer = fid_infinity(rows, TRUTH, points=3, smallest=30)
    assert dict(zip(fewer.sizes, fewer.distances)).items() >= {30: found.distances[0], 300: found.distances[-1]}.items()


def test_a_line_is_found_exactly() -> None:
    x = np.array([0.01, 0.02, 0.05, 0.1])
    value, slope, error, r2 = _line(x, 3 + 7 * x)
    assert (value, slope, r2) == pytest.approx((3, 7, 1)) and error < 1e-12
    noisy = 3 + 7 * x + np.array([0.1, -0.1, 0.05, -0.05])
    assert _line(x, noisy)[:2] == pytest.approx(np.polyfit(x, noisy, 1)[::-1])
    assert _line(x, noisy)[2] > 0.01 and _line(x, noisy)[3] < 1
    assert _line(x, np.full(4, 2.0)) == pytest.approx((2, 0, 0, 1))


def test_subsets_below_the_number_of_features_are_warned_of() -> None:
    assert "from 10 clips for 12" in fid_infinity(draw(0, 100), TRUTH).warnings[0]
    assert not fid_infinity(draw(0, 400), TRUTH).warnings
    assert fid_infinity(draw(0, 400), TRUTH).to_dict()["sizes"][-1] == 400


def test_what_cannot_be_extrapolated_is_refused() -> None:
    for options in ({"points": 2}, {"smallest": 1}, {"smallest": 19}):
        with pytest.raises(SettingsError, match="cannot extrapolate"):
            fid_infinity(draw(0, 20), TRUTH, **options)
    with pytest.raises(ScoreError, match="3 clips"):
        fid_infinity(draw(0, 3), TRUTH)


def test_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    fid_infinity(draw(0, 40), TRUTH, points=4, progress=lambda *done: calls.append(done))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
