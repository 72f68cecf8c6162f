"""A decoder that crashes, hangs or bloats costs its clip and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen.data.prepare import PrepareSettings, Progress, prepare
from vidgen.data.store import ClipStore
from vidgen.errors import DataError, StorageError

CASES = {
    "aborts": "crashed",
    "bloats": "more than 1024 MiB",
    "crashes": "crashed (SIGSEGV)",
    "exits": "exit status 3",
    "hangs": "no frame for 3 seconds",
    "raises": "ZeroDivisionError: in a decoder",
}


@pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
def test_misbehaving_decoders_are_named_and_the_rest_is_kept(tmp_path: Path, hostile: Callable[[str], str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in [*CASES, "good1", "good2", "a_good_first"]:
        (source / f"{name}.bin").touch()
    report = prepare(
        PrepareSettings(source, tmp_path / "s", layout=hostile("Mixed"), timeout=3, memory_mib=1024, workers=2, size=8)
    )
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert set(reasons) == set(CASES)
    assert {name: part for name, part in CASES.items() if part not in reasons[name]} == {}, reasons
    store = ClipStore.open(tmp_path / "s")
    assert [clip.source for clip in store.clips] == ["a_good_first", "good1", "good2"]
    # The layout's own labels, range and attributes are kept.
    assert store.info.labels == ("even", "odd") and {clip.label for clip in store.clips} == {1}
    assert store.clips[0].attributes == {"actor": "x"} and store.clips[0].fps == 10
    assert store.frames(0)[:, 0, 0, 0].tolist() == list(range(2, 22))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "source"]


def test_a_decoder_that_only_burns_processor_time_is_ended(
    tmp_path: Path, hostile: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resource")
    source = tmp_path / "source"
    source.mkdir()
    (source / "spins.bin").touch()
    monkeypatch.setattr("vidgen.data.prepare.CPU_SECONDS", 1)
    with pytest.raises(DataError, match="1 seconds of processor time"):
        prepare(PrepareSettings(source, tmp_path / "s", layout=hostile("Mixed"), strict=True))


def test_progress_is_told_while_one_clip_takes_long(tmp_path: Path, hostile: Callable[[str], str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "long.bin").touch()
    seen: list[int] = []

    def watch(progress: Progress) -> None:
        seen.append(progress.decoding)
        if progress.decoding > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(PrepareSettings(source, tmp_path / "s", layout=hostile("Slow")), watch)
    assert seen == sorted(seen) and [path.name for path in tmp_path.iterdir()] == ["source"]


def run_slow_prepare(tmp_path: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a prepare that never ends; return it once its two decoders run, with their process numbers."""
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).touch()
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from vidgen.data.prepare import PrepareSettings, prepare
prepare(PrepareSettings(sys.argv[1], sys.argv[2], layout="hostile_layouts:Slow", workers=2))
"""
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "out" / "s")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(source.glob("pid-*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        time.sleep(0.1)
    return process, [int(path.name[4:]) for path in source.glob("pid-*")]


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def all_end(numbers: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(number) for number in numbers):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_everything_and_leaves_nothing(tmp_path: Path, child_environment: dict[str, str]) -> None:
    process, decoders = run_slow_prepare(tmp_path, child_environment)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert all_end(decoders, 5)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_decoders_do_not_outlive_a_killed_prepare(tmp_path: Path, child_environment: dict[str, str]) -> None:
    process, decoders = run_slow_prepare(tmp_path, child_environment)
    process.kill()
    process.wait()
    assert all_end(decoders, 20)
    assert not (tmp_path / "out" / "s").exists()


def test_the_first_error_ends_a_strict_run_at_once(tmp_path: Path, hostile: Callable[[str], str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("b_raises", "a_good", "raises"):
        (source / f"{name}.bin").touch()
    settings = PrepareSettings(source, tmp_path / "s", layout=hostile("Mixed"), strict=True, size=8)
    with pytest.raises(DataError, match="ZeroDivisionError") as caught:
        prepare(settings)
    assert "raises" in caught.value.what and "--strict" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_disk_that_fills_up_stops_the_run(tmp_path: Path, child_environment: dict[str, str]) -> None:
    resource = pytest.importorskip("resource")
    assert resource
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).touch()
    # The limit is inherited by the decoding process, whose spool file meets it first.
    program = f"""
import json, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from vidgen.data.prepare import PrepareSettings, prepare
from vidgen.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    prepare(PrepareSettings(sys.argv[1], sys.argv[2], layout="hostile_layouts:Mixed", size=32))
except StorageError as error:
    print(json.dumps(error.to_dict()))
"""
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "s")]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)["type"] == StorageError.__name__, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_frames_of_a_long_clip_are_never_all_in_memory(
    tmp_path: Path, make_video: Callable, make_frames: Callable
) -> None:
    source = make_video(tmp_path / "long.avi", make_frames(800, 32, 32), codec="mpeg4")
    tracemalloc.start()
    try:
        report = prepare(PrepareSettings(source, tmp_path / "s", size=192, window=32, window_stride=8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.info.frames == 800 and (tmp_path / "s" / "frames.npy").stat().st_size > 80 << 20
    assert peak < 20 << 20
