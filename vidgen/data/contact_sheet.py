"""Shows what a clip store holds: a contact sheet to look at and a summary to print."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen._files import atomic_file
from vidgen.data.store import Clip, ClipStore
from vidgen.data.windows import NO_CROP
from vidgen.errors import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_BACKGROUND = (250, 250, 248)
_INK = (28, 30, 34)
_FAINT = (118, 122, 130)
_RULE = (224, 225, 228)
_MARGIN, _GAP, _ROW_GAP = 20, 3, 14
_CAPTION_WIDTH, _LINE = 208, 16
_SMALLEST, _LARGEST = 64, 128


def describe(store: ClipStore) -> dict[str, Any]:
    """A summary of a store that JSON can hold.

    Returns:
        ``name``, ``path``, ``clips``, ``frames`` (in the file; clips may share some), ``height``, ``width``,
        ``fps`` (usual), ``rates`` (clips by rate), ``length`` (``min``, ``median``, ``max`` in frames),
        ``seconds`` (of all clips together), ``labels`` (clips by label), ``unlabelled``, ``sources``, ``bytes``
        (of the frames), ``content_hash``, ``splits`` (clips by split, where they say it), ``actors`` (clips by
        actor), ``crop`` (the rule that training applies, or None).
    """
    info, clips = store.info, store.clips
    lengths = [clip.length for clip in clips]
    labels = Counter(clip.label for clip in clips)
    rates = Counter(round(clip.fps, 3) for clip in clips)
    return {
        "name": info.name,
        "path": str(store.path),
        "clips": info.clips,
        "frames": info.frames,
        "height": info.height,
        "width": info.width,
        "fps": info.fps,
        "rates": {f"{rate:g}": count for rate, count in sorted(rates.items())},
        "length": {"min": min(lengths), "median": statistics.median(lengths), "max": max(lengths)},
        "seconds": sum(clip.length / clip.fps for clip in clips),
        "labels": {label: labels[number] for number, label in enumerate(info.labels)},
        "unlabelled": labels[None],
        "sources": len({clip.source for clip in clips}),
        "bytes": info.frames * info.height * info.width * 3,
        "content_hash": info.content_hash,
        "splits": _counts(store, "split"),
        "actors": _counts(store, "actor"),
        "crop": None if info.crop == NO_CROP else info.crop.to_dict(),
    }


def _counts(store: ClipStore, attribute: str) -> dict[str, int]:
    """Clips by the value of an attribute, sorted; those without it are not counted."""
    values = Counter(str(clip.attributes[attribute]) for clip in store.clips if attribute in clip.attributes)
    return dict(sorted(values.items()))


def write_contact_sheet(
    store_path: str | os.PathLike[str],
    out_png: str | os.PathLike[str],
    *,
    clips: int = 24,
    frames_per_clip: int = 8,
    seed: int = 0,
) -> Path:
    """Draw the contact sheet of the store at ``store_path`` into a PNG file.

    Returns:
        The path written.

    Raises:
        DataError: there is no usable store.
        SettingsError: a count is below 1.
        StorageError: the file cannot be written.
    """
    sheet = contact_sheet(ClipStore.open(store_path), clips=clips, frames_per_clip=frames_per_clip, seed=seed)
    out = Path(out_png)
    with atomic_file(out) as partial:
        sheet.save(partial, format="PNG")
    return out


def contact_sheet(store: ClipStore, *, clips: int = 24, frames_per_clip: int = 8, seed: int = 0) -> Image:
    """Draw some clips, a row each: what each is, and frames evenly spaced from its first to its last.

    Args:
        store: an open store.
        clips: number of rows; clips are drawn by lot, labels as evenly as possible.
        frames_per_clip: frames a row; a shorter clip shows all of its frames.
        seed: of the lot.

    Returns:
        An RGB image. Frames are enlarged by whole factors to at least 64 pixels, and shrunk to at most 128.

    Raises:
        SettingsError: a count is below 1.
    """
    from PIL import Image, ImageDraw

    if clips < 1 or frames_per_clip < 1:
        raise SettingsError(
            "cannot draw a contact sheet",
            seen=f"{clips} clips with {frames_per_clip} frames each, expected 1 or more",
            cause="a mistyped value",
            fix="correct --clips or --frames",
        )
    chosen = choose_clips(store, clips, seed)
    shown = [_times(store.clips[number].length, frames_per_clip) for number in chosen]
    grid = _Grid.of(store, rows=len(chosen), columns=max(len(times) for times in shown))
    sheet = Image.new("RGB", grid.size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_title(draw, grid, store)
    for row, (number, times) in enumerate(zip(chosen, shown, strict=True)):
        top = grid.top(row)
        if row:
            rule = top - _ROW_GAP // 2 - 1
            draw.line([(_MARGIN, rule), (grid.size[0] - _MARGIN, rule)], fill=_RULE)
        _draw_caption(draw, grid, top, number, store)
        for column, frame in enumerate(store.frames(number, times)):
            image = Image.fromarray(frame)
            if image.size != grid.frame:
                larger = grid.frame[0] >= image.width
                how = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
                image = image.resize(grid.frame, how)
            sheet.paste(image, (grid.left(column), top))
    return sheet


def choose_clips(store: ClipStore, count: int, seed: int) -> list[int]:
    """Numbers of ``count`` clips drawn by lot, in rising order: labels, then sources, as evenly as possible."""
    order: list[int] = np.random.default_rng(seed).permutation(len(store)).tolist()
    clips = store.clips
    order = _in_turns(order, [(clip.label, clip.source) for clip in clips])
    order = _in_turns(order, [clip.label for clip in clips])
    return sorted(order[:count])


def _in_turns(order: Sequence[int], kinds: Sequence[object]) -> list[int]:
    """The numbers in an order in which the first of every kind comes before the second of any."""
    taken: Counter[object] = Counter()
    turns = []
    for number in order:
        turns.append((taken[kinds[number]], number))
        taken[kinds[number]] += 1
    return [number for _, number in sorted(turns, key=lambda turn: turn[0])]


def _times(length: int, count: int) -> list[int]:
    count = min(length, count)
    return [round(time) for time in np.linspace(0, length - 1, count)]


@dataclass(frozen=True)
class _Grid:
    """Where things go, in pixels."""

    size: tuple[int, int]
    frame: tuple[int, int]
    row: int
    header: int

    @classmethod
    def of(cls, store: ClipStore, rows: int, columns: int) -> _Grid:
        height, width = store.info.height, store.info.width
        scale: float = max(1, -(-_SMALLEST // height))
        if height > _LARGEST:
            scale = _LARGEST / height
        frame = max(1, round(width * scale)), max(1, round(height * scale))
        row = max(frame[1], 4 * _LINE)
        header = _MARGIN + 2 * _LINE + 22
        across = 2 * _MARGIN + _CAPTION_WIDTH + columns * (frame[0] + _GAP) - _GAP
        down = header + rows * (row + _ROW_GAP) - _ROW_GAP + _MARGIN
        return cls((max(across, 520), down), frame, row, header)

    def top(self, row: int) -> int:
        return self.header + row * (self.row + _ROW_GAP)

    def left(self, column: int) -> int:
        return _MARGIN + _CAPTION_WIDTH + column * (self.frame[0] + _GAP)


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _draw_title(draw: ImageDraw, grid: _Grid, store: ClipStore) -> None:
    info = store.info
    width = grid.size[0] - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN - 4), _fit(draw, info.name, width, 20), fill=_INK, font=_font(20))
    parts = [
        f"{info.clips} clips",
        f"{info.frames} frames",
        f"{info.width} x {info.height}",
        f"{info.fps:.4g} fps",
        f"{len(info.labels)} labels" if info.labels else "no labels",
        f"hash {info.content_hash[:12]}",
    ]
    text = _fit(draw, "  ·  ".join(parts), width, 12)
    draw.text((_MARGIN, _MARGIN + 24), text, fill=_FAINT, font=_font(12))
    rule = grid.header - _ROW_GAP // 2 - 3
    draw.line([(_MARGIN, rule), (grid.size[0] - _MARGIN, rule)], fill=_RULE)


def _draw_caption(draw: ImageDraw, grid: _Grid, top: int, number: int, store: ClipStore) -> None:
    clip = store.clips[number]
    lines = caption(number, clip, store.info.labels)
    top += (grid.row - len(lines) * _LINE) // 2
    for place, line in enumerate(lines):
        size = 14 if place == 0 else 12
        text = _fit(draw, line, _CAPTION_WIDTH - 14, size)
        fill = _INK if place == 0 else _FAINT
        draw.text((_MARGIN, top + place * _LINE), text, fill=fill, font=_font(size))


def caption(number: int, clip: Clip, labels: Sequence[str]) -> list[str]:
    """What a row says of its clip: number and label, length and rate, source, and where it starts there."""
    label = "" if clip.label is None else f" {labels[clip.label]}"
    first = clip.attributes.get("first_frame")
    frames = "1 frame" if clip.length == 1 else f"{clip.length} frames"
    lines = [f"#{number}{label}", f"{frames} at {clip.fps:.4g} fps", clip.source]
    return lines if first is None else [*lines, f"from frame {first}"]


def _fit(draw: ImageDraw, text: str, width: int, size: int) -> str:
    """The text, with its middle left out where it is too wide: names differ at both ends."""
    text, font = " ".join(text.split()), _font(size)
    if draw.textlength(text, font=font) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if draw.textlength(short, font=font) <= width:
            return short
    return "…"
