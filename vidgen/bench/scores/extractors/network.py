"""What extractors run on: an artifact in one of the project's backends, with a batch that never changes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.extractors.artifact import Artifact, Graph, cached_engine, cached_graph
from vidgen.errors import BackendError, ScoreError
from vidgen.models.config import Dimension, FramesRule, ModelInterface, TensorSpec
from vidgen.runtime.backends import Backend, load_backend
from vidgen.runtime.backends.base import Batch

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "BACKENDS", "PRECISION", "Artifact", "BackendNetwork", "Graph", "Network", "Outputs", "cached_graph",
    "in_batches", "open_network", "write_graph"
]  # fmt: skip

#: Backends that run a graph -> the modules that it takes, of which one must be installed.
BACKENDS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt_rtx"),
}
DEFAULT = "onnxruntime"
#: How every backend computes; on the label of statistics, where the backend itself makes no difference.
PRECISION: dict[str, object] = {"dtype": "float32", "tf32": False}

Outputs = dict[str, NDArray[np.float32]]
T = TypeVar("T")


class Network(Protocol):
    """Something that describes items of one shape; each answer depends on its own item alone."""

    def run(self, items: NDArray[Any]) -> Outputs:
        """Describe items [n, ...], n >= 0; every output is float32 [n, ...]."""

    def close(self) -> None:
        """Give back what it runs on."""


class BackendNetwork:
    """A network with one input in a backend, run with a batch of one size only; what is missing is filled with zeros.

    Libraries choose how they add by the size of what they are given, so the last digits of a row could depend on how
    many others there are.

    Args:
        load: opens the backend. batch: items computed together.
        confined: whether the backend has to stay on one thread: CUDA contexts and engines belong to the one that
            opened them, and scores take features on another.

    Raises:
        VidgenError: what ``load`` raises.
    """

    def __init__(self, load: Callable[[], Backend], *, batch: int, confined: bool = False) -> None:
        self.batch = batch
        self._thread = ThreadPoolExecutor(1, "extractor's device") if confined else None
        self._backend: Backend | None = None
        try:
            self._backend = self._call(load)
        finally:
            if self._backend is None:
                self.close()

    @property
    def description(self) -> str:
        """Name and version of what computes, and where, e.g. ``"onnxruntime 1.31.1, CPUExecutionProvider"``."""
        told = self._opened().describe()
        return f"{told['library']}, {told['device'].partition(',')[0]}"

    def run(self, items: NDArray[Any]) -> Outputs:
        """Describe items; see :class:`Network`.

        Raises:
            BackendError: the library failed, or the network was closed.
        """
        backend = self._opened()
        return self._call(lambda: in_batches(lambda parts: _outputs(backend, parts), items, self.batch))

    def close(self) -> None:
        """Close the backend. Closing twice is allowed."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self._call(backend.close)
        if self._thread is not None:
            self._thread.shutdown()

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError("cannot run: the extractor is closed", seen="a use after close()",
                               cause="its with block was left", fix="open it again with open_extractor")  # fmt: skip
        return self._backend

    def _call(self, work: Callable[[], T]) -> T:
        return work() if self._thread is None else self._thread.submit(work).result()


def _outputs(backend: Backend, parts: Iterable[NDArray[Any]]) -> Iterator[Outputs]:
    """What a backend makes of each part; a device takes the next part while the caller has the last."""
    interface = backend.manifest.interface
    (spec,) = interface.inputs

    def batch(part: NDArray[Any]) -> Batch:
        sizes = {name: size for name, size in zip(spec.shape, part.shape, strict=True) if isinstance(name, str)}
        made = {
            each.name: np.empty(each.resolve(**sizes), each.dtype) for each in (interface.output, *interface.extras)
        }
        return Batch({spec.name: part}, made.pop(interface.output.name), made)

    for done in backend.run_many(map(batch, parts)):
        found: Mapping[str, NDArray[Any]] = {interface.output.name: done.output, **(done.extras or {})}
        yield {name: value.astype(np.float32, copy=False) for name, value in found.items()}


def open_network(
    artifact: Artifact, *, threads: int | None = None, device: str = "cpu", backend: str | None = None
) -> BackendNetwork:
    """Load an extractor's graph.

    Args:
        threads: CPU threads; None leaves the library's choice. device: as of the backend.
        backend: one of :data:`BACKENDS`; ONNX Runtime when None. ``tensorrt`` builds an engine for the GPU of this
            machine, once, and keeps it in the user's cache.

    Raises:
        BackendError: no such backend, it does not work here, or cannot load the graph.
        MissingDependencyError: its library is not installed.
        SettingsError, ExportError, StorageError: the engine cannot be built, or kept.
    """
    name = check_backend(backend)
    if name == "tensorrt":
        artifact = cached_engine(artifact)

    def load() -> Backend:
        return load_backend(artifact.path, artifact.manifest, name, threads=threads, device=device)

    return BackendNetwork(load, batch=artifact.batch, confined=name == "tensorrt" or device != "cpu")


def check_backend(name: str | None) -> str:
    """The backend of that name, the default where none is named.

    Raises:
        BackendError: there is none of that name, or it needs a GPU and there is none.
    """
    if name is None:
        return DEFAULT
    from vidgen.runtime.tensorrt_library import device_architecture

    if name in BACKENDS and (name != "tensorrt" or device_architecture() is not None):
        return name
    known = name in BACKENDS
    works = [each for each, modules in BACKENDS.items() if _works(each, modules)]
    raise BackendError(
        f"cannot run an extractor with {name}" if known else f"unknown backend {name!r} of an extractor",
        seen="CUDA shows no GPU" if known else f"{name!r}, expected one of {', '.join(BACKENDS)}",
        cause="engines run on NVIDIA GPUs" if known else "a typing error, or a backend that runs no graphs",
        fix=f"use @backend={' or @backend='.join(works)}   (work here)"
        if works
        else "pip install 'vidgen[cpu]', which brings onnxruntime",
    )


def _works(name: str, modules: Sequence[str]) -> bool:
    from vidgen.runtime.tensorrt_library import device_architecture

    there = any(importlib.util.find_spec(module) is not None for module in modules)
    return there and (name != "tensorrt" or device_architecture() is not None)


def in_batches(run: Callable[[Iterator[NDArray[Any]]], Iterable[Outputs]], items: NDArray[Any], batch: int) -> Outputs:
    """Run items in batches of exactly one size, the last one filled up with zeros that are dropped again.

    Args:
        run: gives the outputs of each batch that it takes, in order.

    Raises:
        ScoreError: an output without a row for each item.
    """
    starts = range(0, max(len(items), 1), batch)
    parts = []
    for start, found in zip(starts, run(_filled(items[at : at + batch], batch) for at in starts), strict=True):
        for name, value in found.items():
            if value.ndim < 2 or len(value) != batch:
                raise ScoreError(
                    "cannot use this network as an extractor",
                    seen=f"output {name} is {list(value.shape)} for a batch of {batch}, expected [{batch}, features]",
                    cause="it does not describe clips one by one",
                    fix="export a network with features [batch, d] as its output",
                )
        parts.append({name: value[: len(items) - start] for name, value in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(part: NDArray[Any], batch: int) -> NDArray[Any]:
    if len(part) < batch:
        part = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
    return np.ascontiguousarray(part)


def write_graph(module: nn.Module, shape: Sequence[Dimension], outputs: Mapping[str, int], name: str) -> Graph:
    """A network as a serialised ONNX model.

    Args:
        module: uint8 of ``shape`` to one float32 [batch, d] for each of ``outputs``, in their order.
        shape: of the input ``clips``; strings name dynamic axes, ``batch`` and ``frames``. outputs: name -> d.

    Raises:
        MissingDependencyError: onnx is not installed.
        ExportError: an operation has no ONNX form here.
    """
    from vidgen.export.onnx_graph import DEFAULT_OPSET, OnnxGraph
    from vidgen.export.to_onnx import Writer

    spec = TensorSpec("clips", "uint8", tuple(shape), "video", (0.0, 255.0))
    graph = OnnxGraph()
    writer = Writer(module.eval().requires_grad_(False), [spec], graph, unnamed=name)
    specs = []
    for found, (output, width) in zip(writer.run(["clips"]), outputs.items(), strict=True):
        graph.rename(found, output)
        specs.append(TensorSpec(output, "float32", ("batch", width), "features"))
    interface = describing_interface(spec, specs)
    return Graph(graph.build(interface, DEFAULT_OPSET, name, {}).SerializeToString(), interface)


def describing_interface(clips: TensorSpec, outputs: Sequence[TensorSpec]) -> ModelInterface:
    """The interface of a network that describes clips or frames."""
    frames = clips.shape[1] if len(clips.shape) == 5 and isinstance(clips.shape[1], int) else 16
    rule = FramesRule(clips.name, 1, "frames", scale=1, offset=0, default=frames)
    return ModelInterface((clips,), outputs[0], rule, tuple(outputs[1:]))
