"""The OpenVINO backend: runs an .onnx file on the CPU in true float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import BackendError
from vidgen.runtime.backends.base import Arrays, Backend
from vidgen.runtime.backends.buffers import check_buffers, closed_error, load_error, run_error
from vidgen.runtime.backends.onnx_file import check_tensors, read_onnx, without_functions
from vidgen.runtime.manifest import Manifest


class OpenVinoBackend(Backend):
    """A compiled model with dynamic batch and motion length.

    On CPUs with bf16 units OpenVINO computes in bfloat16 unless told otherwise, several grey levels off; here it is
    told to compute in float32, so that timings of backends compare like with like.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, compiled: Any, manifest: Manifest, threads: int | None) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._manifest = manifest
        self._threads = threads

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        """Compile a single-file model for the CPU.

        Raises:
            MissingDependencyError: openvino is not installed, or onnx, where the model has operators of ours.
            ArtifactError: the file keeps tensors in other files.
            BackendError: not a CPU, or the library cannot compile the file.
        """
        openvino = require("openvino", "run .onnx files with OpenVINO")
        if device != "cpu":
            raise BackendError(
                f"openvino cannot run on {device}",
                seen=f"device {device!r}, expected cpu",
                cause="this backend serves CPUs only",
                fix="use --backend onnxruntime for CUDA, or device cpu",
            )
        model = without_functions(read_onnx(artifact, manifest))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
        except RuntimeError as error:
            raise load_error("openvino", artifact, error) from error
        tensors = {port.any_name: port.element_type.to_dtype().name for port in (*compiled.inputs, *compiled.outputs)}
        check_tensors("openvino", artifact, manifest, tensors)
        return cls(compiled, manifest, threads)

    @property
    def manifest(self) -> Manifest:
        """What the file is."""
        return self._manifest

    def describe(self) -> dict[str, str]:
        """Library, version, device with its precision, threads ("library's choice" where none was given)."""
        import openvino

        return {
            "backend": self.name,
            "library": f"openvino {openvino.__version__.split('-')[0]}",
            "device": "cpu, float32",
            "threads": str(self._threads or "library's choice"),
        }

    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Run one batch; inputs are shared, outputs are written in place."""
        import openvino

        if self._request is None:
            raise closed_error(self.name)
        check_buffers(self._manifest.interface, inputs, output, extras)
        try:
            for name, array in inputs.items():
                # A shared tensor must be writable memory, though it is only read.
                shared = np.require(array, requirements=["C", "W"])
                self._request.set_tensor(name, openvino.Tensor(shared, shared_memory=True))
            outputs = {self._manifest.interface.output.name: output, **(extras or {})}
            for name, array in outputs.items():
                self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
            self._request.infer()
            for name, array in outputs.items():
                result = self._request.get_tensor(name).data
                if result.ctypes.data != array.ctypes.data:
                    np.copyto(array, result)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise run_error("openvino", error, output.shape[0]) from error

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = self._compiled = None
