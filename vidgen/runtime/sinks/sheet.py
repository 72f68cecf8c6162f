"""Page-ready overviews: the grid of appearances and motions, and one video at several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file
from vidgen.errors import SettingsError
from vidgen.runtime.sinks.images import WEBP_LIMIT, WebpSink

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = 2
MARGIN = 22
#: The png has this many pixels for one of the video, so that it stays crisp when a page or a screen enlarges it.
PNG_SCALE = 2
#: Most bytes of pixels that a sheet may hold in memory.
MEMORY_LIMIT = 2**31

WHITE = (255, 255, 255)
INK = (70, 70, 70)


@dataclass(frozen=True)
class SheetLayout:
    """Places of the cells: rows and columns of equal cells, gaps between, a caption above and one at the left.

    Raises:
        SettingsError: too large for a webp image or for memory.
    """

    rows: int
    columns: int
    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        height, width = self.size
        if max(height, width) > WEBP_LIMIT or 3 * height * width * self.frames > MEMORY_LIMIT:
            raise SettingsError(
                f"cannot draw a sheet of {self.rows}x{self.columns} videos",
                seen=f"{width}x{height} pixels, {self.frames} frames; "
                f"expected at most {WEBP_LIMIT} on a side and {MEMORY_LIMIT >> 30} GiB of pixels",
                cause="an animated image cannot be larger",
                fix="use --no-sheet, or a smaller --grid",
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (
            MARGIN + self.rows * (self.height + GAP) + GAP,
            MARGIN + self.columns * (self.width + GAP) + GAP,
        )

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Top and left of a cell."""
        return MARGIN + GAP + row * (self.height + GAP), MARGIN + GAP + column * (self.width + GAP)


class Sheet:
    """A grid sheet, filled one cell at a time in any order.

    Args:
        captions: what changes along the columns, and along the rows.
    """

    def __init__(self, layout: SheetLayout, captions: tuple[str, str] = ("motion", "appearance")) -> None:
        self._layout = layout
        self._captions = captions
        blank = _blank(layout.size, captions)
        self._pixels = np.repeat(blank[None], layout.frames, axis=0)

    def put(self, row: int, column: int, frames: NDArray[np.uint8]) -> None:
        """Place one video: uint8 [frames, height, width, 3]."""
        top, left = self._layout.corner(row, column)
        self._pixels[:, top : top + self._layout.height, left : left + self._layout.width] = frames

    def write(self, png: Path, webp: Path, fps: float, quality: int = 90) -> None:
        """Write the middle frame of all cells as a png, and all frames as an animated webp, both atomically.

        Raises:
            StorageError: a file cannot be written.
        """
        WebpSink(quality).write(webp, self._pixels, fps)
        _write_png(png, self._pixels[len(self._pixels) // 2], self._captions)


def write_sheet(png: Path, webp: Path, cells: NDArray[np.uint8], fps: float, *, quality: int = 90) -> None:
    """Write the sheet of a whole grid at once.

    Args:
        cells: uint8 [rows, columns, frames, height, width, 3]: appearances x motions.

    Raises:
        StorageError: a file cannot be written.
        SettingsError: the grid is too large.
    """
    rows, columns, frames, height, width, _ = cells.shape
    sheet = Sheet(SheetLayout(rows, columns, frames, height, width))
    for row, column in np.ndindex(rows, columns):
        sheet.put(row, column, cells[row, column])
    sheet.write(png, webp, fps, quality)


def write_lengths(png: Path, videos: Sequence[NDArray[np.uint8]], columns: int = 16) -> None:
    """Write one video at several lengths: a row for each length, every k-th frame from left to right.

    Args:
        videos: uint8 [frames, height, width, 3] each, shortest first.
        columns: most frames in a row; k is the smallest step that keeps the longest video within it.

    Raises:
        StorageError: the file cannot be written.
    """
    longest = max(len(video) for video in videos)
    step = -(-longest // columns)
    height, width = videos[0].shape[1:3]
    layout = SheetLayout(len(videos), -(-longest // step), 1, height, width)
    captions = (f"time, every {step} frames" if step > 1 else "time", "frames")
    pixels = _blank(layout.size, captions)
    for row, video in enumerate(videos):
        for column, frame in enumerate(video[::step]):
            top, left = layout.corner(row, column)
            pixels[top : top + height, left : left + width] = frame
    names = {layout.corner(row, 0)[0] + height // 2: str(len(video)) for row, video in enumerate(videos)}
    _write_png(png, pixels, captions, names)


def _write_png(
    png: Path, pixels: NDArray[np.uint8], captions: tuple[str, str], rows: dict[int, str] | None = None
) -> None:
    """Enlarge and write; captions are drawn again, at full resolution.

    Args:
        rows: height of the middle of a row in pixels before enlarging -> text at its left, in place of the caption.
    """
    from PIL import Image

    height, width = (PNG_SCALE * size for size in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    margin = _blank((height, width), captions if rows is None else (captions[0], ""), PNG_SCALE)
    edge = PNG_SCALE * MARGIN
    for box in ((0, 0, width, edge), (0, 0, edge, height)):
        image.paste(Image.fromarray(margin).crop(box), box[:2])
    for middle, text in (rows or {}).items():
        _draw_text(image, (edge // 2, PNG_SCALE * middle), text, PNG_SCALE)
    with atomic_file(png) as partial:
        image.save(partial, format="PNG", optimize=True)


def _blank(size: tuple[int, int], captions: tuple[str, str], scale: int = 1) -> NDArray[np.uint8]:
    """A white image of (height, width) with the captions in its margins: "motion" above, "appearance" at the left."""
    from PIL import Image

    height, width = size
    image = Image.new("RGB", (width, height), WHITE)
    edge = scale * MARGIN
    _draw_text(image, (edge + (width - edge) // 2, edge // 2), captions[0], scale)
    upright = Image.new("RGB", (height, edge), WHITE)
    _draw_text(upright, ((height - edge) // 2, edge // 2), captions[1], scale)
    image.paste(upright.transpose(Image.Transpose.ROTATE_90), (0, 0))
    return np.asarray(image).copy()


def _draw_text(image: Image, middle: tuple[int, int], text: str, scale: int) -> None:
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=12 * scale)
    ImageDraw.Draw(image).text(middle, text, fill=INK, font=font, anchor="mm")
