"""What the runtime asks of CUDA: memory, copies, streams, events, graphs and kernels, behind one interface.

Two libraries implement it, pycuda and cuda-python; whichever is there is used, pycuda first (docs/decisions.md).
Neither is loaded before :func:`open_cuda` is called.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError, MissingDependencyError, SettingsError
from vidgen.runtime.cuda_errors import cuda_error

#: Name of a library -> the module and class that implement :class:`Cuda` with it; the first that loads is used.
LIBRARIES: dict[str, tuple[str, str]] = {
    "pycuda": ("vidgen.runtime.cuda_pycuda", "Pycuda"),
    "cuda-python": ("vidgen.runtime.cuda_python", "CudaPython"),
}
#: The library that NVIDIA's driver brings.
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class Released(ABC):
    """Something of the device's that is given back by ``close``; closing twice is allowed, use after it is not."""

    @abstractmethod
    def close(self) -> None:
        """Give it back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BackendError:
            # After a failed kernel every call fails: the first error is the one to tell.
            if error is None:
                raise


class DeviceMemory(Released):
    """Memory on the device: ``address`` (an integer) and ``nbytes``."""

    address: int
    nbytes: int


class PinnedMemory(Released):
    """Page-locked memory on the host, which copies can run to beside other work.

    ``array`` is uint8 [nbytes]; after ``close`` it is empty, and views that were made of it may not be touched.
    """

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


class Capture:
    """What :meth:`Cuda.capture` yields: after the block, ``graph`` is what the stream was given inside of it."""

    graph: Graph


class Cuda(Released):
    """One device and its primary context, current on the thread that opened it and that alone may use it.

    Every method, and every method of what it hands out, raises BackendError with CUDA's own name of an error, and what
    to do about it. What it handed out is closed before it is.
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
        """``library`` and its version, the CUDA version of the ``driver``, ``device``, ``architecture``, ``memory``."""

    @abstractmethod
    def allocate(self, nbytes: int) -> DeviceMemory:
        """Uninitialised device memory."""

    @abstractmethod
    def pinned(self, nbytes: int) -> PinnedMemory:
        """Page-locked host memory."""

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream, which neither waits for the default stream nor is waited for by it."""

    @abstractmethod
    def borrow(self, handle: int) -> Stream:
        """A stream that somebody else made and will destroy, such as the one a plugin is enqueued on."""

    @abstractmethod
    def event(self, *, timing: bool = False) -> Event:
        """A new event. Waiting for one without timing leaves the processor to other threads."""

    @abstractmethod
    def to_device(self, target: int, source: NDArray[Any], stream: Stream) -> None:
        """Enqueue a copy of a C-contiguous host array to a device address.

        The array lives, unchanged, until the copy is done. From memory that is not pinned the copy may wait for the
        device.
        """

    @abstractmethod
    def to_host(self, target: NDArray[Any], source: int, stream: Stream) -> None:
        """Enqueue a copy from a device address into a C-contiguous, writable host array, which lives until then."""

    @abstractmethod
    def capture(self, stream: Stream) -> AbstractContextManager[Capture]:
        """Record what the stream is given inside the block, without running it.

        A block that raises leaves no graph behind. Raises BackendError where ``captures`` is False.
        """

    @abstractmethod
    def load(self, image: bytes) -> Module:
        """Load a cubin or PTX, which need not end with a NUL."""


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
        """Enqueue a kernel.

        Args:
            kernel: its name in the image.
            grid: blocks in x, y, z. block: threads in x, y, z.
            arguments: in the kernel's order; an ``int`` is a device address, other numbers are NumPy scalars of the
                parameter's type (``np.int32(3)``).
            shared_bytes: dynamic shared memory of a block.
        """


def open_cuda(device: int = 0, library: str | None = None) -> Cuda:
    """Open a device, on the calling thread, with the first library that loads.

    Args:
        device: its number, as CUDA counts: from 0, among those that CUDA_VISIBLE_DEVICES leaves.
        library: one of ``LIBRARIES``; None tries all in that order.

    Raises:
        SettingsError: no such library.
        MissingDependencyError: a library is not installed, or does not load.
        BackendError: there is no driver, it is too old, or there is no such device.
    """
    if library is not None and library not in LIBRARIES:
        raise SettingsError(
            "cannot open CUDA",
            seen=f"library {library!r}, expected one of {', '.join(LIBRARIES)}",
            cause="a name that is not a CUDA library we can use",
            fix=f"use {' or '.join(LIBRARIES)}, or leave it out",
        )
    reasons: dict[str, MissingDependencyError] = {}
    for name in [library] if library else LIBRARIES:
        module, implementation = LIBRARIES[name]
        opener = getattr(importlib.import_module(module), implementation)
        try:
            return cast(Cuda, opener(device))
        except MissingDependencyError as error:
            reasons[name] = error
    raise _missing(reasons)


def _missing(reasons: dict[str, MissingDependencyError]) -> BackendError | MissingDependencyError:
    """Why no library could be loaded: a driver that is not there comes first, since it is why others fail."""
    seen = "; ".join(f"{name}: {error.seen}" for name, error in reasons.items())
    return no_driver(seen) or MissingDependencyError(
        "cannot open CUDA",
        seen=seen,
        cause="no CUDA library for Python is installed, or what is installed does not fit the driver",
        fix="pip install cuda-bindings   (a wheel; pycuda, built for this driver, serves as well)",
    )


def no_driver(seen: str) -> BackendError | None:
    """The error of a machine where the driver's library does not load; None where it does."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError as error:
        return BackendError(
            "cannot open CUDA",
            seen=f"{error} ({seen})",
            cause="this machine has no NVIDIA GPU, or its driver is not installed",
            fix="install the NVIDIA driver (nvidia-smi shows it)",
        )
    return None


def check_device(device: int, count: int) -> None:
    """Raise unless the device is among those that are there.

    Raises:
        BackendError: no such device.
    """
    if not 0 <= device < count:
        raise cuda_error(
            f"open GPU {device}",
            "CUDA_ERROR_INVALID_DEVICE" if count else "CUDA_ERROR_NO_DEVICE",
            f"{count} GPU(s) visible" + (f", expected a number from 0 to {count - 1}" if count else ""),
        )


def check_size(nbytes: int) -> int:
    """The size of an allocation, in bytes.

    Raises:
        BackendError: zero or less, which CUDA refuses.
    """
    if nbytes < 1:
        raise cuda_error(f"allocate {nbytes} bytes", "CUDA_ERROR_INVALID_VALUE", "expected at least one byte")
    return nbytes


def check_host_array(array: NDArray[Any], *, writable: bool) -> None:
    """Raise unless a copy can go through the array's memory as it lies.

    Raises:
        BackendError: strided, or read-only although it is to be written.
    """
    if array.flags.c_contiguous and (array.flags.writeable or not writable):
        return
    raise BackendError(
        "cannot copy between host and device",
        seen=f"{array.dtype} {list(array.shape)}, {'read-only' if array.flags.c_contiguous else 'strided'}",
        cause="a copy goes through memory as it lies, from the first byte to the last",
        fix="give a C-contiguous array, writable if it is the target",
    )


def check_arguments(kernel: str, arguments: Sequence[Any]) -> None:
    """Raise unless every argument says how many bytes it has.

    Raises:
        BackendError: a Python number other than an address, or something else.
    """
    for index, argument in enumerate(arguments):
        if isinstance(argument, bool) or not isinstance(argument, int | np.number):
            raise BackendError(
                f"cannot launch {kernel}",
                seen=f"argument {index} is {argument!r}, expected an address (int) or a NumPy scalar",
                cause="a kernel reads its arguments as bytes, and only those types tell how many",
                fix=f"wrap it in the type of the kernel's parameter {index}, as np.int32(3)",
            )
