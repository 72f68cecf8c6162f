"""Reading an .onnx file for any runtime: one self-contained file, as exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vidgen._imports import require
from vidgen.errors import ArtifactError, BackendError
from vidgen.plugins.sepconv_trt.onnx_form import inline_standard
from vidgen.plugins.sepconv_trt.ort_library import is_needed
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.rebuild import rebuild_with

#: The key that every tensor kept outside its file carries, as it is encoded: a string of 8 bytes, field 1.
EXTERNAL_DATA_MARK = b"\x0a\x08location"


def read_onnx(artifact: Path, manifest: Manifest) -> bytes:
    """The bytes of a model, to be loaded from memory: so nothing beside the file is ever looked up.

    Raises:
        ArtifactError: the file keeps tensors in other files, or cannot be read.
    """
    again = rebuild_with(artifact, manifest)
    try:
        model = artifact.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"cannot open artifact {artifact}",
            seen=error.strerror or str(error),
            cause="no permission to read it, or the disk failed",
            fix=again,
        ) from error
    if EXTERNAL_DATA_MARK in model:
        raise ArtifactError(
            f"refusing artifact {artifact}",
            seen="tensors stored in other files, expected one self-contained file",
            cause="it was not exported by vidgen: external data lets a model read any file",
            fix=again,
        )
    return model


def without_functions(model: bytes) -> bytes:
    """A serialised model with our operators replaced by their function bodies, for runtimes that know neither.

    Raises:
        MissingDependencyError: onnx, which does it, is not installed.
        ExportError: the model has an operator of ours without its function body.
    """
    if not is_needed(model):
        return model
    onnx = require("onnx", "run this model in a runtime that has no separable convolution")
    rewritten: bytes = inline_standard(onnx.load_model_from_string(model)).SerializeToString()
    return rewritten


def check_tensors(backend: str, artifact: Path, manifest: Manifest, has: Mapping[str, str]) -> None:
    """Raise unless a loaded file has the inputs and outputs of its manifest.

    Args:
        has: name -> NumPy name of the element type, of all inputs and outputs of the file.

    Raises:
        BackendError: a name or a type differs.
    """
    interface = manifest.interface
    says = {spec.name: spec.dtype for spec in (*interface.inputs, interface.output, *interface.extras)}
    if dict(has) != says:
        raise BackendError(
            f"{backend} refuses {artifact}",
            seen=f"inputs and outputs {dict(has)}, expected {says} from its manifest",
            cause="the manifest belongs to another file",
            fix=rebuild_with(artifact, manifest),
        )
