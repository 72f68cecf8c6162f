"""Page-ready overviews: the grid of appearances and motions, or of classes, and one video at several lengths."""

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
#: Height of captions in pixels, before enlarging.
TEXT_SIZE = 12


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


@dataclass(frozen=True)
class Captions:
    """What stands above the columns and at the left of the rows: one text for all, or one for each."""

    columns: str | tuple[str, ...]
    rows: str | tuple[str, ...]


class Sheet:
    """A grid sheet, filled one cell at a time in any order."""

    def __init__(self, layout: SheetLayout, captions: Captions = Captions("motion", "appearance")) -> None:
        self._layout = layout
        self._captions = captions
        self._pixels = np.repeat(_blank(layout, captions)[None], layout.frames, axis=0)

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
        _write_png(png, self._pixels[len(self._pixels) // 2], self._layout, self._captions)


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
    names = tuple(str(len(video)) for video in videos)
    captions = Captions(f"time, every {step} frames" if step > 1 else "time", names)
    pixels = _blank(layout, captions)
    for row, video in enumerate(videos):
        for column, frame in enumerate(video[::step]):
            top, left = layout.corner(row, column)
            pixels[top : top + height, left : left + width] = frame
    _write_png(png, pixels, layout, captions)


def _write_png(png: Path, pixels: NDArray[np.uint8], layout: SheetLayout, captions: Captions) -> None:
    """Enlarge and write; captions are drawn again, at full resolution."""
    from PIL import Image

    height, width = (PNG_SCALE * size for size in layout.size)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    margin = Image.fromarray(_blank(layout, captions, PNG_SCALE))
    edge = PNG_SCALE * MARGIN
    for box in ((0, 0, width, edge), (0, 0, edge, height)):
        image.paste(margin.crop(box), box[:2])
    with atomic_file(png) as partial:
        image.save(partial, format="PNG", optimize=True)


def _blank(layout: SheetLayout, captions: Captions, scale: int = 1) -> NDArray[np.uint8]:
    """A white sheet, enlarged, with the captions in its margins; names at the left are turned unless all are short."""
    from PIL import Image

    height, width = (scale * size for size in layout.size)
    edge = scale * MARGIN
    image = Image.new("RGB", (width, height), WHITE)
    for text, middle, room in _places(captions.columns, layout.columns, layout.width):
        _draw_text(image, (edge + scale * middle, edge // 2), text, scale, scale * room)
    upright = Image.new("RGB", (height, edge), WHITE)
    texts = _places(captions.rows, layout.rows, layout.height)
    turned = isinstance(captions.rows, str) or any(_text_width(text, scale) > edge for text, _, _ in texts)
    for text, middle, room in texts if turned else ():
        _draw_text(upright, (height - edge - scale * middle, edge // 2), text, scale, scale * room)
    image.paste(upright.transpose(Image.Transpose.ROTATE_90), (0, 0))
    for text, middle, _ in () if turned else texts:
        _draw_text(image, (edge // 2, edge + scale * middle), text, scale, edge)
    return np.asarray(image).copy()


def _places(caption: str | tuple[str, ...], cells: int, size: int) -> list[tuple[str, int, int]]:
    """Texts along one side, each with its middle, from the margin on, and the length that it may take."""
    if isinstance(caption, str):
        length = cells * (size + GAP) + GAP
        return [(caption, length // 2, length)]
    return [(text, GAP + i * (size + GAP) + size // 2, size) for i, text in enumerate(caption)]


def _text_width(text: str, scale: int) -> float:
    from PIL import ImageFont

    return ImageFont.load_default(size=TEXT_SIZE * scale).getlength(text)


def _draw_text(image: Image, middle: tuple[int, int], text: str, scale: int, room: int) -> None:
    """Draw a text in at most ``room`` pixels: smaller, and cut short if that is not enough."""
    from PIL import ImageDraw, ImageFont

    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    # Widths do not scale quite as sizes do.
    shrunk = min(1.0, 0.97 * room / max(1.0, _text_width(text, scale)))
    font = ImageFont.load_default(size=TEXT_SIZE * scale * max(shrunk, 0.6))
    if font.getlength(text) > room:
        while text and font.getlength(text + "...") > room:
            text = text[:-1]
        text += "..."
    ImageDraw.Draw(image).text(middle, text, fill=INK, font=font, anchor="mm")
