"""Temporal consistency: frozen, smooth, shuffled and unrelated frames come in that order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from vidgen.bench.scores.temporal_consistency import temporal_consistency
from vidgen.errors import ScoreError


def smooth(n: int = 40, frames: int = 16, d: int = 8, seed: int = 0) -> np.ndarray:
    """Each video is somewhere else, and moves on a slow circle."""
    rng = np.random.default_rng(seed)
    place, first, second = (rng.standard_normal((n, 1, d)) for _ in range(3))
    angle = np.linspace(0, np.pi, frames)[None, :, None]
    return 2 * place + np.cos(angle) * first + np.sin(angle) * second


def shuffled(videos: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([video[rng.permutation(len(video))] for video in videos])


def test_figures_are_their_definition() -> None:
    videos = smooth(7, 5, 3)
    n, frames = videos.shape[:2]
    square = lambda a, b: float(np.square(a - b).sum())  # noqa: E731
    step = np.mean([square(v[t], v[t + 1]) for v in videos for t in range(frames - 1)])
    within = np.mean([square(v[s], v[t]) for v in videos for s in range(frames) for t in range(frames) if s != t])
    across = np.mean(
        [
            square(videos[i, s], videos[j, t])
            for i in range(n)
            for j in range(n)
            if i != j
            for s in range(frames)
            for t in range(frames)
        ]
    )
    found = temporal_consistency(videos, replicates=0)
    assert found.value == pytest.approx(1 - step / across)
    assert found.order == pytest.approx(1 - step / within)
    assert found.motion == pytest.approx(within / across)
    assert (found.n, found.frames, found.intervals) == (7, 5, {})


def test_freezing_raises_and_shuffling_lowers_it() -> None:
    videos = smooth()
    frozen = np.repeat(videos[:, :1], videos.shape[1], axis=1)
    half = videos.copy()
    half[:, 8:] = half[:, 7:8]
    unrelated = np.random.default_rng(0).standard_normal(videos.shape)
    values = [temporal_consistency(v) for v in (frozen, half, videos, shuffled(videos), unrelated)]
    assert [one.value for one in values] == sorted((one.value for one in values), reverse=True)
    # Further apart than the intervals are wide.
    assert values[2].intervals["value"].low > values[3].intervals["value"].high
    assert values[0].value == 1 and values[0].motion == 0 and np.isnan(values[0].order)
    assert values[1].motion < values[2].motion == pytest.approx(values[3].motion)
    assert values[2].order > 0.95 and abs(values[3].order) < 0.05
    assert abs(values[4].value) < 0.05 and values[4].motion == pytest.approx(1, abs=0.05)


def test_noise_on_frozen_frames_does_not_look_like_a_shuffle() -> None:
    frozen = np.repeat(smooth()[:, :1], 16, axis=1) + 0.01 * np.random.default_rng(0).standard_normal((40, 16, 8))
    assert temporal_consistency(frozen).value > 0.999
    assert temporal_consistency(np.repeat(smooth()[:, :1], 16, axis=1)).warnings == (
        "40 of 40 videos do not move at all",
    )


def test_flicker_is_below_a_shuffle() -> None:
    flicker = smooth(frames=16)
    flicker[:, 1::2] += 3
    found = temporal_consistency(flicker)
    assert found.order < -0.4 and found.value < temporal_consistency(shuffled(flicker)).value


@given(st.integers(0, 999), st.floats(1e-3, 1e3), st.integers(2, 30), st.integers(3, 9))
@limits(max_examples=25)
def test_figures_have_bounds_and_no_scale_or_origin(seed: int, scale: float, n: int, frames: int) -> None:
    videos = np.random.default_rng(seed).standard_normal((n, frames, 4)) + smooth(n, frames, 4, seed)
    found, moved = temporal_consistency(videos, replicates=5), temporal_consistency((videos + 9) * scale, replicates=5)
    assert -1 <= found.value <= 1 and found.motion >= 0
    for name in ("value", "order", "motion"):
        assert getattr(moved, name) == pytest.approx(getattr(found, name), abs=1e-9)
    assert bool(found.intervals) == (n >= 10)


def test_interval_is_as_wide_as_the_values_of_other_videos_spread() -> None:
    found = [temporal_consistency(smooth(60, seed=seed), replicates=60) for seed in range(30)]
    for name in ("value", "order", "motion"):
        told = np.mean([one.intervals[name].standard_error for one in found])
        assert 0.6 < told / np.std([getattr(one, name) for one in found]) < 1.6


def test_interval_does_not_depend_on_the_order_of_videos() -> None:
    videos, order = smooth(), np.random.default_rng(0).permutation(40)
    found = temporal_consistency(videos, replicates=20).intervals["value"]
    moved = temporal_consistency(videos[order], replicates=20, indices=order.tolist()).intervals["value"]
    assert moved.standard_error == pytest.approx(found.standard_error, rel=1e-9)


def test_a_collapsed_model_is_told() -> None:
    found = temporal_consistency(np.ones((12, 4, 3), np.float32) * 7)
    assert np.isnan(found.value) and np.isnan(found.motion) and "one and the same" in found.warnings[-1]
    assert found.to_dict()["value"] is None and not found.intervals


def test_features_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ScoreError, match="3 frames"):
        temporal_consistency(smooth(frames=2))
    with pytest.raises(ScoreError, match="3 frames"):
        temporal_consistency(smooth()[0])
    with pytest.raises(ScoreError, match="expected at least 2"):
        temporal_consistency(smooth(1))
    with pytest.raises(ScoreError, match="clip 5 is not finite"):
        temporal_consistency(np.where(np.arange(40)[:, None, None] == 5, np.inf, smooth()))
