"""The contact sheet shows the frames it says it shows, and the summary adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.data.contact_sheet import caption, choose_clips, contact_sheet, describe, write_contact_sheet
from vidgen.data.store import Clip, ClipStore, StoreWriter
from vidgen.errors import DataError, SettingsError


def store_of(path: Path, height: int, width: int, lengths: list[int], **more: object) -> ClipStore:
    """Frame t of clip n is one colour: (n, t, 77)."""
    with StoreWriter(path, name="colours", height=height, width=width, labels=["one", "two"]) as writer:
        for number, length in enumerate(lengths):
            frames = np.empty((length, height, width, 3), np.uint8)
            frames[..., 0], frames[..., 2] = number + 1, 77
            frames[..., 1] = np.arange(length)[:, None, None]
            writer.add(frames, source=f"long/name/of/a/source-{number:04d}" * 3, fps=25, label=int(number > 7))
    return ClipStore.open(path)


def colours_in(sheet: Image.Image) -> set[tuple[int, int]]:
    pixels = np.asarray(sheet).reshape(-1, 3)
    return {(int(red) - 1, int(green)) for red, green, blue in np.unique(pixels, axis=0) if blue == 77 and red < 28}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 16), (200, 300), (1, 1), (48, 96)])
def test_rows_show_frames_from_the_first_to_the_last(tmp_path: Path, height: int, width: int) -> None:
    store = store_of(tmp_path / "s", height, width, [31, 3, 1])
    sheet = contact_sheet(store, frames_per_clip=4)
    expected = {(0, 0), (0, 10), (0, 20), (0, 30), (1, 0), (1, 1), (1, 2), (2, 0)}
    assert colours_in(sheet) == expected
    assert sheet.mode == "RGB" and sheet.height < 3 * 160 + 120


def test_the_sheet_depends_on_the_seed_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", 8, 8, [2] * 20)
    first = contact_sheet(store, clips=5, seed=1)
    assert np.array_equal(first, contact_sheet(store, clips=5, seed=1))
    assert not np.array_equal(first, contact_sheet(store, clips=5, seed=2))


def test_labels_and_sources_are_shown_evenly(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", 8, 8, [2] * 12)
    for seed in range(5):
        chosen = choose_clips(store, 8, seed)
        assert sorted(store.clips[number].label for number in chosen) == [0] * 4 + [1] * 4
        assert chosen == sorted(set(chosen))
    assert choose_clips(store, 99, 0) == list(range(12))


def test_the_caption_says_what_a_clip_is() -> None:
    clip = Clip("a/b.mp4", 0, 32, 24000 / 1001, 1, {"first_frame": 64})
    assert caption(7, clip, ("walk", "run")) == ["#7 run", "32 frames at 23.98 fps", "a/b.mp4", "from frame 64"]
    assert caption(0, Clip("x", 0, 1, 25.0), ()) == ["#0", "1 frame at 25 fps", "x"]


def test_names_of_any_length_and_script_can_be_drawn(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", name="n" * 300, height=8, width=8) as writer:
        for source in ("x" * 500, "улыбка/笑顔.mp4", "two\nlines", "", "\udcff.mp4"):
            writer.add(np.zeros((2, 8, 8, 3), np.uint8), source=source, fps=25)
    assert contact_sheet(ClipStore.open(tmp_path / "s")).width < 700


def test_the_sheet_is_written_as_a_png(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = make_store(tmp_path / "s")
    out = write_contact_sheet(store, tmp_path / "deep" / "sheet.png", clips=2)
    with Image.open(out) as image:
        assert image.format == "PNG" and image.height > 100
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]
    with pytest.raises(DataError):
        write_contact_sheet(tmp_path, tmp_path / "x.png")
    with pytest.raises(SettingsError):
        write_contact_sheet(store, tmp_path / "x.png", clips=0)
    assert not (tmp_path / "x.png").exists()


def test_the_summary_adds_up(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    summary = describe(ClipStore.open(make_store(tmp_path / "s")))
    assert json.loads(json.dumps(summary)) == summary
    assert summary["clips"] == 5 == sum(summary["labels"].values()) + summary["unlabelled"]
    assert summary["labels"] == {"a": 3, "b": 2}
    assert summary["length"] == {"min": 3, "median": 5, "max": 7} and summary["frames"] == 25
    assert summary["rates"] == {"25": 4, "26": 1} and summary["bytes"] == 25 * 8 * 6 * 3
    assert summary["seconds"] == pytest.approx(18 / 25 + 7 / 26)
