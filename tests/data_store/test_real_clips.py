"""Real clips that come inside other people's packages become windows of frames; nothing of them is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.real_clips import FACES, OTHERS, link_files

from vidgen.data.contact_sheet import contact_sheet
from vidgen.data.prepare import PrepareSettings, prepare
from vidgen.data.store import ClipStore

pytest.importorskip("av")


def windows_of(store: ClipStore, source: str) -> int:
    return sum(clip.source == source for clip in store.clips)


@pytest.mark.slow
def test_faces_become_windows_of_32_frames(tmp_path: Path) -> None:
    source = link_files(tmp_path / "faces", FACES)
    report = prepare(PrepareSettings(source, tmp_path / "s", window=32, window_stride=16, strict=True))
    store = ClipStore.open(tmp_path / "s")
    store.verify()
    assert report.skipped == () and report.notes == ()
    assert {clip.length for clip in store.clips} == {32}
    assert windows_of(store, "WolfgangLanger_Pexels.mp4") == 28
    assert windows_of(store, "single_face.mp4") == 3
    assert windows_of(store, "carphone_pristine.mp4") == 6
    rates = {clip.source: clip.fps for clip in store.clips}
    assert rates["single_face.mp4"] == 30 and rates["WolfgangLanger_Pexels.mp4"] == pytest.approx(23.976, abs=1e-3)
    for number in range(len(store)):
        frames = store.frames(number).astype(np.float32)
        assert frames.std() > 15, "a picture"
        change = np.abs(np.diff(frames, axis=0)).mean()
        assert 0.1 < change < 25, "that moves smoothly"
    assert contact_sheet(store).height > 1000


@pytest.mark.slow
def test_real_files_of_uneven_rate_and_hevc_are_read(tmp_path: Path) -> None:
    source = link_files(tmp_path / "others", OTHERS)
    report = prepare(PrepareSettings(source, tmp_path / "s", window=32, fps=25))
    store = ClipStore.open(tmp_path / "s")
    assert report.skipped == () and {clip.fps for clip in store.clips} == {25}
    assert {note.name for note in report.notes} >= {"face_noface.mov", "noface_face.mov"}
    assert windows_of(store, "bikes.mp4") == 250 // 32
    # 169 frames shown in 6.4 seconds are 160 at 25 a second.
    assert windows_of(store, "face_noface.mov") == 5
