"""Writing frames to files: one sink for each format, each file whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import SettingsError
from vidgen.runtime.sinks.images import GifSink, PngSink, WebpSink
from vidgen.runtime.sinks.npy import NpySink
from vidgen.runtime.sinks.video import PIXEL_FORMATS, Mp4Sink

__all__ = [
    "DEFAULT_CRF",
    "DEFAULT_QUALITY",
    "FORMATS",
    "PIXEL_FORMATS",
    "GifSink",
    "Mp4Sink",
    "NpySink",
    "PngSink",
    "Sink",
    "WebpSink",
    "make_sink",
]

DEFAULT_CRF = 18
DEFAULT_QUALITY = 90


class Sink(Protocol):
    """Writes one video to one file. A sink has no state: several threads may use one."""

    #: Suffix of the files, without the dot.
    extension: ClassVar[str]

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Write a video atomically, replacing ``path``.

        Args:
            frames: uint8 [F, height, width, 3], RGB, F >= 1; not changed.
            fps: frames a second; formats without time ignore it.

        Raises:
            StorageError: the file cannot be written.
            SettingsError: the format cannot hold frames of this size.
        """


#: Format -> how to make its sink from (crf, pix_fmt, quality).
FORMATS: dict[str, Callable[[int, str, int], Sink]] = {
    "mp4": lambda crf, pix_fmt, quality: Mp4Sink(crf, pix_fmt),
    "webp": lambda crf, pix_fmt, quality: WebpSink(quality),
    "gif": lambda crf, pix_fmt, quality: GifSink(),
    "png": lambda crf, pix_fmt, quality: PngSink(),
    "npy": lambda crf, pix_fmt, quality: NpySink(),
}


def make_sink(format: str, *, crf: int = DEFAULT_CRF, pix_fmt: str = "yuv420p", quality: int = DEFAULT_QUALITY) -> Sink:
    """The sink of a format; options of other formats are ignored.

    Args:
        format: ``mp4``, ``webp``, ``gif``, ``png`` (a strip of the frames side by side) or ``npy``.
        crf, pix_fmt: of mp4, see :class:`Mp4Sink`. quality: of webp, see :class:`WebpSink`.

    Raises:
        SettingsError: unknown format, or an option out of range.
    """
    if format not in FORMATS:
        raise SettingsError(
            f"unknown format {format!r}",
            seen=f"{format!r}, expected one of {', '.join(FORMATS)}",
            cause="a typing error",
            fix="use --format mp4",
        )
    return FORMATS[format](crf, pix_fmt, quality)
