"""Preparing a store: layouts, windows, rates, labels, and a report that names what was left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidgen.data.prepare import PrepareReport, PrepareSettings, Progress, prepare
from vidgen.data.store import ClipStore
from vidgen.errors import DataError, SettingsError, StorageError, VidgenError

pytest.importorskip("av")


def run(source: Path, **settings: Any) -> tuple[PrepareReport, ClipStore]:
    out = source.parent / f"store-of-{source.name}"
    report = prepare(PrepareSettings(source, out, **{"overwrite": True, "workers": 2, **settings}))
    store = ClipStore.open(out)
    store.verify()
    assert report.info == store.info
    return report, store


def save_frames(folder: Path, frames: np.ndarray, suffix: str = ".png", first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / f"{number:03d}{suffix}", **({"quality": 95} if "j" in suffix else {}))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, make_video: Callable, make_frames: Callable) -> Path:
    """A folder of lossless videos in two classes, and files of every kind of trouble."""
    root = tmp_path_factory.mktemp("videos") / "set"
    for name, count in (("walk/b.mkv", 40), ("walk/a.mkv", 35), ("run/deep/er/c.mkv", 20), ("top.mkv", 24)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_video(path, make_frames(count, 48, 64, count), codec="ffv1", pixels="bgr0")
    make_video(root / "short.mkv", make_frames(9, 48, 64), codec="ffv1", pixels="bgr0")
    times = np.cumsum([40, 40, 120, 40, 80] * 8).tolist()
    make_video(root / "uneven.mkv", make_frames(40, 48, 64), times=times, clock=Fraction(1, 1000))
    (root / "empty.mp4").touch()
    (root / "text.mov").write_text("no video\n" * 99)
    whole = (root / "top.mkv").read_bytes()
    (root / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 5])
    (root / "notes.txt").write_text("read me")
    (root / ".hidden.mp4").touch()
    (root / "._b.mkv").touch()
    return root


def test_every_file_is_stored_or_named(videos: Path) -> None:
    report, store = run(videos)
    assert report.layout == "videos" and report.sources == 9 and report.ignored == ("notes.txt",)
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert set(reasons) == {"short.mkv", "empty.mp4", "text.mov", "cut.mkv"}
    assert "9 frames, at least 16" in reasons["short.mkv"]
    assert "0 bytes" in reasons["empty.mp4"] and "cut short" in reasons["cut.mkv"]
    assert "Invalid data" in reasons["text.mov"] or "not among" in reasons["text.mov"]
    assert [clip.source for clip in store.clips] == [
        "run/deep/er/c.mkv", "top.mkv", "uneven.mkv", "walk/a.mkv", "walk/b.mkv",
    ]  # fmt: skip
    (note,) = report.notes
    assert note.name == "uneven.mkv" and "resampled" in note.text
    assert json.loads(json.dumps(report.to_dict()))["skipped"][0].keys() == {"name", "reason"}


def test_frames_are_cropped_and_resized_as_pil_does(videos: Path, make_frames: Callable) -> None:
    _, store = run(videos / "walk", size=32)
    for frame, original in zip(store.frames(0), make_frames(35, 48, 64, 35), strict=True):
        square = Image.fromarray(original[:, 8:56]).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.array_equal(frame, np.asarray(square))
    _, whole = run(videos / "walk", size=32, crop="none")
    resized = Image.fromarray(original).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(whole.frames(0)[-1], np.asarray(resized))
    _, boxed = run(videos / "walk", size=32, crop="10,4,32,32")
    assert np.array_equal(boxed.frames(0)[-1], original[4:36, 10:42])


def test_the_store_does_not_depend_on_the_number_of_processes(videos: Path) -> None:
    hashes = {run(videos, workers=workers, window=16, window_stride=5)[0].info.content_hash for workers in (1, 3)}
    assert len(hashes) == 1


def test_labels_are_the_first_folders_and_files_without_one_are_named(videos: Path) -> None:
    report, store = run(videos, labels="folder")
    assert store.info.labels == ("run", "walk")
    assert [(clip.source, clip.label) for clip in store.clips] == [
        ("run/deep/er/c.mkv", 0), ("walk/a.mkv", 1), ("walk/b.mkv", 1),
    ]  # fmt: skip
    assert {"top.mkv", "uneven.mkv"} <= {s.name for s in report.skipped if "no label" in s.reason}
    with pytest.raises(DataError, match="no source lies in a folder"):
        run(videos / "walk", labels="folder")


def test_a_class_left_without_clips_is_noted(videos: Path) -> None:
    report, store = run(videos, labels="folder", min_frames=30)
    assert store.info.labels == ("run", "walk") and {clip.label for clip in store.clips} == {1}
    assert [(note.name, note.text) for note in report.notes] == [("run", "no clip has this label")]


@pytest.mark.parametrize(
    ("window", "stride", "step", "starts", "stored"),
    [
        (16, None, 1, [0, 16], 32),
        (16, 8, 1, [0, 8, 16, 24], 40),
        (10, 15, 1, [0, 15, 30], 30),
        (40, 1, 1, [0], 40),
        (5, 4, 3, [0, 12, 24], 13),
        (5, None, 3, [0, 15], 10),
    ],
)
def test_windows(
    videos: Path,
    make_frames: Callable,
    window: int,
    stride: int | None,
    step: int,
    starts: list[int],
    stored: int,
) -> None:
    _, store = run(videos / "walk" / "b.mkv", size=48, window=window, window_stride=stride, frame_step=step)
    original = make_frames(40, 48, 64, 40)[:, :, 8:56]
    assert [clip.attributes["first_frame"] for clip in store.clips] == starts
    assert {clip.length for clip in store.clips} == {window} and store.info.frames == stored
    assert store.info.fps == pytest.approx(25 / step)
    for number, start in enumerate(starts):
        assert np.array_equal(store.frames(number), original[start::step][:window])


def test_a_rate_resamples_videos_unless_told_not_to(videos: Path, make_frames: Callable) -> None:
    original = make_frames(40, 48, 64, 40)[:, :, 8:56]
    report, store = run(videos / "walk" / "b.mkv", size=48, fps=12.5)
    assert store.clips[0].fps == 12.5 and np.array_equal(store.frames(0), original[::2])
    assert "to 12.5: 40 frames became 20" in report.notes[0].text
    report, store = run(videos / "walk" / "b.mkv", size=48, fps=12.5, resample="never")
    assert store.clips[0].fps == 12.5 and np.array_equal(store.frames(0), original) and not report.notes


def test_progress_counts_every_source_in_order(videos: Path) -> None:
    seen: list[Progress] = []
    prepare(PrepareSettings(videos, videos.parent / "p", overwrite=True), seen.append)
    # On a slow machine there are further calls, while a source is waited for.
    seen = [now for before, now in pairwise([Progress(0, 9, "", 0, 0, 0), *seen]) if now.done > before.done]
    assert [progress.done for progress in seen] == list(range(1, 10)) and {p.total for p in seen} == {9}
    assert [progress.name for progress in seen] == sorted(p.name for p in seen)
    assert seen[-1].clips == 5 and seen[-1].frames > 100


def test_one_file_is_a_source_whatever_its_suffix(videos: Path, tmp_path: Path) -> None:
    odd = tmp_path / "clip.data"
    odd.write_bytes((videos / "top.mkv").read_bytes())
    report, store = run(odd)
    assert store.clips[0].source == "clip.data" and report.info.name == "clip" and len(store) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_frame_folders(tmp_path: Path, make_frames: Callable, suffix: str) -> None:
    root = tmp_path / "nemo"
    for number, name in enumerate(["smile_b", "smile_a", "posed/smile_c"]):
        save_frames(root / name, make_frames(18, 40, 40, number), suffix)
    save_frames(root / "brief", make_frames(5, 40, 40), suffix)
    (root / "list.txt").write_text("x")
    changing = save_frames(root / "changing", make_frames(18, 40, 40), suffix)
    Image.new("RGB", (41, 40)).save(changing / f"017{suffix}")
    broken = save_frames(root / "torn", make_frames(18, 40, 40), suffix)
    torn = broken / f"009{suffix}"
    torn.write_bytes(torn.read_bytes()[:-60])
    report, store = run(root, fps=50, size=40)
    assert report.layout == "frames" and report.ignored == ("list.txt",)
    assert [clip.source for clip in store.clips] == ["posed/smile_c", "smile_a", "smile_b"]
    assert {clip.fps for clip in store.clips} == {50}
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert set(reasons) == {"brief", "changing", "torn"}
    assert "5 frames" in reasons["brief"] and f"017{suffix} has 41x40" in reasons["changing"]
    assert f"009{suffix}" in reasons["torn"]
    error = np.abs(store.frames(1).astype(int) - make_frames(18, 40, 40, 1))
    assert error.max() == 0 if suffix == ".png" else np.median(error) < 6


def test_frames_are_sorted_by_name_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "clip"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    _, store = run(tmp_path / "set", size=8)
    expected = sorted(range(20), key=str)
    assert store.frames(0)[:, 0, 0, 0].tolist() == expected
    _, alone = run(folder, size=8)
    assert np.array_equal(alone.frames(0), store.frames(0)) and alone.clips[0].source == "clip"


def test_image_strips(tmp_path: Path, make_frames: Callable) -> None:
    root = tmp_path / "strips"
    frames = make_frames(20, 24, 24)
    for name, strip in {
        "wave/row.png": np.concatenate(list(frames), axis=1),
        "wave/column.png": np.concatenate(list(frames), axis=0),
        "bow/odd.png": np.zeros((24, 24 * 20 + 5, 3), np.uint8),
        "bow/brief.png": np.concatenate(list(frames[:6]), axis=1),
        "bow/grey16.png": np.concatenate(list(frames[..., 0].astype(np.uint16) << 8), axis=1),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(strip).save(root / name)
    report, store = run(root, size=24, labels="folder", layout="strips")
    assert store.info.labels == ("bow", "wave")
    assert [clip.source for clip in store.clips] == ["bow/grey16.png", "wave/column.png", "wave/row.png"]
    assert np.array_equal(store.frames(1), frames) and np.array_equal(store.frames(2), frames)
    assert np.array_equal(store.frames(0), np.repeat(frames[..., :1], 3, axis=3))
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert "485x24" in reasons["bow/odd.png"] and "6 frames" in reasons["bow/brief.png"]
    assert run(root / "wave", size=24)[0].layout == "strips", "they are recognised"
    report, _ = run(root / "wave" / "row.png", size=24)
    assert report.layout == "strips"
    with pytest.raises(DataError, match="20x20"):
        run(root / "wave", strip_size=20)


def test_a_mixed_folder_is_read_as_videos_and_the_images_are_listed(videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    root.mkdir()
    (root / "a.mkv").write_bytes((videos / "top.mkv").read_bytes())
    Image.new("RGB", (8, 8)).save(root / "thumbnail.png")
    report, _ = run(root)
    assert report.layout == "videos" and report.ignored == ("thumbnail.png",)


def test_limits_skip_what_is_larger(videos: Path) -> None:
    report, _ = run(videos, max_frames=37)
    assert {s.name for s in report.skipped if "more than 37 frames" in s.reason} == {"walk/b.mkv", "uneven.mkv"}
    with pytest.raises(DataError, match="64x48 pixels, more than 3000"):
        run(videos, max_pixels=3000)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"min_frames": 500}, DataError),
        ({"window": 500}, DataError),
        ({"crop": "0,0,900,900"}, DataError),
        ({"strict": True}, DataError),
        ({"layout": "frames"}, DataError),
        ({"layout": "strips"}, DataError),
        ({"layout": "no.such.module:Thing"}, SettingsError),
        ({"source": "nowhere"}, DataError),
    ],
)
def test_a_run_that_fails_leaves_nothing(
    videos: Path, tmp_path: Path, change: dict[str, Any], error: type[VidgenError]
) -> None:
    with pytest.raises(error) as caught:
        prepare(PrepareSettings(**{"source": videos, "out": tmp_path / "s", **change}))
    assert list(tmp_path.iterdir()) == []
    assert all([caught.value.what, caught.value.seen, caught.value.cause, caught.value.fix])


def test_an_existing_store_is_kept_unless_told_otherwise(videos: Path, tmp_path: Path) -> None:
    settings = PrepareSettings(videos / "top.mkv", tmp_path / "s")
    first = prepare(settings).info
    with pytest.raises(StorageError, match="exists"):
        prepare(PrepareSettings(videos / "walk", tmp_path / "s"))
    with pytest.raises(DataError):
        prepare(PrepareSettings(videos / "short.mkv", tmp_path / "s", overwrite=True))
    assert ClipStore.open(tmp_path / "s").info == first


def test_a_link_to_a_folder_above_is_followed_once(videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.mkv").write_bytes((videos / "top.mkv").read_bytes())
    try:
        (root / "loop").symlink_to(root)
        (root / "walk").symlink_to(videos / "walk")
    except OSError:
        pytest.skip("no symbolic links here")
    _, store = run(root)
    assert [clip.source for clip in store.clips] == ["a.mkv", "walk/a.mkv", "walk/b.mkv"]


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 0},
        {"size": 64.5},
        {"size": None},
        {"window": True},
        {"window": 0},
        {"window_stride": 4},
        {"window": 8, "window_stride": 0},
        {"frame_step": 0},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"crop": "middle"},
        {"labels": "file"},
        {"resample": "always"},
        {"layout": "vidoes"},
        {"workers": -1},
        {"timeout": 0.0},
        {"timeout": float("inf")},
        {"memory_mib": 1},
        {"out": "."},
        {"out": ".."},
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_read(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        PrepareSettings(**{"source": Path(), "out": Path("elsewhere"), **settings})
