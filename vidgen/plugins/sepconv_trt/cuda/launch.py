"""The operator on CUDA: our kernels, compiled by NVRTC at first use and launched on torch's stream through cuda.core.

The driver is thin, and everything above it is tested with a driver that runs the kernels on a CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vidgen._imports import require
from vidgen.errors import VidgenError
from vidgen.plugins.sepconv_trt import native, portable
from vidgen.plugins.sepconv_trt.checks import check, check_grad
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, compile_kernel
from vidgen.plugins.sepconv_trt.geometry import LARGEST_TAPS, DType, Kernel, Launch, Plan, launch_geometry

_NAMES: dict[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


class Driver(Protocol):
    """What is asked of CUDA; one implementation is real, another runs kernels on a CPU in tests."""

    def architecture(self, device: int) -> str:
        """The device's own architecture, as ``sm_89``."""

    def load(self, kernel: CompiledKernel, device: int) -> Any:
        """A compiled kernel made ready to launch on a device."""

    def launch(self, loaded: Any, launch: Launch, arguments: Sequence[Any], device: int) -> None:
        """Enqueue on torch's current stream; an ``int`` among the arguments is an address."""


class CudaCore:
    """The real driver: NVIDIA's cuda.core, in torch's own context and on its current stream.

    Args:
        core: the module, given by tests.

    Raises:
        MissingDependencyError: cuda.core is not installed.
    """

    def __init__(self, core: Any = None) -> None:
        self._core = core or require("cuda.core", "launch the separable convolution on a GPU")

    def architecture(self, device: int) -> str:
        """See ``Driver``."""
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))

    def load(self, kernel: CompiledKernel, device: int) -> Any:
        """See ``Driver``."""
        with self._on(device):
            module = self._core.ObjectCode.from_cubin(kernel.cubin)
            return module, module.get_kernel(kernel.plan.entry)

    def launch(self, loaded: Any, launch: Launch, arguments: Sequence[Any], device: int) -> None:
        """See ``Driver``."""
        with self._on(device):
            stream = self._core.Stream.from_handle(torch.cuda.current_stream(device).cuda_stream)
            config = self._core.LaunchConfig(grid=launch.grid, block=launch.block, shmem_size=launch.shared_bytes)
            self._core.launch(stream, config, loaded[1], *arguments)

    @contextlib.contextmanager
    def _on(self, device: int) -> Iterator[None]:
        """Both libraries on this device; torch's own choice comes back afterwards."""
        with torch.cuda.device(device):
            self._core.Device(device).set_current()
            yield


class Launcher:
    """Compiles each kernel once for a device, packs arguments, launches. May be shared between threads."""

    def __init__(self, driver: Driver, compiler: Callable[[Plan, str], CompiledKernel] = compile_kernel) -> None:
        self._driver = driver
        self._compiler = compiler
        self._lock = threading.Lock()
        # What could not be compiled is remembered too, so that it is tried once.
        self._loaded: dict[tuple[str, int], Any] = {}

    def forward(self, input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """[N, C, H, W] of input [N, C, H + K - 1, W + K - 1] and taps [N, K, H, W]; float32, float16 or bfloat16.

        Raises:
            BackendError: no kernel for these sizes or this device.
        """
        output = input.new_empty((*input.shape[:2], *vertical.shape[2:]))
        self._run("forward", (input, vertical, horizontal), (output,), output, vertical.shape[1])
        return output

    def backward(
        self, grad: Tensor, input: Tensor, vertical: Tensor, horizontal: Tensor, need_input: bool, need_kernels: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of input, vertical and horizontal; an unwanted one is empty. Errors as ``forward``."""
        taps = vertical.shape[1]
        of_input = input.new_empty(input.shape if need_input else 0)
        of_vertical, of_horizontal = (input.new_empty(vertical.shape if need_kernels else 0) for _ in range(2))
        if need_input:
            self._run("backward_input", (grad, vertical, horizontal), (of_input,), grad, taps)
        if need_kernels:
            outputs = (of_vertical, of_horizontal)
            self._run("backward_kernels", (grad, input, vertical, horizontal), outputs, grad, taps)
        return of_input, of_vertical, of_horizontal

    def _run(
        self, kernel: Kernel, inputs: Sequence[Tensor], outputs: Sequence[Tensor], image: Tensor, taps: int
    ) -> None:
        """Launch ``kernel``; ``image`` has the sizes of the operator's output."""
        batch, channels, height, width = image.shape
        launch = launch_geometry(kernel, batch, channels, height, width, taps, _NAMES[image.dtype])
        device = image.device.index or 0
        # On one stream, memory of a temporary copy is not handed out again before the kernel has read it.
        sources = [tensor.contiguous() for tensor in inputs]
        arguments = [
            *(tensor.data_ptr() for tensor in sources),
            *(ctypes.c_int32(size) for size in (channels, height, width)),
            *(tensor.data_ptr() for tensor in outputs),
        ]
        self._driver.launch(self._kernel(launch.plan, device), launch, arguments, device)

    def _kernel(self, plan: Plan, device: int) -> Any:
        with self._lock:
            key = (plan.entry, device)
            if key not in self._loaded:
                try:
                    compiled = self._compiler(plan, self._driver.architecture(device))
                    self._loaded[key] = self._driver.load(compiled, device)
                except VidgenError as error:
                    self._loaded[key] = error
            loaded = self._loaded[key]
        if isinstance(loaded, VidgenError):
            raise loaded
        return loaded


def forward(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``torch.ops.vidgen.separable_convolution`` on CUDA; float64 and more than 63 taps run in the portable form.

    Raises:
        OperatorError: the tensors do not fit.
    """
    check(input, vertical, horizontal)
    launcher = _launcher() if _has_kernel(input, vertical) else None
    if launcher is not None:
        try:
            return launcher.forward(input, vertical, horizontal)
        except VidgenError as error:
            _say_once(error)
    return portable.forward(input, vertical, horizontal)


def backward(
    grad: Tensor,
    input: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    need_input: bool = True,
    need_kernels: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """``torch.ops.vidgen.separable_convolution_backward`` on CUDA, as ``forward``.

    Raises:
        OperatorError: the tensors do not fit.
    """
    check_grad(grad, input, vertical, horizontal)
    launcher = _launcher() if _has_kernel(input, vertical) else None
    if launcher is not None:
        try:
            return launcher.backward(grad, input, vertical, horizontal, need_input, need_kernels)
        except VidgenError as error:
            _say_once(error)
    return portable.backward(grad, input, vertical, horizontal, need_input, need_kernels)


def register_cuda(library: torch.library.Library) -> None:
    """Register both operators for CUDA tensors. Loads neither CUDA nor the compiler: the first call does."""
    library.impl("separable_convolution", forward, "CUDA")
    library.impl("separable_convolution_backward", backward, "CUDA")


def _has_kernel(input: Tensor, vertical: Tensor) -> bool:
    # Nothing to launch where there is nothing to write, and no channels to sum.
    return (
        input.dtype in _NAMES
        and vertical.shape[1] <= LARGEST_TAPS
        and min(*input.shape, *vertical.shape) > 0
        and native.form() != "portable"
    )


@functools.cache
def _launcher() -> Launcher | None:
    try:
        return Launcher(CudaCore())
    except VidgenError as error:
        _say_once(error)
        return None


def _say_once(error: VidgenError) -> None:
    _warn(f"{error.seen} - {error.fix}")


@functools.cache
def _warn(reason: str) -> None:
    text = f"separable convolution runs without its CUDA kernel, many times slower - {reason}"
    warnings.warn(text, RuntimeWarning, stacklevel=4)
