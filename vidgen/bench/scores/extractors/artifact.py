"""Extractors as artifacts: a graph with its manifest in the user's cache, and the engine that is built from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidgen import __version__
from vidgen._files import atomic_files
from vidgen.errors import ArtifactError, SettingsError
from vidgen.models.config import ExtractorConfig, ModelInterface
from vidgen.plugins.sepconv_trt.build import cached
from vidgen.runtime.manifest import (
    DEFAULT_FPS,
    EngineProfile,
    Manifest,
    manifest_path,
    read_manifest,
    write_manifest,
)

#: Counted up when the same weights are written as another graph, or the same graph as another engine.
FORM = 2
#: Folder of the cache.
KIND = "extractors"
#: Frames that an engine of a network that takes any number of them is built for: smallest, usual, largest.
ENGINE_FRAMES = (1, 16, 64)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graph:
    """A network as a serialised ONNX model with what it takes and gives."""

    model: bytes
    interface: ModelInterface


@dataclass(frozen=True)
class Artifact:
    """A file that a backend loads, and what it is."""

    path: Path
    manifest: Manifest

    @property
    def batch(self) -> int:
        """Items that are always computed together."""
        config = self.manifest.config
        assert isinstance(config, ExtractorConfig)
        return config.batch


def cached_graph(
    name: str, weight_sha256: str, make: Callable[[], Graph], *, batch: int, **settings: object
) -> Artifact:
    """The ONNX model of weights, from the user's cache or freshly written into it with its manifest.

    A file that is damaged, or whose manifest is missing, is written anew.

    Args:
        make: writes the model. batch: items computed together. settings: what the graph depends on besides.

    Raises:
        StorageError: the cache cannot be written; and what ``make`` raises.
    """

    def made() -> tuple[bytes, Manifest]:
        graph = make()
        return graph.model, graph_manifest(name, graph, batch, weight_sha256)

    return _kept(f"{name}-{_key(name, weight_sha256, batch, settings)}.onnx", made)


def graph_manifest(name: str, graph: Graph, batch: int, weight_sha256: str = "") -> Manifest:
    """The manifest of an extractor's graph."""
    return Manifest(
        model="extractor",
        config=ExtractorConfig(name, batch),
        interface=graph.interface,
        fps=DEFAULT_FPS,
        sha256=hashlib.sha256(graph.model).hexdigest(),
        checkpoint_sha256=weight_sha256,
        builder=f"vidgen {__version__}",
    )


def cached_engine(graph: Artifact, *, gpu: tuple[str, ...] | None = None, builder: str = "auto") -> Artifact:
    """The TensorRT engine of a graph, from the user's cache or freshly built into it; float32 without TF32.

    It is kept by the content of the graph, the library and its version, and the architecture.

    Args:
        gpu: architectures it is for, such as ``("sm_89",)``; the GPU of this machine when None.
        builder: ``auto``, ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        SettingsError: no builder here builds for these architectures, or the graph leaves a size open.
        MissingDependencyError, BackendError: the library is not installed, or too old.
        ExportError: it refuses the graph. StorageError: the cache cannot be written.
    """
    from vidgen.export.engine import EngineSettings, build_engine, check_builder
    from vidgen.runtime.tensorrt_library import CURRENT, device_architecture, load_tensorrt

    profile = EngineProfile((graph.batch,) * 3, engine_frames(graph.manifest.interface))
    settings = EngineSettings(gpu or (CURRENT,), builder, (profile,))
    chosen, why = check_builder(settings)
    version = load_tensorrt(chosen, "build engines").version_text
    targets = [device_architecture() if name == CURRENT else name for name in settings.gpu]

    def made() -> tuple[bytes, Manifest]:
        _log.info("building an engine of %s with %s %s: %s", graph.path.name, chosen, version, why)
        built = build_engine(
            graph.path.read_bytes(),
            graph.manifest.interface,
            settings,
            half=False,
            sepconv="",
            advance=lambda done, total, phase: None,
            say=_log.info,
        )
        manifest = dataclasses.replace(
            graph.manifest,
            sha256=hashlib.sha256(built.plan).hexdigest(),
            onnx_sha256=graph.manifest.sha256,
            builder=f"vidgen {__version__}, {built.builder}",
            target=built.target,
            engine=built.engine,
        )
        return built.plan, manifest

    key = _key(graph.manifest.sha256, chosen, version, targets, dataclasses.asdict(profile))
    assert isinstance(graph.manifest.config, ExtractorConfig)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", graph.manifest.config.network)
    return _kept(f"{name}-{key}.plan", made)


def engine_frames(interface: ModelInterface) -> tuple[int, int, int]:
    """Numbers of frames that an engine is built for.

    Raises:
        SettingsError: another size of the input is open.
    """
    (clips,) = interface.inputs
    rule = interface.frames
    unknown = [size for size in clips.shape if isinstance(size, str) and size not in ("batch", rule.dimension)]
    if unknown:
        raise SettingsError(
            "cannot build an engine of this extractor",
            seen=f"an input {list(clips.shape)}, expected fixed sizes",
            cause="the file leaves height and width open, and an engine is built for one size",
            fix="name it: --extractor FILE.onnx@backend=tensorrt,size=64",
        )
    return ENGINE_FRAMES if rule.dimension in clips.shape else (rule.default,) * 3


def save_artifact(artifact: Artifact, path: Path) -> Manifest:
    """Copy an artifact and its manifest to a path of the user's; returns the manifest.

    Raises:
        StorageError: they cannot be written; older files are then as they were.
        SettingsError: the path has another suffix.
    """
    if path.suffix != artifact.path.suffix:
        raise SettingsError(
            f"cannot save the extractor as {path}",
            seen=f"a name that ends with {path.suffix or 'nothing'}, expected {artifact.path.suffix}",
            cause="programs tell the kind of a model by its suffix",
            fix=f"use {path.with_suffix(artifact.path.suffix)}",
        )
    with atomic_files(path, manifest_path(path)) as (model, told):
        shutil.copyfile(artifact.path, model)
        told.write_text(json.dumps(artifact.manifest.to_dict(), indent=2) + "\n", encoding="utf-8")
    return artifact.manifest


def _key(*parts: object) -> str:
    text = json.dumps([*parts, FORM, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _kept(name: str, make: Callable[[], tuple[bytes, Manifest]]) -> Artifact:
    """A file of the cache that is what its manifest says."""
    found: list[Manifest] = []

    def whole(path: Path) -> bool:
        try:
            found[:] = [read_manifest(path)]
        except ArtifactError as error:
            if path.exists():
                _log.warning("writing %s again: %s", path, error.seen)
            return False
        return True

    def write(partial: Path) -> None:
        content, manifest = make()
        partial.write_bytes(content)
        # Before the file itself has its name: a kill between the two leaves a pair that does not match.
        write_manifest(partial.with_name(name), manifest)
        found[:] = [manifest]

    return Artifact(cached(name, write, kind=KIND, usable=whole), found[0])
