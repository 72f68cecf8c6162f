"""Jobs of models that go on from first frames: which frame each video begins with, and what the record says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.class_jobs import LABELS, SMALL, as_given, backend_of, record_of, run

from vidgen.bench.scores.video_folder import BY_CLASS, BY_FIRST_FRAME, list_videos
from vidgen.data.store import StoreWriter
from vidgen.errors import DataError, SamplingError, SettingsError
from vidgen.runtime.jobs import sample
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings


@SMALL
@given(n=st.integers(1, 7), batch=st.integers(1, 4), shards=st.integers(1, 3))
def test_first_frames_are_taken_in_turn_whatever_the_batch_and_the_shard(
    n: int, batch: int, shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    for name, colour in (("a", (200, 40, 0)), ("b", (0, 90, 250))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    out = tmp_path_factory.mktemp("out") / "a"
    for i in range(shards):
        run(out, n=n, batch=batch, first_frame=folder, shard=f"{i}/{shards}")
    expected = Sampler(backend_of(conditional=True)).sample(n, first_frames=as_given(folder), frames=3)
    for i in range(n):
        assert np.array_equal(np.load(out / f"{i}.npy"), expected[i])


def test_the_record_says_what_was_gone_on_from(frames: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", n=3, first_frame=frames, labels=("walk",))
    record = record_of(tmp_path / "a")
    assert record["settings"]["first_frame"]
    assert record["first_frames"] == {"source": str(frames), "names": ["a.png", "b.png"]}
    assert f"--first-frame {frames}" in record["command"]
    assert {video.kind for video in list_videos(tmp_path / "a", LABELS).videos} == {BY_FIRST_FRAME}
    run(tmp_path / "b", n=3)
    assert "first_frame" not in record_of(tmp_path / "b")["settings"]
    assert {video.kind for video in list_videos(tmp_path / "b", LABELS).videos} == {BY_CLASS}


def test_other_first_frames_are_refused_and_the_same_elsewhere_are_not(frames: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", n=3, first_frame=frames)
    moved = frames.rename(tmp_path / "moved")
    assert run(tmp_path / "a", n=4, first_frame=moved, resume=True).written == 1
    with pytest.raises(SamplingError, match="first_frame is"):
        run(tmp_path / "a", n=4, first_frame=moved / "a.png", resume=True)


def test_clips_of_a_store_bring_their_classes(tmp_path: Path) -> None:
    def store(name: str, labels: tuple[str, ...]) -> Path:
        with StoreWriter(tmp_path / name, name="toy", height=64, width=64, labels=labels) as writer:
            for i in range(3):
                clip = np.full((2, 64, 64, 3), 50 * i, np.uint8)
                writer.add(clip, source=f"c{i}", fps=10, label=i % len(labels) if labels else None)
        return tmp_path / name

    run(tmp_path / "a", n=4, first_frame=store("known", ("jump", "walk")))
    assert record_of(tmp_path / "a")["labels"] == {"0": "jump", "1": "walk", "2": "jump", "3": "jump"}
    run(tmp_path / "b", n=2, first_frame=tmp_path / "known", labels=("wave",))
    assert record_of(tmp_path / "b")["labels"] == {"0": "wave", "1": "wave"}
    with pytest.raises(SamplingError, match="clips of fly, expected walk, wave, jump"):
        run(tmp_path / "c", n=2, first_frame=store("foreign", ("jump", "fly")))
    drawn = run(tmp_path / "d", n=2, first_frame=store("plain", ()))
    assert drawn.written == 2
    assert set(record_of(tmp_path / "d")["labels"].values()) <= set(LABELS)


def test_a_grid_of_classes_goes_on_from_one_frame_in_each_column(frames: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", grid="2x2", labels=("walk", "jump"), first_frame=frames)
    sampler = Sampler(backend_of(conditional=True))
    expected = sampler.render([0, 1], labels=[2], frames=3, first_frames=as_given(frames))
    for column in range(2):
        assert np.array_equal(np.load(tmp_path / "a" / f"1_{column}.npy"), expected[column])


def test_first_frames_and_artifacts_must_suit_each_other(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="cannot go on from a first frame"):
        run(tmp_path / "a", backend_of(), n=1, first_frame=frames)
    with pytest.raises(SamplingError, match="no first frame to go on from"):
        run(tmp_path / "a", backend_of(conditional=True), n=1)
    (frames / "a.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot take a first frame"):
        run(tmp_path / "a", n=1, first_frame=frames)
    assert not (tmp_path / "a").exists()


def test_a_checkpoint_writes_masks_and_goes_on_from_frames(
    frames: Path, tmp_path: Path, small_actor: Callable[[], Path]
) -> None:
    engine = small_actor()
    report = sample(
        SampleSettings(
            engine, tmp_path / "a", n=2, batch=2, frames="3", first_frame=frames, masks=True, format="npy", threads=1
        )
    )
    assert report.backend["backend"] == "torch"
    with Image.open(report.masks[1]) as image:
        strip = np.asarray(image)
    assert not strip[:, :64].any(), "no motion made the first frame"
    assert strip[:, 64:].any()
    with pytest.raises(SettingsError, match="batch-minmax"):
        sample(SampleSettings(engine, tmp_path / "b", grid="2x2", grid_by="class", range="batch-minmax"))
