"""Sampling jobs: file names, ranges, shards and overviews; all without a device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidgen.errors import BackendError, SamplingError, SettingsError, StorageError
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.jobs import SampleReport, sample
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings


def _sample(out: Path, backend: FakeBackend | None = None, **options: Any) -> SampleReport:
    settings = SampleSettings(Path("fake.onnx"), out, **{"format": "npy", **options})
    return sample(settings, backend=backend or FakeBackend())


def _content(folder: Path, *, records: bool = False) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if records or not path.name.startswith("samples")
    }


def test_files_hold_the_videos_of_the_sampler(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=6, seed=9)
    videos = Sampler(FakeBackend()).sample(6, seed=9)
    assert [path.name for path in report.files] == [f"{i}.npy" for i in range(6)]
    for path, video in zip(report.files, videos):
        assert np.array_equal(np.load(path), video)
    assert (report.written, report.kept) == (6, 0)
    assert report.backend["backend"] == "fake"
    assert json.loads(json.dumps(report.to_dict()))["files"][5].endswith("5.npy")


@pytest.mark.parametrize("format", ["mp4", "webp", "gif", "png"])
def test_every_format_has_its_suffix(format: str, tmp_path: Path) -> None:
    _sample(tmp_path, n=2, format=format, batch=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"0.{format}", f"1.{format}", "samples.json"]


def test_grid_files_are_named_by_appearance_and_motion(tmp_path: Path) -> None:
    report = _sample(tmp_path, grid="2x3", seed=4)
    assert [path.name for path in report.files] == ["0_0.npy", "0_1.npy", "0_2.npy", "1_0.npy", "1_1.npy", "1_2.npy"]
    expected = Sampler(FakeBackend()).render([1], motion=[2], seed=4)[0]
    assert np.array_equal(np.load(tmp_path / "1_2.npy"), expected)
    assert [path.name for path in report.sheets] == ["grid.png", "grid.webp"]
    with Image.open(tmp_path / "grid.webp") as image:
        assert image.n_frames == 16  # type: ignore[attr-defined]


def test_several_lengths_are_named_by_index_and_frames(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=2, frames="16:24:4")
    assert [path.name for path in report.files] == [f"{i}_{f}.npy" for f in (16, 20, 24) for i in (0, 1)]
    assert [len(np.load(path)) for path in report.files] == [16, 16, 20, 20, 24, 24]
    assert [path.name for path in report.sheets] == ["lengths.png"]
    one = Sampler(FakeBackend()).sample(2, frames=24)[1]
    assert np.array_equal(np.load(tmp_path / "1_24.npy"), one)


def test_one_length_keeps_plain_names_and_draws_nothing(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=1, frames="20")
    assert [path.name for path in report.files] == ["0.npy"]
    assert report.sheets == ()


def test_no_sheet_is_drawn_when_not_wanted(tmp_path: Path) -> None:
    assert _sample(tmp_path, grid="2x2", sheet=False).sheets == ()
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    "options",
    [{"n": 11}, {"grid": "3x3"}, {"n": 3, "frames": "16:24:4"}, {"n": 11, "range": "batch-minmax", "group": 3}],
)
@pytest.mark.parametrize("shards", [2, 3, 20])
def test_shards_make_the_whole_set_to_the_bit(options: dict[str, Any], shards: int, tmp_path: Path) -> None:
    def backend() -> FakeBackend:
        return FakeBackend(fake_manifest(output="float32"))

    _sample(tmp_path / "whole", backend(), **options, sheet=False)
    names: list[str] = []
    for i in range(shards):
        report = _sample(tmp_path / "shards", backend(), **options, sheet=False, shard=f"{i}/{shards}")
        names += [path.name for path in report.files]
    assert len(names) == len(set(names))
    assert _content(tmp_path / "shards") == _content(tmp_path / "whole")


def test_a_shard_takes_every_nth_video_from_the_ith_on(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=8, shard="1/3")
    assert [path.name for path in report.files] == ["1.npy", "4.npy", "7.npy"]


def test_shards_of_a_grid_leave_the_sheet_to_a_whole_run(tmp_path: Path) -> None:
    for i in range(2):
        assert _sample(tmp_path / "a", grid="2x2", shard=f"{i}/2").sheets == ()
    report = _sample(tmp_path / "a", grid="2x2", resume=True)
    assert (report.written, report.kept, len(report.sheets)) == (0, 4, 2)
    _sample(tmp_path / "b", grid="2x2")
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_shards_of_a_real_backend_make_the_whole_set(name: str, toy: Path, checkpoint: Path, tmp_path: Path) -> None:
    engine = checkpoint if name == "torch" else toy
    for out, shards in (("whole", [None]), ("shards", ["0/2", "1/2"])):
        for shard in shards:
            sample(SampleSettings(engine, tmp_path / out, n=6, backend=name, format="npy", batch=3, shard=shard))
    assert _content(tmp_path / "shards") == _content(tmp_path / "whole")


def test_minmax_needs_the_raw_video(toy: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--output float32"):
        sample(SampleSettings(toy, tmp_path / "a", n=1, range="batch-minmax"))
    assert not (tmp_path / "a").exists()
    sample(SampleSettings(checkpoint, tmp_path / "b", n=2, range="batch-minmax", format="npy"))
    videos = np.stack([np.load(tmp_path / "b" / f"{i}.npy") for i in range(2)])
    assert (videos.min(), videos.max()) == (0, 255)


def test_minmax_of_a_grid_is_over_all_its_cells(tmp_path: Path) -> None:
    backend = FakeBackend(fake_manifest(output="float32"))
    _sample(tmp_path, backend, grid="3x3", range="batch-minmax", batch=2)
    expected = Sampler(backend, range="batch-minmax", batch=9).render(
        [i for i in range(3) for _ in range(3)], motion=[0, 1, 2] * 3
    )
    for cell in range(9):
        assert np.array_equal(np.load(tmp_path / f"{cell // 3}_{cell % 3}.npy"), expected[cell])
    assert backend.batches[:5] == [2] * 5


def test_the_rate_is_that_of_the_data_unless_given(tmp_path: Path) -> None:
    import av

    for out, fps, expected in (("a", None, 12.5), ("b", 30.0, 30.0)):
        backend = FakeBackend(fake_manifest(fps=12.5))
        _sample(tmp_path / out, backend, n=1, format="mp4", fps=fps)
        with av.open(str(tmp_path / out / "0.mp4")) as container:
            assert container.streams.video[0].average_rate == expected


def test_labels_are_used_and_recorded(labelled: Manifest, tmp_path: Path) -> None:
    _sample(tmp_path / "a", FakeBackend(labelled), n=4, labels=("jump", "0"))
    record = json.loads((tmp_path / "a" / "samples.json").read_text())
    assert record["labels"] == {"0": "jump", "1": "walk", "2": "jump", "3": "walk"}
    expected = Sampler(FakeBackend(labelled)).sample(4, labels=["jump", "walk"])
    assert np.array_equal(np.load(tmp_path / "a" / "3.npy"), expected[3])
    with pytest.raises(SamplingError, match="unknown label 'run'"):
        _sample(tmp_path / "b", FakeBackend(labelled), n=1, labels=("run",))
    assert not (tmp_path / "b").exists()


def test_progress_counts_every_file_once_and_in_order(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    settings = SampleSettings(Path("fake.onnx"), tmp_path, n=9, format="npy", batch=2)
    sample(settings, lambda done, total: seen.append((done, total)), backend=FakeBackend())
    assert seen == [(i, 9) for i in range(10)]


def test_impossible_settings_leave_no_folder(tmp_path: Path) -> None:
    for options, error in (({"frames": "17"}, SamplingError), ({"grid": "300x2"}, SettingsError)):
        with pytest.raises(error):
            _sample(tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def test_a_backend_failure_keeps_what_was_made(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="run 2"):
        _sample(tmp_path / "a", FakeBackend(fail_at=2), n=12)
    # What was queued but not begun may be dropped; nothing is half written.
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names <= {"samples.json", *(f"{i}.npy" for i in range(8))}
    report = _sample(tmp_path / "a", n=12, resume=True)
    assert report.kept == len(names) - 1
    _sample(tmp_path / "b", n=12)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_the_output_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        _sample(tmp_path / "a", n=1)


def test_an_artifact_runs_end_to_end(toy: Path, tmp_path: Path, make_toy: Callable[..., Manifest]) -> None:
    report = sample(SampleSettings(toy, tmp_path / "out", n=3, threads=1))
    assert report.backend["backend"] == "onnxruntime"
    assert report.videos_per_second > 0
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["command"].startswith("vidgen sample --engine")
    assert record["settings"]["artifact"] == make_toy(tmp_path / "again.onnx").sha256
