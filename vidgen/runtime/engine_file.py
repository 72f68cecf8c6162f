"""A .plan file made into an engine on this device, and what is said where that cannot be done."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vidgen.errors import ArtifactError, BackendError
from vidgen.models.config import TensorSpec
from vidgen.plugins.sepconv_trt.ort_library import is_needed
from vidgen.runtime.cuda import Cuda, Stream
from vidgen.runtime.manifest import EngineProfile, Manifest
from vidgen.runtime.rebuild import rebuild_with
from vidgen.runtime.tensorrt_library import TensorRT
from vidgen.runtime.tensorrt_run import new_context, why_invalid


class Messages:
    """The last things TensorRT complained of: its calls only answer True or False."""

    def __init__(self, library: TensorRT) -> None:
        self._kept: deque[str] = deque(maxlen=8)
        #: What TensorRT is given; it must outlive every object made with it.
        self.logger = library.logger(self._hear)

    def _hear(self, severity: str, message: str) -> None:
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self._kept.append(" ".join(message.split()))

    def take(self, otherwise: str) -> str:
        """What was said since the last call, the last message first; ``otherwise`` where nothing was."""
        said = "; ".join(reversed(self._kept))
        self._kept.clear()
        return said[:400] or otherwise


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; -1 stands for a dynamic size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool
    on_device: bool


class Plugin(Protocol):
    """What a plugin's registration tells, beyond the False that TensorRT makes of every failure."""

    def raise_failure(self) -> None:
        """Raise what went wrong in the plugin since the last call, if anything did."""


class LoadedEngine:
    """An engine on the current device. It belongs to the thread that loaded it.

    Attributes:
        library: what loaded it. engine: its ICudaEngine. messages: what TensorRT says about it.
    """

    def __init__(self, library: TensorRT, runtime: Any, engine: Any, messages: Messages, plugin: Plugin | None) -> None:
        self.library, self.engine, self.messages = library, engine, messages
        self._runtime, self._plugin = runtime, plugin

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs and outputs, in the engine's order."""
        trt, engine = self.library.module, self.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return tuple(
            Tensor(
                name,
                self.library.dtype(engine.get_tensor_dtype(name)),
                tuple(engine.get_tensor_shape(name)),
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                engine.get_tensor_location(name) == trt.TensorLocation.DEVICE,
            )
            for name in names
        )

    def profiles(
        self, batch: tuple[str, int] | None, length: tuple[str, int] | None, told: Sequence[EngineProfile] = ()
    ) -> tuple[EngineProfile, ...]:
        """The optimisation profiles, from the axes (input, axis) of the batch and of the motion latent's length.

        Args:
            told: those of the manifest, whose sizes are taken for an axis that the engine does not have.
        """

        def sizes(axis: tuple[str, int] | None, profile: int, otherwise: tuple[int, int, int]) -> tuple[int, int, int]:
            if axis is None:
                return otherwise
            shapes = self.engine.get_tensor_profile_shape(axis[0], profile)
            smallest, usual, largest = (int(tuple(shape)[axis[1]]) for shape in shapes)
            return smallest, usual, largest

        found = []
        for number in range(self.engine.num_optimization_profiles):
            fixed = told[number] if number < len(told) else EngineProfile((1, 1, 1), (1, 1, 1))
            found.append(EngineProfile(sizes(batch, number, fixed.batch), sizes(length, number, fixed.length)))
        return tuple(found)

    def context(self, profile: int, stream: Stream, *, own_graphs: bool) -> Any:
        """A new execution context for one profile.

        Args:
            stream: on which it will be enqueued; work that the choice of a profile needs goes there.
            own_graphs: let the library make CUDA graphs by itself, where it can: nobody captures from outside.

        Raises:
            BackendError: no memory, or kernels that cannot be made for this device.
        """
        context = new_context(self.library, self.engine, own_graphs=own_graphs)
        if context is None or not context.set_optimization_profile_async(profile, stream.handle):
            error = self.failed(f"prepare the engine to run profile {profile}", "no message")
            error.cause = (
                "too little free memory for the largest batch of the profile, or a kernel that cannot run here"
            )
            error.fix = "end what else uses the GPU (nvidia-smi lists it), or rebuild the engine with a smaller --batch"
            raise error
        return context

    def failed(self, what: str, otherwise: str) -> BackendError:
        """The error of a call that answered False, in TensorRT's words, or else in these.

        Raises:
            VidgenError: the plugin's own error, where it was the plugin that failed.
        """
        if self._plugin is not None:
            self._plugin.raise_failure()
        return BackendError(
            f"{self.library.name} failed: {what}",
            seen=self.messages.take(otherwise),
            cause="the engine is not the one of its manifest, the device is short of memory, or a kernel failed",
            fix="use a smaller --batch; vidgen doctor shows the device; another --backend runs the .onnx file",
        )

    def close(self) -> None:
        """Drop the engine, then the runtime that made it."""
        self.engine = None
        self._runtime = None


def load_engine(
    library: TensorRT, cuda: Cuda, artifact: Path, manifest: Manifest | None, plugin: Plugin | None = None
) -> LoadedEngine:
    """Read a .plan file onto the device.

    Args:
        manifest: what the file is; its hash is checked once more on the very bytes that are used, since they are
            executable code. None for a file that the user trusts without one.
        plugin: of the operator that the engine needs, registered before.

    Raises:
        ArtifactError: the file cannot be read, or is not the one of the manifest.
        BackendError: TensorRT refuses it; says for which devices and version it is.
    """
    plan = _read(artifact, manifest)
    messages = Messages(library)
    runtime = library.module.Runtime(messages.logger)
    # An engine may carry code for the host; ours never does, and it is not run.
    runtime.engine_host_code_allowed = False
    with contextlib.suppress(RuntimeError):  # raised by some versions where others return None
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            return LoadedEngine(library, runtime, engine, messages, plugin)
    if plugin is not None:
        plugin.raise_failure()
    raise _refused(library, cuda, artifact, manifest, plan, runtime, messages)


def _read(artifact: Path, manifest: Manifest | None) -> bytes:
    try:
        plan = artifact.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"cannot open engine {artifact}",
            seen=error.strerror or str(error),
            cause="no permission to read it, or the disk failed",
            fix=rebuild_with(artifact, manifest),
        ) from error
    if manifest is not None and hashlib.sha256(plan).hexdigest() != manifest.sha256:
        raise ArtifactError(
            f"refusing engine {artifact}",
            seen=f"other bytes than a moment ago, expected SHA-256 {manifest.sha256[:12]}...",
            cause="another program replaced the file while it was opened",
            fix="run it again",
        )
    return plan


def _refused(
    library: TensorRT,
    cuda: Cuda,
    artifact: Path,
    manifest: Manifest | None,
    plan: bytes,
    runtime: Any,
    messages: Messages,
) -> BackendError:
    """Why an engine was not taken, as far as anybody says."""
    said = messages.take("no message")
    here = f"{cuda.device_name} ({cuda.architecture}), {library.name} {library.version_text}"
    built = "an engine of unknown origin"
    cause = "the engine is for another device or version, or the file is damaged"
    if manifest is not None and manifest.engine is not None:
        target = ", ".join(manifest.target) or "the device it was built on"
        built = f"an engine for {target}, {manifest.engine.library} {manifest.engine.version}"
        if manifest.target and cuda.architecture not in manifest.target:
            cause = f"the engine is for {target}; this device is {cuda.architecture}"
        elif manifest.engine.version != library.version_text:
            cause = "an engine runs with the version of the library that built it, unless built --version-compatible"
    reasons = why_invalid(library, runtime, plan)
    return BackendError(
        f"{library.name} cannot load {artifact}",
        seen=f"{built}; here: {here}: {', '.join((*reasons, said))}",
        cause=cause,
        fix=rebuild_with(artifact, manifest, gpu="current"),
    )


def refit(loaded: LoadedEngine, onnx: Path, artifact: Path) -> None:
    """Give an engine that was stored without weights those of the ONNX file it was built from.

    Raises:
        BackendError: the file's weights are not those the engine lacks.
        MissingDependencyError: TensorRT-RTX needs a C++ compiler to find itself (see the plugin's shim).
    """
    trt, model = loaded.library.module, onnx.read_bytes()
    if is_needed(model):
        # The parser of TensorRT-RTX would end the process where it looks for a plugin and does not find itself.
        from vidgen.plugins.sepconv_trt.tensorrt.shim import make_alias

        make_alias(trt)
    refitter = trt.Refitter(loaded.engine, loaded.messages.logger)
    parser = trt.OnnxParserRefitter(refitter, loaded.messages.logger)
    fitted = parser.refit_from_bytes(model) and refitter.refit_cuda_engine()
    missing = refitter.get_missing_weights()
    if not fitted or missing:
        raise BackendError(
            f"cannot give {artifact} its weights",
            seen=loaded.messages.take(f"{len(missing)} weights are missing after {onnx.name}"),
            cause="the ONNX file is not the one the engine was built from",
            fix=f"export both again, or build an engine with its weights inside: leave out --strip-plan ({artifact})",
        )


def stream_weights(loaded: LoadedEngine) -> None:
    """Let the library choose how many of the weights it keeps on the device; before the first context is made."""
    if loaded.engine.streamable_weights_size > 0:
        loaded.engine.weight_streaming_budget_v2 = loaded.engine.get_weight_streaming_automatic_budget()


def dynamic_axis(specs: Sequence[TensorSpec], dimension: str) -> tuple[str, int] | None:
    """The first input, and its axis, of a named dynamic size; None where no input has it."""
    return next(((spec.name, spec.shape.index(dimension)) for spec in specs if dimension in spec.shape), None)
