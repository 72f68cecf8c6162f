"""Precision, recall, density and coverage: their definitions, bounded memory, and what moves them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from vidgen.bench.scores.neighbours import NeighbourScores, neighbour_scores
from vidgen.errors import ScoreError, SettingsError

NAMES = ("precision", "recall", "density", "coverage")


def draw(seed: int, n: int, d: int = 6, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * scale + shift


def by_definition(real: np.ndarray, generated: np.ndarray, k_pr: int, k_dc: int) -> list[float]:
    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.square(a[:, None] - b).sum(axis=2)

    def radii(a: np.ndarray, k: int) -> np.ndarray:
        return np.sort(distances(a, a), axis=1)[:, k]

    cross = distances(real, generated)
    inside = cross < radii(real, k_dc)[:, None]
    return [
        float((cross <= radii(real, k_pr)[:, None]).any(axis=0).mean()),
        float((cross <= radii(generated, k_pr)).any(axis=1).mean()),
        float(inside.sum(axis=0).mean()) / k_dc,
        float(inside.any(axis=1).mean()),
    ]


def figures(found: NeighbourScores) -> list[float]:
    return [getattr(found, name) for name in NAMES]


@given(st.integers(0, 9999), st.integers(7, 40), st.integers(7, 40), st.integers(1, 9))
@limits(max_examples=40)
def test_blocks_of_memory_change_nothing(seed: int, n: int, m: int, rows: int) -> None:
    real, generated = draw(seed, n), draw(seed + 1, m, shift=0.5)
    assert neighbour_scores(real, generated, block_bytes=rows * 24 * max(n, m)) == neighbour_scores(real, generated)


@given(st.integers(0, 9999), st.integers(7, 40), st.integers(7, 40), st.integers(1, 6))
@limits(max_examples=40)
def test_scores_are_their_definition(seed: int, n: int, m: int, k: int) -> None:
    real, generated = draw(seed, n), draw(seed + 1, m, shift=0.5)
    found = neighbour_scores(real, generated, k_precision=k, k_density=6)
    assert figures(found) == pytest.approx(by_definition(real, generated, k, 6), abs=1e-12)


def test_a_set_has_itself_whole() -> None:
    rows = draw(0, 200)
    found = neighbour_scores(rows, rows.copy())
    assert found.precision == found.recall == found.coverage == 1 and found.density == pytest.approx(1, abs=0.1)
    assert found.intervals["recall"].high == 1 and found.intervals["recall"].low > 0.97


def test_equal_rows_far_from_zero_are_at_distance_zero() -> None:
    base = np.repeat(draw(0, 3, 512) + 1000, 6, axis=0).astype(np.float32)
    found = neighbour_scores(base, base, k_precision=3, k_density=5)
    # Balls of radius 0 hold their own kind on the border, and nothing inside.
    assert found.precision == found.recall == 1 and found.density == found.coverage == 0


def test_less_variety_and_less_fidelity_are_told_apart() -> None:
    real = draw(0, 400)
    narrow = neighbour_scores(real, draw(1, 400, scale=0.4))
    wide = neighbour_scores(real, draw(2, 400, scale=2.5))
    far = neighbour_scores(real, draw(3, 400, shift=50))
    assert narrow.precision > 0.95 and narrow.recall < 0.5 and narrow.density > 1
    assert wide.precision < 0.5 and wide.recall > 0.9 and wide.density < 0.5
    assert figures(far) == [0, 0, 0, 0] and far.intervals["precision"].high < 0.02


def test_one_outlier_spoils_precision_but_not_density() -> None:
    real = draw(0, 200, 3)
    outlier = np.vstack([real, np.full((1, 3), 500.0)])
    generated = np.vstack([draw(1, 100, 3), draw(2, 100, 3, shift=200)])
    clean, spoiled = neighbour_scores(real, generated), neighbour_scores(outlier, generated)
    assert spoiled.precision > clean.precision + 0.4
    assert abs(spoiled.density - clean.density) < 0.12


def test_memory_is_bounded() -> None:
    real, generated = draw(0, 3000, 8), draw(1, 3000, 8)
    tracemalloc.start()
    neighbour_scores(real, generated, block_bytes=4 * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20  # all distances at once are 72 MB


def test_unequal_numbers_are_warned_of() -> None:
    assert not neighbour_scores(draw(0, 60), draw(1, 50)).warnings
    assert "60 real and 30" in neighbour_scores(draw(0, 60), draw(1, 30)).warnings[0]


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(SettingsError, match="5 clips"):
        neighbour_scores(draw(0, 5), draw(1, 9))
    with pytest.raises(SettingsError, match="neighbour of 9 clips"):
        neighbour_scores(draw(0, 50), draw(1, 9), k_precision=0)
    with pytest.raises(ScoreError, match="6 and 5"):
        neighbour_scores(draw(0, 50), draw(1, 9, 5))


def test_differences_are_those_of_pairs_and_hold() -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    alone = []
    for i in range(60):
        real, rows = draw(2 * i, 100), draw(2 * i + 1, 100, shift=0.2)
        first, second = (neighbour_scores(real, one) for one in (rows, rows + 0.2 * np.tanh(3 * rows[:, ::-1])))
        for name, difference in second.minus(first).items():
            assert difference.value == getattr(second, name) - getattr(first, name)
            assert difference.interval is not None
            found[name].append((difference.value, difference.interval.standard_error))
        alone.append(first.intervals["density"].standard_error)
    for name, pairs in found.items():
        values, told = np.array(pairs).T
        assert np.mean(np.abs(values - values.mean()) < 1.96 * told) > 0.8, name
    assert np.mean([error for _, error in found["density"]]) < np.mean(alone)


def test_scores_that_no_clip_changed_still_differ_by_chance() -> None:
    found = neighbour_scores(draw(0, 50), draw(1, 50))
    same = found.minus(neighbour_scores(draw(0, 50), draw(1, 50)))
    assert all(one.value == 0 for one in same.values())
    assert same["density"].interval is not None and same["density"].interval.high == 0
    assert same["recall"].interval is not None and 0.02 < same["recall"].interval.high < 0.1
    unlike = found.minus(neighbour_scores(draw(0, 50), draw(2, 30)))
    assert unlike["precision"].interval is not None and unlike["precision"].interval.high < 0.5


def test_result_is_json() -> None:
    found = neighbour_scores(draw(0, 20), draw(1, 20)).to_dict()
    assert "judged" not in found
    assert found["k"] == [3, 5] and set(found["intervals"]) == set(NAMES)
