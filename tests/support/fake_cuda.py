"""A CUDA device in plain Python: work waits in its stream until something waits for it, in the least helpful order.

Nothing runs when it is enqueued. Waiting for an event runs its stream up to there, and of other streams only what that
stream was told to wait for: where a wait is missing, the data is still the poison that fresh memory holds. Memory that
was given back is unknown to work that comes later.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError
from vidgen.runtime.cuda import Capture, Cuda, DeviceMemory, Event, Graph, Module, PinnedMemory, Stream
from vidgen.runtime.cuda_errors import cuda_error

POISON = 0xCD
Work = Callable[[], None]


class FakeMemory(DeviceMemory, PinnedMemory):
    """Poisoned bytes, on either side."""

    def __init__(self, device: FakeCuda, nbytes: int, kind: str) -> None:
        device.held[kind] += nbytes
        device.peak[kind] = max(device.peak[kind], device.held[kind])
        self._device, self._kind, self.nbytes = device, kind, nbytes
        self.array = np.full(nbytes, POISON, np.uint8)
        self.address = self.array.ctypes.data
        device.memory[self.address] = self.array

    def close(self) -> None:
        self._device.check()
        if self._device.memory.pop(self.address, None) is not None:
            self._device.held[self._kind] -= self.nbytes


class FakeStream(Stream):
    """Work in order, run on demand."""

    def __init__(self, device: FakeCuda) -> None:
        self.handle = next(device.handles)
        self._device = device
        self._work: list[Work] = []
        self.given = 0
        self.done = 0
        self.capturing: list[Work] | None = None
        device.streams[self.handle] = self

    def enqueue(self, work: Work) -> None:
        if self.capturing is not None:
            self.capturing.append(work)
            return
        self._work.append(work)
        self.given += 1

    def run_to(self, point: int) -> None:
        while self.done < point:
            self.done += 1
            try:
                self._work.pop(0)()
            except BackendError:
                self._device.lost = self._device.fatal
                raise

    def synchronize(self) -> None:
        self._device.check()
        self._device.waits += 1
        assert self.capturing is None, "waited for inside a capture"
        self.run_to(self.given)

    def wait(self, event: Event) -> None:
        assert isinstance(event, FakeEvent)
        stream, point = event.point
        if stream is not None:
            self.enqueue(lambda: stream.run_to(point))

    def close(self) -> None:
        self._device.streams.pop(self.handle, None)


class FakeEvent(Event):
    def __init__(self, device: FakeCuda, timing: bool) -> None:
        self._device, self._timing = device, timing
        self.point: tuple[FakeStream | None, int] = (None, 0)
        self.at = 0.0
        device.events += 1
        self._open = True

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream) and self._open
        stream.enqueue(self._pass)
        self.point = (stream, stream.given)

    def _pass(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self._open
        self._device.check()
        self._device.waits += 1
        stream, point = self.point
        if stream is not None:
            stream.run_to(point)

    def done(self) -> bool:
        stream, point = self.point
        return stream is None or stream.done >= point

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, FakeEvent) and self._timing and earlier._timing and self.done() and earlier.done()
        return 1000 * (self.at - earlier.at)

    def close(self) -> None:
        self._device.check()
        self._device.events -= self._open
        self._open = False


class FakeGraph(Graph):
    def __init__(self, device: FakeCuda, work: list[Work]) -> None:
        self._device, self._work, self._open = device, work, True
        device.graphs += 1

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream) and self._open
        self._device.launches += 1
        for work in self._work:
            stream.enqueue(work)

    def close(self) -> None:
        self._device.check()
        self._device.graphs -= self._open
        self._open = False


class FakeCuda(Cuda):
    """One device with ``memory_limit`` bytes. Counters tell what is held and what was done."""

    name: ClassVar[str] = "fake-cuda"
    captures = True  # type: ignore[misc]  # set per device here
    device_name = "Fake GPU"
    architecture = "sm_89"

    def __init__(self, *, captures: bool = True, memory_limit: int = 1 << 40) -> None:
        self.captures = captures  # type: ignore[misc]
        self.memory_limit = memory_limit
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.held = {"device": 0, "pinned": 0}
        self.peak = dict(self.held)
        self.streams: dict[int, FakeStream] = {}
        self.handles = itertools.count(7)
        self.events = self.graphs = self.launches = self.captured = self.waits = 0
        #: The capture of this number, from 0, fails.
        self.fail_capture: set[int] = set()
        self.open = True
        #: Whether work that fails takes the device with it: every later call fails too.
        self.fatal = False
        self.lost = False

    def check(self) -> None:
        """Fail if the device was lost."""
        if self.lost:
            raise cuda_error("do anything", "CUDA_ERROR_LAUNCH_FAILED")

    def describe(self) -> dict[str, str]:
        return {"library": self.name}

    def allocate(self, nbytes: int) -> FakeMemory:
        if self.held["device"] + nbytes > self.memory_limit:
            raise cuda_error(f"allocate {nbytes} bytes", "CUDA_ERROR_OUT_OF_MEMORY")
        return FakeMemory(self, nbytes, "device")

    def pinned(self, nbytes: int) -> FakeMemory:
        return FakeMemory(self, nbytes, "pinned")

    def stream(self) -> FakeStream:
        return FakeStream(self)

    def borrow(self, handle: int) -> Stream:
        return self.streams[handle]

    def event(self, *, timing: bool = False) -> Event:
        return FakeEvent(self, timing)

    def bytes_at(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Memory that is held, by the address of its beginning."""
        assert address in self.memory, "work on memory that was given back"
        assert nbytes <= self.memory[address].size, "work beyond the end of memory"
        return self.memory[address][:nbytes]

    def to_device(self, target: int, source: NDArray[Any], stream: Stream) -> None:
        assert isinstance(stream, FakeStream) and source.flags.c_contiguous
        assert source.__array_interface__["data"][0] in self.memory, "a copy from memory that is not pinned"

        def copy() -> None:
            self.bytes_at(target, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

        stream.enqueue(copy)

    def to_host(self, target: NDArray[Any], source: int, stream: Stream) -> None:
        assert isinstance(stream, FakeStream) and target.flags.c_contiguous
        assert target.__array_interface__["data"][0] in self.memory, "a copy to memory that is not pinned"

        def copy() -> None:
            target.reshape(-1).view(np.uint8)[:] = self.bytes_at(source, target.nbytes)

        stream.enqueue(copy)

    @contextlib.contextmanager
    def capture(self, stream: Stream) -> Iterator[Capture]:
        assert isinstance(stream, FakeStream) and self.captures
        number, self.captured = self.captured, self.captured + 1
        capture, stream.capturing = Capture(), []
        try:
            yield capture
            work = stream.capturing
        finally:
            stream.capturing = None
        if number in self.fail_capture:
            raise cuda_error("capture a stream", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        capture.graph = FakeGraph(self, work)

    def load(self, image: bytes) -> Module:
        raise NotImplementedError

    def close(self) -> None:
        self.open = False

    def is_capturing(self, stream: int) -> bool:
        return self.streams[stream].capturing is not None

    def enqueue(self, stream: int, work: Work, reads: Any = (), writes: Any = ()) -> None:
        """Put work of an engine into a stream."""
        assert all(address in self.memory for address, _ in (*reads, *writes)), "an address of no memory"
        self.streams[stream].enqueue(work)

    def view(self, address: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Device memory as an array."""
        return self.bytes_at(address, int(np.prod(shape)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)

    def leaks(self) -> dict[str, int]:
        """What was not given back."""
        found = {**self.held, "streams": len(self.streams), "events": self.events, "graphs": self.graphs}
        return {name: number for name, number in found.items() if number}
