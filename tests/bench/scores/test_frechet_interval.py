"""Intervals of the Fréchet distance: as wide as the truth, whatever the numbers of clips and features, and paired."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.frechet_interval import FrechetEstimate, frechet_estimate, frechet_influence
from vidgen.bench.scores.intervals import clip_weights, wilson_interval
from vidgen.errors import ScoreError


def draw(seed: int, n: int, d: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


@pytest.mark.parametrize(("n", "d"), [(12, 40), (40, 40), (48, 40), (80, 16), (200, 4)])
def test_interval_is_as_wide_as_the_distances_of_other_clips_spread(n: int, d: int) -> None:
    """Also with fewer clips than features, where a bootstrap is twice too wide."""
    reference = FrechetSide.of_features(draw(0, 600, d))
    values, told, differences, paired = [], [], [], []
    for seed in range(1, 61):
        rows = draw(seed, n, d, 0.4)
        rows *= 1 + 0.5 * np.abs(rows[:, :1])
        first = frechet_estimate(rows, reference)
        difference = frechet_estimate(rows + 0.1 * np.tanh(2 * rows[:, ::-1]), reference).minus(first)
        assert first.interval is not None and difference.interval is not None
        assert first.interval.low <= first.value <= first.interval.high
        values.append(first.value)
        told.append(first.interval.standard_error)
        differences.append(difference.value)
        paired.append(difference.interval.standard_error)
    assert 0.7 < np.mean(told) / np.std(values) < 1.4
    assert 0.7 < np.mean(paired) / np.std(differences) < 1.4
    assert np.mean(np.abs(values - np.mean(values)) < 1.96 * np.array(told)) > 0.85


def test_interval_is_that_of_a_bootstrap_where_clips_are_many() -> None:
    rows, reference = draw(1, 300, shift=0.4), FrechetSide.of_features(draw(0, 3000))
    weights = clip_weights(0, range(300), 300)[1:]
    resampled = [FrechetSide.of_features(rows, one).to(reference).value for one in weights]
    interval = frechet_estimate(rows, reference).interval
    assert interval is not None and interval.standard_error == pytest.approx(np.std(resampled), rel=0.15)


@pytest.mark.parametrize(("n", "d", "m"), [(30, 50, 400), (200, 50, 400), (60, 50, 30), (20, 50, 30), (60, 5, 90)])
def test_influence_is_the_derivative_by_the_weight_of_a_clip(n: int, d: int, m: int) -> None:
    rows, reference = 3 * draw(1, n, d, 0.1), FrechetSide.of_features(draw(2, m, d))

    def slope(clip: int, step: float = 1e-4) -> float:
        weights = np.ones((2, n))
        weights[:, clip] += (step, -step)
        up, down = (FrechetSide.of_features(rows, one).to(reference).value for one in weights)
        return n * (up - down) / (2 * step)

    influence = frechet_influence(rows, FrechetSide.of_features(rows), reference)
    # Covariances are divided by n - 1, which adds the same to all clips and one part in n.
    assert slope(0) - slope(1) == pytest.approx(influence[0] - influence[1], rel=2.5 / n)
    assert influence.mean() == pytest.approx(0, abs=1e-9 * np.abs(influence).max())


@pytest.mark.parametrize("d", [3, 30])
def test_interval_does_not_depend_on_the_order_of_clips_or_on_blocks(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgen.bench.scores import frechet_interval as module

    rows, reference = draw(1, 25, d, 0.3), FrechetSide.of_features(draw(2, 90, d))
    order = np.random.default_rng(0).permutation(25)
    found = frechet_estimate(rows, reference).influence
    moved = frechet_estimate(rows[order], reference).influence
    assert found is not None
    np.testing.assert_allclose(moved, found[order], rtol=1e-7, atol=1e-9)
    monkeypatch.setattr(module, "_ROWS", 7)
    np.testing.assert_allclose(frechet_estimate(rows, reference).influence, found, rtol=1e-9, atol=1e-12)


def test_differences_of_paired_sets_are_sharper_than_the_distances() -> None:
    reference, rows = FrechetSide.of_features(draw(0, 500)), draw(1, 200, shift=0.4)
    first, second = (frechet_estimate(one, reference) for one in (rows, rows + 0.02 * draw(2, 200)))
    difference = second.minus(first)
    assert difference.value == second.value - first.value
    assert difference.interval is not None and first.interval is not None
    assert difference.interval.standard_error < first.interval.standard_error / 3
    # Sets that have nothing to do with each other, and of other sizes: about as wide as both together.
    apart = first.minus(frechet_estimate(draw(3, 150, shift=0.4), reference)).interval
    assert apart is not None and 1.1 < apart.standard_error / first.interval.standard_error < 2.1
    alone = first.minus(FrechetEstimate(second.distance))
    assert alone.value == first.value - second.value and alone.interval is None


def test_constant_features_and_equal_clips_have_an_interval() -> None:
    rows, reference = draw(1, 40), FrechetSide.of_features(draw(0, 50))
    rows[:, 2] = 1
    found = frechet_estimate(rows, reference).interval
    assert found is not None and found.standard_error > 0
    still = frechet_estimate(np.ones((20, 4)), reference).interval
    assert still is not None and still.standard_error == 0


def test_too_few_clips_give_no_interval_and_bad_ones_are_refused() -> None:
    reference = FrechetSide.of_features(draw(0, 50))
    few = frechet_estimate(draw(1, 9), reference)
    assert few.interval is None and few.influence is None and few.to_dict()["interval"] is None
    assert frechet_estimate(draw(1, 10), reference).to_dict()["interval"]["low"] >= 0
    with pytest.raises(ScoreError, match="3 and 4 features"):
        frechet_estimate(draw(1, 20, 3), reference)
    with pytest.raises(ScoreError, match="not finite"):
        frechet_estimate(np.full((20, 4), np.nan), reference)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (5, 10), (1, 1), (37, 50)])
def test_wilson_intervals_hold_the_share_and_stay_in_range(hits: int, trials: int) -> None:
    found = wilson_interval(hits, trials)
    assert 0 <= found.low <= hits / trials <= found.high <= 1 and found.high - found.low > 0.05
