"""Any ONNX file of the user's as an extractor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.given_network import given_extractor, read_contract, refusal
from vidgen.bench.scores.extractors.network import OnnxNetwork
from vidgen.errors import ArtifactError
from vidgen.runtime.backends.onnx_file import EXTERNAL_DATA_MARK
from vidgen.runtime.backends.onnxruntime import element_type

#: Options can be stored in the file as metadata of this prefix, ``extractor.range`` for example.
METADATA = "extractor."


def open_onnx(file: Path, options: Mapping[str, str], *, threads: int | None, device: str) -> Extractor:
    """Open a file whose one input is a video.

    Args:
        options: see :func:`read_contract`; they go before what the file's metadata says.

    Raises:
        ArtifactError: the file cannot be read, or keeps tensors in other files.
        BackendError: ONNX Runtime cannot load or run it.
        SettingsError: its input is no video, or unclear.
        ScoreError: it gives no usable features.
    """
    network = OnnxNetwork(read_model(file), file, batch=1, threads=threads, device=device)
    session = network.session
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
    contract = read_contract(file, element_type(inputs[0]), _shape(inputs[0]), {**known, **options})
    network.batch = contract.batch
    return given_extractor(file, network, contract, runtime="onnxruntime")


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)


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
