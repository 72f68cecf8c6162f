"""Launches the compiled kernel for a plugin: cubins from the cache, loaded once, on the stream that TensorRT gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vidgen.plugins.sepconv_trt import build
from vidgen.plugins.sepconv_trt.cuda.compile import compile_kernel
from vidgen.plugins.sepconv_trt.cuda.source import source_hash
from vidgen.plugins.sepconv_trt.geometry import Launch, Plan


class Module(Protocol):
    """A loaded image: the part of ``vidgen.runtime.cuda.Module`` that is used here."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: Any,
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Enqueue a kernel; an ``int`` is a device address, other numbers are NumPy scalars."""


class Cuda(Protocol):
    """One device: the part of ``vidgen.runtime.cuda.Cuda`` that is used here."""

    @property
    def architecture(self) -> str:
        """As ``sm_89``."""

    def borrow(self, handle: int) -> Any:
        """The stream that somebody else made."""

    def load(self, image: bytes) -> Module:
        """A loaded cubin."""


class Kernels:
    """The kernels of one device, each compiled (or found in the cache) and loaded at first use."""

    def __init__(self, cuda: Cuda, cubin: Callable[[Plan, str], bytes] | None = None) -> None:
        self._cuda = cuda
        self._cubin = cubin or cached_cubin
        self._modules: dict[str, Module] = {}

    def load(self, plan: Plan) -> Module:
        """The kernel of a plan, ready to launch.

        Raises:
            BackendError: it cannot be compiled for this device, or not be loaded.
            MissingDependencyError: NVRTC is not installed.
        """
        if plan.entry not in self._modules:
            self._modules[plan.entry] = self._cuda.load(self._cubin(plan, self._cuda.architecture))
        return self._modules[plan.entry]

    def launch(
        self, launch: Launch, inputs: Sequence[int], sizes: Sequence[int], outputs: Sequence[int], stream: int
    ) -> None:
        """Enqueue one launch.

        Args:
            inputs, outputs: device addresses, in the order of ``geometry.ARGUMENTS``. sizes: as ``geometry.SCALARS``.
            stream: the CUstream as an integer.

        Raises:
            BackendError, MissingDependencyError: as ``load``.
        """
        arguments = [*map(int, inputs), *(np.int32(size) for size in sizes), *map(int, outputs)]
        self.load(launch.plan).launch(
            launch.plan.entry,
            launch.grid,
            launch.block,
            arguments,
            self._cuda.borrow(int(stream)),
            shared_bytes=launch.shared_bytes,
        )


def cached_cubin(plan: Plan, architecture: str) -> bytes:
    """The kernel of a plan for one architecture, from the cache or freshly compiled by NVRTC (half a second).

    Raises:
        BackendError: NVRTC does not know the architecture. MissingDependencyError: NVRTC is not installed.
        StorageError: it can be kept nowhere.
    """

    def make(path: Path) -> None:
        path.write_bytes(compile_kernel(plan, architecture).cubin)

    return build.cached(f"{plan.entry}-{architecture}-{source_hash(plan)[:20]}.cubin", make).read_bytes()
