"""From a decoded frame to a frame of the store: what is cut out, and how it is resized."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vidgen.data.layouts import Frame
from vidgen.errors import SettingsError

#: "center" and "none", or a fixed box as (left, top, width, height) in pixels.
Crop = str | tuple[int, int, int, int]


def parse_crop(text: str) -> Crop:
    """Read a crop setting: ``center``, ``none`` or ``x,y,w,h``.

    Raises:
        SettingsError: it is none of these.
    """
    if text in ("center", "none"):
        return text
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        left = top = width = height = -1
    if min(left, top) < 0 or min(width, height) < 1:
        raise SettingsError(
            f"cannot crop to {text!r}",
            seen=f"crop is {text!r}, expected center, none or x,y,w,h",
            cause="a box is four whole numbers: left, top, width and height in pixels",
            fix="pass for example --crop 80,0,480,480",
        )
    return left, top, width, height


def crop_box(frame: Frame, crop: Crop) -> tuple[float, float, float, float]:
    """The part of a frame to keep, as (left, top, right, bottom) in its pixels.

    ``center`` is the largest square, as it is shown (pixels may not be square), in the middle. ``none`` is the
    whole frame.

    Raises:
        ValueError: a fixed box does not lie inside the frame.
    """
    height, width = frame.pixels.shape[:2]
    if crop == "none":
        return 0, 0, width, height
    if crop == "center":
        if frame.aspect == 1:
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            return left, top, left + side, top + side
        shown = min(width * frame.aspect, float(height))
        across = shown / frame.aspect
        left, top = max(0.0, (width - across) / 2), max(0.0, (height - shown) / 2)
        return left, top, min(left + across, width), min(top + shown, height)
    assert not isinstance(crop, str)
    left, top, box_width, box_height = crop
    if left + box_width > width or top + box_height > height:
        raise ValueError(f"the box {left},{top},{box_width},{box_height} does not lie in {width}x{height} pixels")
    return left, top, left + box_width, top + box_height


def resize(frame: Frame, size: int, crop: Crop) -> npt.NDArray[np.uint8]:
    """Crop a frame and resize it with PIL's bilinear filter, which averages when it shrinks.

    Returns:
        uint8 [size, size, 3].

    Raises:
        ValueError: a fixed box does not lie inside the frame.
    """
    from PIL import Image

    left, top, right, bottom = crop_box(frame, crop)
    # PIL's filter reaches across the edges of its box: what is cut away must not be there at all.
    across, down = math.floor(left), math.floor(top)
    kept = np.ascontiguousarray(frame.pixels[down : math.ceil(bottom), across : math.ceil(right)])
    box = left - across, top - down, right - across, bottom - down
    return np.asarray(Image.fromarray(kept).resize((size, size), Image.Resampling.BILINEAR, box=box))
