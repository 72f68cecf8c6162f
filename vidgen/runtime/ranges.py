"""From the raw network output to 8-bit frames: the range-true map, and the reference's min-max over a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import SamplingError

#: ``model``: the range the network was trained in. ``batch-minmax``: what the reference programs do (spec g3an 6).
RANGES = ("model", "batch-minmax")

#: Videos that the reference generates, and so normalises, together (spec g3an 6, 7).
REFERENCE_GROUP = 64


def to_uint8(video: NDArray[np.float32]) -> NDArray[np.uint8]:
    """clip(round((x + 1) 127.5), 0, 255), rounding half to even; the same as inside an artifact (contracts 4).

    Args:
        video: float32 [B, 3, F, H, W] in [-1, 1].

    Returns:
        uint8 [B, F, H, W, 3].

    Raises:
        SamplingError: NaN or infinity in the video.
    """
    _check_finite(video)
    scaled = (video + np.float32(1)) * np.float32(127.5)
    levels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(_frames_last(levels))


def batch_minmax(video: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the whole batch from its smallest to its largest value over 0..255, then truncate (spec g3an 6).

    The pixels of a video depend on the others of its batch; this is for comparison with the official numbers.
    A batch of one constant value, where the reference divides by zero, becomes black.

    Args:
        video: float32 [B, 3, F, H, W], any finite range; not changed.

    Returns:
        uint8 [B, F, H, W, 3].

    Raises:
        SamplingError: NaN or infinity in the video.
    """
    _check_finite(video)
    smallest, largest = video.min(), video.max()
    if smallest == largest:
        return np.zeros(_frames_last(video).shape, dtype=np.uint8)
    # In float32 and in this order, as the reference: a level more or less hangs on it.
    unit = (video - smallest) / (largest - smallest)
    return np.ascontiguousarray(_frames_last((unit * np.float32(255)).astype(np.uint8)))


def _frames_last(video: NDArray[Any]) -> NDArray[Any]:
    """[B, 3, F, H, W] -> [B, F, H, W, 3]."""
    return video.transpose(0, 2, 3, 4, 1)


def _check_finite(video: NDArray[np.float32]) -> None:
    if not np.isfinite(video).all():
        bad = int(np.argmax(~np.isfinite(video).reshape(len(video), -1).all(axis=1)))
        raise SamplingError(
            "the model made a video that is not a number",
            seen=f"NaN or infinity in video {bad} of the batch, expected values in [-1, 1]",
            cause="training diverged, or half precision overflowed",
            fix="use an earlier checkpoint, or an artifact exported without --fp16",
        )
