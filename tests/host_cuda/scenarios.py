"""What runs under the host driver in test_cuda.py: module-level functions, in a module that imports little."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from host_cuda import inside

from vidgen.plugins.sepconv_trt.geometry import Plan, launch_geometry
from vidgen.runtime.cuda import Cuda, open_cuda

#: PTX that names a kernel and has no code: the driver runs the kernel's emulation.
PTX = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry {entry}() {{ }}\n"


def round_trip(library: str, count: int) -> np.ndarray:
    """Up and down again through pinned memory, on two streams with an event between them."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        up, down, copied = (stack.enter_context(made) for made in (cuda.stream(), cuda.stream(), cuda.event()))
        memory = stack.enter_context(cuda.allocate(4 * count))
        source, target = (stack.enter_context(cuda.pinned(4 * count)) for _ in range(2))
        source.array.view(np.float32)[:] = np.arange(count)
        cuda.to_device(memory.address, source.array, up)
        copied.record(up)
        down.wait(copied)
        cuda.to_host(target.array, memory.address, down)
        down.synchronize()
        return target.array.view(np.float32).copy()


def ordinary_memory(library: str) -> np.ndarray:
    """Arrays that are not pinned: the copy may be late, the result is not."""
    with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.allocate(24) as memory:
        found = np.zeros(6, np.float32)
        cuda.to_device(memory.address, np.arange(6, dtype=np.float32).reshape(2, 3), stream)
        cuda.to_host(found, memory.address, stream)
        stream.synchronize()
        return found


def about(library: str | None) -> tuple[dict[str, str], str, str, bool]:
    """What the library says of the device."""
    with open_cuda(0, library) as cuda:
        return cuda.describe(), cuda.name, cuda.architecture, cuda.captures


def events(library: str) -> tuple[bool, bool, float]:
    """Done before anybody waited, done after, and the time between two."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        stream = stack.enter_context(cuda.stream())
        first, last = (stack.enter_context(cuda.event(timing=True)) for _ in range(2))
        plain = stack.enter_context(cuda.event())
        first.record(stream)
        last.record(stream)
        plain.record(stream)
        before = plain.done()
        plain.synchronize()
        return before, plain.done(), last.milliseconds_since(first)


def convolve(
    library: str, image: bytes | None, arrays: list[np.ndarray], dtype: Any, foreign: bool = False
) -> np.ndarray:
    """The separable convolution, launched with the geometry that every launcher uses.

    Args:
        image: a cubin or PTX; None takes PTX without code.
        foreign: on a stream that another library made.
    """
    batch, channels, height, width = arrays[0].shape[0], arrays[0].shape[1], *arrays[1].shape[2:]
    launch = launch_geometry("forward", batch, channels, height, width, arrays[1].shape[1], dtype)
    output = np.zeros((batch, channels, height, width), arrays[0].dtype)
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        stream = stack.enter_context(_other_stream(cuda) if foreign else cuda.stream())
        module = stack.enter_context(cuda.load(image or PTX.format(entry=launch.plan.entry).encode()))
        memory = [stack.enter_context(cuda.allocate(array.nbytes)) for array in (*arrays, output)]
        for array, where in zip(arrays, memory):
            cuda.to_device(where.address, array, stream)
        addresses = [where.address for where in memory]
        sizes = [np.int32(size) for size in (channels, height, width)]
        arguments = [*addresses[:3], *sizes, addresses[3]]
        module.launch(launch.plan.entry, launch.grid, launch.block, arguments, stream)
        cuda.to_host(output, addresses[3], stream)
        stream.synchronize()
        return output


@contextlib.contextmanager
def _other_stream(cuda: Cuda) -> Any:
    """A stream that the driver made without the library, borrowed."""
    with inside.foreign_stream() as handle:
        borrowed = cuda.borrow(handle)
        yield borrowed
        borrowed.close()


def order_across_a_foreign_stream(library: str) -> list[float]:
    """Values that a foreign stream's own work, ours on that stream, and ours on another leave in one number."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        memory = stack.enter_context(cuda.allocate(4))
        handle = stack.enter_context(inside.foreign_stream())
        theirs, ours = stack.enter_context(cuda.borrow(handle)), stack.enter_context(cuda.stream())
        done = stack.enter_context(cuda.event())
        seen: list[float] = []
        whole = [(memory.address, 4)]

        def note() -> None:
            seen.append(float(inside.view(memory.address, np.float32, [1])[0]))

        for value in (1, 2):
            cuda.to_device(memory.address, np.array([value], np.float32), theirs)
            inside.enqueue(handle, note, reads=whole)
        done.record(theirs)
        ours.wait(done)
        cuda.to_device(memory.address, np.array([3], np.float32), ours)
        done.record(ours)
        theirs.wait(done)
        inside.enqueue(handle, note, reads=whole)
        theirs.synchronize()
        return seen


def ring(library: str, slots: int, batches: int, bug: str = "") -> list[np.ndarray]:
    """The shape of the device-resident loop: latents up, work, frames down into pinned slots that are used again.

    Args:
        bug: what to leave out: "upload waits for compute", "compute waits for upload", "download waits for compute",
            "compute waits for download" or "host waits for download".
    """
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        up, compute, down = (stack.enter_context(cuda.stream()) for _ in range(3))
        latents = stack.enter_context(cuda.allocate(16))
        frames = stack.enter_context(cuda.allocate(16))
        sources = [stack.enter_context(cuda.pinned(16)) for _ in range(slots)]
        targets = [stack.enter_context(cuda.pinned(16)) for _ in range(slots)]
        uploaded, computed, downloaded = ([stack.enter_context(cuda.event()) for _ in range(slots)] for _ in range(3))
        results: list[np.ndarray] = []

        def work() -> None:
            inside.view(frames.address, np.float32, [4])[:] = 2 * inside.view(latents.address, np.float32, [4])

        def collect(slot: int) -> None:
            if bug != "host waits for download":
                downloaded[slot].synchronize()
            results.append(targets[slot].array.view(np.float32).copy())

        for batch in range(batches):
            slot, before = batch % slots, (batch - 1) % slots
            if batch >= slots:
                collect(slot)  # then its upload is done too
            sources[slot].array.view(np.float32)[:] = batch + np.arange(4)
            if batch and bug != "upload waits for compute":
                up.wait(computed[before])
            cuda.to_device(latents.address, sources[slot].array, up)
            uploaded[slot].record(up)
            if bug != "compute waits for upload":
                compute.wait(uploaded[slot])
            if batch and bug != "compute waits for download":
                compute.wait(downloaded[before])
            inside.enqueue(
                compute.handle, work, reads=[(latents.address, 16)], writes=[(frames.address, 16)], what="the engine"
            )
            computed[slot].record(compute)
            if bug != "download waits for compute":
                down.wait(computed[slot])
            cuda.to_host(targets[slot].array, frames.address, down)
            downloaded[slot].record(down)
        while len(results) < batches:
            collect(len(results) % slots)
        for stream in (up, compute, down):
            stream.synchronize()
        return results


def replay(library: str, times: int) -> tuple[list[float], int]:
    """A graph of upload, work and download, launched several times: results, and nodes run while capturing."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        stream = stack.enter_context(cuda.stream())
        memory = stack.enter_context(cuda.allocate(4))
        source, target = (stack.enter_context(cuda.pinned(4)) for _ in range(2))
        ran: list[int] = []

        def work() -> None:
            ran.append(1)
            inside.view(memory.address, np.float32, [1])[:] += 1

        with cuda.capture(stream) as capture:
            cuda.to_device(memory.address, source.array, stream)
            inside.enqueue(stream.handle, work, writes=[(memory.address, 4)])
            cuda.to_host(target.array, memory.address, stream)
        graph = stack.enter_context(capture.graph)
        during, results = len(ran), []
        for value in range(times):
            source.array.view(np.float32)[:] = 10 * value
            graph.launch(stream)
            stream.synchronize()
            results.append(float(target.array.view(np.float32)[0]))
        return results, during


def failed_capture(library: str) -> tuple[str, list[float]]:
    """A block that raises, and one that waits for the device: the stream can be used afterwards."""
    with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.allocate(4) as memory:
        with contextlib.suppress(KeyError), cuda.capture(stream):
            cuda.to_device(memory.address, np.ones(1, np.float32), stream)
            raise KeyError("in the block")
        said = ""
        try:
            with cuda.capture(stream):
                stream.synchronize()
        except Exception as error:
            said = str(error)
        found = np.zeros(1, np.float32)
        cuda.to_device(memory.address, np.full(1, 7, np.float32), stream)
        cuda.to_host(found, memory.address, stream)
        stream.synchronize()
        return said, found.tolist()


def capture_across_streams(library: str, mistake: str) -> float:
    """A block in which work goes to another stream and comes back; what the copy at its end brings."""
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        main, side = (stack.enter_context(cuda.stream()) for _ in range(2))
        forked, joined = (stack.enter_context(cuda.event()) for _ in range(2))
        memory = stack.enter_context(cuda.allocate(4))
        source, target = (stack.enter_context(cuda.pinned(4)) for _ in range(2))
        source.array.view(np.float32)[:] = 2
        joined.record(side)
        with cuda.capture(main) as capture:
            if mistake == "waits for earlier work":
                main.wait(joined)
            if mistake == "allocates":
                cuda.allocate(4)
            forked.record(main)
            side.wait(forked)
            cuda.to_device(memory.address, source.array, side)
            joined.record(side)
            if mistake != "never joined":
                main.wait(joined)
            cuda.to_host(target.array, memory.address, main)
        with capture.graph as graph:
            graph.launch(main)
            main.synchronize()
        return float(target.array.view(np.float32)[0])


def closing_twice(library: str) -> int:
    """All that can be closed, closed twice; the device can be opened again afterwards."""
    for _ in range(2):
        cuda = open_cuda(0, library)
        things: list[Any] = [cuda.stream(), cuda.allocate(4), cuda.pinned(4), cuda.event()]
        things.append(cuda.load(PTX.format(entry="nothing").encode()))
        pinned = things[2]
        for thing in [*things, *things]:
            thing.close()
        assert pinned.array.size == 0
        cuda.close()
        cuda.close()
    return inside.alive("stream") + inside.alive("memory") + inside.alive("pinned") + inside.alive("event")


def beside_another_user(library: str) -> list[bool]:
    """Two of us share the primary context: whether it is there after one was closed, after both were, and current."""
    first, second = open_cuda(0, library), open_cuda(0, library)
    with second.allocate(4):
        pass
    second.close()
    with first.stream() as stream:
        stream.synchronize()
    held = [inside.has_primary_context()]
    first.close()
    return [*held, inside.has_primary_context(), inside.has_current_context()]


def plugin(library: str, runs: list[list[np.ndarray]]) -> list[np.ndarray]:
    """What an engine's plugin does: kernels loaded for this device and launched on the engine's stream."""
    from vidgen.plugins.sepconv_trt.tensorrt.kernels import Kernels

    batch, channels, height, width = (*runs[0][0].shape[:2], *runs[0][1].shape[2:])
    launch = launch_geometry("forward", batch, channels, height, width, runs[0][1].shape[1], "float32")
    found = [np.zeros((batch, channels, height, width), np.float32) for _ in runs]
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, library))
        engine = stack.enter_context(inside.foreign_stream())
        kernels = stack.enter_context(contextlib.closing(Kernels(cuda, _without_code)))
        memory = [stack.enter_context(cuda.allocate(array.nbytes)) for array in (*runs[0], found[0])]
        addresses = [where.address for where in memory]
        stream = stack.enter_context(cuda.borrow(engine))
        for arrays, output in zip(runs, found):
            for array, where in zip(arrays, memory):
                cuda.to_device(where.address, array, stream)
            kernels.launch(launch, addresses[:3], (channels, height, width), addresses[3:], engine)
            cuda.to_host(output, addresses[3], stream)
        stream.synchronize()
    return found


def _without_code(plan: Plan, architecture: str) -> bytes:
    return PTX.format(entry=plan.entry).encode()


def forgotten(library: str) -> None:
    """Leave a device and what it handed out to the end of the process."""
    cuda = open_cuda(0, library)
    kept = [cuda, cuda.stream(), cuda.allocate(4), cuda.pinned(4), cuda.event()]
    sys.modules[__name__].__dict__["_kept"] = kept


def missing_in_pycuda() -> list[str]:
    """Names that cuda_pycuda.py takes from pycuda.driver and that are not there."""
    import pycuda.driver

    from vidgen.runtime import cuda_pycuda

    text = Path(cuda_pycuda.__file__).read_text(encoding="utf-8")
    used = set(re.findall(r"(?:driver\.pycuda|self\.pycuda|library)\.([A-Za-z_]+)", text))
    assert len(used) > 10
    return sorted(name for name in used if not hasattr(pycuda.driver, name))
