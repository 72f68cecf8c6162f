"""``vidgen export``: a checkpoint becomes an artifact that was compared with it, or nothing at all."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen._files import atomic_file
from vidgen._imports import require
from vidgen.errors import ExportError, SettingsError
from vidgen.export import manifest as manifests
from vidgen.export import verify as verification
from vidgen.export.onnx_graph import DEFAULT_OPSET, OPSETS
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import ArrowCheck, Manifest, Precision, manifest_path, write_manifest

if TYPE_CHECKING:
    from torch import nn

Say = Callable[[str], None]
LOWERINGS = ("cpu", "tensorrt")
OUTPUTS = ("uint8", "float32")
#: Forms of the separable convolution (contracts 4): our operator with its function body, standard operators only, our
#: operator alone (for TensorRT with the plugin: in its parsers a function body goes before a plugin).
SEPCONVS = ("custom", "standard", "plugin")
#: Largest batch that an export is verified at.
LARGEST_BATCH = 64


@dataclass(frozen=True)
class ExportSettings:
    """One export.

    Attributes:
        checkpoint: .safetensors of a generator. out: .onnx to write. engine: .plan to write; not in this version.
        fp16: type the graph to half precision. lowering: ``cpu`` (rewritten) or ``tensorrt`` (plain).
        output: ``uint8`` frames or the ``float32`` network output.
        frames: of each video where the artifact's user asks for no number; the model's own when None. Verified.
        batch: ``"MIN:OPT:MAX"``. An .onnx takes any batch; MIN and OPT are verified too.
        gpu: architectures of an engine.
        sepconv: form of TwoStreamVAN's separable convolution: ``custom`` (when None), ``standard`` or ``plugin``.
        masks: TwoStreamVAN's masks as further outputs. conditional: a first frame takes the place of ``z_content``.
        opset: ONNX operator set, 18 to 21.

    Raises:
        SettingsError: an option is out of range, or does not apply.
        ExportError: an engine is asked for.
    """

    checkpoint: Path
    out: Path | None = None
    engine: Path | None = None
    fp16: bool = False
    lowering: str = "cpu"
    output: str = "uint8"
    frames: int | None = None
    batch: str | None = None
    gpu: str | None = None
    sepconv: str | None = None
    masks: bool = False
    conditional: bool = False
    opset: int = DEFAULT_OPSET

    def __post_init__(self) -> None:
        for name in ("checkpoint", "out", "engine"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        plan = self.engine or (self.out if self.out is not None and self.out.suffix == ".plan" else None)
        if plan is not None:
            raise _no_engine(self.checkpoint, plan)
        self._check_choices()
        self._check_path()
        if self.gpu is not None:
            raise _bad(
                "gpu", self.gpu, "nothing", "it names architectures of engines, which this version does not build"
            )
        if self.sepconv is not None and self.sepconv not in SEPCONVS:
            raise _bad("sepconv", self.sepconv, " or ".join(SEPCONVS), "a typing error")
        if self.frames is not None and self.frames < 1:
            raise _bad("frames", self.frames, "at least 1", "a video has frames")
        if self.batch is not None:
            parse_batch(self.batch)

    def _check_choices(self) -> None:
        for name, choices in (("lowering", LOWERINGS), ("output", OUTPUTS), ("opset", OPSETS)):
            value = getattr(self, name)
            if value not in choices:
                spelled = "for" if name == "lowering" else name
                raise _bad(spelled, value, " or ".join(map(str, choices)), "a typing error")

    def _check_path(self) -> None:
        if self.out is None:
            raise SettingsError(
                "cannot export",
                seen="no output file, expected -o MODEL.onnx",
                cause="the file to write was not named",
                fix=f"vidgen export {self.checkpoint} -o {self.checkpoint.with_suffix('.onnx')}",
            )
        if self.out.suffix != ".onnx" or self.out.stem in ("", ".onnx"):
            raise SettingsError(
                f"cannot export to {self.out}",
                seen=f"a name ending in {self.out.suffix or 'nothing'!r}, expected .onnx",
                cause="the suffix tells every other command what the file is",
                fix=f"use -o {self.out.with_suffix('.onnx') if self.out.name else 'MODEL.onnx'}",
            )

    @property
    def separable(self) -> str:
        """The form of the separable convolution, of models that have one."""
        return self.sepconv or SEPCONVS[0]

    @property
    def path(self) -> Path:
        """The file to write."""
        if self.out is None:
            raise ValueError("settings without an output file cannot be made")
        return self.out


def parse_batch(text: str) -> tuple[int, int, int]:
    """``"1:16:64"`` as smallest, usual and largest batch.

    Raises:
        SettingsError: not three whole numbers in that order.
    """
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6}):([0-9]{1,6})", text)
    sizes = tuple(int(part) for part in match.groups()) if match else ()
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise _bad("batch", text, "MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, such as 1:16:64", "a typing error")
    return sizes[0], sizes[1], sizes[2]


def _bad(option: str, value: object, expected: str, cause: str) -> SettingsError:
    fix = f"leave --{option} out" if expected == "nothing" else f"use --{option} with {expected}"
    return SettingsError("cannot export", seen=f"--{option} {value}, expected {expected}", cause=cause, fix=fix)


def _no_engine(checkpoint: Path, plan: Path) -> ExportError:
    onnx = plan.with_suffix(".onnx")
    return ExportError(
        f"cannot build engine {plan}",
        seen="a TensorRT engine was asked for, expected -o MODEL.onnx",
        cause="engines are not built by this version",
        fix=f"vidgen export {checkpoint} -o {onnx} --for tensorrt   "
        f"and then, where TensorRT is: trtexec --onnx={onnx} --saveEngine={plan}",
    )


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote: the artifact and its manifest, and what was found on the way."""

    paths: tuple[Path, ...]
    manifest: Manifest
    seconds: float

    def __str__(self) -> str:
        artifact = self.paths[0]
        precision = self.manifest.precision
        half = f", {precision.half_share:.0%} of floating-point tensors in half" if precision.half_share else ""
        outcome = verification.Verification(artifact, self.manifest.verification)
        size = artifact.stat().st_size / 2**20
        return (
            f"{outcome}\n{artifact}: {size:.1f} MiB for {self.manifest.lowering}{half}, {self.seconds:.1f} s\n"
            f"next: vidgen sample --engine {artifact} -n 8 -o samples" + self._first_frame()
        )

    def _first_frame(self) -> str:
        given = any(spec.kind == "image" for spec in self.manifest.interface.inputs)
        return " --first-frame IMAGE" if given else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "paths": [str(path) for path in self.paths],
            "seconds": round(self.seconds, 3),
            "manifest": self.manifest.to_dict(),
        }


def export(settings: ExportSettings, say: Say = lambda _: None) -> ExportReport:
    """Export a checkpoint and verify the file against it before it gets its name.

    The artifact and its manifest appear together at the end; on any failure neither is changed.

    Args:
        say: told what is being done.

    Raises:
        CheckpointError: missing, truncated or foreign. StorageError: the file cannot be written.
        ExportError: the network has no such form. VerificationError: it computes something else.
        SettingsError, SamplingError: an option does not apply to this model.
        MissingDependencyError: torch, onnx or onnxruntime is not installed.
    """
    start = time.monotonic()
    for module, purpose in (("torch", "export"), ("onnx", "write .onnx files"), ("onnxruntime", "verify .onnx files")):
        require(module, purpose)
    draft = manifests.draft(settings)
    _check_family(settings, draft)
    with atomic_file(settings.path) as partial:
        partial.touch()
        say(f"writing the network for {settings.lowering}")
        model = _write_onnx(settings, draft)
        say("running the checkpoint in torch to compare with")
        batches = parse_batch(settings.batch)[:2] if settings.batch else ()
        cases = verification.cases_for(draft.interface, [size for size in batches if size <= LARGEST_BATCH])
        expected = verification.references(settings.checkpoint, cases, draft.interface)
        manifest = _verified(settings, draft, model, expected, partial, say)
        write_manifest(settings.path, manifest)
    paths = (settings.path, manifest_path(settings.path))
    return ExportReport(paths, manifest, time.monotonic() - start)


def _check_family(settings: ExportSettings, draft: Manifest) -> None:
    if draft.model == "g3an" and settings.sepconv is not None:
        raise _bad("sepconv", settings.sepconv, "nothing", "a G3AN has no separable convolutions")


def lower(generator: nn.Module, lowering: str, output: str) -> nn.Module:
    """The module that is written as ONNX for a target; the generator is not changed."""
    from vidgen.export.lowering_cpu import CpuGenerator
    from vidgen.export.prepare import PlainGenerator
    from vidgen.models.g3an import Generator

    if not isinstance(generator, Generator):
        raise TypeError(f"expected a G3AN generator, found {type(generator).__name__}")
    return (CpuGenerator if lowering == "cpu" else PlainGenerator)(generator, output)


def _write_onnx(settings: ExportSettings, draft: Manifest) -> Any:
    from vidgen.export.to_onnx import to_onnx
    from vidgen.models.checkpoint import load_generator

    generator, _ = load_generator(settings.checkpoint)
    metadata = {
        "vidgen.model": draft.model,
        "vidgen.config": json.dumps(dataclasses.asdict(draft.config), sort_keys=True),
        "vidgen.lowering": settings.lowering,
        "vidgen.checkpoint": draft.checkpoint_sha256,
    }
    common: dict[str, Any] = {"opset": settings.opset, "name": draft.model, "metadata": metadata}
    if draft.model == "twostreamvan":
        return write_path(generator, draft.interface, settings.lowering, settings.separable, **common)
    module = lower(generator, settings.lowering, settings.output)
    return to_onnx(module, draft.interface, **common)


def write_path(
    generator: Any, interface: ModelInterface, lowering: str, sepconv: str, *, opset: int, **rest: Any
) -> Any:
    """TwoStreamVAN's sampling path as ONNX, with the function body of the separable convolution or without any."""
    from vidgen.export.loop import loop_to_onnx
    from vidgen.export.sampling_path import SamplingPath
    from vidgen.plugins.sepconv_trt.onnx_form import inline_standard, make_function

    path = SamplingPath(generator, interface, lowering)
    function = make_function(generator.config.ac_kernel, opset)
    model = loop_to_onnx(path, interface, opset=opset, functions=[function], **rest)
    return inline_standard(model) if sepconv == "standard" else model


def _serialised(model: Any, *, body: bool) -> bytes:
    """The bytes of a model, with or without the bodies of our own operators."""
    import onnx

    if not body:
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.functions[:]
        model = bare
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _verified(
    settings: ExportSettings,
    draft: Manifest,
    model: Any,
    expected: list[verification.Reference],
    partial: Path,
    say: Say,
) -> Manifest:
    """Write the file after checking each arrow; its manifest."""
    checks: list[ArrowCheck] = []
    precision = Precision()
    kinds = ("float32", "float16") if settings.fp16 else ("float32",)
    for kind in kinds:
        if kind == "float16":
            from vidgen.export.precision import to_half

            say("typing the graph to half precision")
            model, precision = to_half(model, recurrent=draft.model == "twostreamvan")
        partial.write_bytes(_serialised(model, body=draft.sepconv != "plugin"))
        manifest = dataclasses.replace(draft, precision=precision)
        say(f"comparing the {kind} graph with the checkpoint")
        outcome = verification.compare(verification.arrow_name(manifest), partial, manifest, expected)
        outcome = dataclasses.replace(outcome, artifact=settings.path)
        fix = "export without --fp16" if kind == "float16" else "pip install -U vidgen onnxruntime"
        checks += outcome.expect(fix).checks
    return manifests.finish(draft, partial, precision, checks)
