"""Intervals of the Fréchet distance: as wide as the truth, the same for any sharding, and paired."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.bench.scores.bootstrap import frechet_bootstrap
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.intervals import clip_weights, wilson_interval
from vidgen.errors import ScoreError


def draw(seed: int, n: int, d: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def test_interval_is_as_wide_as_the_distances_of_other_clips_spread() -> None:
    reference = FrechetSide.of_features(draw(0, 3000))
    found = [frechet_bootstrap(draw(seed, 200, shift=0.4), reference, replicates=30) for seed in range(1, 31)]
    spread = np.std([one.value for one in found])
    told = np.mean([one.interval.standard_error for one in found if one.interval])
    assert 0.7 < told / spread < 1.4
    for one in found:
        assert one.interval is not None and one.interval.low <= one.value <= one.interval.high


def test_resampling_both_sides_widens_the_interval() -> None:
    rows, reference = draw(1, 200, shift=0.4), draw(2, 200)
    fixed = frechet_bootstrap(rows, FrechetSide.of_features(reference), replicates=80).interval
    both = frechet_bootstrap(rows, reference, replicates=80).interval
    assert fixed is not None and both is not None
    assert 1.15 < both.standard_error / fixed.standard_error < 1.8


@pytest.mark.parametrize("d", [3, 30])
def test_interval_does_not_depend_on_the_order_of_clips(d: int) -> None:
    rows, reference = draw(1, 25, d, 0.3), FrechetSide.of_features(draw(2, 90, d))
    order = np.random.default_rng(0).permutation(25)
    found = frechet_bootstrap(rows, reference, replicates=8, indices=list(range(100, 125)))
    moved = frechet_bootstrap(rows[order], reference, replicates=8, indices=(100 + order).tolist())
    np.testing.assert_allclose(moved.replicates, found.replicates, rtol=1e-7)
    assert not np.allclose(frechet_bootstrap(rows, reference, replicates=8, seed=1).replicates, found.replicates)


def test_a_replicate_is_the_distance_of_the_repeated_clips() -> None:
    rows, reference = draw(1, 40), FrechetSide.of_features(draw(2, 90))
    weights = clip_weights(7, range(40), 3)[1:].astype(int)
    expected = [FrechetSide.of_features(np.repeat(rows, w, axis=0)).to(reference).value for w in weights]
    found = frechet_bootstrap(rows, reference, replicates=3, seed=7)
    np.testing.assert_allclose(found.replicates, expected, rtol=1e-9)


def test_differences_of_paired_sets_are_sharper_than_the_distances() -> None:
    reference, rows = draw(0, 500), draw(1, 200, shift=0.4)
    rounded = rows + 0.02 * draw(2, 200)
    first, second = (frechet_bootstrap(one, reference, replicates=60) for one in (rows, rounded))
    difference, interval = second.minus(first)
    assert difference == second.value - first.value
    assert interval is not None and first.interval is not None
    assert interval.standard_error < first.interval.standard_error / 3
    assert first.minus(frechet_bootstrap(rows, reference, replicates=0)) == (0.0, None)


def test_too_few_clips_or_replicates_give_no_interval() -> None:
    reference = FrechetSide.of_features(draw(0, 50))
    for found in (
        frechet_bootstrap(draw(1, 9), reference),
        frechet_bootstrap(draw(1, 50), draw(2, 9)),
        frechet_bootstrap(draw(1, 50), reference, replicates=0),
    ):
        assert found.interval is None and len(found.replicates) == 0 and found.to_dict()["interval"] is None
    # Ten clips: a resampling that draws hardly any must not fail.
    assert frechet_bootstrap(draw(1, 10), reference, replicates=2000).interval is not None


def test_progress_and_errors() -> None:
    calls: list[tuple[int, int]] = []
    reference = FrechetSide.of_features(draw(0, 50))
    frechet_bootstrap(draw(1, 20), reference, replicates=3, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ScoreError, match="3 and 4 features"):
        frechet_bootstrap(draw(1, 20, 3), reference)
    with pytest.raises(ValueError, match="2 indices"):
        frechet_bootstrap(draw(1, 20), reference, indices=[0, 1])


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (5, 10), (1, 1), (37, 50)])
def test_wilson_intervals_hold_the_share_and_stay_in_range(hits: int, trials: int) -> None:
    found = wilson_interval(hits, trials)
    assert 0 <= found.low <= hits / trials <= found.high <= 1 and found.high - found.low > 0.05
