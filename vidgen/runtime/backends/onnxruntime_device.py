"""Runs of ONNX Runtime on a CUDA device: inputs and outputs bound there, frames brought down through pinned memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError, MissingDependencyError
from vidgen.runtime.backends.base import Arrays
from vidgen.runtime.cuda import Cuda, open_cuda
from vidgen.runtime.ring import Buffers

#: Options of the providers: true float32, as every other backend computes.
CUDA_OPTIONS = {"use_tf32": "0"}


def providers(device: str, number: int) -> list[str | tuple[str, dict[str, str]]]:
    """The provider for a device, and what takes the nodes that it leaves.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"tensorrt"``. number: of the CUDA device.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    cuda = ("CUDAExecutionProvider", {"device_id": str(number), **CUDA_OPTIONS})
    if device == "cuda":
        return [cuda]
    return [("TensorrtExecutionProvider", {"device_id": str(number)}), cuda]


class DeviceRunner:
    """Runs a session whose provider is on a CUDA device.

    Tensors of one shape stay bound to the same device memory from run to run. Frames come down through page-locked
    memory where a CUDA library for Python is installed, else straight into the caller's buffers.

    Args:
        ort: onnxruntime. session: on the device.
        kind: ONNX Runtime's name of the device's memory. number: of the device.
        cuda: the same device, for copies; None without.
    """

    def __init__(self, ort: Any, session: Any, cuda: Cuda | None, *, kind: str = "cuda", number: int = 0) -> None:
        self._ort, self._session, self._kind, self._number = ort, session, kind, number
        self._values: dict[str, Any] = {}
        self._cuda = cuda
        self._stack = contextlib.ExitStack()
        if cuda is not None:
            self._stack.enter_context(cuda)
            self._stream = self._stack.enter_context(cuda.stream())
            self._buffers = Buffers(cuda)
            self._stack.callback(self._buffers.close)

    @classmethod
    def open(cls, ort: Any, session: Any, number: int) -> DeviceRunner:
        """A runner on a device, with pinned memory where that is possible."""
        cuda: Cuda | None = None
        with contextlib.suppress(BackendError, MissingDependencyError):
            cuda = open_cuda(number)
        return cls(ort, session, cuda, number=number)

    @property
    def memory(self) -> str:
        """How frames come down, for reports."""
        return "pinned memory" if self._cuda is not None else "pageable memory"

    def run(self, inputs: Arrays, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Run one batch and wait; fills ``outputs``."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._value(name, array, filled=True))
        for name, array in outputs.items():
            if self._cuda is None:
                binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            else:
                binding.bind_ortvalue_output(name, self._value(name, array, filled=False))
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        if self._cuda is not None:
            self._bring_down(self._cuda, outputs)

    def _value(self, name: str, array: NDArray[Any], *, filled: bool) -> Any:
        """Memory of the device for an array, with its content if ``filled``."""
        value = self._values.get(name)
        if value is None or tuple(value.shape()) != array.shape:
            make = self._ort.OrtValue.ortvalue_from_shape_and_type
            value = self._values[name] = make(list(array.shape), array.dtype.type, self._kind, self._number)
        if filled:
            value.update_inplace(np.ascontiguousarray(array))
        return value

    def _bring_down(self, cuda: Cuda, outputs: Mapping[str, NDArray[Any]]) -> None:
        pinned = {name: self._buffers.pinned(name, array.shape, str(array.dtype)) for name, array in outputs.items()}
        for name, array in pinned.items():
            cuda.to_host(array, self._values[name].data_ptr(), self._stream)
        self._stream.synchronize()
        for name, array in outputs.items():
            np.copyto(array, pinned[name])

    def close(self) -> None:
        """Give the memory back. Closing twice is allowed."""
        self._values.clear()
        self._stack.close()
