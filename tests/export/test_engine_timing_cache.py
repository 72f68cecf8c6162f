"""A timing cache is replaced whole, loses nothing of builds beside, and says so when it is of no use."""

from __future__ import annotations

import hashlib
import threading

import pytest
from export.engine_support import MADE_BY, PROFILE, build_here, classic, small_g3an

from vidgen.errors import StorageError
from vidgen.export.engine_timing_cache import read_cache, write_cache


def _merge(lines):
    return lambda other: b"\n".join(sorted({*lines.split(b"\n"), *other.split(b"\n")}))


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    assert read_cache(tmp_path / "no" / "x.cache") == b""


def test_a_folder_is_no_cache(tmp_path):
    with pytest.raises(StorageError, match="timing cache"):
        read_cache(tmp_path)


def test_what_is_written_is_what_the_hash_says(tmp_path):
    path = tmp_path / "new" / "x.cache"
    told = write_cache(path, b"", b"made", _merge(b"made"))
    assert path.read_bytes() == b"made" and told == hashlib.sha256(b"made").hexdigest()
    assert sorted(each.name for each in path.parent.iterdir()) == ["x.cache", "x.cache.lock"]


def test_what_others_wrote_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x.cache"
    path.write_bytes(b"theirs")
    told = write_cache(path, b"before", b"mine", _merge(b"mine"))
    assert path.read_bytes() == b"mine\ntheirs" and told == hashlib.sha256(b"mine\ntheirs").hexdigest()


def test_builds_side_by_side_lose_nothing(tmp_path):
    path = tmp_path / "x.cache"
    names = [f"{index}".encode() for index in range(16)]
    start = threading.Barrier(len(names))

    def run(name):
        given = read_cache(path)
        start.wait()
        write_cache(path, given, name, _merge(name))

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(path.read_bytes().split(b"\n")) == set(names)


def test_a_failed_merge_leaves_the_cache_as_it_was(tmp_path):
    path = tmp_path / "x.cache"
    path.write_bytes(b"theirs")

    def merge(other):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_cache(path, b"before", b"mine", merge)
    assert path.read_bytes() == b"theirs"
    # And the lock is free again.
    write_cache(path, b"theirs", b"new", merge)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("given", "kept", "told"),
    [
        (b"", b"", ""),
        (f"{MADE_BY}\nsoftmax 2 us".encode(), b"softmax 2 us", ""),
        (b"TensorRT 10.12 sm_86\nold 9 us", b"", "another version"),
        (b"\x00garbage", b"", "damaged"),
    ],
)
def test_timings_of_another_library_are_dropped_and_it_is_said(monkeypatch, given, kept, told):
    rtx = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", classic(rtx))
    said = []
    made = build_here(
        *small_g3an(), said.append, builder="tensorrt", device="sm_89", gpu=("current",), timing_cache=given,
        profiles=(PROFILE,),
    )  # fmt: skip
    lines = made.timing_cache.split(b"\n")
    assert lines[0] == MADE_BY.encode() and lines[1:] == sorted(filter(None, [b"convolution 3 us", kept]))
    assert (told in said[0] and "afresh" in said[0]) if told else said == []


def test_classic_options_are_set_and_told(monkeypatch):
    rtx = pytest.importorskip("tensorrt_rtx")
    module = classic(rtx)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", module)
    engine = build_here(
        *small_g3an(), builder="tensorrt", device="sm_89", gpu=("sm_89",), version_compatible=True, strip_plan=True,
        hardware_compatibility_level="ampere_plus",
    ).engine  # fmt: skip
    assert module.set_up == ["VERSION_COMPATIBLE", "STRIP_PLAN"] and engine.stripped
    assert module.configs[0].hardware_compatibility_level == rtx.HardwareCompatibilityLevel.AMPERE_PLUS
    assert engine.flags == (
        "STRONGLY_TYPED", "hardware_compatibility_level=AMPERE_PLUS", "VERSION_COMPATIBLE", "STRIP_PLAN",
    )  # fmt: skip
    assert (engine.library, engine.version) == ("tensorrt", "11.4.0.106")
