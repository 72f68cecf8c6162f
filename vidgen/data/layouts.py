"""What a layout is: a way to find named clips under a path and to read one of them, frame by frame."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vidgen.data.store_format import AttributeValue
from vidgen.errors import DataError, SettingsError

#: Names of the layouts that come with the package -> ``module:class`` that reads them.
LAYOUTS: dict[str, str] = {
    "videos": "vidgen.data.video:VideoFiles",
    "frames": "vidgen.data.images:FrameFolders",
    "strips": "vidgen.data.images:ImageStrips",
    "voxceleb": "vidgen.data.speakers:SpeakerFolders",
}

_VIDEO_SUFFIXES = """
    .3g2 .3gp .apng .asf .avi .dv .f4v .flv .gif .m1v .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut
    .ogg .ogv .qt .rm .ts .vob .webm .wmv .y4m"""
_IMAGE_SUFFIXES = ".bmp .jpeg .jpg .png .webp"
VIDEO_SUFFIXES = frozenset(_VIDEO_SUFFIXES.split())
IMAGE_SUFFIXES = frozenset(_IMAGE_SUFFIXES.split())


@dataclass(frozen=True)
class SourceClip:
    """One named clip as a layout finds it, before anything of it is decoded.

    Args:
        name: its name in reports and in the store; text that can be printed.
        path: file or folder to read.
        label: name of its class, if the layout knows it.
        first: number of its first frame in the file.
        stop: number of the frame after its last one; None for the end of the file.
        attributes: what else is known of it, e.g. the actor.
    """

    name: str
    path: Path
    label: str | None = None
    first: int = 0
    stop: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """What a layout finds: the clips in a fixed order, files it does not read, and classes in their order.

    Args:
        clips: sorted, so that the store does not depend on the file system.
        ignored: paths, relative to the source, of files that are no part of the layout.
        labels: names of all classes in their order, where the layout fixes it; None to sort those found.
    """

    clips: tuple[SourceClip, ...]
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Args:
        pixels: uint8 [height, width, 3], RGB, the way up it is shown.
        time: seconds since any origin, or None if the file does not say.
        aspect: width of a pixel divided by its height, as it is shown.
    """

    pixels: npt.NDArray[np.uint8]
    time: float | None = None
    aspect: float = 1.0


@dataclass
class Reading:
    """A clip that is being read.

    Args:
        frames: the frames, decoded one after the other.
        rates: frames a second as the file states them, the most trusted first; empty if it does not.
        tick: seconds by which times are rounded.
        notes: what a person should know of how it was read; may grow while ``frames`` is consumed.
    """

    frames: Iterator[Frame]
    rates: tuple[float, ...] = ()
    tick: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadOptions:
    """What a layout may need to know to read a clip.

    Args:
        max_pixels: larger frames are refused before they are decoded.
        max_frames: clips with more frames are refused.
        strip_size: side of a frame in an image strip; None to infer it.
    """

    max_pixels: int
    max_frames: int
    strip_size: int | None = None


class Layout(Protocol):
    """A way to arrange clips in files.

    ``find`` runs in the main process and opens no media file; ``read`` runs in a decoding process with
    limited memory and time, so it may crash. A layout has no state of its own: it is made afresh there.
    """

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        """Name the clips among ``files``, which are relative to ``root`` and sorted.

        Raises:
            DataError: the files are not arranged in this layout.
        """
        ...

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        """Start to read one clip.

        Raises:
            DataError: it cannot be read, with the reason (``unreadable``); also while it is consumed.
        """
        ...


def load_layout(name: str) -> Layout:
    """The layout called ``name``, or the one in ``"module:class"``.

    Raises:
        SettingsError: there is none.
    """
    module, _, attribute = LAYOUTS.get(name, name).partition(":")
    try:
        if not (module and attribute):
            raise AttributeError("it is neither a known layout nor module:class")
        layout: Layout = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"there is no layout {name}",
            seen=str(error),
            cause="it is misspelt, or its module cannot be imported",
            fix=f"choose one of auto, {', '.join(LAYOUTS)}",
        ) from error
    return layout


def unreadable(clip: SourceClip, seen: str, cause: str, fix: str | None = None) -> DataError:
    """The error for one clip that cannot be used; ``seen`` and ``cause`` are its reason in reports."""
    return DataError(
        f"cannot use {clip.name}",
        seen=seen,
        cause=cause,
        fix=fix or "repair or remove the file, or leave out --strict to skip it",
    )


def printable(path: PurePath) -> str:
    """A path as text with forward slashes that any terminal and any JSON reader accepts."""
    text = path.as_posix().encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def folder_label(relative: PurePath) -> str | None:
    """The label that a path relative to the source implies: its first folder."""
    return printable(PurePath(relative.parts[0])) if len(relative.parts) > 1 else None


def scan(root: Path) -> tuple[PurePath, ...]:
    """All files under a folder as paths relative to it, sorted by name as text; hidden ones left out.

    Links to folders are followed, each folder once.

    Raises:
        DataError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"cannot list {error.filename}",
            seen=error.strerror or str(error),
            cause="the folder does not exist or may not be read",
            fix=f"ls -ld {error.filename}",
        ) from error

    found: list[PurePath] = []
    visited: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = PurePath(folder).relative_to(root)
        found += [relative / name for name in files if not name.startswith(".")]
    return tuple(sorted(found, key=lambda path: path.parts))


def is_animated_webp(path: Path) -> bool:
    """Whether the header of a WebP file says that it holds several frames."""
    try:
        with path.open("rb") as stream:
            head = stream.read(21)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 0x02)


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name, or an animated WebP by its header."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix == ".webp" and is_animated_webp(path))
