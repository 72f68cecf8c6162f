"""Bilinear resizing of 8-bit frames as two matrix products, equal to PIL's within one level."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

#: PIL holds its weights as whole numbers of this many binary places.
PRECISION = 22


@functools.lru_cache(maxsize=64)
def bilinear_weights(before: int, after: int) -> NDArray[np.float64]:
    """The weight of each old pixel in each new one, along one axis, as PIL rounds them.

    A triangle as wide as two old pixels where it enlarges, and as two new ones where it shrinks (antialiasing).

    Returns:
        Whole numbers of 2^-22 as float64 [after, before]; not to be changed.
    """
    scale = before / after
    reach = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), before)
    places = np.arange(before)
    inside = (places >= first[:, None]) & (places < last[:, None])
    # PIL's own order of operations, since the weights are rounded afterwards.
    distances = (places - centres[:, None] + 0.5) * (1.0 / reach)
    weights = np.where(inside, np.maximum(1.0 - np.abs(distances), 0.0), 0.0)
    totals = np.add.accumulate(weights, axis=1)[:, -1:]
    whole: NDArray[np.float64] = np.floor(0.5 + weights / totals * (1 << PRECISION))
    whole.setflags(write=False)
    return whole


def resize_bilinear(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize frames as ``PIL.Image.resize(..., BILINEAR)`` does: first along the width, then along the height.

    Every product is a whole number that float64 holds exactly, so the result depends on no library's order of
    additions. It is PIL's to the bit where one side keeps its size or both change by one factor. Elsewhere versions of
    PIL that start with the height where that is less work round other numbers in between, and differ by one level.

    Args:
        frames: uint8 [..., H, W, C]. size: new height and width, at least 1.

    Returns:
        uint8 [..., height, width, C]; ``frames`` itself where it has that size.
    """
    height, width = size
    *rest, before_height, before_width, channels = frames.shape
    if (before_height, before_width) == size:
        return frames
    flat = frames.reshape(-1, before_height, before_width, channels)
    result = np.empty((len(flat), height, width, channels), np.uint8)
    # A few frames at a time: in float64 a clip is eight times its size.
    for index, frame in enumerate(flat):
        planes: NDArray[np.uint8] = np.ascontiguousarray(frame.transpose(2, 0, 1))
        if before_width != width:
            rows = planes.reshape(-1, before_width).astype(np.float64)
            planes = _rounded(rows @ bilinear_weights(before_width, width).T).reshape(channels, -1, width)
        if before_height != height:
            planes = _rounded(bilinear_weights(before_height, height) @ planes.astype(np.float64))
        result[index] = planes.transpose(1, 2, 0)
    return result.reshape(*rest, height, width, channels)


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Sums of whole numbers of 2^-22 to levels, halves up."""
    sums += 1 << (PRECISION - 1)
    sums *= 1.0 / (1 << PRECISION)
    return np.clip(sums, 0.0, 255.0, out=sums).astype(np.uint8)
