"""Encoding and writing on a few threads while the next batch is computed, in bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidgen.runtime.sinks import Sink


class FileWriter:
    """Writes videos in the background; a context manager.

    Leaving it well waits for every file. Leaving it on an exception, Ctrl-C among them, drops what has not begun
    and waits for what has, so that no thread and no half file is left behind.

    Args:
        sink: how to write one file, unless :meth:`put` says otherwise.
        fps: frames a second.
        threads: how many files are encoded at a time; None is one for each CPU, at most 4.
        waiting: how many more files may wait in memory before :meth:`put` blocks.
        written: called with each path, in the order of :meth:`put`, from the thread that called it.
    """

    def __init__(
        self,
        sink: Sink,
        fps: float,
        *,
        threads: int | None = None,
        waiting: int = 8,
        written: Callable[[Path], None] = lambda path: None,
    ) -> None:
        count = threads or min(4, os.cpu_count() or 1)
        self._sink = sink
        self._fps = fps
        self._written = written
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="vidgen-encode")
        self._room = threading.Semaphore(count + waiting)
        self._pending: deque[tuple[Path, Future[None]]] = deque()

    def put(self, path: Path, frames: NDArray[np.uint8], sink: Sink | None = None) -> None:
        """Queue a video; it must not be changed afterwards. Blocks while too many wait.

        Args:
            sink: how to write this file.

        Raises:
            VidgenError: an earlier file could not be written.
        """
        self._collect(wait=False)
        self._room.acquire()
        future = self._pool.submit((sink or self._sink).write, path, frames, self._fps)
        future.add_done_callback(lambda _: self._room.release())
        self._pending.append((path, future))

    def _collect(self, wait: bool) -> None:
        """Report finished files, oldest first; raise the first error of any."""
        for _, future in self._pending:
            if future.done() and future.exception() is not None:
                future.result()
        while self._pending and (wait or self._pending[0][1].done()):
            path, future = self._pending.popleft()
            future.result()
            self._written(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._collect(wait=True)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
