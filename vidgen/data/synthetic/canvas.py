"""Anti-aliased painting of many frames at once with signed distances, independent of the resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: float32 throughout; numpy's own annotations lose the width in arithmetic.
Array: TypeAlias = npt.NDArray[np.floating[Any]]
#: A number, or one number a frame shaped [T, 1, 1].
Value: TypeAlias = float | Array

_BLOCK_PIXELS = 1 << 16


@dataclass(frozen=True)
class Region:
    """A rectangle of the canvas, the same in every frame.

    Attributes:
        rows, columns: the rectangle in pixels.
        x, y: pixel centres in canvas units, [1, 1, w] and [1, h, 1].
    """

    rows: slice
    columns: slice
    x: Array
    y: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y.shape[1], self.x.shape[2]

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.x.size == 0 or self.y.size == 0


class Canvas:
    """T frames of ``size`` x ``size`` pixels; x grows to the right and y downwards.

    Args:
        reach: from the middle of the picture to its edge, in canvas units.
        middle: the y coordinate of the picture's middle.

    Attributes:
        pixels: float32 [3, T, size, size], red, green and blue from 0 to 1.
        pixel: the width of a pixel in canvas units.
    """

    def __init__(self, frames: int, size: int, reach: float = 1.0, middle: float = 0.0) -> None:
        self.frames = frames
        self.size = size
        self.reach = reach
        self.middle = middle
        self.pixel = 2.0 * reach / size
        self.pixels: Array = np.zeros((3, frames, size, size), np.float32)
        self._axis: Array = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(self.pixel)

    def region(self, left: Value, right: Value, top: Value, bottom: Value, margin: float = 0.0) -> Region:
        """The pixels that the box touches in any frame, grown by ``margin`` and one pixel, cut to the canvas."""
        first_x, first_y = -self.reach, self.middle - self.reach
        columns = self._span(left, right, margin, first_x)
        rows = self._span(top, bottom, margin, first_y)
        x = self._axis[None, None, columns] + np.float32(first_x)
        y = self._axis[None, rows, None] + np.float32(first_y)
        return Region(rows, columns, x, y)

    def whole(self) -> Region:
        """The whole canvas."""
        return self.region(-np.inf, np.inf, -np.inf, np.inf)

    def _span(self, low: Value, high: Value, margin: float, origin: float) -> slice:
        reach = margin + self.pixel
        first = np.floor((float(np.min(low)) - reach - origin) / self.pixel)
        last = np.ceil((float(np.max(high)) + reach - origin) / self.pixel)
        start, stop = (int(np.clip(edge, 0, self.size)) for edge in (first, last))
        return slice(start, max(start, stop))

    def coverage(self, distance: Array) -> Array:
        """Share of each pixel inside a shape, from the signed distance (negative inside) of its centre."""
        result = distance * np.float32(-1.0 / self.pixel)
        result += np.float32(0.5)
        return np.clip(result, 0.0, 1.0, out=result)

    def paint(self, region: Region, coverage: Array, colour: npt.ArrayLike) -> None:
        """Blend a colour over the region.

        Args:
            coverage: [T or 1, h, w], 0 to 1.
            colour: [3], or [3, T or 1, h or 1, w or 1].
        """
        if region.empty:
            return
        paint = np.asarray(colour, np.float32)
        if paint.ndim == 1:
            paint = paint[:, None, None, None]
        view = self.pixels[:, :, region.rows, region.columns]
        if coverage.shape[1:] == view.shape[2:]:
            cut = _covered(coverage)
            view, coverage = view[:, :, *cut], coverage[:, *cut]
            full = (paint.shape[2] > 1, paint.shape[3] > 1)
            paint = paint[:, :, cut[0] if full[0] else slice(None), cut[1] if full[1] else slice(None)]
        for channel in range(3):
            step = paint[channel] - view[channel]
            step *= coverage
            view[channel] += step

    def paint_shaded(
        self, region: Region, coverage: Array, dark: npt.ArrayLike, light: npt.ArrayLike, share: Array
    ) -> None:
        """Blend the mix of two colours over the region.

        Args:
            coverage: [T or 1, h, w], 0 to 1.
            dark, light: [3], the colours where ``share`` is 0 and 1.
            share: broadcasts to [T, h, w].
        """
        if region.empty:
            return
        cut = _covered(coverage)
        view = self.pixels[:, :, region.rows, region.columns][:, :, *cut]
        coverage = coverage[:, *cut]
        share = np.broadcast_to(share, np.broadcast_shapes(share.shape, (1, *region.shape)))[:, *cut]
        first, second = np.asarray(dark, np.float32), np.asarray(light, np.float32)
        for channel in range(3):
            step = share * (second[channel] - first[channel])
            step += first[channel]
            step = step - view[channel]
            step *= coverage
            view[channel] += step

    def to_uint8(self) -> npt.NDArray[np.uint8]:
        """The frames as uint8 [T, size, size, 3]."""
        levels = np.rint(np.clip(self.pixels, 0.0, 1.0) * np.float32(255)).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 3, 0))


def _covered(coverage: Array) -> tuple[slice, slice]:
    """Rows and columns that hold anything."""
    largest = coverage.max(axis=0)
    spans = []
    for axis in (1, 0):
        used = np.flatnonzero(largest.max(axis=axis))
        spans.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
    return spans[0], spans[1]


def frame_blocks(frames: int, size: int) -> Iterator[slice]:
    """Runs of frames to paint together: long enough to be worth the calls, short enough for the caches."""
    length = max(1, _BLOCK_PIXELS // (size * size))
    for first in range(0, frames, length):
        yield slice(first, min(first + length, frames))


def per_frame(values: npt.ArrayLike) -> Array:
    """One number a frame, [T], shaped [T, 1, 1] so that it broadcasts over pixels."""
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def step(value: Array, low: float, high: float) -> Array:
    """Smooth rise from 0 at ``low`` to 1 at ``high`` (or a fall where ``high`` is below ``low``)."""
    x: Array = (value - np.float32(low)) * np.float32(1.0 / (high - low))
    np.clip(x, 0.0, 1.0, out=x)
    x *= x * (3.0 - 2.0 * x)
    return x


def mix(first: npt.ArrayLike, second: npt.ArrayLike, share: Array) -> Array:
    """Colour field [3, ...] between two colours: ``first`` where share is 0, ``second`` where it is 1.

    Args:
        first, second: [3] or fields that broadcast to [3, T, h, w].
        share: [T or 1, h, w].
    """
    a, b = (np.asarray(colour, np.float32) for colour in (first, second))
    a, b = (colour[:, None, None, None] if colour.ndim == 1 else colour for colour in (a, b))
    return np.asarray(a + (b - a) * share, np.float32)


def ellipse(x: Array, y: Array, rx: Value, ry: Value) -> Array:
    """Signed distance to an ellipse at the origin (first order: exact slope at the outline)."""
    narrow, low = 1.0 / rx, 1.0 / ry
    xr, yr = x * narrow, y * low
    xr *= xr
    yr *= yr
    level = np.asarray(xr + yr, np.float32)
    np.sqrt(level, out=level)
    xr *= narrow * narrow
    yr *= low * low
    slope = np.asarray(xr + yr, np.float32)
    np.sqrt(slope, out=slope)
    slope += np.float32(1e-6)
    np.divide(level, slope, out=slope)
    level -= np.float32(1.0)
    slope *= level
    return slope


def circle(x: Array, y: Array, radius: Value) -> Array:
    """Signed distance to a circle at the origin."""
    return np.asarray(np.sqrt(x * x + y * y) - radius, np.float32)


def rounded_box(x: Array, y: Array, half_width: Value, half_height: Value, radius: Value) -> Array:
    """Signed distance to a rectangle at the origin with rounded corners."""
    dx = np.abs(x) - (half_width - radius)
    dy = np.abs(y) - (half_height - radius)
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0.0) - radius, np.float32)


@dataclass(frozen=True)
class Capsule:
    """The field of a tapered limb around a segment.

    Attributes:
        distance: signed distance, [T, h, w].
        normal_x, normal_y: offset from the axis over the radius, so at most about 1 inside.
        along: 0 at the first end, 1 at the second.
    """

    distance: Array
    normal_x: Array
    normal_y: Array
    along: Array


def capsule(x: Array, y: Array, x0: Value, y0: Value, x1: Value, y1: Value, r0: Value, r1: Value) -> Capsule:
    """A segment from (x0, y0) to (x1, y1) whose radius goes from r0 to r1."""
    dx, dy = x1 - x0, y1 - y0
    px, py = x - x0, y - y0
    scale = 1.0 / np.maximum(dx * dx + dy * dy, 1e-9)
    along = np.asarray((px * dx + py * dy) * scale, np.float32)
    np.clip(along, 0.0, 1.0, out=along)
    radius = r0 + (r1 - r0) * along
    ox, oy = px - dx * along, py - dy * along
    inverse = 1.0 / np.maximum(radius, 1e-6)
    distance = np.sqrt(ox * ox + oy * oy) - radius
    return Capsule(
        np.asarray(distance, np.float32),
        np.asarray(ox * inverse, np.float32),
        np.asarray(oy * inverse, np.float32),
        along,
    )


def stroke(offset: Array, thickness: Value, pixel: float) -> Array:
    """Coverage of a line from the distance to its middle; right also for lines thinner than a pixel."""
    half = thickness * 0.5
    size = np.float32(1.0 / pixel)
    upper = np.clip((offset + half) * size, -0.5, 0.5)
    lower = np.clip((offset - half) * size, -0.5, 0.5)
    return np.asarray(upper - lower, np.float32)
