"""What the TensorRT backend does over a real CUDA library and the host driver; each runs in a child process."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from host_cuda import inside
from numpy.typing import NDArray
from support.fake_tensorrt import FakeTensorRT, Ranges

from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend, Batch
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.cuda import open_cuda
from vidgen.runtime.latents import latents
from vidgen.runtime.sampler import Sampler

Shape = tuple[int, int]  # videos, frames


class HostDevice:
    """The host driver as the fake TensorRT wants it."""

    def __init__(self, architecture: str = "sm_89") -> None:
        self.architecture = architecture

    def is_capturing(self, stream: int) -> bool:
        status = ctypes.c_int()
        driver = ctypes.CDLL("libcuda.so.1")
        assert driver.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)) == 0
        return status.value != 0

    def enqueue(self, stream: int, work: Callable[[], None], reads: Ranges, writes: Ranges) -> None:
        inside.enqueue(stream, work, reads=reads, writes=writes, what="the engine")

    def view(self, address: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        return inside.view(address, dtype, shape)


@contextlib.contextmanager
def machine(library: str, name: str) -> Iterator[FakeTensorRT]:
    """The fake TensorRT in the place of the real one, and a CUDA library for Python."""
    trt = FakeTensorRT(HostDevice(), name)
    module = "vidgen.runtime.backends.tensorrt"
    with (
        mock.patch(f"{module}.open_cuda", lambda device: open_cuda(device, library)),
        mock.patch(f"{module}.load_tensorrt", lambda asked, purpose: trt.library),
    ):
        yield trt


def _batch(backend: Backend, first: int, shape: Shape) -> Batch:
    interface = backend.manifest.interface
    inputs = latents(interface, 0, range(first, first + shape[0]), frames=shape[1])
    sizes = {"batch": shape[0], "frames": shape[1]}
    return Batch(inputs, np.empty(interface.output.resolve(**sizes), interface.output.dtype))


def _wrong(backend: Backend, given: Batch) -> int:
    """Values that are not those of the model."""
    right = np.empty_like(given.output)
    FakeBackend(backend.manifest).run(given.inputs, right)
    return int(np.count_nonzero(given.output != right))


def stream(
    plan: Path, library: str, name: str, shapes: Sequence[Shape], bug: str = ""
) -> tuple[int, dict[str, int], str]:
    """Batches of these shapes one after the other: wrong values, calls of the driver, what the backend says.

    Args:
        bug: a wait to leave out: "compute waits for upload", "download waits for compute" or "host waits for frames".
    """
    with machine(library, name), open_backend(plan) as backend:
        loop = backend._loop  # type: ignore[attr-defined]
        if bug:
            _leave_out(loop, bug)
        given = (_batch(backend, 8 * number, shape) for number, shape in enumerate(shapes))
        wrong = sum(_wrong(backend, done) for done in backend.run_many(given))
        names = ("cuGraphLaunch", "cuEventSynchronize", "cuStreamSynchronize", "cuMemAlloc", "cuMemHostAlloc")
        calls = {name: inside.calls(name) for name in names}
        described = backend.describe()["device"]
    inside.raise_failure()
    return wrong, calls, described


def _leave_out(loop: Any, bug: str) -> None:
    if bug == "host waits for frames":
        loop._lanes.oldest = lambda: loop._lanes._full[0]
        return
    stream = loop._streams.compute if bug.startswith("compute") else loop._streams.download
    stream.wait = lambda event: None


def sample(plan: Path, library: str, name: str, n: int, batch: int) -> NDArray[np.uint8]:
    """Videos through the sampler."""
    with machine(library, name), Sampler.open(plan, batch=batch) as sampler:
        return sampler.sample(n, seed=5)


def without_memory(plan: Path, library: str, name: str) -> str:
    """The command that the error of a full device gives; then a batch that fits."""
    with machine(library, name), open_backend(plan) as backend:
        fix = ""
        try:
            backend.run(*_batch(backend, 0, (8, 16)))
        except Exception as error:
            fix = str(error)
        given = _batch(backend, 0, (2, 16))
        backend.run(*given)
        assert not _wrong(backend, given)
    return fix


def left_hanging(plan: Path, library: str, name: str) -> int:
    """An iterator that nobody finishes, another beside it, and the end: wrong values."""
    with machine(library, name), open_backend(plan) as backend:
        hanging = backend.run_many(_batch(backend, 2 * number, (2, 16)) for number in range(5))
        next(hanging)
        beside = backend.run_many(_batch(backend, 100 + number, (3, 20)) for number in range(3))
        return sum(_wrong(backend, next(iterator)) for iterator in (beside, hanging, beside))
