"""The protocol `g3an`: what G3AN's published scores went through, step by step (spec g3an 6 to 8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.protocols.base import Clip, ClipProtocol, middle_frames, together
from vidgen.bench.scores.protocols.codec import DESCRIPTION, h264_round_trip
from vidgen.errors import SettingsError
from vidgen.runtime.ranges import REFERENCE_GROUP

#: Side of the frames that the reference's network takes.
SIDE = 112


@dataclass(frozen=True)
class G3ANProtocol(ClipProtocol):
    """The reference, to the letter.

    Raw videos are stretched from the smallest to the largest value of the 64 they were generated with (the last group
    may be smaller) and truncated to 8 bits; whole clips pass through H.264 at libx264's default; the middle 16 frames
    are resized to 112x112 by PIL's bilinear filter on 8 bits. The network subtracts its mean itself. Two mistakes of
    the reference's file names are not repeated: its last batch overwrites earlier files, and a number of videos that
    the batch divides makes it fail.
    """

    name: ClassVar[str] = "g3an"
    suffixes: ClassVar[frozenset[str]] = frozenset({".mp4"})

    frames: int | None = 16
    range: str = "batch-minmax"
    batch: int = REFERENCE_GROUP
    codec: str = DESCRIPTION
    resize: str = f"PIL bilinear {SIDE}x{SIDE}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames is None:
            raise SettingsError(
                "cannot score by the protocol g3an without a number of frames",
                seen="None, expected 16 as in the reference",
                cause="the protocol takes frames from the middle of each clip",
                fix="use --frames 16",
            )

    def prepare(self, clips: Sequence[Clip], *, from_files: bool) -> NDArray[np.uint8]:
        """See :meth:`ClipProtocol.prepare`; clips that did not come from files are compressed now."""
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            decoded = list(clips if from_files else pool.map(h264_round_trip, clips))
            return together(list(pool.map(_resized, middle_frames(decoded, self.frames))))


def _resized(clip: Clip) -> Clip:
    from PIL import Image

    return np.stack(
        [np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for frame in clip]
    )
