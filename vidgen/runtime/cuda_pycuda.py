"""CUDA through pycuda, which is built against one CUDA version and loads only where a driver is. It has no graphs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import BackendError
from vidgen.runtime.cuda import (
    DRIVER,
    Capture,
    Cuda,
    DeviceMemory,
    Event,
    Module,
    PinnedMemory,
    Stream,
    check_arguments,
    check_device,
    check_host_array,
    check_size,
)
from vidgen.runtime.cuda_errors import cuda_error, size_text

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda has no name for


class _Driver:
    """pycuda.driver, with our errors in place of its own, and the few functions of the driver that it leaves out."""

    def __init__(self) -> None:
        self.pycuda = require("pycuda.driver", "drive the GPU")
        self.native = ctypes.CDLL(DRIVER)

    def __call__(self, doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The result of a function of pycuda's."""
        try:
            return function(*arguments, **options)
        except self.pycuda.Error as error:
            # "cuMemAlloc failed: out of memory", perhaps " - and a log".
            text = str(error).partition(" failed: ")[2]
            raise cuda_error(doing, self._name(text.partition(" - ")[0]), str(error)) from error

    def call(self, doing: str, function: str, *arguments: Any) -> None:
        """Call a function of the driver's that pycuda lacks."""
        status = getattr(self.native, function)(*arguments)
        if status:
            raise cuda_error(doing, self._text("cuGetErrorName", status) or f"CUDA error {status}")

    def _name(self, description: str) -> str:
        """CUDA's name of the error it describes so: pycuda keeps neither name nor number."""
        for status in range(1, 1000):
            if self._text("cuGetErrorString", status) == description:
                return self._text("cuGetErrorName", status) or description
        return description or "an error without a name"

    def _text(self, function: str, status: int) -> str:
        text = ctypes.c_char_p()
        getattr(self.native, function)(status, ctypes.byref(text))
        return (text.value or b"").decode(errors="replace")


class _DeviceMemory(DeviceMemory):
    def __init__(self, driver: _Driver, nbytes: int) -> None:
        doing = f"allocate {size_text(nbytes)} on the device"
        try:
            self._memory = driver(doing, driver.pycuda.mem_alloc, nbytes)
        except BackendError as error:
            free, total = driver("ask for memory", driver.pycuda.mem_get_info)
            error.seen += f"; {size_text(free)} of {size_text(total)} are free"
            raise
        self._driver, self.address, self.nbytes = driver, int(self._memory), nbytes

    def close(self) -> None:
        memory, self._memory = self._memory, None
        self.address = 0
        if memory is not None:
            self._driver("free device memory", memory.free)


class _PinnedMemory(PinnedMemory):
    def __init__(self, driver: _Driver, nbytes: int) -> None:
        doing = f"allocate {size_text(nbytes)} of pinned host memory"
        self.array = driver(doing, driver.pycuda.pagelocked_empty, nbytes, np.uint8)
        self._memory: Any = self.array.base
        self._driver, self.nbytes = driver, nbytes

    def close(self) -> None:
        memory, self._memory = self._memory, None
        self.array = np.empty(0, np.uint8)
        if memory is not None:
            self._driver("free pinned memory", memory.free)


class _Stream(Stream):
    """A stream of pycuda's; ``use`` gives it to each call that enqueues something."""

    def __init__(self, driver: _Driver, raw: Any) -> None:
        self._driver, self._raw, self.handle = driver, raw, int(raw.handle)

    def use(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext(self._raw)

    def synchronize(self) -> None:
        with self.use() as raw:
            self._driver("wait for a stream", raw.synchronize)

    def wait(self, event: Event) -> None:
        assert isinstance(event, _Event)
        with self.use() as raw:
            self._driver("let a stream wait", raw.wait_for_event, event.raw)

    def close(self) -> None:
        self._raw = None  # pycuda destroys it with the last reference


class _ForeignStream(_Stream):
    """A stream of somebody else's, which pycuda cannot be given.

    What is enqueued goes to a stream of pycuda's beside it. That one waits for the foreign stream before and the
    foreign stream waits for it afterwards: the same order, and right inside a capture of the foreign stream too.
    """

    def __init__(self, driver: _Driver, handle: int, beside: Any) -> None:
        super().__init__(driver, beside)
        self.handle = handle

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        beside = int(self._raw.handle)
        self._order(self.handle, beside)
        yield self._raw
        self._order(beside, self.handle)

    def _order(self, first: int, then: int) -> None:
        """What ``then`` is given from now on comes after what ``first`` was given."""
        event, disable_timing = ctypes.c_void_p(), 2
        doing = "enqueue on another library's stream"
        self._driver.call(doing, "cuEventCreate", ctypes.byref(event), disable_timing)
        try:
            self._driver.call(doing, "cuEventRecord", event, ctypes.c_void_p(first))
            self._driver.call(doing, "cuStreamWaitEvent", ctypes.c_void_p(then), event, 0)
        finally:
            self._driver.call(doing, "cuEventDestroy_v2", event)


class _Event(Event):
    def __init__(self, driver: _Driver, timing: bool) -> None:
        flags = driver.pycuda.event_flags
        flag = flags.DEFAULT if timing else flags.BLOCKING_SYNC | flags.DISABLE_TIMING
        self._driver, self.raw = driver, driver("make an event", driver.pycuda.Event, flag)

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with stream.use() as raw:
            self._driver("record an event", self.raw.record, raw)

    def synchronize(self) -> None:
        self._driver("wait for an event", self.raw.synchronize)

    def done(self) -> bool:
        return bool(self._driver("query an event", self.raw.query))

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        return float(self._driver("time between events", self.raw.time_since, earlier.raw))

    def close(self) -> None:
        self.raw = None  # pycuda destroys it with the last reference


class _Module(Module):
    def __init__(self, driver: _Driver, image: bytes) -> None:
        self._driver = driver
        self._module = driver("load a compiled kernel", driver.pycuda.module_from_buffer, image + b"\0")
        self._functions: dict[str, Any] = {}

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
        assert isinstance(stream, _Stream)
        check_arguments(kernel, arguments)
        if kernel not in self._functions:
            self._functions[kernel] = self._driver(f"find {kernel}", self._module.get_function, kernel)
        function = self._functions[kernel]
        values = [np.uint64(value) if isinstance(value, int) else value for value in arguments]
        with stream.use() as raw:
            config = {"grid": grid, "block": block, "shared": shared_bytes, "stream": raw}
            self._driver(f"launch {kernel} on grid {grid}, block {block}", function, *values, **config)

    def close(self) -> None:
        self._functions.clear()
        self._module = None  # pycuda unloads it with the last reference


class Pycuda(Cuda):
    """See :class:`vidgen.runtime.cuda.Cuda`.

    Raises:
        MissingDependencyError: pycuda is not installed, or does not load: there is no driver, or another version.
        BackendError: no such device.
    """

    name = "pycuda"
    captures = False

    def __init__(self, device: int) -> None:
        self._driver = driver = _Driver()
        library = driver.pycuda
        driver("start CUDA", library.init)
        check_device(device, driver("count GPUs", library.Device.count))
        gpu = driver("find the GPU", library.Device, device)
        self.device_name = str(driver("name the GPU", gpu.name))
        self.architecture = "sm_{}{}".format(*driver("ask the GPU", gpu.compute_capability))
        self._streams: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()
        context = driver("open the GPU", gpu.retain_primary_context)
        driver("open the GPU", context.push)
        # pycuda ends the process with an abort when a context is still open at exit.
        self._close = weakref.finalize(self, _release, driver, context, device, threading.get_ident())

    def describe(self) -> dict[str, str]:
        version = self._driver("ask for the driver's version", self._driver.pycuda.get_driver_version)
        _, total = self._driver("ask for memory", self._driver.pycuda.mem_get_info)
        return {
            "library": f"{self.name} {importlib.metadata.version('pycuda')}",
            "driver": f"{version // 1000}.{version % 1000 // 10}",
            "device": self.device_name,
            "architecture": self.architecture,
            "memory": size_text(total),
        }

    def allocate(self, nbytes: int) -> DeviceMemory:
        return _DeviceMemory(self._driver, check_size(nbytes))

    def pinned(self, nbytes: int) -> PinnedMemory:
        return _PinnedMemory(self._driver, check_size(nbytes))

    def stream(self) -> Stream:
        stream = _Stream(self._driver, self._raw_stream())
        self._streams[stream.handle] = stream
        return stream

    def borrow(self, handle: int) -> Stream:
        # A library that was given our own stream's handle gives it back: no detour for that.
        own = self._streams.get(handle)
        if own is not None and own._raw is not None:
            return _Stream(self._driver, own._raw)
        return _ForeignStream(self._driver, handle, self._raw_stream())

    def _raw_stream(self) -> Any:
        return self._driver("make a stream", self._driver.pycuda.Stream, NON_BLOCKING)

    def event(self, *, timing: bool = False) -> Event:
        return _Event(self._driver, timing)

    def to_device(self, target: int, source: NDArray[Any], stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        check_host_array(source, writable=False)
        with stream.use() as raw:
            copy = self._driver.pycuda.memcpy_htod_async
            self._driver(f"copy {size_text(source.nbytes)} to the device", copy, target, source, raw)

    def to_host(self, target: NDArray[Any], source: int, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        check_host_array(target, writable=True)
        with stream.use() as raw:
            copy = self._driver.pycuda.memcpy_dtoh_async
            self._driver(f"copy {size_text(target.nbytes)} to the host", copy, target, source, raw)

    def capture(self, stream: Stream) -> AbstractContextManager[Capture]:
        raise BackendError(
            "cannot capture a CUDA graph",
            seen="pycuda, expected cuda-python",
            cause="pycuda has no CUDA graphs",
            fix="pip install cuda-bindings, and open_cuda(library='cuda-python')",
        )

    def load(self, image: bytes) -> Module:
        return _Module(self._driver, image)

    def close(self) -> None:
        self._close()


def _release(driver: _Driver, context: Any, device: int, thread: int) -> None:
    """Undo retaining and pushing the primary context."""
    if threading.get_ident() != thread:
        return  # pycuda gives a context back on its own thread alone
    doing, gpu, popped = "close the GPU", ctypes.c_int(), ctypes.c_void_p()
    driver(doing, context.pop)
    # pycuda's detach pushes the context, releases it and leaves it there: held once more, it can be popped.
    driver.call(doing, "cuDeviceGet", ctypes.byref(gpu), device)
    driver.call(doing, "cuDevicePrimaryCtxRetain", ctypes.byref(popped), gpu)
    try:
        driver(doing, context.detach)
        driver.call(doing, "cuCtxPopCurrent_v2", ctypes.byref(popped))
    finally:
        driver.call(doing, "cuDevicePrimaryCtxRelease_v2", gpu)
