"""Image formats through Pillow: animated webp and gif, and a png strip of the frames side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file
from vidgen.errors import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Largest side of a webp image.
WEBP_LIMIT = 16383
#: Pixels that a gif's palette is made from.
PALETTE_PIXELS = 16384


@dataclass(frozen=True)
class WebpSink:
    """Animated webp that loops for ever.

    Attributes:
        quality: 1 (smallest) to 100; 100 is lossless.
    """

    quality: int = 90
    extension: ClassVar[str] = "webp"

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise SettingsError(
                f"cannot encode webp with quality {self.quality}",
                seen=f"{self.quality}, expected 1 to 100 (lossless)",
                cause="webp has no other qualities",
                fix="use --quality 90",
            )

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Encode and write; see :class:`vidgen.runtime.sinks.Sink`."""
        height, width = frames.shape[1:3]
        if max(height, width) > WEBP_LIMIT:
            raise SettingsError(
                f"cannot write {path} as webp",
                seen=f"frames of {width}x{height}, expected at most {WEBP_LIMIT} on a side",
                cause="the format ends there",
                fix="use --format mp4, or a smaller --grid",
            )
        first, *rest = _images(frames)
        with atomic_file(path) as partial:
            first.save(
                partial,
                format="WEBP",
                save_all=True,
                append_images=rest,
                duration=durations(len(frames), fps, unit=1000),
                loop=0,
                quality=self.quality,
                lossless=self.quality == 100,
                exact=True,
                method=4,
            )


class GifSink:
    """Animated gif that loops for ever: one palette of 256 colours a video, dithered. Delays are whole 1/100 s."""

    extension: ClassVar[str] = "gif"

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Encode and write; see :class:`vidgen.runtime.sinks.Sink`."""
        first, *rest = _palette_images(frames)
        hundredths = durations(len(frames), fps, unit=100, smallest=2)
        with atomic_file(path) as partial:
            first.save(
                partial,
                format="GIF",
                save_all=True,
                append_images=rest,
                duration=[10 * value for value in hundredths],
                loop=0,
                optimize=False,
            )


class PngSink:
    """All frames side by side in one image, first frame left; lossless, without a frame rate."""

    extension: ClassVar[str] = "png"

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Write the strip; see :class:`vidgen.runtime.sinks.Sink`."""
        from PIL import Image

        strip = np.concatenate(list(frames), axis=1)
        with atomic_file(path) as partial:
            Image.fromarray(strip).save(partial, format="PNG")


def durations(frames: int, fps: float, unit: int, smallest: int = 1) -> list[int]:
    """Whole durations of frames, in 1/unit s, whose sums stay closest to the true times.

    Args:
        smallest: no frame is shorter; browsers slow a gif of 1/100 s frames down to a tenth of its speed.
    """
    ends = [round((i + 1) * unit / fps) for i in range(frames)]
    return [max(smallest, end - start) for start, end in zip([0, *ends], ends)]


def _images(frames: NDArray[np.uint8]) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]


def _palette_images(frames: NDArray[np.uint8]) -> list[Image]:
    """Frames in one palette, made from all of them together so that colours do not flicker."""
    from PIL import Image

    pixels = np.ascontiguousarray(frames).reshape(-1, 1, 3)
    # An odd step meets every column of a texture; all pixels would take ten times as long for the same palette.
    step = max(1, len(pixels) // PALETTE_PIXELS) | 1
    palette = Image.fromarray(pixels[::step].copy()).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    return [image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image in _images(frames)]
