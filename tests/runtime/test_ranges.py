"""The two maps from raw video to 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import SamplingError
from vidgen.runtime.ranges import batch_minmax, to_uint8

VECTOR = Path(__file__).parents[1] / "data" / "runtime" / "g3an_minmax_grid.npz"


def _video(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float32).reshape(1, 1, 1, 1, -1).repeat(3, axis=1)


def test_minmax_matches_the_reference_vector() -> None:
    vector = np.load(VECTOR, allow_pickle=False)
    video = vector["in_video"].copy()
    levels = batch_minmax(video)
    assert levels.shape == vector["out_uint8"].shape
    assert np.abs(levels.astype(int) - vector["out_uint8"].astype(int)).max() <= 1
    assert np.mean(levels != vector["out_uint8"]) < 1e-3
    assert np.array_equal(video, vector["in_video"])


def test_minmax_spans_all_levels_over_the_whole_batch() -> None:
    rng = np.random.default_rng(0)
    video = rng.uniform(-0.2, 0.3, (3, 3, 4, 5, 6)).astype(np.float32)
    video[1] += 5
    levels = batch_minmax(video)
    assert levels.min() == 0
    assert levels.max() == 255
    assert levels[0].max() < levels[1].min()


def test_a_constant_batch_is_black_not_a_division_by_zero() -> None:
    assert not batch_minmax(np.full((1, 3, 2, 4, 4), 0.7, dtype=np.float32)).any()


def test_known_values_and_clipping() -> None:
    values = to_uint8(_video(-2.0, -1.0, 0.0, 1.0, 7.0))[0, 0, 0, :, 0]
    assert values.tolist() == [0, 0, 128, 255, 255]


@given(st.integers(0, 127))
def test_halves_round_to_even(half: int) -> None:
    # (x + 1) 127.5 = 2 half + 0.5 exactly where the sum is exact in float32; compare with exact arithmetic.
    x = np.float32((2 * half + 0.5) / 127.5 - 1)
    exact = (np.float32(x + np.float32(1)) * np.float32(127.5)).item()
    assert to_uint8(_video(float(x)))[0, 0, 0, 0, 0] == round(exact)


def test_frames_come_out_time_first_with_rgb_last() -> None:
    video = np.zeros((2, 3, 4, 5, 6), dtype=np.float32)
    video[1, 2, 3, 4, 5] = 1.0
    levels = to_uint8(video)
    assert levels.shape == (2, 4, 5, 6, 3)
    assert levels.flags.c_contiguous
    assert levels[1, 3, 4, 5, 2] == 255
    assert np.count_nonzero(levels == 255) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_videos_that_are_not_numbers_are_refused_by_position(value: float) -> None:
    video = np.zeros((3, 3, 1, 2, 2), dtype=np.float32)
    video[1, 0, 0, 1, 1] = value
    for convert in (to_uint8, batch_minmax):
        with pytest.raises(SamplingError, match="in video 1 of the batch"):
            convert(video)
