"""A CUDA driver for tests that runs on a CPU, and how to run Python under it.

``driver/`` is a small ``libcuda.so.1`` of our own. cuda-python and pycuda load it in place of NVIDIA's, and everything
above them - vidgen.runtime.cuda, launchers, pinned rings, a backend over a fake engine - runs unchanged. A test runs a
function in a child process, so that pytest's own process never sees the library::

    from vidgen.runtime.cuda import open_cuda

    def round_trip(library):                      # module level; arguments and result are pickled
        with open_cuda(0, library) as cuda, cuda.stream() as stream, cuda.allocate(12) as memory:
            ...
            return array

    def test_round_trip(host_cuda):
        array = host_cuda(round_trip, "cuda-python", schedule="late")

``host_cuda(function, *arguments, **options)`` gives the function's result; it raises what the function raised, and
fails the test if anything was done that a GPU would not forgive, or was left open. ``host_cuda.outcome(...)`` never
raises: it gives value, error, violations, leaks, calls (how often each entry point was called) and stderr.

Tests elsewhere get the fixture with ``from host_cuda.harness import host_cuda`` in their own conftest.py.

Options:
    schedule: when work runs that streams were given. ``"now"``: as it is given. ``"late"``: only once somebody waits
        for it, and what it depends on. ``"ahead"``: like late, but all other streams run first, as far as they may.
        Results must be the same under all three.
    memory: of the device, in bytes. devices: how many. architecture: e.g. ``"sm_89"``. driver: e.g. ``"13.0"``.
    fail: ``"cuMemAlloc:3:CUDA_ERROR_OUT_OF_MEMORY"``: the third call of that entry point (named without its version)
        fails so; a number for an error without a name here.
    kernels: plans (vidgen.plugins.sepconv_trt.geometry) whose kernels are emulated: a cubin or PTX that names their
        entry may be loaded and launched.
    timeout: seconds. whole_exit: take the interpreter apart as a program does at its end; without, the child is ended
        after its exit handlers, which is faster.

Caught, in every schedule: copies out of bounds, use after free, double free, device memory touched by the host,
kernels that write beside their memory, memory or pinned memory freed while work that nobody waited for uses it, two
streams that use the same memory in no order (a missing wait), a pinned source that the host changes in flight, calls
from a thread without a context, calls that a capture forbids, and what is still alive when the context goes.
Within a graph, work runs in the order in which it was captured: waits that are missing inside a block are not seen.
What the host reads too early is poison (0xCB) in the schedules "late" and "ahead".

Work of a fake engine: ``host_cuda.inside`` is for functions that run under the driver: ``enqueue(stream_handle,
function, reads=[(address, nbytes)], writes=[...])`` puts a Python function into a stream (captured into a graph as
anything else is), in which ``view(address, dtype, shape)`` is the device's memory as an array; ``calls(name)`` and
``alive(kind)`` count.
"""

from host_cuda.harness import host_cuda

__all__ = ["host_cuda"]
