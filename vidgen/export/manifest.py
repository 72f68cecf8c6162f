"""The manifest of an export: what was made, from what, by what, and the command line that makes it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen import __version__
from vidgen._files import sha256
from vidgen.export.onnx_graph import DEFAULT_OPSET
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import ArrowCheck, Manifest, Precision, checkpoint_manifest

if TYPE_CHECKING:
    from vidgen.export.settings import ExportSettings


def builder() -> str:
    """Names and versions of what writes an artifact."""
    import onnx
    import torch

    return f"vidgen {__version__}, torch {torch.__version__}, onnx {onnx.__version__}"


def rebuild_command(settings: ExportSettings) -> str:
    """The command line that makes the artifact again."""
    words = ["vidgen", "export", str(settings.checkpoint), "-o", str(settings.path), "--for", settings.lowers_for]
    words += ["--output", settings.output]
    for name in _WITH_VALUES:
        value = getattr(settings, name)
        if name == "gpu" and settings.engine is not None:
            # The targets, were they asked for or not.
            value = ",".join(settings.engine_settings.gpu)
        if value is not None and not (name == "opset" and value == DEFAULT_OPSET):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(settings, name)]
    return shlex.join(words)


#: Options of an export that are not always given, in the order they are written.
_WITH_VALUES = (
    *("engine", "gpu", "builder", "tolerance", "frames", "batch", "sepconv", "plugin_library", "opset"),
    *("workspace", "builder_optimization_level", "timing_cache", "hardware_compatibility_level"),
)
_SWITCHES = ("fp16", "masks", "conditional", "version_compatible", "weight_streaming", "strip_plan", "refit", "tf32")


def interface_for(settings: ExportSettings, manifest: Manifest) -> ModelInterface:
    """The interface of the artifact: the checkpoint's, with the number of frames it will be used for as default."""
    if settings.frame_range is None:
        return manifest.interface
    rule = manifest.interface.frames
    for frames in settings.frame_range:
        rule.length(frames)
    return dataclasses.replace(manifest.interface, frames=dataclasses.replace(rule, default=settings.frame_range[1]))


def draft(settings: ExportSettings) -> Manifest:
    """What is known before anything is computed.

    Raises:
        CheckpointError: the checkpoint is missing, truncated or foreign.
        SamplingError: the model makes no videos of that many frames.
        SettingsError: the checkpoint holds no generator, or one without masks, or that takes no first frame.
    """
    manifest = checkpoint_manifest(
        settings.checkpoint, settings.output, masks=settings.masks, conditional=settings.conditional
    )
    return dataclasses.replace(
        manifest,
        interface=interface_for(settings, manifest),
        lowering=settings.lowers_for,
        opset=settings.opset,
        sepconv=settings.separable if manifest.model == "twostreamvan" else "",
        rebuild=rebuild_command(settings),
    )


def finish(manifest: Manifest, artifact: Path, precision: Precision, verification: Sequence[ArrowCheck]) -> Manifest:
    """The draft with the artifact's hash and what was verified."""
    return dataclasses.replace(
        manifest,
        sha256=sha256(artifact),
        precision=precision,
        verification=tuple(verification),
        builder=builder(),
    )
