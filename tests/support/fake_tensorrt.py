"""The part of TensorRT's Python API that runs an engine: engines are JSON, frames those of the fake backend.

It is as strict as the real one is silent: a run with a shape or an address missing, on another thread, on the default
stream, or captured before it ran once, fails. What the engine computes is what ``FakeBackend`` computes, so every
pixel can be checked.
"""

from __future__ import annotations

import enum
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen._files import sha256, write_json
from vidgen.models.config import ModelInterface, TensorSpec
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.cuda_errors import cuda_error
from vidgen.runtime.manifest import Engine, EngineProfile, Manifest, manifest_path
from vidgen.runtime.tensorrt_library import TensorRT

#: (address, bytes) of device memory.
Ranges = Sequence[tuple[int, int]]
HEADER = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}
PROFILES = (EngineProfile((1, 2, 4), (1, 1, 3)), EngineProfile((4, 8, 8), (1, 1, 9)))


def write_engine(path: Path, manifest: Manifest, profiles: Any = PROFILES, **changes: Any) -> Manifest:
    """Write a .plan and its manifest.

    Args:
        changes: of the stored engine: ``targets``, ``tensors`` (name -> dtype), ``made`` (name -> shape that it makes),
            ``stripped``, ``streamable``; ``sepconv`` of the manifest.
    """
    library = changes.pop("library", "tensorrt-rtx")
    stripped, streamable = changes.get("stripped", False), changes.get("streamable", 0)
    sepconv = changes.pop("sepconv", "")
    stored = {"manifest": manifest.to_dict(), "profiles": [[p.batch, p.length] for p in profiles], **changes}
    path.write_bytes(HEADER[library] + bytes(20) + bytes((1, 7, 1, 116)) + json.dumps(stored).encode())
    engine = Engine(library, "1.7.1.116", profiles, stripped=stripped, streamable=streamable, sepconv=sepconv)
    values = {
        **manifest.to_dict(),
        "sha256": sha256(path),
        "target": changes.get("targets", ["sm_89"]),
        "engine": json.loads(json.dumps(engine, default=vars)),
        "rebuild": f"vidgen export g.safetensors --gpu sm_89,sm_120 -o {path} --batch 1:2:4",
    }
    write_json(manifest_path(path), values)
    return Manifest.from_dict(values)


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    UINT8 = "uint8"
    INT64 = "int64"
    INT32 = "int32"


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class FakeConfig:
    def __init__(self, rtx: bool) -> None:
        self.allocation: Any = None
        self.rtx = {"dynamic_shapes_kernel_specialization_strategy": None, "cuda_graph_strategy": None} if rtx else {}

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.allocation = strategy

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("allocation", "rtx"):
            super().__setattr__(name, value)
        else:
            assert name in self.rtx, f"{name} is not in this library"
            self.rtx[name] = value


class Device(Protocol):
    """What the fake asks of a device: to put work into a stream that somebody else made, and memory for that work."""

    architecture: str

    def is_capturing(self, stream: int) -> bool: ...

    def enqueue(self, stream: int, work: Callable[[], None], reads: Ranges, writes: Ranges) -> None: ...

    def view(self, address: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]: ...


@dataclass
class FakeTensorRT:
    """A fake of the module, in the form in which ``load_tensorrt`` gives it: ``library``.

    Attributes:
        cuda: the device that engines run on.
        fail: what fails from now on: ``"deserialize"``, ``"context"``, ``"profile"``, ``"enqueue"`` (answers False),
            ``"kernel"`` (the device does), ``"capture"``.
        calls: of contexts and engines, in order: (context number, call, arguments).
        reasons: what the validity of an engine is said to lack.
    """

    cuda: Device
    name: str = "tensorrt-rtx"
    version: tuple[int, ...] = (1, 7, 1, 116)
    fail: set[str] = field(default_factory=set)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    capturable: bool = True
    reasons: int = 0
    contexts: int = 0
    runtimes: list[Any] = field(default_factory=list)

    def _module(self) -> Any:
        library = self

        class Runtime:
            def __init__(self, logger: ILogger) -> None:
                self.logger, self.engine_host_code_allowed = logger, None
                library.runtimes.append(self)

            def get_engine_validity(self, plan: bytes) -> tuple[int, int]:
                assert library.name == "tensorrt-rtx"
                return 2, library.reasons

            def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
                stored = json.loads(plan[28:])
                if "deserialize" in library.fail or library.cuda.architecture not in stored.get("targets", ["sm_89"]):
                    self.logger.log(ILogger.Severity.ERROR, "deserializeCudaEngine:  Error Code 6: no such device")
                    return None
                return FakeEngine(library, stored, self.logger)

        class Refitter:
            def __init__(self, engine: FakeEngine, logger: ILogger) -> None:
                self.engine = engine

            def refit_cuda_engine(self) -> bool:
                return not self.get_missing_weights()

            def get_missing_weights(self) -> list[str]:
                return [] if self.engine.has_weights else ["block1.weight"]

        class OnnxParserRefitter:
            def __init__(self, refitter: Refitter, logger: ILogger) -> None:
                self.engine = refitter.engine

            def refit_from_bytes(self, model: bytes) -> bool:
                self.engine.has_weights = b"weights" in model
                return self.engine.has_weights

        module = type("trt", (), {})()
        kinds = [TensorIOMode, TensorLocation, DataType, ILogger, ExecutionContextAllocationStrategy]
        kinds += [Runtime, Refitter, OnnxParserRefitter]
        if self.name == "tensorrt-rtx":
            kinds += [EngineInvalidityDiagnostics, DynamicShapesKernelSpecializationStrategy, CudaGraphStrategy]
        for kind in kinds:
            setattr(module, kind.__name__, kind)
        return module

    @property
    def library(self) -> TensorRT:
        """As loaded."""
        return TensorRT(self._module(), self.name, self.version)


class FakeEngine:
    def __init__(self, library: FakeTensorRT, stored: dict[str, Any], logger: ILogger) -> None:
        self.library, self.logger, self.stored = library, logger, stored
        self.manifest = Manifest.from_dict(stored["manifest"])
        self.has_weights = not stored.get("stripped", False)
        self._weight_streaming_budget: int | None = None

    def create_runtime_config(self) -> FakeConfig:
        return FakeConfig(self.library.name == "tensorrt-rtx")

    def create_execution_context(self, config: FakeConfig) -> FakeContext | None:
        library = self.library
        assert config.allocation == ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        if "context" in library.fail:
            self.logger.log(ILogger.Severity.ERROR, "The requested GPU memory could not be allocated: OutOfMemory")
            return None
        library.calls.append((library.contexts, "new", config.rtx))
        library.contexts += 1
        return FakeContext(library, self, library.contexts - 1)

    @property
    def interface(self) -> ModelInterface:
        return self.manifest.interface

    @property
    def specs(self) -> list[TensorSpec]:
        return [*self.interface.inputs, self.interface.output, *self.interface.extras]

    def _spec(self, name: str) -> TensorSpec:
        return next(spec for spec in self.specs if spec.name == name)

    @property
    def num_io_tensors(self) -> int:
        return len(self.specs)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.stored["profiles"])

    @property
    def streamable_weights_size(self) -> int:
        return int(self.stored.get("streamable", 0))

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self._weight_streaming_budget or 0

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        assert self.library.contexts == 0, "the budget is set before contexts are made"
        self._weight_streaming_budget = budget
        self.library.calls.append(("engine", "budget", budget))

    def get_weight_streaming_automatic_budget(self) -> int:
        return self.streamable_weights_size // 2

    def get_tensor_name(self, index: int) -> str:
        return self.specs[index].name

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.stored.get("tensors", {}).get(name, self._spec(name).dtype))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(size, str) else size for size in self._spec(name).shape)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self._spec(name) in self.interface.inputs else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self.stored.get("on_host", ()) else TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        batch, length = self.stored["profiles"][profile]
        sizes = [{"batch": batch[i], self.interface.frames.dimension: length[i]} for i in range(3)]
        return [self._spec(name).resolve(**each) for each in sizes]


class FakeContext:
    """An execution context that checks the order of calls and computes when its stream comes to it."""

    def __init__(self, library: FakeTensorRT, engine: FakeEngine, number: int) -> None:
        self._library, self._engine, self._number = library, engine, number
        self._thread = threading.get_ident()
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._ran = False

    def _note(self, *call: Any) -> None:
        self._library.calls.append((self._number, *call))
        assert threading.get_ident() == self._thread, "a context used on another thread"

    def _error(self, message: str) -> bool:
        self._engine.logger.log(ILogger.Severity.ERROR, message)
        return False

    def is_stream_capturable(self, handle: int) -> bool:
        assert self._library.name == "tensorrt-rtx"
        return self._library.capturable

    def set_optimization_profile_async(self, profile: int, handle: int) -> bool:
        self._note("profile", profile)
        assert handle, "the default stream"
        if "profile" in self._library.fail:
            return self._error("Cannot set profile")
        self._profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._note("shape", name, shape)
        assert self._profile is not None, "a shape before its profile"
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, self._profile)
        if not all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)):
            return self._error(f"{name}: {shape} is outside the profile")
        self._shapes[name] = shape
        self._ran = False
        return True

    def infer_shapes(self) -> list[str]:
        return [spec.name for spec in self._engine.interface.inputs if spec.name not in self._shapes]

    def _sizes(self) -> dict[str, int]:
        sizes = {
            dimension: size
            for spec in self._engine.interface.inputs
            for dimension, size in zip(spec.shape, self._shapes[spec.name], strict=True)
            if isinstance(dimension, str)
        }
        rule = self._engine.interface.frames
        return {**sizes, "frames": rule.frames(sizes[rule.dimension])}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        made = self._engine.stored.get("made", {}).get(name)
        return tuple(made) if made else self._engine._spec(name).resolve(**self._sizes())

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._note("address", name, address)
        assert address, "no address"
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        captured = self._library.cuda.is_capturing(handle)
        self._note("capture" if captured else "enqueue", handle)
        missing = [spec.name for spec in self._engine.specs if spec.name not in self._addresses]
        if missing or self.infer_shapes():
            return self._error(f"no address or shape of {missing or self.infer_shapes()}")
        if "enqueue" in self._library.fail:
            return self._error("enqueueV3: Error Code 1: Cuda Runtime (invalid argument)")
        if captured and ("capture" in self._library.fail or not self._ran):
            return self._error("operation not permitted when stream is capturing")
        self._ran = True
        self._put(handle, dict(self._addresses), self._sizes(), broken="kernel" in self._library.fail)
        return True

    def _put(self, handle: int, addresses: dict[str, int], sizes: dict[str, int], *, broken: bool) -> None:
        """Give the stream the run, with addresses and sizes as they are now: a graph keeps them."""
        assert self._engine.has_weights, "run without weights"
        interface, device = self._engine.interface, self._library.cuda

        def ranges(specs: Sequence[TensorSpec]) -> Ranges:
            shapes = [(spec, int(np.prod(spec.resolve(**sizes)))) for spec in specs]
            return [(addresses[spec.name], count * np.dtype(spec.dtype).itemsize) for spec, count in shapes]

        def array(spec: TensorSpec) -> NDArray[Any]:
            return device.view(addresses[spec.name], spec.dtype, spec.resolve(**sizes))

        def work() -> None:
            if broken:
                raise cuda_error("wait for the GPU", "CUDA_ERROR_ILLEGAL_ADDRESS")
            with FakeBackend(self._engine.manifest) as fake:
                inputs = {spec.name: array(spec) for spec in interface.inputs}
                fake.run(inputs, array(interface.output), {spec.name: array(spec) for spec in interface.extras})

        device.enqueue(handle, work, ranges(interface.inputs), ranges((interface.output, *interface.extras)))
