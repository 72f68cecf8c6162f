"""The sheet shows every cell at its place, in the png and in each frame of the webp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.errors import SettingsError
from vidgen.runtime.sinks.sheet import MARGIN, PNG_SCALE, Captions, Sheet, SheetLayout, write_lengths, write_sheet


def _cells(rows: int, columns: int, frames: int = 3) -> np.ndarray:
    """Flat cells: red tells the row, green the column, blue the frame."""
    cells = np.zeros((rows, columns, frames, 12, 16, 3), dtype=np.uint8)
    cells[..., 0] += np.arange(rows, dtype=np.uint8)[:, None, None, None, None] * 50
    cells[..., 1] += np.arange(columns, dtype=np.uint8)[None, :, None, None, None] * 50
    cells[..., 2] += np.arange(frames, dtype=np.uint8)[None, None, :, None, None] * 100
    return cells


def test_cells_are_where_the_layout_says(tmp_path: Path) -> None:
    cells = _cells(2, 4)
    write_sheet(tmp_path / "a.png", tmp_path / "a.webp", cells, 10, quality=100)
    layout = SheetLayout(2, 4, 3, 12, 16)
    with Image.open(tmp_path / "a.webp") as image:
        assert image.size == layout.size[::-1]
        for t in range(3):
            image.seek(t)
            pixels = np.asarray(image.convert("RGB"))
            for row, column in np.ndindex(2, 4):
                top, left = layout.corner(row, column)
                assert np.array_equal(pixels[top : top + 12, left : left + 16], cells[row, column, t])
                assert (pixels[top - 1, left : left + 16] == 255).all()
        assert image.info["duration"] == 100
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    for row, column in np.ndindex(2, 4):
        top, left = layout.corner(row, column)
        middle = pixels[PNG_SCALE * (top + 6), PNG_SCALE * (left + 8)]
        assert middle.tolist() == [50 * row, 50 * column, 100]
    assert (pixels[: PNG_SCALE * 20].min(axis=(1, 2)) < 150).any(), "no caption"


def _ink(pixels: np.ndarray) -> np.ndarray:
    """Where captions are."""
    return pixels.max(axis=-1) < 150


@pytest.mark.parametrize("names", [("a", "b"), ("walk", "jumping jack"), ("x" * 400, "\n\x1b"), ("步", "")])
@pytest.mark.parametrize("side", ["rows", "columns"])
def test_each_row_or_column_has_its_name_beside_it(names: tuple[str, str], side: str, tmp_path: Path) -> None:
    layout = SheetLayout(2, 2, 1, 64, 64)
    captions = Captions("sample", names) if side == "rows" else Captions(names, "appearance")
    sheet = Sheet(layout, captions)
    for row, column in np.ndindex(2, 2):
        sheet.put(row, column, np.full((1, 64, 64, 3), 255, np.uint8))
    sheet.write(tmp_path / "a.png", tmp_path / "a.webp", 10)
    with Image.open(tmp_path / "a.png") as image:
        ink = _ink(np.asarray(image.convert("RGB")))
    edge = PNG_SCALE * MARGIN
    assert not ink[edge:, edge:].any(), "names stay in the margins"
    margin = ink[edge:, :edge].any(axis=1) if side == "rows" else ink[:edge, edge:].any(axis=0)
    for i, name in enumerate(names):
        start = PNG_SCALE * (layout.corner(i, i)[0] - MARGIN)
        assert margin[start : start + PNG_SCALE * 64].any() == bool(name)
    gap = PNG_SCALE * (layout.corner(1, 1)[0] - MARGIN)
    assert not margin[gap - PNG_SCALE * 2 : gap].any(), "a long name is cut short"


def test_lengths_have_a_row_each_and_the_same_step(tmp_path: Path) -> None:
    videos = [_cells(1, 1, 40)[0, 0][:frames] for frames in (16, 24, 40)]
    for video in videos:
        video[..., 2] = (np.arange(len(video)) * 6).astype(np.uint8)[:, None, None]
    write_lengths(tmp_path / "a.png", videos)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    layout = SheetLayout(3, 14, 1, 12, 16)  # 40 frames, every third
    assert pixels.shape[:2] == tuple(PNG_SCALE * size for size in layout.size)
    for row, (video, shown) in enumerate(zip(videos, (6, 8, 14))):
        for column in range(14):
            top, left = layout.corner(row, column)
            middle = pixels[PNG_SCALE * (top + 6), PNG_SCALE * (left + 8)].tolist()
            assert middle == (video[3 * column, 6, 8].tolist() if column < shown else [255, 255, 255])


def test_a_sheet_too_large_is_refused_before_any_work() -> None:
    with pytest.raises(SettingsError, match="--no-sheet"):
        SheetLayout(300, 2, 16, 64, 64)
    with pytest.raises(SettingsError, match="2 GiB"):
        SheetLayout(120, 120, 48, 64, 64)
