"""The last arrow: the exported graph becomes an engine with a manifest of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidgen import __version__
from vidgen._files import sha256
from vidgen.export.engine import build_engine, check_builder
from vidgen.export.settings import DEFAULT_BATCH, ExportSettings, parse_range
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import EngineProfile, Manifest

Say = Callable[[str], None]
Advance = Callable[[int, int | None, str], None]


def engine_form(settings: ExportSettings, draft: Manifest, say: Say) -> str:
    """The form of the separable convolution in the engine; chooses the builder, and says which.

    Raises:
        MissingDependencyError, BackendError, SettingsError: no builder here builds for these targets.
    """
    builder, why = check_builder(settings.engine_settings)
    say(f"engine by {builder}: {why}")
    if not draft.sepconv:
        return ""
    if settings.plugin_library is not None:
        return "library"
    if draft.sepconv == "standard" or (draft.sepconv == "custom" and builder == "tensorrt-rtx"):
        return "inlined"
    return "aot" if builder == "tensorrt" else "python"


def write_engine(
    settings: ExportSettings, onnx: Manifest, form: str, model: Any, plan: Path, say: Say, advance: Advance
) -> Manifest:
    """Build an engine from the graph that was just verified, write it to ``plan``; its manifest.

    Args:
        onnx: manifest of the .onnx that ``model`` was written to. form: see :func:`engine_form`.

    Raises:
        ExportError: the target refuses the graph. MissingDependencyError, BackendError: the builder does not work.
    """
    profiles = engine_profiles(settings, onnx.interface)
    half = onnx.precision.kind == "float16"
    built = build_engine(
        serialised(model, body=form == "inlined"),
        onnx.interface,
        dataclasses.replace(settings.engine_settings, profiles=profiles),
        half=half,
        sepconv=form,
        advance=advance,
        say=say,
    )
    plan.write_bytes(built.plan)
    return dataclasses.replace(
        onnx,
        sha256=sha256(plan),
        onnx_sha256=onnx.sha256,
        builder=f"vidgen {__version__}, {built.builder}",
        target=built.target,
        engine=built.engine,
    )


def engine_profiles(settings: ExportSettings, interface: ModelInterface) -> tuple[EngineProfile, ...]:
    """The profiles that were asked for, one for each range of batches."""
    rule = interface.frames
    if settings.several_frames and settings.frame_range is not None:
        least, usual, most = (rule.length(frames) for frames in settings.frame_range)
    else:
        least, usual = rule.shortest, rule.length(rule.default)
        most = usual
    batches = settings.batches or (parse_range("batch", DEFAULT_BATCH),)
    return tuple(EngineProfile(batch, (least, usual, most)) for batch in batches)


def serialised(model: Any, *, body: bool) -> bytes:
    """The bytes of a model, with or without the bodies of our own operators."""
    import onnx

    if not body:
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.functions[:]
        model = bare
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def engine_line(path: Path, manifest: Manifest) -> str:
    """What an export says of the engine it wrote."""
    engine = manifest.engine
    if engine is None:
        raise ValueError(f"{path} has no engine in its manifest")
    half = f", {engine.half_layers} of {engine.float_layers} floating-point layers half" if engine.half_layers else ""
    needs = f", needs {', '.join(engine.needs)}" if engine.needs else ""
    return (
        f"{path}: {path.stat().st_size / 2**20:.1f} MiB for {', '.join(manifest.target)} by {engine.library} "
        f"{engine.version}{half}{needs}, built in {engine.seconds:.1f} s; not run on a GPU here"
    )
