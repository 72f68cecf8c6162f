"""H.264 in mp4: libx264 through PyAV, one thread a file so that the bytes depend on the frames alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file
from vidgen.errors import SettingsError, StorageError

#: Pixel format -> encoder. ``rgb24`` keeps RGB as it is; few players show it.
PIXEL_FORMATS = {"yuv420p": "libx264", "yuv444p": "libx264", "rgb24": "libx264rgb"}

#: ITU-R BT.601 in the numbering of H.264: what decoders that ignore tags assume at these sizes anyway.
BT601 = 6
LIMITED_RANGE = 1


@dataclass(frozen=True)
class Mp4Sink:
    """mp4 files that browsers play.

    Attributes:
        crf: constant rate factor, 0 (best) to 51; the reference programs use 23.
        pix_fmt: ``yuv420p`` plays everywhere and halves colour resolution; ``yuv444p`` keeps it; ``rgb24`` with
            ``crf`` 0 keeps every bit of the frames (the other two lose a little in the colour conversion).
    """

    crf: int = 18
    pix_fmt: str = "yuv420p"
    extension: ClassVar[str] = "mp4"

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise SettingsError(
                f"cannot encode mp4 with crf {self.crf}",
                seen=f"{self.crf}, expected 0 (best) to 51",
                cause="H.264 has no other rate factors",
                fix="use --crf 18",
            )
        if self.pix_fmt not in PIXEL_FORMATS:
            raise SettingsError(
                f"cannot encode mp4 with pixel format {self.pix_fmt!r}",
                seen=f"{self.pix_fmt!r}, expected one of {', '.join(PIXEL_FORMATS)}",
                cause="a typing error, or a format that few players read",
                fix="use --pix-fmt yuv420p",
            )

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Encode and write; see :class:`vidgen.runtime.sinks.Sink`."""
        import av

        height, width = frames.shape[1:3]
        if self.pix_fmt == "yuv420p" and (height % 2 or width % 2):
            raise SettingsError(
                f"cannot write {path} as yuv420p",
                seen=f"frames of {width}x{height}, expected even sizes",
                cause="this format stores colour for blocks of 2x2 pixels",
                fix="use --pix-fmt yuv444p",
            )
        with atomic_file(path) as partial:
            try:
                self._encode(partial, frames, fps)
            except av.FFmpegError as error:
                if isinstance(error, OSError):
                    raise
                raise StorageError(
                    f"cannot write {path}",
                    seen=str(error),
                    cause="the video encoder of this PyAV refused the frames",
                    fix="use --format webp, or: pip install -U av",
                ) from error

    def _encode(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        import av

        rate = Fraction(fps).limit_denominator(1001)
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(PIXEL_FORMATS[self.pix_fmt], rate=rate)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = self.pix_fmt
            context = stream.codec_context
            # The rate control of x264 depends on the number of threads; files of a set are encoded side by side.
            context.thread_count = 1
            # The assembly of x264's macroblock tree is approximate, differs between CPUs and, on frames this small,
            # now and then gives other bits for the same frames; its exact form costs nothing measurable.
            context.options = {"crf": str(self.crf), "preset": "medium", "x264-params": "cpu-independent=1"}
            if self.pix_fmt != "rgb24":
                context.color_primaries = context.color_trc = context.colorspace = BT601
                context.color_range = LIMITED_RANGE
            for image in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                if self.pix_fmt != "rgb24":
                    frame = frame.reformat(format=self.pix_fmt, dst_colorspace="ITU601", interpolation="AREA")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
