"""Launches the compiled kernel for a plugin: cubins from the cache, loaded once, on the stream that TensorRT gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vidgen.errors import BackendError
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

    def close(self) -> None:
        """Unload it."""


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
        # Kept, since a library may need something of its own beside each foreign stream.
        self._streams: dict[int, Any] = {}
        self._closed = False

    def load(self, plan: Plan) -> Module:
        """The kernel of a plan, ready to launch.

        Raises:
            BackendError: it cannot be compiled for this device, or not be loaded.
            MissingDependencyError: NVRTC is not installed.
        """
        if self._closed:
            raise BackendError(
                f"cannot launch {plan.entry}",
                seen="the plugin's kernels were given back",
                cause="an engine is used after the sampler that loaded it was closed",
                fix="load the engine again: vidgen.load",
            )
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
        module = self.load(launch.plan)
        if stream not in self._streams:
            self._streams[stream] = self._cuda.borrow(stream)
        arguments = [*map(int, inputs), *(np.int32(size) for size in sizes), *map(int, outputs)]
        borrowed, shared = self._streams[stream], launch.shared_bytes
        module.launch(launch.plan.entry, launch.grid, launch.block, arguments, borrowed, shared_bytes=shared)

    def close(self) -> None:
        """Unload all, before the device is closed. Nothing is launched afterwards."""
        self._closed = True
        for borrowed in self._streams.values():
            borrowed.close()
        for module in self._modules.values():
            module.close()
        self._streams.clear()
        self._modules.clear()


def cached_cubin(plan: Plan, architecture: str) -> bytes:
    """The kernel of a plan for one architecture, from the cache or freshly compiled by NVRTC (half a second).

    Raises:
        BackendError: NVRTC does not know the architecture. MissingDependencyError: NVRTC is not installed.
        StorageError: it can be kept nowhere.
    """

    def make(path: Path) -> None:
        path.write_bytes(compile_kernel(plan, architecture).cubin)

    return build.cached(f"{plan.entry}-{architecture}-{source_hash(plan)[:20]}.cubin", make).read_bytes()
