"""Mistakes that a GPU would not forgive, or worse, would: each is made under the host driver, which must catch it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import numpy as np
from host_cuda import inside
from host_cuda.scenarios import PTX

from vidgen.plugins.sepconv_trt.geometry import launch_geometry
from vidgen.runtime.cuda import Cuda, Module, Stream, open_cuda


@contextlib.contextmanager
def _device(library: str) -> Iterator[tuple[Cuda, Stream]]:
    """A device and a stream; after the mistake nothing can be closed any more, and need not be."""
    cuda = open_cuda(0, library)
    yield cuda, cuda.stream()


def copy_to_freed_memory(library: str) -> None:
    with _device(library) as (cuda, stream):
        memory = cuda.allocate(64)
        address = memory.address
        memory.close()
        cuda.to_device(address, np.zeros(16, np.float32), stream)


def copy_past_the_end(library: str) -> None:
    with _device(library) as (cuda, stream):
        cuda.to_device(cuda.allocate(60).address, np.zeros(16, np.float32), stream)


def copy_past_the_end_of_pinned_memory(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned = cuda.pinned(60)
        longer = np.lib.stride_tricks.as_strided(pinned.array, (64,), (1,))
        cuda.to_host(longer, cuda.allocate(64).address, stream)


def free_device_memory_in_flight(library: str) -> None:
    with _device(library) as (cuda, stream):
        memory = cuda.allocate(64)
        cuda.to_device(memory.address, np.zeros(16, np.float32), stream)
        memory.close()


def free_pinned_memory_in_flight(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned = cuda.pinned(64)
        cuda.to_device(cuda.allocate(64).address, pinned.array, stream)
        pinned.close()


def free_twice(library: str) -> None:
    with _device(library) as (cuda, _):
        memory = cuda.allocate(64)
        address = memory.address
        memory.close()
        ctypes.CDLL("libcuda.so.1").cuMemFree_v2(ctypes.c_uint64(address))


def change_a_source_in_flight(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned = cuda.pinned(64)
        pinned.array[:] = 1
        cuda.to_device(cuda.allocate(64).address, pinned.array, stream)
        pinned.array[:] = 2
        stream.synchronize()


def write_a_target_in_flight(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned = cuda.pinned(64)
        cuda.to_host(pinned.array, cuda.allocate(64).address, stream)
        pinned.array[:] = 2
        stream.synchronize()


def two_streams_into_one_slot(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned, memory = cuda.pinned(64), cuda.allocate(64)
        cuda.to_host(pinned.array, memory.address, stream)
        cuda.to_host(pinned.array, memory.address, cuda.stream())


def touch_the_device_from_the_host(library: str) -> None:
    with _device(library) as (cuda, _):
        inside.view(cuda.allocate(64).address, np.float32, [16])[3] = 1


def engine_touches_undeclared_memory(library: str) -> None:
    with _device(library) as (cuda, stream):
        one, other = cuda.allocate(64), cuda.allocate(64)

        def work() -> None:
            inside.view(other.address, np.float32, [16])[:] = 1

        inside.enqueue(stream.handle, work, writes=[(one.address, 64)], what="the engine")
        stream.synchronize()


def engine_writes_beside(library: str) -> None:
    with _device(library) as (cuda, stream):
        memory = cuda.allocate(60)

        def work() -> None:
            inside.view(memory.address, np.float32, [16])[:] = 1

        inside.enqueue(stream.handle, work, writes=[(memory.address, 60)], what="the engine")
        stream.synchronize()


def _convolve(cuda: Cuda, stream: Stream, output_bytes: int, freed: bool = False, grown: int = 0) -> Module:
    """A launch of the 1x1x8x16 convolution with K=5; with a mistake."""
    launch = launch_geometry("forward", 1, 1, 8, 16, 5, "float32")
    sizes = [4 * 12 * 20, 4 * 5 * 8 * 16, 4 * 5 * 8 * 16, output_bytes]
    memory = [cuda.allocate(size) for size in sizes]
    addresses = [where.address for where in memory]
    if freed:
        memory[0].close()
    module = cuda.load(PTX.format(entry=launch.plan.entry).encode())
    arguments = [*addresses[:3], *(np.int32(size) for size in (1, 8 + grown, 16)), addresses[3]]
    module.launch(launch.plan.entry, launch.grid, launch.block, arguments, stream)
    return module


def kernel_writes_past_the_end(library: str) -> None:
    with _device(library) as (cuda, stream):
        _convolve(cuda, stream, 4 * 8 * 16 - 4)
        stream.synchronize()


def kernel_reads_far_past_the_end(library: str) -> None:
    with _device(library) as (cuda, stream):
        _convolve(cuda, stream, 4 * 8 * 16, grown=4000)
        stream.synchronize()


def kernel_is_given_freed_memory(library: str) -> None:
    with _device(library) as (cuda, stream):
        _convolve(cuda, stream, 4 * 8 * 16, freed=True)


def kernel_gets_a_wide_argument(library: str) -> None:
    """A size as 64 bits: with one buffer of arguments, all that follows is shifted."""
    with _device(library) as (cuda, stream):
        launch = launch_geometry("forward", 1, 1, 8, 16, 5, "float32")
        module = cuda.load(PTX.format(entry=launch.plan.entry).encode())
        addresses = [cuda.allocate(4096).address for _ in range(4)]
        arguments = [*addresses[:3], np.int32(1), np.int32(8), np.int64(16), np.int64(16), addresses[3]]
        module.launch(launch.plan.entry, launch.grid, launch.block, arguments, stream)


def unload_a_module_in_flight(library: str) -> None:
    with _device(library) as (cuda, stream):
        module = _convolve(cuda, stream, 4 * 8 * 16)
        module.close()


def replay_into_freed_memory(library: str) -> None:
    with _device(library) as (cuda, stream):
        pinned, memory = cuda.pinned(64), cuda.allocate(64)
        with cuda.capture(stream) as capture:
            cuda.to_device(memory.address, pinned.array, stream)
        memory.close()
        capture.graph.launch(stream)


def destroy_a_stream_and_use_it(library: str) -> None:
    with _device(library) as (cuda, _), inside.foreign_stream() as handle:
        stream = cuda.borrow(handle)
        ctypes.CDLL("libcuda.so.1").cuStreamDestroy_v2(ctypes.c_void_p(handle))
        cuda.event().record(stream)


def read_too_early(library: str) -> tuple[int, int]:
    """A byte of a target before its copy is done, and afterwards."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        stream, memory = stack.enter_context(cuda.stream()), stack.enter_context(cuda.allocate(64))
        pinned = stack.enter_context(cuda.pinned(64))
        cuda.to_device(memory.address, np.full(64, 7, np.uint8), stream)
        cuda.to_host(pinned.array, memory.address, stream)
        early = int(pinned.array[0])
        stream.synchronize()
        return early, int(pinned.array[0])


def forget(library: str, what: str) -> None:
    """Leave one thing open; in a graph's case what was captured was instantiated and the copy of it closed."""
    cuda = open_cuda(0, library)
    stream = cuda.stream()
    kept: list[object] = []
    if what == "device memory":
        kept.append(cuda.allocate(4))
    elif what == "pinned memory":
        kept.append(cuda.pinned(4))
    elif what == "event":
        kept.append(cuda.event())
    elif what == "module":
        kept.append(cuda.load(PTX.format(entry="one").encode()))
    elif what == "executable graph":
        with cuda.capture(stream) as capture:
            pass
        kept.append(capture.graph)
    elif what == "stream":
        kept.append(cuda.stream())
    stream.close()
    if what != "the primary context":
        cuda.close()
