"""What runs instead of an engine that cannot run here: the artifacts of the same model that lie beside it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from vidgen._files import sha256
from vidgen.errors import ArtifactError, BackendError, MissingDependencyError, VidgenError
from vidgen.models.config import ExtractorConfig
from vidgen.runtime.manifest import Manifest, read_manifest
from vidgen.runtime.rebuild import export_words, rebuild_with

#: Architecture -> well-known GPUs that have it.
CARDS = {
    "sm_75": "RTX 20, T4",
    "sm_80": "A100",
    "sm_86": "RTX 30, A10",
    "sm_89": "RTX 40, L4",
    "sm_90": "H100",
    "sm_100": "B200",
    "sm_120": "RTX 50",
}


def runs_elsewhere(artifact: Path, manifest: Manifest, error: VidgenError) -> VidgenError:
    """The error of an engine that this machine cannot run at all, from the error that says why.

    It names the devices the engine is for, and the command with an artifact of the same model that runs here:
    one beside the engine, known by its hash, or one that a command makes.
    """
    engine = manifest.engine
    library = f", {engine.library} {engine.version}" if engine else ""
    target = ", ".join(_told(name) for name in manifest.target) or "a GPU that it does not name"
    instead = alternative(artifact, manifest)
    kind: type[VidgenError] = BackendError
    fix = f"{instead}   (runs here), or {error.fix}"
    if isinstance(error, MissingDependencyError):
        # With a GPU at hand, installing the library is the likelier wish.
        kind, fix = MissingDependencyError, f"{error.fix}, or {instead}   (runs here)"
    return kind(
        f"cannot run engine {artifact} here",
        seen=f"an engine for {target}{library}; {error.what}: {error.seen}",
        cause=error.cause,
        fix=fix,
    )


def _told(architecture: str) -> str:
    return f"{architecture} ({CARDS[architecture]})" if architecture in CARDS else architecture


def onnx_of(artifact: Path, manifest: Manifest) -> Path:
    """The ONNX file that an engine was built from, in the engine's folder.

    Raises:
        ArtifactError: it is not there.
    """
    for path in _beside(artifact, ".onnx"):
        if sha256(path) == manifest.onnx_sha256:
            return path
    raise ArtifactError(
        f"cannot find the graph that engine {artifact} was built from",
        seen=f"no .onnx file with SHA-256 {manifest.onnx_sha256[:12]}... in {artifact.parent}",
        cause="weights of a stripped engine, and layers to compare, are in that ONNX file, which must lie beside it",
        fix=f"copy it there, or: {rebuild_with(artifact, manifest)}",
    )


def alternative(artifact: Path, manifest: Manifest, kinds: tuple[str, ...] = (".onnx", ".safetensors")) -> str:
    """What runs the same model as an engine without a GPU: the option that names a file, or the command that makes one.

    Args:
        kinds: suffixes of the files that will do, the best first.
    """
    if isinstance(manifest.config, ExtractorConfig):
        return f"use --extractor {shlex.quote(manifest.config.network)}@backend=onnxruntime"
    for kind in kinds:
        same = _of_model(artifact, manifest) if kind == ".safetensors" else _graphs(artifact, manifest)
        if same:
            return f"use --engine {shlex.quote(str(same[0]))}"
    checkpoint = (export_words(manifest) or ["", "", "CHECKPOINT.safetensors"])[2]
    return f"vidgen export {shlex.quote(checkpoint)} -o {shlex.quote(str(artifact.with_suffix('.onnx')))}"


def _graphs(artifact: Path, manifest: Manifest) -> list[Path]:
    """The .onnx files of an engine's model that lie beside it, the one it was built from first."""
    same: list[Path] = []
    for path in _beside(artifact, ".onnx"):
        with contextlib.suppress(VidgenError, OSError):  # altered, or not of vidgen: nothing to recommend
            other = read_manifest(path)
            if other.sha256 == manifest.onnx_sha256:
                same.insert(0, path)
            elif manifest.checkpoint_sha256 and other.checkpoint_sha256 == manifest.checkpoint_sha256:
                same.append(path)
    return same


def _of_model(artifact: Path, manifest: Manifest) -> list[Path]:
    """The checkpoint of an engine: beside it, or where the export read it."""
    same: list[Path] = []
    told = export_words(manifest)[2:3]
    for path in (*_beside(artifact, ".safetensors"), *map(Path, told)):
        with contextlib.suppress(OSError):
            if path.is_file() and sha256(path) == manifest.checkpoint_sha256:
                same.append(path)
    return same


def _beside(artifact: Path, suffix: str) -> Iterator[Path]:
    """Files of a kind in the folder of an artifact, the one of its own name first."""
    own = artifact.with_suffix(suffix)
    with contextlib.suppress(OSError):
        found = sorted(path for path in artifact.parent.glob(f"*{suffix}") if path.is_file())
        yield from sorted(found, key=lambda path: path != own)
