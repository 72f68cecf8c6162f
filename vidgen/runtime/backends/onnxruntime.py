"""The ONNX Runtime backend: runs an .onnx file on a CPU or a CUDA device, into the caller's buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import BackendError
from vidgen.plugins.sepconv_trt.ort_library import custom_op_library, is_needed
from vidgen.runtime.backends.base import Arrays, Backend
from vidgen.runtime.backends.buffers import check_buffers, closed_error, load_error, run_error
from vidgen.runtime.backends.onnx_file import check_tensors, read_onnx
from vidgen.runtime.backends.onnxruntime_device import DeviceRunner, providers
from vidgen.runtime.manifest import Manifest

#: Device that users name -> ONNX Runtime's execution provider.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeBackend(Backend):
    """An inference session on exactly the provider that was asked for."""

    name: ClassVar[str] = "onnxruntime"

    def __init__(
        self, session: Any, manifest: Manifest, threads: int | None, device: str, runner: DeviceRunner | None
    ) -> None:
        self._session = session
        self._manifest = manifest
        self._threads = threads
        self._device = device
        self._runner = runner

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        """Load a single-file model.

        Args:
            device: ``"cpu"``; ``"cuda"`` or ``"tensorrt"`` for the provider of that name, ``"cuda:1"`` for the second
                device. TensorRT leaves the operators that it does not have to CUDA.

        Raises:
            MissingDependencyError: onnxruntime is not installed.
            ArtifactError: the file keeps tensors in other files.
            BackendError: the provider is missing or did not load, or the file is not what its manifest says.
        """
        ort = require("onnxruntime", "run .onnx files")
        model = read_onnx(artifact, manifest)
        session = open_session(model, artifact, threads=threads, device=device)
        device, number = _parsed(device)
        tensors = (*session.get_inputs(), *session.get_outputs())
        check_tensors("onnxruntime", artifact, manifest, {tensor.name: element_type(tensor) for tensor in tensors})
        runner = None if device == "cpu" else DeviceRunner.open(ort, session, number)
        return cls(session, manifest, threads, device, runner)

    @property
    def manifest(self) -> Manifest:
        """What the file is."""
        return self._manifest

    def describe(self) -> dict[str, str]:
        """Library, version, provider and memory, threads ("library's choice" where none was given)."""
        import onnxruntime

        memory = f", {self._runner.memory}" if self._runner else ""

        return {
            "backend": self.name,
            "library": f"onnxruntime {onnxruntime.__version__}",
            "device": f"{PROVIDERS[self._device]}{memory}",
            "threads": str(self._threads or "library's choice"),
        }

    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Run one batch; on a CPU the session writes into ``output`` and ``extras`` itself."""
        if self._session is None:
            raise closed_error(self.name)
        check_buffers(self._manifest.interface, inputs, output, extras)
        outputs = {self._manifest.interface.output.name: output, **(extras or {})}
        try:
            if self._runner is not None:
                self._runner.run(inputs, outputs)
                return
            binding = self._session.io_binding()
            for name, array in inputs.items():
                binding.bind_cpu_input(name, array)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            self._session.run_with_iobinding(binding)
        except BackendError:
            raise
        except Exception as error:  # its exceptions share no base class of their own
            raise run_error("onnxruntime", error, output.shape[0]) from error

    def close(self) -> None:
        """Drop the session and its memory."""
        if self._runner is not None:
            self._runner.close()
        self._runner = self._session = None


def open_session(model: bytes, source: object, *, threads: int | None, device: str) -> Any:
    """An inference session on exactly the provider that was asked for.

    Args:
        model: a self-contained file. source: what messages call it.
        threads: CPU threads; None leaves the library's choice. device: as in :meth:`OnnxRuntimeBackend.load`.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        BackendError: the provider is missing or did not load, or the library cannot load the model.
    """
    ort = require("onnxruntime", "run .onnx files")
    device, number = _parsed(device)
    provider = _provider(ort, device)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    # Without our kernel, as on other devices, the function body in the file runs.
    kernels = custom_op_library() if device == "cpu" and is_needed(model) else None
    try:
        if kernels is not None:
            options.register_custom_ops_library(str(kernels))
        session = ort.InferenceSession(model, options, providers=providers(device, number))
        session.disable_fallback()
    except Exception as error:  # its exceptions share no base class of their own
        raise load_error("onnxruntime", source, error) from error
    loaded = session.get_providers()[0]
    if loaded != provider:
        raise BackendError(
            f"onnxruntime cannot run on {device}",
            seen=f"provider {loaded} took over, expected {provider}",
            cause="the provider's libraries (CUDA, cuDNN) are missing or of another version",
            fix="vidgen doctor   (names what is missing), or use device cpu",
        )
    return session


def _parsed(device: str) -> tuple[str, int]:
    """``"cuda:1"`` as ``("cuda", 1)``."""
    kind, _, number = device.partition(":")
    return (kind, int(number)) if number.isdecimal() and kind != "cpu" else (device, 0)


def _provider(ort: Any, device: str) -> str:
    available = ort.get_available_providers()
    provider = PROVIDERS.get(device)
    if provider is None or provider not in available:
        names = [name for name, value in PROVIDERS.items() if value in available]
        raise BackendError(
            f"onnxruntime cannot run on {device}",
            seen=f"device {device!r}, expected {' or '.join(names)}",
            cause="the installed onnxruntime has no such provider" if provider else "no such device",
            fix="pip install 'vidgen[gpu]'" if provider else f"use device {names[0]}",
        )
    return provider


def element_type(value: Any) -> str:
    """NumPy name of the element type of a session's input or output, "tensor(float)" for example."""
    name = str(value.type).removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
