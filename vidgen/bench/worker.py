"""One contender of a bench: loads an artifact, warms it up and times slices of runs; also runs as a child process."""

from __future__ import annotations

import itertools
import json
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._child import take_stdout
from vidgen.errors import BackendError, VidgenError
from vidgen.runtime.backends import Backend, open_backend
from vidgen.runtime.latents import latents
from vidgen.runtime.ranges import to_uint8

#: Opens (artifact, backend name, threads, device, whether to trust an engine without a manifest).
Load = Callable[[Path, str, int | None, str, bool], Backend]
#: A warm-up window: so many runs at least, and so many seconds.
WINDOW_RUNS, WINDOW_SECONDS, WINDOWS = 3, 0.3, 3
TOLERANCE = 0.05


def open_artifact(artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Backend:
    """The real way to open a contender."""
    return open_backend(artifact, backend, threads=threads, device=device, trust=trust)


@dataclass(frozen=True)
class Loaded:
    """What loading gave.

    Attributes:
        seconds: from the call to a loaded artifact. In a process of its own this includes importing the library and
            checking the file's hash.
        describe: library, version, device, threads.
        model, checkpoint, interface: tell whether two contenders make the same videos from the same latents.
    """

    seconds: float
    describe: dict[str, str]
    model: str
    checkpoint: str
    precision: str
    interface: str


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up ended: whether the medians of three windows agreed within 5 %, after how many runs."""

    stable: bool
    runs: int
    seconds: float


@dataclass(frozen=True)
class Slice:
    """Timed runs, in seconds.

    Attributes:
        compute: of ``Backend.run`` alone: latents in host memory to frames in host memory.
        end_to_end: making the latents, running, and handing the frames on as uint8 in an array of their own.
        device: of these runs on the device, copies left out; empty where the backend does not measure it.
    """

    compute: tuple[float, ...]
    end_to_end: tuple[float, ...]
    device: tuple[float, ...] = ()


class Worker:
    """Runs one contender. The order of calls is load, then for each batch size prepare, warm_up, measure."""

    def __init__(self, load: Load = open_artifact) -> None:
        self._open = load
        self._backend: Backend | None = None

    def load(self, artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Loaded:
        """Open the artifact."""
        start = time.perf_counter()
        self._backend = opened = self._open(Path(artifact), backend, threads, device, trust)
        seconds = time.perf_counter() - start
        manifest = opened.manifest
        return Loaded(
            seconds,
            dict(opened.describe()),
            manifest.model,
            manifest.checkpoint_sha256,
            manifest.precision.kind,
            repr((manifest.interface.inputs, manifest.interface.frames)),
        )

    def prepare(self, batch: int, frames: int | None, seed: int, output: Path) -> int:
        """Make the first batch of videos, keep them as uint8 in ``output`` (.npy); returns frames per video."""
        interface = self._running().manifest.interface
        self._batch, self._frames, self._seed = batch, frames, seed
        self._next = itertools.cycle(range(0, 1 << 31, batch))
        # Also refuses a number of frames that the model cannot make.
        length = interface.frames.length(frames or interface.frames.default)
        made = interface.frames.frames(length)
        shape = interface.output.resolve(batch=batch, frames=made, **{interface.frames.dimension: length})
        self._output = np.zeros(shape, dtype=interface.output.dtype)
        _, videos = self._run()
        np.save(output, videos)
        return made

    def warm_up(self, limit: float) -> WarmUp:
        """Run until the medians of three windows in a row agree within 5 %, or for ``limit`` seconds."""
        start, runs, medians = time.perf_counter(), 0, list[float]()
        while True:
            left = max(0.0, limit - (time.perf_counter() - start))
            window = self.measure(WINDOW_SECONDS, WINDOW_RUNS, left, settle=False)
            runs += len(window.compute)
            medians.append(float(np.median(window.compute)))
            last = medians[-WINDOWS:]
            stable = len(last) == WINDOWS and max(last) - min(last) <= TOLERANCE * min(last)
            if stable or time.perf_counter() - start >= limit:
                return WarmUp(stable, runs, time.perf_counter() - start)

    def measure(self, seconds: float, least: int, limit: float, *, settle: bool = True) -> Slice:
        """Time runs for ``seconds``, at least ``least`` of them; none is left out.

        Args:
            limit: seconds after which even ``least`` is given up; one run is always made.
            settle: first run once untimed: other contenders have emptied the caches since the last slice.
        """
        if settle:
            self._run()
        compute: list[float] = []
        end_to_end: list[float] = []
        device: list[float] = []
        begun = time.perf_counter()
        while True:
            start = time.perf_counter()
            spent, _ = self._run()
            end = time.perf_counter()
            end_to_end.append(end - start)
            compute.append(spent)
            milliseconds = self._running().device_milliseconds()
            if milliseconds is not None:
                device.append(milliseconds / 1000)
            if (len(compute) >= least and end - begun >= seconds) or end - begun >= limit:
                break
        return Slice(tuple(compute), tuple(end_to_end), tuple(device))

    def _run(self) -> tuple[float, NDArray[np.uint8]]:
        """One batch from latents to frames; the seconds of the run itself, and the frames."""
        backend, first = self._running(), next(self._next)
        interface = backend.manifest.interface
        inputs = latents(interface, self._seed, range(first, first + self._batch), frames=self._frames)
        start = time.perf_counter()
        backend.run(inputs, self._output)
        spent = time.perf_counter() - start
        return spent, self._output.copy() if self._output.dtype == np.uint8 else to_uint8(self._output)

    def _running(self) -> Backend:
        assert self._backend is not None, "load comes first"
        return self._backend

    def peak_memory(self) -> int | None:
        """The most memory this process has held so far, in bytes; None where it cannot be told."""
        return peak_memory()

    def close(self) -> None:
        """Release the backend."""
        if self._backend is not None:
            self._backend.close()


def peak_memory() -> int | None:
    """The largest resident size of this process so far, in bytes; None where the system does not say."""
    try:
        # Not ru_maxrss: a child started by a large process inherits its parent's peak.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Serve one worker over standard input and output: a JSON list [method, arguments] a line, one reply a line."""
    # Ctrl-C goes to the whole group; the parent decides what becomes of its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = take_stdout()
    worker = Worker()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        replies.write(json.dumps(_answer(worker, method, arguments)) + "\n")
        replies.flush()
    worker.close()


def _answer(worker: Worker, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        value = getattr(worker, method)(**arguments)
    except VidgenError as error:
        return {"error": error.to_dict()}
    except Exception as error:  # whatever a library raises becomes a row of the table, with its own words
        traceback.print_exc()
        told = BackendError(
            f"{method} failed",
            seen=f"{type(error).__name__}: {error}"[:400],
            cause="the library cannot run this artifact here",
            fix="vidgen doctor",
        )
        return {"error": told.to_dict()}
    return {"value": value.__dict__ if isinstance(value, Loaded | WarmUp | Slice) else value}


if __name__ == "__main__":
    main()
