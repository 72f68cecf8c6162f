"""The TensorRT backend: runs a .plan file of either library (TensorRT, TensorRT-RTX) on a CUDA device."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from numpy.typing import NDArray

from vidgen.errors import BackendError, VidgenError
from vidgen.models.config import ModelInterface
from vidgen.runtime.backends.base import Arrays, Backend, Batch
from vidgen.runtime.backends.buffers import check_buffers, closed_error, run_error
from vidgen.runtime.backends.onnx_file import check_tensors
from vidgen.runtime.cuda import Cuda, open_cuda
from vidgen.runtime.device_loop import LANES, DeviceLoop
from vidgen.runtime.elsewhere import onnx_of, runs_elsewhere
from vidgen.runtime.engine_file import LoadedEngine, dynamic_axis, load_engine, refit, stream_weights
from vidgen.runtime.manifest import Engine, EngineProfile, Manifest
from vidgen.runtime.rebuild import rebuild_with
from vidgen.runtime.tensorrt_library import TensorRT, load_tensorrt

if TYPE_CHECKING:
    from vidgen.plugins.sepconv_trt.tensorrt import Registration


@dataclass
class _Submitted:
    """A batch on the device: done once its buffers are filled, or it failed."""

    batch: Batch
    done: bool = False
    error: BackendError | None = None


class TensorRTBackend(Backend):
    """An engine, its execution contexts and a loop that keeps two batches on the device.

    It belongs to the thread that loaded it: the CUDA context is current there, and execution contexts are not
    safe to share.
    """

    name: ClassVar[str] = "tensorrt"

    def __init__(
        self,
        artifact: Path,
        manifest: Manifest,
        cuda: Cuda,
        loaded: LoadedEngine,
        profiles: tuple[EngineProfile, ...],
        owns: ExitStack,
    ) -> None:
        self._artifact = artifact
        self._cuda, self._loaded, self._manifest, self._profiles = cuda, loaded, manifest, profiles
        self._loop = DeviceLoop(cuda, loaded, manifest.interface)
        self._thread = threading.get_ident()
        self._owns: ExitStack | None = owns
        self._submitted: deque[_Submitted] = deque()
        self._milliseconds: float | None = None
        self._lost = False
        self._library = f"{loaded.library.name} {loaded.library.version_text}"
        self._device = f"{cuda.device_name} ({cuda.architecture})"

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cuda") -> Self:
        """Load an engine; ``threads`` means nothing here.

        Args:
            device: ``"cuda"``, or ``"cuda:1"`` for the second device. ``"cpu"`` is taken as ``"cuda"``: an engine
                runs nowhere else.

        Raises:
            MissingDependencyError, BackendError: no device or library here, or the engine is for others; says for
                which devices it is, and which artifact of the same model runs here.
            ArtifactError: the ONNX file with the weights of a stripped engine is not beside it.
        """
        engine = manifest.engine
        if engine is None:
            raise _untold(artifact, manifest)
        number = _device_number(device)
        with ExitStack() as stack:
            try:
                cuda = stack.enter_context(open_cuda(number))
                library = load_tensorrt(engine.library, "run .plan files")
            except VidgenError as error:
                raise runs_elsewhere(artifact, manifest, error) from error
            plugin = _plugin(library, artifact, engine, manifest, cuda)
            if plugin is not None:
                stack.enter_context(plugin)
            loaded = load_engine(library, cuda, artifact, manifest, plugin)
            stack.callback(loaded.close)
            profiles = _check(artifact, manifest, engine, loaded)
            if engine.stripped:
                refit(loaded, onnx_of(artifact, manifest), artifact)
            stream_weights(loaded)
            return cls(artifact, manifest, cuda, loaded, profiles, stack.pop_all())

    @property
    def manifest(self) -> Manifest:
        """What the engine is."""
        return self._manifest

    def describe(self) -> dict[str, str]:
        """Library, version, device; whether runs come from a CUDA graph, once some have. One thread enqueues."""
        return {
            "backend": self.name,
            "library": self._library,
            "device": f"{self._device}, {self._cuda.name}, CUDA graphs: {self._loop.graphs}",
            "threads": "1",
        }

    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Run one batch and wait for it."""
        self._check_usable()
        self._finish(self._submit(Batch(inputs, output, extras)))

    def run_many(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Run batches with the next one on the device while the caller has the last; see :meth:`Backend.run_many`.

        Several such iterators may be used by turns, and :meth:`run` between.
        """
        coming = iter(batches)
        own: deque[_Submitted] = deque()
        failure: Exception | None = None
        while failure is None or own:
            while failure is None and len(own) < LANES:
                # What fails must not cost the caller the batches before it: they are given back first.
                try:
                    self._check_usable()
                    own.append(self._submit(next(coming)))
                except Exception as error:
                    failure = error
            if own:
                self._check_usable()
                yield self._finish(own.popleft())
        if not isinstance(failure, StopIteration):
            raise failure

    def device_milliseconds(self) -> float | None:
        """Device time of the last finished batch, between events before and after the engine."""
        return self._milliseconds

    def close(self) -> None:
        """Wait for the device and give back contexts, engine and memory, in this order.

        Raises:
            BackendError: on another thread than the one that loaded it.
        """
        if self._owns is None:
            return
        self._check_thread("close()")
        owns, self._owns = self._owns, None
        # Of a device that failed before, nothing can be given back, which nobody needs to hear.
        with contextlib.suppress(*([BackendError] if self._lost else [])), owns:
            self._loop.close()

    def _submit(self, batch: Batch) -> _Submitted:
        """Put a batch on the device, after those that are there."""
        interface = self._manifest.interface
        check_buffers(interface, batch.inputs, batch.output, batch.extras)
        sizes = _sizes(interface, batch.inputs)
        usual = self._profiles[0]
        length = sizes.get(interface.frames.dimension, usual.length[1])
        profile = self._profile(sizes.get("batch", usual.batch[1]), length)
        if self._loop.full:
            self._collect()
        try:
            self._loop.submit(batch, profile, sizes)
        except BackendError as error:
            if "outofmemory" not in error.seen.lower().replace("_", "").replace(" ", ""):
                raise
            raise run_error(self.name, MemoryError(error.seen), len(batch.output)) from error
        self._submitted.append(_Submitted(batch))
        return self._submitted[-1]

    def _finish(self, submitted: _Submitted) -> Batch:
        """Wait for a batch, and before it for those submitted earlier, whoever they belong to."""
        while not submitted.done:
            self._collect()
        if submitted.error is not None:
            raise submitted.error
        return submitted.batch

    def _collect(self) -> None:
        """Fill the buffers of the batch submitted first; its error is for whoever waits for it."""
        oldest = self._submitted.popleft()
        try:
            self._milliseconds = self._loop.collect()
        except BackendError as error:
            oldest.error = error
            self._lost = True
        oldest.done = True

    def _profile(self, batch: int, length: int) -> int:
        """The profile whose usual shape is nearest, of those that hold this one."""
        fitting = [number for number, profile in enumerate(self._profiles) if profile.holds(batch, length)]
        if not fitting:
            raise self._outside(batch, length)

        def distance(number: int) -> float:
            profile = self._profiles[number]
            return abs(math.log(batch / profile.batch[1])) + abs(math.log(length / profile.length[1]))

        return min(fitting, key=distance)

    def _outside(self, batch: int, length: int) -> BackendError:
        """No profile holds this shape: the sizes it does hold, and the option that asks for one of them."""
        rule = self._manifest.interface.frames
        lengths_fit = [profile for profile in self._profiles if profile.length[0] <= length <= profile.length[2]]
        if lengths_fit:
            near = min((_nearest(batch, p.batch) for p in lengths_fit), key=lambda size: abs(size - batch))
            again = rebuild_with(self._artifact, self._manifest, batch=f"1:{batch}:{batch}")
            fix = f"use --batch {near}, or rebuild: {again}"
        else:
            near = min((_nearest(length, p.length) for p in self._profiles), key=lambda size: abs(size - length))
            shortest, longest = (
                rule.frames(rule.shortest),
                rule.frames(max(length, *(p.length[2] for p in self._profiles))),
            )
            again = rebuild_with(self._artifact, self._manifest, frames=f"{shortest}:{rule.frames(length)}:{longest}")
            fix = f"use --frames {rule.frames(near)}, or rebuild: {again}"
        held = "; ".join(
            f"batch {_bounds(p.batch)}, {_bounds(tuple(map(rule.frames, p.length)))} frames" for p in self._profiles
        )
        return BackendError(
            f"the engine has no profile for a batch of {batch} videos of {rule.frames(length)} frames",
            seen=f"batch {batch}, {rule.frames(length)} frames, expected {held}",
            cause="an engine runs the shapes it was built for and no others",
            fix=fix,
        )

    def _check_usable(self) -> None:
        if self._owns is None:
            raise closed_error(self.name)
        self._check_thread("run()")

    def _check_thread(self, call: str) -> None:
        if threading.get_ident() != self._thread:
            raise BackendError(
                "cannot use an engine from two threads",
                seen=f"{call} on {threading.current_thread().name}, expected the thread that loaded the engine",
                cause="execution contexts and the CUDA context belong to one thread",
                fix="open the engine once in each thread that uses it",
            )


def _nearest(size: int, sizes: tuple[int, int, int]) -> int:
    """The size of a profile that is nearest to one."""
    return min(max(size, sizes[0]), sizes[2])


def _bounds(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if sizes[0] == sizes[2] else f"{sizes[0]} to {sizes[2]}"


def _sizes(interface: ModelInterface, inputs: Arrays) -> Mapping[str, int]:
    """Every dynamic size by name, from buffers that were checked."""
    sizes = {
        dimension: size
        for spec in interface.inputs
        for dimension, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
        if isinstance(dimension, str)
    }
    length = sizes.get(interface.frames.dimension)
    return sizes if length is None else {**sizes, "frames": interface.frames.frames(length)}


def _device_number(device: str) -> int:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or not number):
        raise BackendError(
            f"tensorrt cannot run on {device}",
            seen=f"device {device!r}, expected cuda, or cuda:1 for the second",
            cause="engines run on CUDA devices",
            fix="use --device cuda",
        )
    return int(number or 0)


def _plugin(library: TensorRT, artifact: Path, engine: Engine, manifest: Manifest, cuda: Cuda) -> Registration | None:
    """The separable convolution, registered in this process, where the engine does not carry it."""
    if engine.sepconv not in ("python", "library"):
        return None
    from vidgen.plugins.sepconv_trt.tensorrt import prepare

    dtypes = ("float32", "float16") if manifest.precision.kind == "float16" else ("float32",)
    # A library that lies beside the engine; else the one that the environment names.
    file = next((path for name in engine.needs if (path := artifact.with_name(name)).is_file()), None)
    # K is stored in the engine.
    return prepare(library, engine.sepconv, taps=None, dtypes=dtypes, cuda=cuda, path=file)


def _check(artifact: Path, manifest: Manifest, engine: Engine, loaded: LoadedEngine) -> tuple[EngineProfile, ...]:
    """The profiles of an engine whose tensors are those of its manifest."""
    tensors = loaded.tensors
    check_tensors("tensorrt", artifact, manifest, {tensor.name: tensor.dtype for tensor in tensors})
    on_host = [tensor.name for tensor in tensors if not tensor.on_device]
    interface = manifest.interface
    batch = dynamic_axis(interface.inputs, "batch")
    length = dynamic_axis(interface.inputs, interface.frames.dimension)
    profiles = loaded.profiles(batch, length, engine.profiles)
    if on_host or profiles != engine.profiles:
        raise BackendError(
            f"tensorrt refuses {artifact}",
            seen=f"{on_host} in host memory, expected none" if on_host else f"{profiles}, expected {engine.profiles}",
            cause="the manifest belongs to another engine",
            fix=rebuild_with(artifact, manifest),
        )
    return profiles


def _untold(artifact: Path, manifest: Manifest) -> BackendError:
    return BackendError(
        f"cannot run engine {artifact}",
        seen="a manifest that does not say which library the engine is for",
        cause="it was written by another program, or edited",
        fix=rebuild_with(artifact, manifest),
    )
