"""What functions that run under the host driver may ask of it, and how a fake engine puts work into a stream."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
#: Functions that work may still call: of a graph, any number of times.
_kept: list[Any] = []
_failures: list[BaseException] = []


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def enqueue(
    stream: int,
    function: Callable[[], None],
    *,
    reads: Sequence[tuple[int, int]] = (),
    writes: Sequence[tuple[int, int]] = (),
    what: str = "a host function",
) -> None:
    """Put a Python function into a stream, as an engine would its kernels; captured if the stream is.

    Args:
        stream: the handle.
        reads, writes: (address, bytes) of device memory; the function may touch no other.
    """

    def call(_: Any) -> None:
        try:
            function()
        except BaseException as error:
            _failures.append(error)

    kept = _CALLBACK(call)
    _kept.append(kept)
    ranges = [*reads, *writes]
    count = len(ranges)
    addresses = (ctypes.c_uint64 * count)(*(address for address, _ in ranges))
    sizes = (ctypes.c_size_t * count)(*(nbytes for _, nbytes in ranges))
    written = (ctypes.c_int * count)(*(index >= len(reads) for index in range(count)))
    arguments = (ctypes.c_void_p(stream), what.encode(), kept, None, count, addresses, sizes, written)
    status = _driver().hostCudaEnqueue(*arguments)
    if status:
        raise RuntimeError(f"the host driver refuses {what}: error {status}")


def view(address: int, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
    """Device memory as an array, which only a function that was put into a stream may touch."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype).reshape(tuple(shape))


@contextlib.contextmanager
def foreign_stream() -> Iterator[int]:
    """The handle of a stream that no library of Python's knows."""
    handle = ctypes.c_void_p()
    assert _driver().cuStreamCreate(ctypes.byref(handle), 1) == 0
    yield int(handle.value or 0)
    assert _driver().cuStreamDestroy_v2(handle) == 0


def calls(name: str) -> int:
    """How often an entry point was called so far; names without version: ``"cuMemAlloc"``."""
    return int(_driver().hostCudaCalls(name.encode()))


def alive(kind: str) -> int:
    """How many are alive: of memory, pinned, stream, event, module or graph."""
    return int(_driver().hostCudaAlive(kind.encode()))


def has_primary_context() -> bool:
    """Whether anybody holds the primary context of the first device."""
    flags, active = ctypes.c_uint(), ctypes.c_int()
    assert _driver().cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)) == 0
    return bool(active.value)


def has_current_context() -> bool:
    """Whether this thread still has a context."""
    context = ctypes.c_void_p()
    assert _driver().cuCtxGetCurrent(ctypes.byref(context)) == 0
    return context.value is not None


def raise_failure() -> None:
    """Raise what a function in a stream raised, where nobody could catch it."""
    if _failures:
        raise _failures[0]
