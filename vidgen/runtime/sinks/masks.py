"""The masks of one video as frames that a sink writes: where, at each scale, motion changed the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import SamplingError


def mask_frames(masks: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Grey frames that show all scales, the coarsest on top, each enlarged to the size of the finest.

    Every mask value becomes a square of whole pixels of ``round(255 m)``, so that masks can be read back.

    Args:
        masks: by name, float [F, R, R] in [0, 1] each; every R divides the largest.

    Returns:
        uint8 [F, scales * R, R] for the largest R.

    Raises:
        SamplingError: NaN or infinity in a mask.
    """
    by_size = sorted(masks.values(), key=lambda mask: mask.shape[-1])
    largest = by_size[-1].shape[-1]
    shown = []
    for mask in by_size:
        if not np.isfinite(mask).all():
            raise SamplingError(
                "the model made a mask that is not a number",
                seen="NaN or infinity, expected values in [0, 1]",
                cause="training diverged, or half precision overflowed",
                fix="use an earlier checkpoint, or an artifact exported without --fp16",
            )
        levels = np.clip(np.rint(mask * np.float32(255)), 0, 255).astype(np.uint8)
        times = largest // mask.shape[-1]
        shown.append(levels.repeat(times, axis=1).repeat(times, axis=2))
    return np.concatenate(shown, axis=1)
