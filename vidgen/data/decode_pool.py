"""Decoding processes and what becomes of those that crash, hang, or ask for too much."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vidgen import errors
from vidgen._files import storage_error
from vidgen.data.decode_worker import Job
from vidgen.data.layouts import unreadable
from vidgen.errors import DataError, VidgenError

#: A process that is not up by then is taken for stuck, in seconds.
START_SECONDS = 120.0


@dataclass(frozen=True)
class Decoded:
    """What a decoding process made of a clip.

    Args:
        frames: number of frames in the spool file.
        order: which of them make the clip; None for all in order.
        fps: frames a second.
        notes: what a person should know of how it was read.
    """

    frames: int
    order: list[int] | None
    fps: float
    notes: tuple[str, ...]


class _StoppedError(Exception):
    """The pool was closed while a process was about to start."""


class _Process:
    """One decoding process, started again when it is needed after it has ended."""

    def __init__(self, memory_bytes: int, timeout: float) -> None:
        self._memory_bytes, self._timeout = memory_bytes, timeout
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None
        self._timed_out = False
        self._starting = threading.Lock()
        self._stopped = False
        #: Frames decoded so far of the current clip.
        self.frames = 0

    def decode(self, job: Job) -> Decoded | DataError:
        """Decode a clip; an error is returned if it is the clip's, and raised if it is anything else."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        message: dict[str, Any] | None = None
        self.frames = 0
        # A process that just died is told apart below, by the answer that does not come.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(job.to_json() + "\n")
            self._process.stdin.flush()
            message = self._next_message(self._timeout)
            while message is not None and message["event"] == "progress":
                self.frames = message["frames"]
                message = self._next_message(self._timeout)
        if message is None:
            return self._what_killed_it(job)
        return self._outcome(job, message)

    def _outcome(self, job: Job, message: dict[str, Any]) -> Decoded | DataError:
        event = message.pop("event")
        if event == "decoded":
            return Decoded(**{**message, "notes": tuple(message["notes"])})
        if event == "memory":
            self.kill()
            return self._too_much_memory(job)
        if event == "storage":
            raise storage_error(job.spool, OSError(message["errno"], message["strerror"]))
        kind = getattr(errors, message.pop("type"))
        error: VidgenError = kind(message.pop("what"), **message)
        if isinstance(error, DataError):
            return error
        raise error

    def _start(self) -> None:
        self.kill()
        environment = {
            **os.environ,
            # The same modules as here, wherever this package and a user's own layouts were imported from.
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._timed_out = False
        with self._starting:
            if self._stopped:
                raise _StoppedError
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vidgen.data.decode_worker", str(self._memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                encoding="ascii",
                # Ctrl-C in a terminal is for the main process, which then ends this one.
                start_new_session=True,
            )
        if self._next_message(START_SECONDS) is None:
            said = self._said() or f"exit status {self._process.poll()}"
            self.kill()
            raise DataError(
                "cannot start a decoding process",
                seen=said,
                cause="the Python environment is damaged, or --memory-mib is too small to load the libraries",
                fix="vidgen doctor",
            )

    def _next_message(self, timeout: float) -> dict[str, Any] | None:
        """The next message, or None if the process ended or had to be ended."""
        assert self._process is not None and self._process.stdout is not None
        timer = threading.Timer(timeout, self._expire, [self._process])
        timer.daemon = True
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    def _expire(self, process: subprocess.Popen[str]) -> None:
        self._timed_out = True
        process.kill()

    def _said(self) -> str:
        """The last line that the process wrote to stderr."""
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _what_killed_it(self, job: Job) -> DataError:
        assert self._process is not None
        status, said, timed_out = self._process.wait(), self._said(), self._timed_out
        self.kill()
        if timed_out:
            return unreadable(
                job.clip,
                f"no frame for {self._timeout:g} seconds",
                "its decoder hangs, or the disk is very slow",
                "remove the file, or pass a larger --timeout",
            )
        if status == -getattr(signal, "SIGXCPU", 0):
            return unreadable(
                job.clip, f"it took {job.cpu_seconds} seconds of processor time", "it is damaged, or very long"
            )
        if "memory" in said.lower() or "bad_alloc" in said:
            return self._too_much_memory(job)
        by = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        words = f", saying {said[:200]!r}" if said else ""
        return unreadable(job.clip, f"its decoder crashed ({by}){words}", "it is damaged")

    def _too_much_memory(self, job: Job) -> DataError:
        return unreadable(
            job.clip,
            f"its decoder asked for more than {self._memory_bytes >> 20} MiB",
            "it is damaged, or very large",
            "remove the file, or pass a larger --memory-mib",
        )

    def stop(self) -> None:
        """End the process at once, and start no other; the thread that waits for it sees its pipe end."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def kill(self) -> None:
        """End the process and let go of its pipes; for the thread that uses it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                # Closing flushes what a dead process will not read.
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


class DecodePool:
    """Decodes clips in several processes at once and hands them back in order.

    Args:
        workers: number of processes.
        memory_bytes: address space of each, where the system can limit it.
        timeout: seconds without a frame after which a process is ended.
    """

    def __init__(self, workers: int, *, memory_bytes: int, timeout: float) -> None:
        self._workers = workers
        self._processes = [_Process(memory_bytes, timeout) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._busy: dict[Path, _Process] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.stop()
        self._threads.shutdown(wait=True)
        for process in self._processes:
            process.kill()

    def _decode(self, job: Job) -> Decoded | DataError:
        process = self._idle.get()
        self._busy[job.spool] = process
        try:
            return process.decode(job)
        finally:
            del self._busy[job.spool]
            self._idle.put(process)

    def run(
        self, jobs: Iterable[Job], waiting: Callable[[Job, int], None] | None = None
    ) -> Iterator[tuple[Job, Decoded | DataError]]:
        """Decode ``jobs``; at most twice as many as there are processes are ahead of the one handed back.

        Args:
            jobs: what to decode, each with a spool file of its own.
            waiting: called about every second with the job that is waited for and its frames so far.

        Raises:
            StorageError: a spool file cannot be written.
            DataError: no decoding process can be started.
        """
        ahead: collections.deque[tuple[Job, Future[Decoded | DataError]]] = collections.deque()
        for job in jobs:
            ahead.append((job, self._threads.submit(self._decode, job)))
            if len(ahead) > 2 * self._workers:
                yield self._next(ahead, waiting)
        while ahead:
            yield self._next(ahead, waiting)

    def _next(
        self,
        ahead: collections.deque[tuple[Job, Future[Decoded | DataError]]],
        waiting: Callable[[Job, int], None] | None,
    ) -> tuple[Job, Decoded | DataError]:
        job, future = ahead.popleft()
        while not futures.wait([future], timeout=1).done:
            process = self._busy.get(job.spool)
            if waiting is not None and process is not None:
                waiting(job, process.frames)
        return job, future.result()
