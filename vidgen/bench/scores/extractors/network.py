"""What extractors run on: a network as one ONNX model in ONNX Runtime, with a batch that never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidgen import __version__
from vidgen.errors import BackendError, ScoreError
from vidgen.models.config import Dimension, FramesRule, ModelInterface, TensorSpec
from vidgen.plugins.sepconv_trt.build import cached
from vidgen.runtime.backends.buffers import run_error
from vidgen.runtime.backends.onnxruntime import open_session

if TYPE_CHECKING:
    from torch import nn

#: Counted up when the same weights are written as another graph.
FORM = 1

Outputs = dict[str, NDArray[np.float32]]


class Network(Protocol):
    """Something that describes items of one shape; each answer depends on its own item alone."""

    def run(self, items: NDArray[Any]) -> Outputs:
        """Describe items [n, ...], n >= 0; every output is float32 [n, ...]."""

    def close(self) -> None:
        """Give back what it runs on."""


class OnnxNetwork:
    """A session with one input, run with a batch of one size only; what is missing is filled with zeros.

    Libraries choose how they add by the size of what they are given, so the last digits of a row could depend on how
    many others there are.

    Args:
        model: a self-contained file. source: what messages call it. batch: items computed together.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        BackendError: the model cannot be loaded, or the device is not there.
    """

    def __init__(self, model: bytes, source: object, *, batch: int, threads: int | None, device: str) -> None:
        self._session: Any = open_session(model, source, threads=threads, device=device)
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self.batch = batch

    @property
    def session(self) -> Any:
        """The inference session."""
        return self._session

    def run(self, items: NDArray[Any]) -> Outputs:
        """Describe items; see :class:`Network`.

        Raises:
            BackendError: the library failed, or the network was closed.
        """
        if self._session is None:
            raise BackendError("cannot run: the extractor is closed", seen="a use after close()",
                               cause="its with block was left", fix="open it again with open_extractor")  # fmt: skip
        return in_batches(self._run, items, self.batch)

    def _run(self, part: NDArray[Any]) -> Outputs:
        try:
            found = self._session.run(None, {self._input: part})
        except Exception as error:  # its exceptions share no base class of their own
            raise run_error("onnxruntime", error, len(part)) from error
        return {name: np.asarray(value, np.float32) for name, value in zip(self._names, found, strict=True)}

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def in_batches(run: Callable[[NDArray[Any]], Outputs], items: NDArray[Any], batch: int) -> Outputs:
    """Run items in batches of exactly one size, the last one filled up with zeros that are dropped again.

    Raises:
        ScoreError: an output without a row for each item.
    """
    parts: list[Outputs] = []
    for start in range(0, max(len(items), 1), batch):
        part = items[start : start + batch]
        count = len(part)
        if count < batch:
            part = np.concatenate([part, np.zeros((batch - count, *items.shape[1:]), items.dtype)])
        found = run(np.ascontiguousarray(part))
        for name, value in found.items():
            if value.ndim < 2 or len(value) != batch:
                raise ScoreError(
                    "cannot use this network as an extractor",
                    seen=f"output {name} is {list(value.shape)} for a batch of {batch}, expected [{batch}, features]",
                    cause="it does not describe clips one by one",
                    fix="export a network with features [batch, d] as its output",
                )
        parts.append({name: value[:count] for name, value in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cached_model(name: str, weight_sha256: str, make: Callable[[], bytes], **settings: object) -> bytes:
    """The ONNX model of weights, from the user's cache or freshly written into it.

    Args:
        make: writes the model. settings: what the graph depends on besides the weights.

    Raises:
        StorageError: the cache cannot be written; and what ``make`` raises.
    """
    key = json.dumps([name, weight_sha256, settings, FORM, __version__], sort_keys=True)
    file = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.onnx"
    return cached(file, lambda partial: _write(partial, make()), kind="extractors").read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def write_model(module: nn.Module, shape: Sequence[Dimension], outputs: Mapping[str, int], name: str) -> bytes:
    """A network as a serialised ONNX model.

    Args:
        module: uint8 of ``shape`` to one float32 [batch, d] for each of ``outputs``, in their order.
        shape: of the input ``clips``; strings name dynamic axes, ``batch`` among them. outputs: name -> d.

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
    frames = FramesRule("clips", 1, "frames", scale=1, offset=0, default=16)
    interface = ModelInterface((spec,), specs[0], frames, tuple(specs[1:]))
    model: bytes = graph.build(interface, DEFAULT_OPSET, name, {}).SerializeToString()
    return model
