"""What a protocol says of a score over features, and how it is written down."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.errors import ScoreError, SettingsError

#: Frames that are looked at where neither protocol nor extractor says; the reference's number (spec g3an 8.2).
FRAMES = 16
#: A clip, uint8 [T, H, W, 3], RGB.
Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipProtocol(ABC):
    """Everything that happens to a clip between its source and an extractor, as plain values for JSON.

    Attributes:
        frames: frames from the middle of each clip that are looked at; None until an extractor settles it.
        range: how the raw output of a network becomes 8 bits, see :mod:`vidgen.runtime.ranges`.
        batch: generated videos that are normalised together; 1 where each is mapped by itself.
        codec: what compresses the clips before they are looked at; ``none`` for frames from memory.
        resize: how clips get the size of the extractor's input, before it sees them.
        dtype: of the features.
    """

    name: ClassVar[str]
    #: Suffixes of the files that are scored in a folder; empty for all kinds of videos.
    suffixes: ClassVar[frozenset[str]] = frozenset()

    frames: int | None = None
    range: str = "model"
    batch: int = 1
    codec: str = "none"
    resize: str = "extractor's"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise SettingsError(
                f"cannot score {self.frames} frames of each clip",
                seen=f"{self.frames}, expected at least 1",
                cause="the option is out of range",
                fix="use --frames 16",
            )

    @abstractmethod
    def prepare(self, clips: Sequence[Clip], *, from_files: bool) -> NDArray[np.uint8]:
        """Clips as an extractor takes them.

        Args:
            clips: uint8 [T, H, W, 3] each; lengths may differ.
            from_files: the clips were decoded from videos: a codec has had its turn.

        Returns:
            uint8 [k, F, h, w, 3].

        Raises:
            ScoreError: a clip is too short, or clips do not go together.
        """

    def for_extractor(self, extractor: Extractor) -> ClipProtocol:
        """The protocol with the number of frames settled: the extractor's where nothing else is asked for, else 16.

        Clips of other lengths are other clips: an extractor that takes any number must not compare them unseen.

        Raises:
            ScoreError: the extractor takes another number of frames.
        """
        if self.frames is None:
            return dataclasses.replace(self, frames=extractor.frames or FRAMES)
        if extractor.frames in (None, self.frames):
            return self
        raise ScoreError(
            f"cannot look at {self.frames} frames with {extractor.name}",
            seen=f"{self.frames} frames by the protocol {self.name}, expected {extractor.frames}",
            cause="the network takes clips of one length",
            fix=f"use --frames {extractor.frames}, or another --extractor",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the name first."""
        return {"protocol": self.name, **dataclasses.asdict(self)}


def describe(protocol: ClipProtocol, extractor: Extractor, space: str) -> dict[str, Any]:
    """Everything that two statistics must agree in to be compared (contracts 7).

    A file of statistics adds ``samples`` and ``data``, which say what set of clips it is of. ``backend``, what computed
    the features, is told and need not agree: backends differ by rounding.
    """
    return {
        **protocol.to_dict(),
        "extractor": extractor.name,
        "space": space,
        "weight_sha256": extractor.weight_sha256,
        "extractor_settings": extractor.settings(),
        "backend": extractor.backend,
    }


def middle_frames(clips: Sequence[Clip], frames: int | None) -> list[Clip]:
    """The same number of frames from the middle of each clip: from T // 2 - F // 2 (spec g3an 8.2); views.

    Args:
        frames: how many; all of them when None.

    Raises:
        ScoreError: a clip has fewer frames, or, of all frames, another number than the first.
    """
    if frames is None:
        lengths = {len(clip) for clip in clips}
        if len(lengths) > 1:
            raise ScoreError(
                "cannot score clips of several lengths together",
                seen=f"clips of {min(lengths)} to {max(lengths)} frames",
                cause="the extractor takes any number of frames, so nothing says how many to look at",
                fix=f"use --frames {min(lengths)}",
            )
        return list(clips)
    short = min((len(clip) for clip in clips), default=frames)
    if short < frames:
        raise ScoreError(
            f"cannot look at {frames} frames of each clip",
            seen=f"a clip of {short} frames, expected at least {frames}",
            cause="the clips were made shorter than the protocol or the extractor wants them",
            fix=f"leave out clips of less than {frames} frames, or use another extractor with --frames {short}",
        )
    starts = [len(clip) // 2 - frames // 2 for clip in clips]
    return [clip[start : start + frames] for clip, start in zip(clips, starts)]


def together(clips: Sequence[Clip]) -> NDArray[np.uint8]:
    """Clips of one size as one array.

    Raises:
        ScoreError: they have several sizes.
    """
    check_one_size({clip.shape[1:3] for clip in clips})
    return np.stack(clips)


def check_one_size(sizes: Collection[tuple[int, ...]]) -> None:
    """Raise where clips have several heights and widths.

    Raises:
        ScoreError: they have.
    """
    if len(sizes) > 1:
        raise ScoreError(
            "cannot score clips of several sizes together",
            seen=" and ".join(f"{width}x{height}" for height, width in sorted(sizes)[:3]),
            cause="a clip's size moves its features, so one set has one size",
            fix="prepare them at one size first: vidgen data prepare VIDEOS STORE --size 64",
        )
