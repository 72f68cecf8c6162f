"""Cropping and resizing: what PIL does to the same box, whatever the shape of frame and pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vidgen.data.layouts import Frame
from vidgen.data.transform import crop_box, parse_crop, resize
from vidgen.errors import SettingsError

sides = st.integers(1, 80)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(height=sides, width=sides, size=st.sampled_from([1, 16, 64]))
def test_no_crop_is_the_reference_transform(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    expected = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(Frame(pixels), size, "none"), np.asarray(expected))


@given(height=sides, width=sides, size=st.sampled_from([1, 16, 64]))
def test_the_centre_is_the_largest_square(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    expected = square.resize((size, size), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(Frame(pixels), size, "center"), np.asarray(expected))


@given(height=sides, width=sides, aspect=st.floats(0.2, 5))
def test_the_centre_is_square_as_it_is_shown(height: int, width: int, aspect: float) -> None:
    frame = Frame(noise(height, width), aspect=aspect)
    left, top, right, bottom = crop_box(frame, "center")
    assert (right - left) * aspect == pytest.approx(bottom - top)
    assert left >= 0 and right <= width and top >= 0 and bottom <= height
    assert resize(frame, 8, "center").shape == (8, 8, 3)
    assert right - left == pytest.approx(width) or bottom - top == pytest.approx(height)


def test_a_box_is_cut_out_and_fills_the_frame() -> None:
    pixels = noise(40, 50)
    box = parse_crop("3,5,20,30")
    expected = Image.fromarray(pixels[5:35, 3:23]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(Frame(pixels), 16, box), np.asarray(expected))
    with pytest.raises(ValueError, match="does not lie in 50x40"):
        resize(Frame(pixels), 16, parse_crop("31,5,20,30"))


@pytest.mark.parametrize("text", ["", "centre", "1,2,3", "1,2,3,0", "-1,2,3,4", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4"])
def test_a_mistyped_crop_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="x,y,w,h"):
        parse_crop(text)
