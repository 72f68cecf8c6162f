"""Any ONNX file of the user's as an extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidgen._imports import require
from vidgen.bench.scores.extractors.artifact import Artifact, Graph, graph_manifest
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.given_network import Contract, given_extractor, read_contract, refusal
from vidgen.bench.scores.extractors.network import check_backend, describing_interface, open_network
from vidgen.errors import ArtifactError, ScoreError
from vidgen.models.config import Dimension, TensorSpec
from vidgen.runtime.backends.buffers import run_error
from vidgen.runtime.backends.onnx_file import EXTERNAL_DATA_MARK
from vidgen.runtime.backends.onnxruntime import element_type, open_session

#: Options can be stored in the file as metadata of this prefix, ``extractor.range`` for example.
METADATA = "extractor."
#: Frames, height and width that a network is tried with where it takes any.
FRAMES, SIDE = 16, 64


def open_onnx(file: Path, options: Mapping[str, str], *, threads: int | None, device: str) -> Extractor:
    """Open a file whose one input is a video.

    The file is looked at with ONNX Runtime, whatever backend runs it afterwards.

    Args:
        options: see :func:`read_contract`, and ``backend``; they go before what the file's metadata says.

    Raises:
        ArtifactError: the file cannot be read, or keeps tensors in other files.
        BackendError: no such backend, or it cannot load or run the file.
        MissingDependencyError: ONNX Runtime, or the backend's library, is not installed.
        SettingsError: its input is no video, or unclear.
        ScoreError: it gives no usable features.
    """
    backend = check_backend(options.get("backend"))
    model = read_model(file)
    session = open_session(model, file, threads=threads, device="cpu")
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise refusal(file, f"{len(inputs)} inputs ({names}), expected one", "it is no network of clips")
    types = {value.name: element_type(value) for value in session.get_outputs()}
    wrong = {name: kind for name, kind in types.items() if kind not in ("float32", "float16", "float64")}
    if wrong:
        raise refusal(file, f"outputs {wrong}, expected float32", "its outputs are no features")
    stored = session.get_modelmeta().custom_metadata_map
    known = {key.removeprefix(METADATA): value for key, value in stored.items() if key.startswith(METADATA)}
    asked = {key: value for key, value in {**known, **options}.items() if key != "backend"}
    contract = read_contract(file, element_type(inputs[0]), _sizes(inputs[0]), asked)
    given = _Given(file, model, session, contract)
    artifact = given.engine_ready() if backend == "tensorrt" else given.artifact(file, model, given.clips())
    del session, given.session
    network = open_network(artifact, threads=threads, device=device, backend=backend)
    return given_extractor(file, network, contract)


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)


@dataclass
class _Given:
    """A file, and a session that knows its inputs and outputs."""

    file: Path
    model: bytes
    session: Any
    contract: Contract

    def clips(self) -> TensorSpec:
        """The input, with a name for each size that the file leaves open."""
        (value,) = self.session.get_inputs()
        names = {"N": "batch", "T": "frames", "H": "height", "W": "width", "C": "channels"}
        shape = [
            names[axis] if size is None else size
            for axis, size in zip(self.contract.layout, _sizes(value), strict=True)
        ]
        return TensorSpec(value.name, self.contract.dtype, tuple(shape), "video", self.contract.range)

    def artifact(self, path: Path, model: bytes, clips: TensorSpec) -> Artifact:
        """A manifest for a file that came without one."""
        graph = Graph(model, describing_interface(clips, self.outputs(clips.shape[0])))
        return Artifact(path, graph_manifest(self.file.name, graph, self.contract.batch))

    def engine_ready(self) -> Artifact:
        """The file with every size that the user told written into it, kept in the user's cache: engines need them.

        Raises:
            SettingsError: a size is open.
        """
        from vidgen.bench.scores.extractors.artifact import cached_graph

        onnx = require("onnx", "build an engine of an .onnx file")
        shape = self._tried(batch=None)
        loaded = onnx.load_model_from_string(self.model)
        for size, found in zip(loaded.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            if isinstance(found, int):
                size.dim_value = found
            else:
                size.dim_param = found
        (value,) = self.session.get_inputs()
        clips = TensorSpec(value.name, self.contract.dtype, shape, "video", self.contract.range)
        fixed: bytes = loaded.SerializeToString()
        graph = Graph(fixed, describing_interface(clips, self.outputs(shape[0])))
        digest = hashlib.sha256(fixed).hexdigest()
        return cached_graph(self.file.stem, digest, lambda: graph, batch=self.contract.batch)

    def outputs(self, batch: Dimension) -> list[TensorSpec]:
        """The outputs; what the file does not tell of their shapes is found by a run.

        Raises:
            ScoreError: one has no row for each item.
        """
        values = self.session.get_outputs()
        shapes = {value.name: _sizes(value)[1:] for value in values}
        rows = {size for value in values for size in _sizes(value)[:1]}
        if not rows <= {None, batch} or not all(shape and None not in shape for shape in shapes.values()):
            shapes = self._found()
        return [
            TensorSpec(value.name, element_type(value), (batch, *_whole(shapes[value.name])), "features")
            for value in values
        ]

    def _found(self) -> dict[str, tuple[int | None, ...]]:
        (value,) = self.session.get_inputs()
        batch = self.contract.batch
        zeros = np.zeros([batch if isinstance(s, str) else s for s in self._tried(batch)], self.contract.dtype)
        names = [output.name for output in self.session.get_outputs()]
        try:
            made = self.session.run(names, {value.name: zeros})
        except Exception as error:  # its exceptions share no base class of their own
            raise run_error("onnxruntime", error, batch) from error
        for name, array in zip(names, made, strict=True):
            if array.ndim < 2 or len(array) != batch:
                raise ScoreError(
                    f"cannot use {self.file} as an extractor",
                    seen=f"output {name} is {list(array.shape)} for a batch of {batch}, expected [{batch}, features]",
                    cause="it does not describe clips one by one",
                    fix="export a network with features [batch, d] as its output",
                )
        return {name: array.shape[1:] for name, array in zip(names, made, strict=True)}

    def _tried(self, batch: int | None) -> tuple[Dimension, ...]:
        """A shape of the input: as the file and the user fix it, else a usual one.

        Args:
            batch: where the file leaves it open; None names it.

        Raises:
            SettingsError: for an engine, that is without a batch, a size is open.
        """
        height, width = self.contract.size or (None, None)
        told = {"T": self.contract.frames, "H": height, "W": width, "C": 3}
        usual = {"T": FRAMES, "H": SIDE, "W": SIDE}
        (value,) = self.session.get_inputs()
        shape: list[Dimension] = []
        for axis, size in zip(self.contract.layout, _sizes(value), strict=True):
            if axis == "N":
                shape.append(size or batch or "batch")
            elif (known := size or told[axis]) is None and batch is None:
                raise refusal(
                    self.file,
                    "an input of any frames, height or width, with tensorrt",
                    "an engine is built for one size",
                    f"--extractor {self.file}@backend=tensorrt,frames={FRAMES},size={SIDE}",
                )
            else:
                shape.append(known or usual[axis])
        return tuple(shape)


def _whole(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size is not None)


def read_model(file: Path) -> bytes:
    """The bytes of a self-contained model.

    Raises:
        ArtifactError: it cannot be read, or keeps tensors in other files.
    """
    try:
        model = file.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"cannot open extractor {file}",
            seen=error.strerror or str(error),
            cause="a wrong path, or no permission to read it",
            fix=f"ls -l {file.parent}",
        ) from error
    if EXTERNAL_DATA_MARK in model:
        raise ArtifactError(
            f"refusing extractor {file}",
            seen="tensors stored in other files, expected one self-contained file",
            cause="external data lets a model read any file",
            fix="save it in one file: onnx.save(onnx.load(PATH), NEW, save_as_external_data=False)",
        )
    return model
