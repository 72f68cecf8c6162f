"""Whatever ends a run, the next one with --resume gives the files of an uninterrupted run."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidgen._files import PARTIAL_PREFIX, atomic_file
from vidgen.errors import BackendError, SamplingError, StorageError
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.jobs import SampleReport, sample
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks.npy import NpySink

RUN = """
import sys
from pathlib import Path
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.jobs import sample
from vidgen.runtime.settings import SampleSettings
engine, out, n, format, delay = sys.argv[1:6]
backend = FakeBackend(delay=float(delay)) if engine == "fake.onnx" else None
sample(SampleSettings(engine, out, n=int(n), format=format, resume="resume" in sys.argv), backend=backend)
"""


def _settings(out: Path, **options: Any) -> SampleSettings:
    return SampleSettings(Path("fake.onnx"), out, **{"format": "npy", "n": 12, **options})


def _sample(out: Path, **options: Any) -> SampleReport:
    return sample(_settings(out, **options), backend=FakeBackend())


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "samples.json"}


def _start(out: Path, engine: str | Path = "fake.onnx", n: int = 12, format: str = "npy", delay: float = 0.0) -> Any:
    arguments = [str(engine), str(out), str(n), format, str(delay)]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, text=True)


def _wait_for_files(process: Any, out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("[0-9]*"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("files", "format"), [(0, "mp4"), (1, "mp4"), (7, "mp4"), (13, "webp"), (20, "npy")])
def test_a_killed_run_resumes_to_the_same_files(files: int, format: str, tmp_path: Path) -> None:
    process = _start(tmp_path / "a", n=40, format=format, delay=0.02)
    if files:
        _wait_for_files(process, tmp_path / "a", files)
    else:
        time.sleep(0.25)
    process.kill()
    process.wait()
    report = _sample(tmp_path / "a", n=40, format=format, resume=True)
    assert report.written + report.kept == 40
    assert files <= report.kept < 40
    _sample(tmp_path / "b", n=40, format=format)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_a_killed_run_of_a_checkpoint_resumes_to_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    process = _start(tmp_path / "a", checkpoint, n=12, format="mp4")
    _wait_for_files(process, tmp_path / "a", 3)
    process.kill()
    process.wait()
    for out, resume in (("a", True), ("b", False)):
        report = sample(SampleSettings(checkpoint, tmp_path / out, n=12, resume=resume))
        assert report.kept < 12
        assert (report.kept > 0) == resume
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_ctrl_c_ends_cleanly_and_can_be_resumed(tmp_path: Path) -> None:
    process = _start(tmp_path / "a", n=80, format="mp4", delay=0.02)
    _wait_for_files(process, tmp_path / "a", 5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 130)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not list((tmp_path / "a").glob(PARTIAL_PREFIX + "*"))
    report = _sample(tmp_path / "a", n=80, format="mp4", resume=True)
    assert 5 <= report.kept < 80
    _sample(tmp_path / "b", n=80, format="mp4")
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


@pytest.mark.parametrize(("format", "limit"), [("npy", 100_000), ("mp4", 1500), ("webp", 3000), ("gif", 9000)])
def test_a_disk_that_fills_up_is_an_error_without_half_files(format: str, limit: int, tmp_path: Path) -> None:
    # A file size limit makes the real writes of each library fail, as a full disk does.
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    )
    arguments = ["fake.onnx", str(tmp_path / "a"), "12", format, "0"]
    ran = subprocess.run([sys.executable, "-c", limited + RUN, *arguments], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "StorageError: cannot write" in ran.stderr.splitlines()[-1]
    assert not list((tmp_path / "a").glob(PARTIAL_PREFIX + "*"))
    assert not list((tmp_path / "a").glob("*." + format))
    assert _sample(tmp_path / "a", format=format, resume=True).written == 12


def test_a_full_disk_keeps_earlier_files_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = NpySink.write

    def fill_up(self: NpySink, path: Path, frames: np.ndarray, fps: float) -> None:
        if path.name == "6.npy":
            with atomic_file(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, path, frames, fps)

    with monkeypatch.context() as patch:
        patch.setattr(NpySink, "write", fill_up)
        with pytest.raises(StorageError, match="the disk is full") as caught:
            _sample(tmp_path / "a", encoders=1)
        assert "free space" in caught.value.fix
        assert caught.value.fix.endswith(_settings(tmp_path / "a", encoders=1, resume=True).command())
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {f"{i}.npy" for i in range(6)} <= names
    assert "6.npy" not in names
    _sample(tmp_path / "a", resume=True)
    _sample(tmp_path / "b")
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_leftovers_of_a_killed_run_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    _sample(tmp_path)
    leftover, foreign = tmp_path / f"{PARTIAL_PREFIX}{os.getpid()}-3.npy", tmp_path / f"{PARTIAL_PREFIX}1-notes.txt"
    for path in (leftover, foreign):
        path.write_text("half")
    _sample(tmp_path, resume=True)
    assert not leftover.exists()
    assert foreign.exists()


def test_a_finished_run_resumes_to_nothing_and_loads_nothing(tmp_path: Path) -> None:
    _sample(tmp_path)
    backend = FakeBackend(fail_at=0)
    report = sample(_settings(tmp_path, resume=True), backend=backend)
    assert (report.written, report.kept) == (0, 12)
    assert backend.batches == []


def test_only_units_with_missing_videos_are_computed_again(tmp_path: Path) -> None:
    _sample(tmp_path, batch=3)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    content = _content(tmp_path)
    for name in ("4.npy", "11.npy"):
        (tmp_path / name).unlink()
    backend = FakeBackend()
    report = sample(_settings(tmp_path, batch=3, resume=True), backend=backend)
    assert backend.batches == [3, 3]
    assert (report.written, report.kept) == (2, 10)
    assert _content(tmp_path) == content
    assert all(path.stat().st_mtime_ns == stamps[path.name] for path in report.files if path.stem not in ("4", "11"))


def test_with_minmax_a_group_is_computed_again_as_a_whole(tmp_path: Path) -> None:
    settings = _settings(tmp_path, range="batch-minmax", group=5, batch=2)
    manifest = fake_manifest(output="float32")
    sample(settings, backend=FakeBackend(manifest))
    content = _content(tmp_path)
    (tmp_path / "6.npy").unlink()
    backend = FakeBackend(manifest)
    sample(_settings(tmp_path, range="batch-minmax", group=5, batch=2, resume=True), backend=backend)
    assert backend.batches == [2, 2, 2]
    assert _content(tmp_path) == content


def test_a_missing_sheet_is_drawn_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n": None, "grid": "2x3"}
    _sample(tmp_path, **options)
    content = _content(tmp_path)
    (tmp_path / "grid.webp").unlink()
    report = _sample(tmp_path, **options, resume=True)
    assert report.written == 0
    assert _content(tmp_path) == content


def test_a_folder_of_an_earlier_run_is_refused_with_the_command(tmp_path: Path) -> None:
    _sample(tmp_path / "a")
    with pytest.raises(StorageError) as caught:
        _sample(tmp_path / "a")
    assert caught.value.fix == f"vidgen sample --engine fake.onnx -o {tmp_path / 'a'} -n 12 --format npy --resume"


def test_files_of_unknown_origin_are_never_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "3.npy").write_text("precious")
    for resume in (False, True):
        with pytest.raises(StorageError, match="another program"):
            _sample(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["3.npy"]


def test_unrelated_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert _sample(tmp_path, n=1).written == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"batch": 2}, "batch is 4 there, 2 here"),
        ({"frames": "20"}, "frames is 16 there, 20 here"),
        ({"fps": 30.0}, "fps is 25.0 there, 30.0 here"),
        ({"format": "gif"}, "format is 'npy' there, 'gif' here"),
        ({"n": 11}, "n is 12 there, 11 here"),
        ({"n": None, "grid": "3x4"}, "grid is None there, '3x4' here"),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_settings_that_change_files_are_refused_by_name(
    options: dict[str, Any], said: str, resume: bool, tmp_path: Path
) -> None:
    _sample(tmp_path / "a")
    before = _content(tmp_path / "a")
    with pytest.raises(SamplingError) as caught:
        _sample(tmp_path / "a", **options, resume=resume)
    assert said in caught.value.seen
    assert f"-o {tmp_path / 'a-2'}" in caught.value.fix
    assert _content(tmp_path / "a") == before


def test_another_artifact_is_refused(tmp_path: Path, toy: Path, checkpoint: Path) -> None:
    sample(SampleSettings(toy, tmp_path / "a", n=1))
    with pytest.raises(SamplingError, match="artifact is"):
        sample(SampleSettings(checkpoint, tmp_path / "a", n=1, backend="fake", resume=True))


def test_a_run_that_fails_before_its_first_file_leaves_the_folder_to_another(tmp_path: Path) -> None:
    for out, other in ((tmp_path / "new", None), (tmp_path, tmp_path / "notes.txt")):
        if other:
            other.write_text("mine")
        before = sorted(out.parent.iterdir())
        with pytest.raises(BackendError):
            sample(_settings(out), backend=FakeBackend(fail_at=0))
        assert sorted(out.parent.iterdir()) == before
        assert len(_sample(out, seed=3).files) == 12


def test_a_run_that_fails_later_keeps_its_record(tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        sample(_settings(tmp_path), backend=FakeBackend(fail_at=2, delay=0.2))
    made = len(list(tmp_path.glob("*.npy")))
    assert 1 <= made <= 8
    with pytest.raises(SamplingError, match="seed is 0 there, 3 here"):
        _sample(tmp_path, seed=3)
    assert _sample(tmp_path, resume=True).kept == made


def test_settings_that_change_no_file_may_differ(tmp_path: Path) -> None:
    _sample(tmp_path, threads=1, encoders=1)
    assert _sample(tmp_path, threads=2, encoders=3, crf=30, resume=True).kept == 12


def test_a_run_may_be_resumed_with_more_videos(tmp_path: Path) -> None:
    _sample(tmp_path / "a", n=6)
    report = _sample(tmp_path / "a", n=13, resume=True)
    assert (report.written, report.kept) == (7, 6)
    assert json.loads((tmp_path / "a" / "samples.json").read_text())["settings"]["n"] == 13
    _sample(tmp_path / "b", n=13)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    _sample(tmp_path)
    for text in ("{", "[]", '{"format": 2}', '{"format": 1, "settings": {"n": "x"}}'):
        (tmp_path / "samples.json").write_text(text)
        with pytest.raises(StorageError, match=r"samples\.json"):
            _sample(tmp_path, resume=True)


def test_two_runs_never_write_the_same_files_at_once(tmp_path: Path) -> None:
    process = _start(tmp_path / "a", n=100, delay=0.5)
    _wait_for_files(process, tmp_path / "a", 1)
    with pytest.raises(SamplingError, match="another vidgen sample is running"):
        _sample(tmp_path / "a", n=100, resume=True)
    # A shard has files of its own and may join; the running one's unfinished files are not touched.
    half = tmp_path / "a" / f"{PARTIAL_PREFIX}{process.pid}-99.npy"
    half.write_text("being written")
    with pytest.raises(StorageError, match="--resume"):
        _sample(tmp_path / "a", n=100, shard="0/50")
    report = _sample(tmp_path / "a", n=100, shard="49/50", resume=True)
    assert [path.name for path in report.files] == ["49.npy", "99.npy"]
    assert half.exists()
    process.kill()
    process.wait()
    assert _sample(tmp_path / "a", n=100, resume=True).kept >= 3
    assert not half.exists()
