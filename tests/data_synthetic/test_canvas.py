"""Painting is anti-aliased, clipped to the canvas and independent of the resolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.data.synthetic.canvas import Canvas, capsule, circle, ellipse, frame_blocks, rounded_box, stroke

SIZES = st.sampled_from([16, 32, 64, 96])
PLACES = st.floats(-0.3, 0.3)


def _area(canvas: Canvas, distance: np.ndarray) -> float:
    return float(canvas.coverage(distance).sum()) * canvas.pixel**2


@settings(max_examples=30, deadline=None)
@given(size=SIZES, x=PLACES, y=PLACES, radius=st.floats(0.3, 0.6))
def test_coverage_of_a_circle_adds_up_to_its_area(size: int, x: float, y: float, radius: float) -> None:
    canvas = Canvas(1, size)
    region = canvas.whole()
    assert _area(canvas, circle(region.x - x, region.y - y, radius)) == pytest.approx(np.pi * radius**2, rel=0.04)


@settings(max_examples=30, deadline=None)
@given(size=SIZES, rx=st.floats(0.3, 0.8), ry=st.floats(0.3, 0.8))
def test_coverage_of_an_ellipse_adds_up_to_its_area(size: int, rx: float, ry: float) -> None:
    canvas = Canvas(1, size)
    region = canvas.whole()
    assert _area(canvas, ellipse(region.x, region.y, rx, ry)) == pytest.approx(np.pi * rx * ry, rel=0.04)


@settings(max_examples=30, deadline=None)
@given(size=SIZES, thickness=st.floats(0.005, 0.3))
def test_a_line_keeps_its_weight_when_it_is_thinner_than_a_pixel(size: int, thickness: float) -> None:
    canvas = Canvas(1, size)
    region = canvas.whole()
    weight = float(stroke(region.y - np.float32(0.013), thickness, canvas.pixel).sum()) * canvas.pixel
    assert weight == pytest.approx(thickness, rel=0.01)


def test_distances_are_negative_inside_and_grow_by_one_outside() -> None:
    x = np.linspace(1.0, 2.0, 11, dtype=np.float32)[None, None]
    y = np.zeros_like(x)
    for distance in (
        circle(x, y, 0.5),
        rounded_box(x, y, 0.5, 0.3, 0.1),
        capsule(x, y, -0.3, 0.0, 0.3, 0.0, 0.2, 0.2).distance,
    ):
        np.testing.assert_allclose(distance, x - 0.5, atol=1e-5)
    centre = np.zeros((1, 1, 1), np.float32)
    assert rounded_box(centre, centre, 0.5, 0.3, 0.1).item() == pytest.approx(-0.3)
    assert circle(centre, centre, 0.5).item() == pytest.approx(-0.5)


def test_a_tapered_capsule_goes_from_one_radius_to_the_other() -> None:
    x = np.array([[[0.0, 1.0]]], np.float32)
    field = capsule(x, np.full_like(x, 0.5), 0.0, 0.0, 1.0, 0.0, 0.1, 0.3)
    np.testing.assert_allclose(field.distance[0, 0], [0.4, 0.2], atol=1e-6)
    np.testing.assert_allclose(field.along[0, 0], [0.0, 1.0], atol=1e-6)


def test_a_box_beyond_the_canvas_is_empty_and_paints_nothing() -> None:
    canvas = Canvas(2, 32)
    region = canvas.region(3.0, 4.0, -0.5, 0.5)
    assert region.empty
    canvas.paint(region, np.ones((2, 1, 0), np.float32), (1.0, 1.0, 1.0))
    assert not canvas.pixels.any()


def test_painting_stays_within_the_covered_pixels() -> None:
    canvas = Canvas(1, 32, 0.8, 0.1)
    region = canvas.region(-0.2, 0.2, -0.2, 0.2)
    canvas.paint(region, canvas.coverage(circle(region.x, region.y, 0.1)), (1.0, 0.5, 0.0))
    levels = canvas.to_uint8()[0]
    rows, columns = np.nonzero(levels.any(axis=-1))
    assert len(rows) > 4
    y = (rows + 0.5) * canvas.pixel - 0.7
    x = (columns + 0.5) * canvas.pixel - 0.8
    assert np.sqrt(x**2 + y**2).max() < 0.1 + canvas.pixel


@given(frames=st.integers(1, 300), size=st.sampled_from([16, 64, 256, 512]))
def test_blocks_are_all_frames_in_order(frames: int, size: int) -> None:
    assert [i for block in frame_blocks(frames, size) for i in range(block.start, block.stop)] == list(range(frames))
