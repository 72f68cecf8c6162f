"""CUDA through cuda-python (NVIDIA's cuda.bindings): a wheel, which imports without a driver and has graphs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import BackendError
from vidgen.runtime.cuda import (
    Capture,
    Cuda,
    DeviceMemory,
    Event,
    Graph,
    Module,
    PinnedMemory,
    Stream,
    check_arguments,
    check_device,
    check_host_array,
    check_size,
    no_driver,
)
from vidgen.runtime.cuda_errors import RUNTIME_ERRORS, cuda_error, size_text

#: The driver's functions that are called, by name; a test looks each of them up.
CALLS = (
    "cuInit cuDriverGetVersion cuDeviceGetCount cuDeviceGet cuDeviceGetName cuDeviceGetAttribute "
    "cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease cuCtxPushCurrent cuCtxPopCurrent cuCtxGetCurrent cuMemGetInfo "
    "cuMemAlloc cuMemFree cuMemHostAlloc cuMemFreeHost cuMemcpyHtoDAsync cuMemcpyDtoHAsync "
    "cuStreamCreate cuStreamDestroy cuStreamSynchronize cuStreamWaitEvent "
    "cuEventCreate cuEventDestroy cuEventRecord cuEventSynchronize cuEventQuery cuEventElapsedTime "
    "cuStreamBeginCapture cuStreamEndCapture cuGraphInstantiate cuGraphLaunch cuGraphExecDestroy cuGraphDestroy "
    "cuModuleLoadData cuModuleUnload cuModuleGetFunction cuLaunchKernel"
).split()


class _Driver:
    """cuda.bindings.driver, with results in place of tuples and our errors in place of codes."""

    def __init__(self) -> None:
        self.bindings = require("cuda.bindings.driver", "drive the GPU")

    def __call__(self, doing: str, function: str, *arguments: Any) -> Any:
        """What the function of that name returns beside its status: nothing, a value, or a tuple of several."""
        try:
            status, *values = getattr(self.bindings, function)(*arguments)
        except RuntimeError as error:
            # The library to load, or a function in it, is not there.
            raise self._unusable(doing, error) from error
        except ValueError as error:
            # "35 is not a valid CUresult"
            number = str(error).split(" ")[0]
            if not number.isdecimal():
                raise
            raise cuda_error(doing, RUNTIME_ERRORS.get(int(number), f"CUDA error {number}")) from error
        if int(status):
            raise cuda_error(doing, str(status.name))
        return values[0] if len(values) == 1 else tuple(values)

    @staticmethod
    def _unusable(doing: str, error: Exception) -> BackendError:
        return no_driver(str(error)) or cuda_error(doing, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", str(error))


class _DeviceMemory(DeviceMemory):
    def __init__(self, driver: _Driver, nbytes: int) -> None:
        try:
            made = driver(f"allocate {size_text(nbytes)} on the device", "cuMemAlloc", nbytes)
        except BackendError as error:
            free, total = driver("ask for memory", "cuMemGetInfo")
            error.seen += f"; {size_text(free)} of {size_text(total)} are free"
            raise
        self._driver, self.address, self.nbytes = driver, int(made), nbytes

    def close(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._driver("free device memory", "cuMemFree", address)


class _PinnedMemory(PinnedMemory):
    def __init__(self, driver: _Driver, nbytes: int) -> None:
        doing = f"allocate {size_text(nbytes)} of pinned host memory"
        self._driver, self._address = driver, int(driver(doing, "cuMemHostAlloc", nbytes, 0))
        self.nbytes = nbytes
        self.array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self._address))

    def close(self) -> None:
        address, self._address = self._address, 0
        self.array = np.empty(0, np.uint8)
        if address:
            self._driver("free pinned memory", "cuMemFreeHost", address)


class _Event(Event):
    def __init__(self, driver: _Driver, timing: bool) -> None:
        flags = driver.bindings.CUevent_flags
        flag = flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING
        self._driver, self.raw = driver, driver("make an event", "cuEventCreate", int(flag))

    def record(self, stream: Stream) -> None:
        self._driver("record an event", "cuEventRecord", self.raw, stream.handle)

    def synchronize(self) -> None:
        self._driver("wait for an event", "cuEventSynchronize", self.raw)

    def done(self) -> bool:
        bindings = self._driver.bindings
        (status,) = bindings.cuEventQuery(self.raw)
        if status == bindings.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if int(status):
            raise cuda_error("query an event", str(status.name))
        return True

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        return float(self._driver("time between events", "cuEventElapsedTime", earlier.raw, self.raw))

    def close(self) -> None:
        raw, self.raw = self.raw, None
        if raw is not None:
            self._driver("destroy an event", "cuEventDestroy", raw)


class _Stream(Stream):
    def __init__(self, driver: _Driver, handle: int, owned: bool) -> None:
        self._driver, self.handle, self._owned = driver, handle, owned

    def synchronize(self) -> None:
        self._driver("wait for a stream", "cuStreamSynchronize", self.handle)

    def wait(self, event: Event) -> None:
        assert isinstance(event, _Event)
        self._driver("let a stream wait", "cuStreamWaitEvent", self.handle, event.raw, 0)

    def close(self) -> None:
        owned, self._owned = self._owned, False
        if owned:
            self._driver("destroy a stream", "cuStreamDestroy", self.handle)


class _Graph(Graph):
    def __init__(self, driver: _Driver, executable: Any) -> None:
        self._driver, self._executable = driver, executable

    def launch(self, stream: Stream) -> None:
        self._driver("launch a graph", "cuGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            self._driver("destroy a graph", "cuGraphExecDestroy", executable)


class _Module(Module):
    def __init__(self, driver: _Driver, image: bytes) -> None:
        self._driver = driver
        self._module = driver("load a compiled kernel", "cuModuleLoadData", image + b"\0")
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
        check_arguments(kernel, arguments)
        if kernel not in self._functions:
            name = kernel.encode()
            self._functions[kernel] = self._driver(f"find {kernel}", "cuModuleGetFunction", self._module, name)
        function = self._functions[kernel]
        # The driver reads the arguments during the call: cells and pointers to them live that long.
        cells = [np.array(np.uint64(value) if isinstance(value, int) else value) for value in arguments]
        pointers = np.array([cell.ctypes.data for cell in cells], np.uint64)
        config = (*grid, *block, shared_bytes, stream.handle, pointers.ctypes.data, 0)
        self._driver(f"launch {kernel} on grid {grid}, block {block}", "cuLaunchKernel", function, *config)

    def close(self) -> None:
        module, self._module = self._module, None
        self._functions.clear()
        if module is not None:
            self._driver("unload a compiled kernel", "cuModuleUnload", module)


class CudaPython(Cuda):
    """See :class:`vidgen.runtime.cuda.Cuda`.

    Raises:
        MissingDependencyError: cuda.bindings is not installed.
        BackendError: no driver, or no such device.
    """

    name = "cuda-python"
    captures = True

    def __init__(self, device: int) -> None:
        self._driver = driver = _Driver()
        self._context: Any = None
        driver("start CUDA", "cuInit", 0)
        check_device(device, driver("count GPUs", "cuDeviceGetCount"))
        self._device = driver("find the GPU", "cuDeviceGet", device)
        raw = driver("name the GPU", "cuDeviceGetName", 256, self._device)
        self.device_name = raw.split(b"\0")[0].decode(errors="replace")
        attributes = driver.bindings.CUdevice_attribute
        major, minor = (
            driver("ask the GPU", "cuDeviceGetAttribute", attribute, self._device)
            for attribute in (
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.architecture = f"sm_{major}{minor}"
        self._context = driver("open the GPU", "cuDevicePrimaryCtxRetain", self._device)
        driver("open the GPU", "cuCtxPushCurrent", self._context)

    def describe(self) -> dict[str, str]:
        version = self._driver("ask for the driver's version", "cuDriverGetVersion")
        _, total = self._driver("ask for memory", "cuMemGetInfo")
        return {
            "library": f"{self.name} {importlib.metadata.version('cuda-bindings')}",
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
        flag = self._driver.bindings.CUstream_flags.CU_STREAM_NON_BLOCKING
        return _Stream(self._driver, int(self._driver("make a stream", "cuStreamCreate", int(flag))), True)

    def borrow(self, handle: int) -> Stream:
        return _Stream(self._driver, handle, False)

    def event(self, *, timing: bool = False) -> Event:
        return _Event(self._driver, timing)

    def to_device(self, target: int, source: NDArray[Any], stream: Stream) -> None:
        check_host_array(source, writable=False)
        copy = (target, source.ctypes.data, source.nbytes, stream.handle)
        self._driver(f"copy {size_text(source.nbytes)} to the device", "cuMemcpyHtoDAsync", *copy)

    def to_host(self, target: NDArray[Any], source: int, stream: Stream) -> None:
        check_host_array(target, writable=True)
        copy = (target.ctypes.data, source, target.nbytes, stream.handle)
        self._driver(f"copy {size_text(target.nbytes)} to the host", "cuMemcpyDtoHAsync", *copy)

    @contextlib.contextmanager
    def capture(self, stream: Stream) -> Iterator[Capture]:
        # Calls that would disturb the capture are refused on this thread alone: other libraries may go on on theirs.
        mode = self._driver.bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._driver("capture a stream", "cuStreamBeginCapture", stream.handle, mode)
        capture = Capture()
        try:
            yield capture
        except BaseException:
            # The stream must leave the capture, whatever became of it.
            status, graph = self._driver.bindings.cuStreamEndCapture(stream.handle)
            if not int(status) and int(graph):
                self._driver("destroy a graph", "cuGraphDestroy", graph)
            raise
        graph = self._driver("capture a stream", "cuStreamEndCapture", stream.handle)
        try:
            capture.graph = _Graph(self._driver, self._driver("make a graph", "cuGraphInstantiate", graph, 0))
        finally:
            self._driver("destroy a graph", "cuGraphDestroy", graph)

    def load(self, image: bytes) -> Module:
        return _Module(self._driver, image)

    def close(self) -> None:
        context, self._context = self._context, None
        if context is None:
            return
        # Another library may have put its own context on top; that one is not ours to take away.
        if int(self._driver("close the GPU", "cuCtxGetCurrent")) == int(context):
            self._driver("close the GPU", "cuCtxPopCurrent")
        self._driver("close the GPU", "cuDevicePrimaryCtxRelease", self._device)
