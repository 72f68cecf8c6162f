"""VoxCeleb's folders: a label a speaker, utterances of one video kept together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.data.prepare import PrepareSettings, prepare
from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.windows import labels_of
from vidgen.errors import DataError

pytest.importorskip("av")


def frames_folder(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:04d}.png")


def test_videos_and_frame_folders_are_labelled_by_speaker(
    tmp_path: Path, make_video: Callable[..., Path], make_frames: Callable[..., np.ndarray]
) -> None:
    source = tmp_path / "dev"
    utterances = ("id00012/21Uxsk56VDQ/00001", "id00012/21Uxsk56VDQ/00002", "id00012/abcdefghijk/00003",
                  "id00999/zzzzzzzzzzz/00001")  # fmt: skip
    for number, path in enumerate(f"mp4/{utterance}.mkv" for utterance in utterances):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        make_video(source / path, make_frames(16, 20, 20, number), codec="ffv1", pixels="bgr0")
    frames_folder(source / "mp4/id00999/faces", make_frames(16, 20, 20))
    make_video(source / "stray.mkv", make_frames(16, 20, 20), codec="ffv1", pixels="bgr0")
    (source / "mp4/id00012/list.txt").write_text("x")
    report = prepare(PrepareSettings(source, tmp_path / "out", "voxceleb", size=16, workers=1))
    store = ClipStore.open(tmp_path / "out")
    assert store.info.labels == ("id00012", "id00999") and report.skipped == ()
    assert report.ignored == ("mp4/id00012/list.txt", "stray.mkv")
    actions, actors, names, actor_names = labels_of(store)
    assert actions.tolist() == actors.tolist() == [0, 0, 0, 1, 1] and names == actor_names
    assert [clip.attributes.get("seq") for clip in store.clips] == [
        "21Uxsk56VDQ", "21Uxsk56VDQ", "abcdefghijk", None, "zzzzzzzzzzz",
    ]  # fmt: skip
    train, held_out = split_clips(store, 0.5)
    assert {0, 1} <= set(train) or {0, 1} <= set(held_out)


def test_other_names_take_the_first_folder(tmp_path: Path, make_frames: Callable[..., np.ndarray]) -> None:
    for speaker in ("Aamir_Khan", "Zoe"):
        frames_folder(tmp_path / "faces" / speaker / "1.6" / "5ablueV_1tw", make_frames(16, 8, 8))
    prepare(PrepareSettings(tmp_path / "faces", tmp_path / "out", "voxceleb", size=8, workers=1))
    assert ClipStore.open(tmp_path / "out").info.labels == ("Aamir_Khan", "Zoe")


def test_files_in_no_folder_have_no_speaker(tmp_path: Path, make_frames: Callable[..., np.ndarray]) -> None:
    frames_folder(tmp_path / "faces", make_frames(3, 8, 8))
    with pytest.raises(DataError, match="voxceleb"):
        prepare(PrepareSettings(tmp_path / "faces", tmp_path / "out", "voxceleb"))
