"""What the runtime asks of CUDA: memory, pinned memory, copies, streams, events, graphs and kernels, behind one interface.

Two libraries implement it, pycuda and cuda-python; whichever is there is used, pycuda first (docs/decisions.md). Nothing
here is loaded before :func:`open_cuda` is called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray


class Released(ABC):
    """Something of the device's that is given back by ``close``; closing twice is allowed."""

    @abstractmethod
    def close(self) -> None:
        """Give it back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DeviceMemory(Released):
    """Memory on the device: ``address`` (an integer) and ``nbytes``."""

    address: int
    nbytes: int


class PinnedMemory(Released):
    """Page-locked memory on the host, which copies can run to beside other work; ``array`` is uint8 [nbytes]."""

    array: NDArray[np.uint8]
    nbytes: int


class Event(Released):
    """A point in a stream."""

    @abstractmethod
    def record(self, stream: Stream) -> None:
        """Put the point after what the stream was given so far."""

    @abstractmethod
    def synchronize(self) -> None:
        """Block the host until the point is passed."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the point is passed; never blocks."""

    @abstractmethod
    def milliseconds_since(self, earlier: Event) -> float:
        """Device time between two passed points; both events were made with ``timing=True``."""


class Stream(Released):
    """Work in order. ``handle`` is the CUstream as an integer, what other libraries want to be given."""

    handle: int

    @abstractmethod
    def synchronize(self) -> None:
        """Block the host until everything given so far is done."""

    @abstractmethod
    def wait(self, event: Event) -> None:
        """Nothing given from now on starts before the event's point is passed. Does not block the host."""


class Graph(Released):
    """Work of a stream that was captured and can be launched again as a whole."""

    @abstractmethod
    def launch(self, stream: Stream) -> None:
        """Enqueue all of it."""


class Capture(Released):
    """What :meth:`Cuda.capture` yields: after the block, ``graph`` is what the stream was given inside of it."""

    graph: Graph


class Cuda(Released):
    """One device and its primary context, current on the thread that opened it and that alone may use it.

    Every method raises BackendError with CUDA's own name of an error, and what to do about it.
    """

    #: ``"pycuda"`` or ``"cuda-python"``.
    name: ClassVar[str]
    #: Whether :meth:`capture` works: pycuda has no graphs.
    captures: ClassVar[bool]
    #: Name of the device, e.g. ``"NVIDIA L4"``; its architecture, e.g. ``"sm_89"``.
    device_name: str
    architecture: str

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Library and its version, driver version, device, architecture, memory in MiB."""

    @abstractmethod
    def allocate(self, nbytes: int) -> DeviceMemory:
        """Uninitialised device memory."""

    @abstractmethod
    def pinned(self, nbytes: int) -> PinnedMemory:
        """Page-locked host memory."""

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream that does not wait for the default stream."""

    @abstractmethod
    def borrow(self, handle: int) -> Stream:
        """A stream that somebody else made and will destroy, such as the one a plugin is enqueued on."""

    @abstractmethod
    def event(self, *, timing: bool = False) -> Event:
        """A new event."""

    @abstractmethod
    def to_device(self, target: int, source: NDArray[Any], stream: Stream) -> None:
        """Enqueue a copy of a C-contiguous host array to a device address. The array lives until the copy is done."""

    @abstractmethod
    def to_host(self, target: NDArray[Any], source: int, stream: Stream) -> None:
        """Enqueue a copy from a device address into a C-contiguous, writable host array."""

    @abstractmethod
    def capture(self, stream: Stream) -> AbstractContextManager[Capture]:
        """Record what the stream is given inside the block, without running it."""

    @abstractmethod
    def load(self, image: bytes) -> Module:
        """Load a cubin or PTX (NUL-terminated by the implementation)."""


class Module(Released):
    """A loaded image."""

    @abstractmethod
    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: Stream,
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Enqueue a kernel. Arguments: ``int`` is a device address; other numbers are NumPy scalars (``np.int32(3)``)."""
