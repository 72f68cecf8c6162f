"""Opening an artifact: which backend runs which kind of file."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
from pathlib import Path

from vidgen.errors import ArtifactError, BackendError, VidgenError
from vidgen.models.config import ExtractorConfig
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.elsewhere import alternative
from vidgen.runtime.manifest import Manifest, checkpoint_manifest, manifest_path, read_manifest
from vidgen.runtime.rebuild import rebuild_with

__all__ = [
    "BACKENDS", "Backend", "backend_for", "device_for", "load_backend", "manifest_of", "open_backend", "runs"
]  # fmt: skip

#: Name that users type -> module and class. The module is imported only when it is asked for.
BACKENDS: dict[str, tuple[str, str]] = {
    "torch": ("vidgen.runtime.backends.torch", "TorchBackend"),
    "onnxruntime": ("vidgen.runtime.backends.onnxruntime", "OnnxRuntimeBackend"),
    "openvino": ("vidgen.runtime.backends.openvino", "OpenVinoBackend"),
    "tensorrt": ("vidgen.runtime.backends.tensorrt", "TensorRTBackend"),
}
#: A backend that makes waves instead of videos: only for tests, which say so in this variable of the environment.
FAKE = "fake"
ALLOWS_FAKE = "VIDGEN_TEST_FAKE_BACKEND"

#: Suffix of an artifact -> the backends that run it, the default first.
RUNS: dict[str, tuple[str, ...]] = {
    ".safetensors": ("torch",),
    ".onnx": ("onnxruntime", "openvino"),
    ".plan": ("tensorrt",),
}


def _faked(name: str | None) -> bool:
    return name == FAKE and os.environ.get(ALLOWS_FAKE) == "1"


def runs(artifact: Path, name: str) -> bool:
    """Whether a backend of this name runs this kind of file."""
    return name in RUNS.get(artifact.suffix, ()) or (_faked(name) and artifact.suffix in (".onnx", ".safetensors"))


def backend_for(artifact: str | Path, name: str | None = None) -> str:
    """The name of the backend that will run an artifact, without opening anything.

    Raises:
        BackendError: no backend of that name, or it does not run this kind of file.
        ArtifactError: no backend runs this kind of file.
    """
    artifact = Path(artifact)
    if name is not None and name not in BACKENDS and not _faked(name):
        raise BackendError(
            f"unknown backend {name!r}",
            seen=f"{name!r}, expected one of {', '.join(BACKENDS)}",
            cause="a typing error, or a backend of a newer version",
            fix=f"use --backend {_default(artifact) or 'onnxruntime'}",
        )
    suited = RUNS.get(artifact.suffix)
    if suited is None:
        raise _unknown_kind(artifact)
    if name is None:
        return suited[0]
    if not runs(artifact, name):
        read = next((suffix for suffix, names in RUNS.items() if name in names), ".onnx")
        raise BackendError(
            f"cannot run {artifact.name} with {name}",
            seen=f"a {artifact.suffix} file, which {' or '.join(suited)} runs",
            cause=f"this backend reads {read} files",
            fix=f"use --backend {suited[0]}" if name == "torch" else _readable(artifact, read),
        )
    return name


def _readable(artifact: Path, suffix: str) -> str:
    """How to come by a file of the same model with this suffix, .onnx or .plan."""
    if artifact.suffix == ".plan":
        with contextlib.suppress(VidgenError):  # a damaged engine: there is no telling which model it is
            return alternative(artifact, read_manifest(artifact), (suffix,))
    checkpoint = artifact if artifact.suffix == ".safetensors" else "CHECKPOINT.safetensors"
    return rebuild_with(artifact.with_suffix(suffix), None, checkpoint=checkpoint)


def device_for(artifact: str | Path, device: str) -> str:
    """The device an artifact runs on where ``device`` was asked for: an engine knows CUDA devices only."""
    return "cuda" if Path(artifact).suffix == ".plan" and device in ("cpu", "tensorrt") else device


def _default(artifact: Path) -> str | None:
    runs = RUNS.get(artifact.suffix)
    return runs[0] if runs else None


def _unknown_kind(artifact: Path) -> ArtifactError:
    fix = "vidgen export CHECKPOINT.safetensors -o MODEL.onnx"
    if artifact.suffix in (".pth", ".pt"):
        fix = f"vidgen import {artifact} {artifact.with_suffix('.safetensors')}"
    return ArtifactError(
        f"cannot open artifact {artifact}",
        seen=f"a file named *{artifact.suffix or ' (no suffix)'}, expected .onnx, .plan or .safetensors",
        cause="not an artifact of vidgen" if artifact.exists() else "a wrong path",
        fix=fix,
    )


def manifest_of(
    artifact: str | Path,
    *,
    output: str | None = None,
    masks: bool = False,
    conditional: bool = False,
    trust: bool = False,
) -> Manifest:
    """What an artifact is, after checking its hash; made on the fly for a checkpoint.

    Args:
        output: ``"uint8"`` or ``"float32"``. A checkpoint can give either (default uint8); a file gives what
            it was exported with, and another wish is an error.
        masks: masks must be among the extra outputs.
        conditional: the first frame must be an input. A checkpoint can do either with both; a file does as it was
            exported.

    Raises:
        ArtifactError: missing, altered, of an unknown kind, or with other outputs or inputs than asked for.
        SettingsError: masks, or a first frame, of a model that has none.
        BackendError: an engine, which this version cannot run.
        CheckpointError: a checkpoint that is missing, truncated or foreign.
    """
    artifact = Path(artifact)
    if artifact.suffix not in RUNS:
        raise _unknown_kind(artifact)
    if artifact.suffix == ".safetensors":
        return checkpoint_manifest(artifact, output or "uint8", masks=masks, conditional=conditional)
    manifest = _read_manifest(artifact, trust)
    if isinstance(manifest.config, ExtractorConfig):
        raise ArtifactError(
            f"cannot take videos from {artifact}",
            seen=f"the extractor {manifest.config.network}, expected a generator",
            cause="it describes clips for scores, and makes none",
            fix=f"vidgen stats DATA --extractor {manifest.config.network} -o STATS.npz",
        )
    has = manifest.interface.output.dtype
    if output is not None and has != output:
        raise ArtifactError(
            f"cannot take {output} video from {artifact.name}",
            seen=f"its output is {has}, expected {output}",
            cause=f"it was exported with --output {has}",
            fix=rebuild_with(artifact, manifest, output=output),
        )
    interface = manifest.interface
    for option, asked, has_it in (
        ("masks", masks, bool(interface.extras)),
        ("conditional", conditional, any(spec.kind == "image" for spec in interface.inputs)),
    ):
        if asked and not has_it and manifest.model != "twostreamvan":
            flag = "--masks" if option == "masks" else "--first-frame"
            raise ArtifactError(
                f"cannot use {flag} with {artifact.name}",
                seen=f"a {manifest.model} model, expected twostreamvan",
                cause="only TwoStreamVAN has masks, and goes on from a given first frame",
                fix=f"drop {flag}",
            )
        if asked and not has_it:
            raise ArtifactError(
                f"cannot take masks from {artifact.name}"
                if option == "masks"
                else f"{artifact.name} takes no first frame",
                seen=f"outputs {[spec.name for spec in (interface.output, *interface.extras)]}, "
                f"inputs {[spec.name for spec in interface.inputs]}",
                cause=f"it was exported without --{option}",
                fix=rebuild_with(artifact, manifest, option),
            )
    return manifest


def _read_manifest(artifact: Path, trust: bool) -> Manifest:
    if artifact.suffix != ".plan" or not artifact.is_file() or manifest_path(artifact).exists():
        return read_manifest(artifact)
    if not trust:
        raise ArtifactError(
            f"refusing engine {artifact}",
            seen=f"no manifest {manifest_path(artifact)}",
            cause="the engine was moved without its .json, or made by another program; engines are executable code",
            fix=f"{rebuild_with(artifact, None)}, or, if you know where it is from, "
            f"vidgen sample --engine {shlex.quote(str(artifact))} -o OUT --trust",
        )
    from vidgen.runtime.engine_tensors import untold_manifest

    return untold_manifest(artifact)


def open_backend(
    artifact: str | Path,
    name: str | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    output: str | None = None,
    masks: bool = False,
    conditional: bool = False,
    trust: bool = False,
) -> Backend:
    """Verify an artifact and load it.

    Args:
        name: one of ``BACKENDS``; None picks by the kind of file (.onnx onnxruntime, .plan tensorrt,
            .safetensors torch).
        threads: CPU threads to use; None leaves the library's choice.
        device: ``"cpu"``, ``"cuda"``, or ``"tensorrt"`` for ONNX Runtime's TensorRT provider; an engine always runs
            on CUDA.
        output, masks, conditional: see :func:`manifest_of`.
        trust: allow an engine (.plan) that has no manifest. It loosens nothing for other kinds of file: they
            are read as data, and an altered one is always refused.

    Raises:
        ArtifactError, CheckpointError: the file is missing, altered, truncated or of an unknown kind.
        BackendError: the backend does not exist, does not run this kind of file, or cannot load it.
        MissingDependencyError: the backend's library is not installed.
    """
    backend_for(artifact, name)  # refuses before a large file is hashed
    manifest = manifest_of(artifact, output=output, masks=masks, conditional=conditional, trust=trust)
    return load_backend(artifact, manifest, name, threads=threads, device=device)


def load_backend(
    artifact: str | Path,
    manifest: Manifest,
    name: str | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
) -> Backend:
    """Load an artifact of any kind of network, extractors too, whose manifest is at hand.

    Raises:
        ArtifactError, BackendError, MissingDependencyError: as :func:`open_backend`.
    """
    chosen = backend_for(artifact, name)
    module, kind = BACKENDS.get(chosen, ("vidgen.runtime.backends.fake", "FakeBackend"))
    backend: type[Backend] = getattr(importlib.import_module(module), kind)
    return backend.load(Path(artifact), manifest, threads=threads, device=device_for(artifact, device))
