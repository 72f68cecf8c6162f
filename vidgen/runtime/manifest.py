"""The side-car manifest ARTIFACT.json: what an artifact is, what made it, and what was verified (contracts 5)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen._files import sha256, write_json
from vidgen.errors import ArtifactError, SettingsError
from vidgen.models.config import (
    CONFIGS,
    FramesRule,
    ModelConfig,
    ModelInterface,
    TensorSpec,
    TwoStreamVANConfig,
    config_from,
)
from vidgen.runtime.manifest_checks import check_manifest
from vidgen.runtime.rebuild import rebuild_with
from vidgen.runtime.stored import from_stored

FORMAT = 1


@dataclass(frozen=True)
class ArrowCheck:
    """The verification of one arrow, e.g. torch -> ONNX float32.

    Attributes:
        arrow: ``"torch -> onnx"``, ``"onnx -> fp16"``, ...
        cases: what was run, e.g. ``"batch 1, time 1"``.
        max_grey_levels: largest absolute difference over all cases, in 8-bit grey levels (255 / 2 of the raw range).
        psnr: in dB over all cases; None where the two are equal.
        worst_sample: the case and sample index where the largest difference was.
        tolerance_grey_levels: what was allowed.
        drift: largest difference of each frame of the longest case, in grey levels; for models that make a frame from
            the one before.
        motion: largest mean difference between successive frames of the checkpoint's own videos, in grey levels;
            None where it was not measured.
    """

    arrow: str
    cases: tuple[str, ...]
    max_grey_levels: float
    psnr: float | None
    worst_sample: str
    tolerance_grey_levels: float
    drift: tuple[float, ...] = ()
    motion: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases))
        object.__setattr__(self, "drift", tuple(self.drift))


@dataclass(frozen=True)
class Precision:
    """How floating-point tensors are held: ``float32`` or ``float16``, and the share of them in half (0..1).

    Attributes:
        kept_float32: the rules by which nodes stay float32.
        kept_nodes: nodes, and parts of the model, that stay float32 besides, because half was too coarse there.
        tolerance: largest difference from the checkpoint that was asked for, in grey levels; None where the usual
            one applies.
    """

    kind: str = "float32"
    half_share: float = 0.0
    kept_float32: tuple[str, ...] = ()
    kept_nodes: tuple[str, ...] = ()
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for name in ("kept_float32", "kept_nodes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True)
class EngineProfile:
    """One optimisation profile: smallest, usual and largest batch, and the same of the motion latent's length."""

    batch: tuple[int, int, int]
    length: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", tuple(self.batch))
        object.__setattr__(self, "length", tuple(self.length))

    def holds(self, batch: int, length: int) -> bool:
        """Whether a run of this shape may use the profile."""
        return self.batch[0] <= batch <= self.batch[2] and self.length[0] <= length <= self.length[2]


@dataclass(frozen=True)
class Engine:
    """What is known of a TensorRT engine from its build; nothing can be read back from the file without a GPU.

    Attributes:
        library: ``tensorrt`` or ``tensorrt-rtx``. version: of the library, e.g. ``"1.7.1.116"``.
        profiles: in the engine's order.
        layers: of the parsed network. half_layers, float_layers: those of them with a half, and with any
            floating-point, output. kept_float32: names of floating-point layers that are not half (fp16 only).
        sepconv: ``inlined`` (function body), ``aot`` (kernel embedded), ``python`` or ``library`` (plugin beside the
            engine); "" without separable convolution. needs: what must be there at run time, e.g. the plugin library.
        flags: builder flags and limits that were set, by TensorRT's names.
        timing_cache_sha256: of the timing cache used, "" without. seconds: of the build.
        stripped: weights are not in the file; it is refitted from the ONNX file. streamable: bytes of weights
            that may be streamed (0: the engine was not built for it).
    """

    library: str
    version: str
    profiles: tuple[EngineProfile, ...]
    layers: int = 0
    half_layers: int = 0
    float_layers: int = 0
    kept_float32: tuple[str, ...] = ()
    sepconv: str = ""
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    timing_cache_sha256: str = ""
    seconds: float = 0.0
    stripped: bool = False
    streamable: int = 0

    def __post_init__(self) -> None:
        profiles = (each if isinstance(each, EngineProfile) else EngineProfile(**each) for each in self.profiles)
        object.__setattr__(self, "profiles", tuple(profiles))
        for name in ("kept_float32", "needs", "flags"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True)
class Manifest:
    """What an artifact is; also made on the fly for a checkpoint, which needs no file.

    Attributes:
        interface: inputs, output, frame rule. fps: frames a second of the training data.
        sha256: of the artifact; "" for a checkpoint opened directly.
        onnx_sha256: of the ONNX file an engine was built from ("" otherwise).
        checkpoint_sha256: of the checkpoint.
        lowering: ``cpu`` or ``tensorrt``. opset: of the ONNX file, 0 where there is none.
        sepconv: form of the separable convolution, ``custom``, ``standard`` or ``plugin``; "" where there is none.
        builder: name and version of what wrote the artifact. target: architectures of an engine, such as ``sm_89``.
        engine: what is known of a .plan; None of other artifacts.
        rebuild: one command line that makes the artifact again.
    """

    model: str
    config: ModelConfig
    interface: ModelInterface
    fps: float
    labels: tuple[str, ...] = ()
    step: int = 0
    data: Mapping[str, Any] | None = None
    precision: Precision = field(default_factory=Precision)
    sha256: str = ""
    onnx_sha256: str = ""
    checkpoint_sha256: str = ""
    lowering: str = ""
    opset: int = 0
    sepconv: str = ""
    builder: str = ""
    target: tuple[str, ...] = ()
    engine: Engine | None = None
    verification: tuple[ArrowCheck, ...] = ()
    rebuild: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored."""
        values = dataclasses.asdict(self)
        values.pop("interface")
        return {
            "format": FORMAT,
            **values,
            "inputs": [dataclasses.asdict(spec) for spec in self.interface.inputs],
            "outputs": [dataclasses.asdict(spec) for spec in (self.interface.output, *self.interface.extras)],
            "frames": dataclasses.asdict(self.interface.frames),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """The manifest of stored values, each of its type and in its range.

        Raises:
            ValueError: a part is missing, of the wrong type or out of range.
            SettingsError: the model is unknown, or cannot be built.
        """
        rest = {**from_stored(Mapping[str, Any], values, "the manifest")}
        for name in ("format", "model", "config", *_INTERFACE, "precision", "verification", "labels", "target"):
            if name not in rest:
                raise ValueError(f"the manifest has no {name}")
        if (version := rest.pop("format")) != FORMAT:
            raise ValueError(f"format {version!r}, expected {FORMAT}")
        inputs, outputs, frames = (from_stored(hint, rest.pop(name), name) for name, hint in _INTERFACE.items())
        if not outputs:
            raise ValueError("outputs is empty, expected a video")
        interface = ModelInterface(inputs, outputs[0], frames, outputs[1:])
        config = _config(from_stored(str, rest["model"], "model"), rest.pop("config"))
        manifest: Manifest = from_stored(cls, {**rest, "config": config, "interface": interface}, "the manifest")
        check_manifest(manifest)
        return manifest


#: Parts of an interface, as stored.
_INTERFACE: dict[str, Any] = {
    "inputs": tuple[TensorSpec, ...],
    "outputs": tuple[TensorSpec, ...],
    "frames": FramesRule,
}


def _config(model: str, values: Any) -> ModelConfig:
    given = from_stored(Mapping[str, Any], values, "config")
    if model in CONFIGS and set(given) <= {field.name for field in dataclasses.fields(CONFIGS[model])}:
        config: ModelConfig = from_stored(CONFIGS[model], given, "config", complete=True)
        return config
    return config_from(model, given)  # says what a newer version knows


def manifest_path(artifact: Path) -> Path:
    """``g3an.onnx`` -> ``g3an.onnx.json``."""
    return artifact.with_name(artifact.name + ".json")


def write_manifest(artifact: Path, manifest: Manifest) -> Path:
    """Write the manifest beside its artifact, atomically; return its path."""
    path = manifest_path(artifact)
    write_json(path, manifest.to_dict())
    return path


def read_manifest(artifact: str | Path) -> Manifest:
    """The manifest of an .onnx or .plan file, after checking that the file's hash matches.

    Raises:
        ArtifactError: artifact or manifest missing, not readable, or the hash differs.
    """
    artifact = Path(artifact)
    path = manifest_path(artifact)
    if not artifact.is_file():
        raise ArtifactError(
            f"cannot open artifact {artifact}",
            seen="no such file" if not artifact.exists() else "not a file",
            cause="a wrong path, or the export did not finish",
            fix=rebuild_with(artifact, None),
        )
    if not path.is_file():
        raise ArtifactError(
            f"cannot open artifact {artifact}",
            seen=f"no manifest {path}",
            cause="the file was made by another program, or moved without its .json",
            fix=rebuild_with(artifact, None),
        )
    try:
        manifest = Manifest.from_dict(json.loads(path.read_text(encoding="utf-8")))
        if not manifest.sha256:
            raise ValueError("sha256 is empty, expected that of the artifact")
    except (OSError, ValueError, RecursionError, SettingsError) as error:
        told = f"{error.what}: {error.seen}" if isinstance(error, SettingsError) else str(error)
        raise ArtifactError(
            f"cannot read manifest {path}",
            seen=f"{type(error).__name__}: {told}",
            cause="the file is truncated, was edited, or comes from another version",
            fix=rebuild_with(artifact, None),
        ) from error
    found = sha256(artifact)
    if found != manifest.sha256:
        raise ArtifactError(
            f"refusing artifact {artifact}",
            seen=f"SHA-256 {found[:12]}..., expected {manifest.sha256[:12]}... from {path.name}",
            cause="the file was changed or replaced after it was exported",
            fix=rebuild_with(artifact, manifest),
        )
    return manifest


def checkpoint_manifest(
    checkpoint: str | Path, output: str = "uint8", *, masks: bool = False, conditional: bool = False
) -> Manifest:
    """A manifest for a checkpoint that is run directly by the torch backend.

    Args:
        masks, conditional: see :meth:`vidgen.models.config.TwoStreamVANConfig.interface`.

    Raises:
        CheckpointError: missing, truncated or foreign.
        SettingsError: masks, or a first frame, of a model that has none.
    """
    from vidgen.models.checkpoint import read_info

    info = read_info(checkpoint)
    return Manifest(
        model=info.model,
        config=info.config,
        interface=_interface(info.config, output, masks, conditional),
        fps=info.data.fps if info.data else DEFAULT_FPS,
        labels=info.data.labels if info.data else (),
        step=info.step,
        data=dataclasses.asdict(info.data) if info.data else None,
        checkpoint_sha256=sha256(Path(checkpoint)),
    )


def _interface(config: ModelConfig, output: str, masks: bool, conditional: bool) -> ModelInterface:
    if isinstance(config, TwoStreamVANConfig):
        return config.interface(output, masks=masks, conditional=conditional)
    interface = config.interface(output)
    for what, asked, options in (
        ("has no masks", masks, "--masks"),
        ("does not go on from a first frame", conditional, "--conditional, or --first-frame,"),
    ):
        if asked:
            raise SettingsError(
                f"this model {what}",
                seen=f"a {type(config).__name__.removesuffix('Config')}, expected a TwoStreamVAN",
                cause="only TwoStreamVAN has masks, and goes on from a given first frame",
                fix=f"leave {options} out",
            )
    return interface


#: The reference programs' video writer uses 25 frames a second where nothing is known of the data.
DEFAULT_FPS = 25.0
