"""Bilinear resizing equals PIL's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vidgen.bench.scores.extractors.resize import bilinear_weights, resize_bilinear

SIDES = st.integers(1, 130)


def pictures(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_pil(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 9))
@example(64, 64, 112, 112, 0)
@example(1, 1, 130, 3, 0)
@example(130, 3, 1, 1, 0)
@settings(max_examples=120, deadline=None)
def test_it_is_within_one_level_of_pil(before_h: int, before_w: int, height: int, width: int, seed: int) -> None:
    picture = pictures(before_h, before_w, seed)
    found = resize_bilinear(picture, (height, width))
    assert found.dtype == np.uint8 and found.shape == (height, width, 3)
    assert np.abs(found.astype(int) - by_pil(picture, height, width)).max() <= 1


@given(SIDES, SIDES, SIDES)
@settings(max_examples=60, deadline=None)
def test_along_one_side_it_is_pil_to_the_bit(height: int, before: int, after: int) -> None:
    picture = pictures(height, before, before)
    assert np.array_equal(resize_bilinear(picture, (height, after)), by_pil(picture, height, after))
    tall = picture.transpose(1, 0, 2).copy()
    assert np.array_equal(resize_bilinear(tall, (after, height)), by_pil(tall, after, height))


@pytest.mark.parametrize(("before", "after"), [(64, 112), (128, 112), (240, 112), (112, 112), (17, 31), (64, 224)])
def test_squares_are_pil_to_the_bit(before: int, after: int) -> None:
    picture = pictures(before, before, after)
    assert np.array_equal(resize_bilinear(picture, (after, after)), by_pil(picture, after, after))


def test_clips_are_resized_frame_by_frame() -> None:
    clips = np.stack([pictures(20, 30, seed) for seed in range(6)]).reshape(2, 3, 20, 30, 3)
    found = resize_bilinear(clips, (24, 17))
    assert found.shape == (2, 3, 24, 17, 3)
    assert np.array_equal(found[1, 2], resize_bilinear(clips[1, 2], (24, 17)))
    assert resize_bilinear(clips[:0], (24, 17)).shape == (0, 3, 24, 17, 3)


@given(SIDES, SIDES)
def test_weights_of_a_pixel_add_up_to_one(before: int, after: int) -> None:
    sums = bilinear_weights(before, after).sum(axis=1)
    assert np.abs(sums / 2**22 - 1).max() <= before * 2.0**-22
