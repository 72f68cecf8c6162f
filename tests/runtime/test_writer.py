"""The background writer: bounded, in order, and gone when it is left."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vidgen.errors import StorageError
from vidgen.runtime.writer import FileWriter

CLIP = np.zeros((1, 2, 2, 3), dtype=np.uint8)


class SlowSink:
    """Counts what is written and how much at a time; fails on one file."""

    extension: ClassVar[str] = "x"

    def __init__(self, delay: float = 0.0, fail: str = "") -> None:
        self.delay, self.fail = delay, fail
        self.active = self.most = 0
        self.written: list[str] = []
        self._lock = threading.Lock()

    def write(self, path: Path, frames: np.ndarray, fps: float) -> None:
        with self._lock:
            self.active += 1
            self.most = max(self.most, self.active)
        time.sleep(self.delay)
        with self._lock:
            self.active -= 1
        if path.name == self.fail:
            raise StorageError("cannot write it", seen="s", cause="c", fix="f")
        with self._lock:
            self.written.append(path.name)


def test_files_are_reported_in_order_once_written() -> None:
    seen: list[str] = []
    sink = SlowSink(0.001)
    with FileWriter(sink, 25, threads=3, written=lambda path: seen.append(path.name)) as writer:
        for i in range(20):
            writer.put(Path(str(i)), CLIP)
    assert seen == [str(i) for i in range(20)]
    assert sorted(sink.written) == sorted(seen)
    assert 1 < sink.most <= 3


def test_put_blocks_while_too_much_waits() -> None:
    sink = SlowSink(0.05)
    start = time.monotonic()
    with FileWriter(sink, 25, threads=1, waiting=1) as writer:
        for i in range(6):
            writer.put(Path(str(i)), CLIP)
            assert i - len(sink.written) <= 2
        # Four of six had to be finished before the last could be queued.
        assert time.monotonic() - start >= 0.19


def test_an_error_stops_the_queue_and_is_raised() -> None:
    sink = SlowSink(0.01, fail="2")
    with (
        pytest.raises(StorageError, match="cannot write it"),
        FileWriter(sink, 25, threads=1, waiting=2) as writer,
    ):
        for i in range(50):
            writer.put(Path(str(i)), CLIP)
    assert len(sink.written) < 10
    assert sink.active == 0


def test_an_error_in_the_last_file_is_raised_too() -> None:
    sink = SlowSink(0.01, fail="3")
    with pytest.raises(StorageError), FileWriter(sink, 25, threads=2) as writer:
        for i in range(4):
            writer.put(Path(str(i)), CLIP)


def test_leaving_on_an_exception_drops_what_has_not_begun_and_ends_all_threads() -> None:
    sink = SlowSink(0.05)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), FileWriter(sink, 25, threads=1, waiting=10) as writer:
        for i in range(8):
            writer.put(Path(str(i)), CLIP)
        raise KeyboardInterrupt
    assert len(sink.written) <= 2
    assert threading.active_count() == before
