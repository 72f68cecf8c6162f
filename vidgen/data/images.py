"""Clips kept as images: folders of frames, image strips, and animated WebP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vidgen.data.layouts import (
    IMAGE_SUFFIXES,
    Frame,
    Listing,
    Reading,
    ReadOptions,
    SourceClip,
    folder_label,
    printable,
    unreadable,
)
from vidgen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


@contextlib.contextmanager
def _opened(clip: SourceClip, path: Path, max_pixels: int) -> Iterator[Image]:
    """A PIL image whose header was read and whose size is acceptable; its errors name the file."""
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise unreadable(
                    clip,
                    f"{path.name} has {image.width}x{image.height} pixels, more than {max_pixels}",
                    "a larger image than is decoded without being told to",
                    "pass a larger --max-pixels",
                )
            yield image
    # Pillow reports damaged files with these, depending on the format and on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise unreadable(clip, f"{path.name}: {error}", "it is damaged, cut short, or no image") from error


def _pixels(image: Image) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3], the way up that its EXIF data asks for."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit grey, which a plain conversion would clip to white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def read_image(clip: SourceClip, options: ReadOptions) -> npt.NDArray[np.uint8]:
    """One image file: uint8 [height, width, 3], the way up that its EXIF data asks for.

    Raises:
        DataError: it is too large, damaged or no image.
    """
    with _opened(clip, clip.path, options.max_pixels) as image:
        return _pixels(image)


class FrameFolders:
    """One folder a clip; its images, sorted by name as text, are the frames (UvA-NEMO, G3AN)."""

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        folders: dict[PurePath, None] = {}
        ignored = []
        for file in files:
            if file.suffix.lower() in IMAGE_SUFFIXES:
                folders.setdefault(file.parent)
            else:
                ignored.append(printable(file))
        clips = []
        for folder in sorted(folders, key=lambda path: path.parts):
            name = printable(folder) if folder.parts else printable(PurePath(root.name or "frames"))
            clips.append(SourceClip(name=name, path=root / folder, label=folder_label(folder)))
        return Listing(tuple(clips), tuple(ignored))

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        try:
            names = sorted(
                path.name
                for path in clip.path.iterdir()
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            )
        except OSError as error:
            raise unreadable(clip, error.strerror or str(error), "the folder cannot be listed") from error
        if len(names) > options.max_frames:
            raise too_many_frames(clip, options)
        return Reading(self._frames(clip, names, options))

    def _frames(self, clip: SourceClip, names: list[str], options: ReadOptions) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        for name in names:
            with _opened(clip, clip.path / name, options.max_pixels) as image:
                pixels = _pixels(image)
            here = pixels.shape[1], pixels.shape[0]
            if here != (size or here):
                assert size is not None
                raise unreadable(
                    clip,
                    f"{name} has {here[0]}x{here[1]} pixels, {names[0]} has {size[0]}x{size[1]}",
                    "the images of one clip have one size",
                )
            size = here
            yield Frame(pixels)


class ImageStrips:
    """One image a clip: its square frames lie side by side, or one above the other."""

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        clips, ignored = [], []
        for file in files:
            if file.suffix.lower() in IMAGE_SUFFIXES:
                clips.append(SourceClip(name=printable(file), path=root / file, label=folder_label(file)))
            else:
                ignored.append(printable(file))
        return Listing(tuple(clips), tuple(ignored))

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        # A strip holds many frames: the limit for one of them is applied to each.
        with _opened(clip, clip.path, options.max_pixels * options.max_frames) as image:
            width, height = image.size
            side = options.strip_size or min(width, height)
            if side * side > options.max_pixels or max(width, height) // side > options.max_frames:
                raise unreadable(clip, f"it has {width}x{height} pixels", "it is larger than the limits allow")
            pixels = _pixels(image)
        return Reading(iter([Frame(frame) for frame in cut_strip(clip, pixels, options.strip_size)]))


def cut_strip(clip: SourceClip, pixels: npt.NDArray[np.uint8], side: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """Cut a strip into its square frames.

    Args:
        clip: named in errors.
        pixels: uint8 [height, width, 3]; a row of frames if it is wider than high, else a column.
        side: pixels of a frame; None for the shorter side.

    Raises:
        DataError: the longer side is no multiple of the shorter, or the shorter is not ``side``.
    """
    height, width = pixels.shape[:2]
    expected = side or min(width, height)
    if min(width, height) != expected or max(width, height) % expected:
        raise unreadable(
            clip,
            f"it has {width}x{height} pixels",
            f"it is no row or column of square frames of {expected}x{expected}",
        )
    axis = 1 if width > height else 0
    return np.split(pixels, max(width, height) // expected, axis=axis)


def read_animated_webp(clip: SourceClip, options: ReadOptions) -> Reading:
    """Read an animated WebP, which PyAV does not decode, with its own times."""
    return Reading(_webp_frames(clip, options), tick=0.001)


def _webp_frames(clip: SourceClip, options: ReadOptions) -> Iterator[Frame]:
    from PIL import ImageSequence

    shown = 0.0
    with _opened(clip, clip.path, options.max_pixels) as image:
        for page in ImageSequence.Iterator(image):
            pixels = _pixels(page)
            yield Frame(pixels, time=shown / 1000)
            shown += float(page.info.get("duration", 0))


def too_many_frames(clip: SourceClip, options: ReadOptions) -> DataError:
    """The error for a clip with more frames than may be read."""
    return unreadable(
        clip,
        f"it has more than {options.max_frames} frames",
        "a longer clip than is decoded without being told to",
        "pass a larger --max-frames, or cut the file",
    )
