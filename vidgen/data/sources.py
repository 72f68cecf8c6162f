"""Finds what there is to prepare: the layout, the clips in it, and their labels; decodes nothing."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePath

from vidgen.data.layouts import (
    IMAGE_SUFFIXES,
    LAYOUTS,
    Listing,
    SourceClip,
    is_video,
    load_layout,
    printable,
    scan,
)
from vidgen.data.prepare_settings import PrepareSettings
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS
from vidgen.errors import DataError

#: No video is four times as wide as high: an image that is holds frames side by side.
_STRIP_RATIO = 4


def find_sources(settings: PrepareSettings) -> tuple[str, Listing]:
    """The name of the layout (``auto`` decided) and the sources in it.

    Raises:
        DataError: there is nothing at ``settings.source``, or nothing that the layout reads.
        SettingsError: there is no such layout.
    """
    source = settings.source
    alone = source.is_file()
    root = source.parent if alone else source
    files = (PurePath(source.name),) if alone else scan(source)
    layout = settings.layout
    if layout == "auto":
        layout = _guess_layout(settings, root, files)
    if alone and layout == "videos":
        # A file that is named outright is tried whatever its suffix.
        return layout, Listing((SourceClip(printable(files[0]), source),))
    if alone and layout == "frames":
        raise _nothing(settings, f"{source.name} is one file, a clip of this layout is a folder")
    listing = load_layout(layout).find(root, files)
    if not listing.clips:
        arrays = sum(file.suffix.lower() == ".npy" for file in files)
        also = f", {arrays} of them .npy arrays" if arrays else ""
        raise _nothing(settings, f"no {layout} among {len(files)} files{also}" if files else "there is no file")
    return layout, listing


def find_labels(settings: PrepareSettings, listing: Listing) -> tuple[str, ...]:
    """The names of the classes in their order: the layout's own, the folders' if asked for, or none.

    Raises:
        DataError: folders were to name the classes, and no source lies in one.
    """
    if listing.labels is not None or settings.labels == "none":
        return listing.labels or ()
    labels = tuple(sorted({clip.label for clip in listing.clips if clip.label is not None}))
    if not labels:
        raise DataError(
            f"cannot label what lies in {settings.source}",
            seen="no source lies in a folder below it",
            cause="--labels folder takes the first folder below the source for the class",
            fix="move each class into a folder of its own, or leave out --labels",
        )
    return labels


def _nothing(settings: PrepareSettings, seen: str) -> DataError:
    return DataError(
        f"nothing to prepare in {settings.source}",
        seen=seen,
        cause="the path is wrong, or its files have another layout or unknown suffixes",
        fix=f"look at it (ls {settings.source}) and choose --layout {', '.join(LAYOUTS)}, "
        f"or for arrays {', '.join(REFERENCE_LAYOUTS)}",
    )


def _guess_layout(settings: PrepareSettings, root: Path, files: tuple[PurePath, ...]) -> str:
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if any(is_video(root / file) for file in files):
        return "videos"
    if settings.source.is_file():
        return "strips" if images else "videos"
    if settings.strip_size is not None or (images and _looks_like_strip(root / images[0])):
        return "strips"
    return "frames"


def _looks_like_strip(path: Path) -> bool:
    """Whether an image is a row or column of squares, judging by its header."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                short, long = sorted(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return long >= _STRIP_RATIO * short and long % short == 0
