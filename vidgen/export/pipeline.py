"""``vidgen export``: a checkpoint becomes an artifact that was compared with it, or nothing at all."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen._files import atomic_files, json_text
from vidgen._imports import require
from vidgen.errors import VidgenError
from vidgen.export import manifest as manifests
from vidgen.export import verify as verification
from vidgen.export.engine_artifact import Advance, Say, engine_form, engine_line, serialised, write_engine
from vidgen.export.measure import HALF_ATTENTION, Case, Measured, Reference, measure
from vidgen.export.precision_report import PrecisionReport, precision_report
from vidgen.export.sensitivity import Found, half_graph, search
from vidgen.export.settings import ExportSettings, bad_option
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import ArrowCheck, Manifest, Precision, manifest_path, read_manifest

if TYPE_CHECKING:
    from torch import nn

#: Largest batch that an export is verified at.
LARGEST_BATCH = 64


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        paths: the files, the .onnx first.
        manifest: of the .onnx. engine: manifest of the .plan, None without one.
        seconds: of the whole export.
        layers: which layers are half and which are not, and why; None without ``--fp16``.
        replaced: precision of another .onnx that had this name before, as -o X.plan also writes X.onnx; empty if none.
    """

    paths: tuple[Path, ...]
    manifest: Manifest
    seconds: float
    engine: Manifest | None = None
    layers: PrecisionReport | None = None
    replaced: str = ""

    def __str__(self) -> str:
        artifact = self.paths[0]
        precision = self.manifest.precision
        half = f", {precision.half_share:.0%} of floating-point tensors in half" if precision.half_share else ""
        outcome = verification.Verification(artifact, self.manifest.verification)
        lines = [str(outcome), f"{artifact}: {_size(artifact)} for {self.manifest.lowering}{half}"]
        if self.replaced:
            lines.append(f"{artifact}: replaces an earlier one in {self.replaced}")
        if self.layers is not None:
            lines += [f"  {line}" for line in str(self.layers).splitlines()]
        if self.engine is not None:
            lines.append(engine_line(self.paths[2], self.engine))
        lines.append(
            f"{self.seconds:.1f} s in all; next: vidgen sample --engine {shlex.quote(str(artifact))} -n 8 -o samples"
            + self._first_frame()
        )
        return "\n".join(lines)

    def _first_frame(self) -> str:
        given = any(spec.kind == "image" for spec in self.manifest.interface.inputs)
        return " --first-frame IMAGE" if given else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "paths": [str(path) for path in self.paths],
            "seconds": round(self.seconds, 3),
            "manifest": self.manifest.to_dict(),
            "engine": None if self.engine is None else self.engine.to_dict(),
            "layers": None if self.layers is None else self.layers.to_dict(),
            "replaced": self.replaced,
        }


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def export(settings: ExportSettings, say: Say = lambda _: None, advance: Advance = lambda *_: None) -> ExportReport:
    """Export a checkpoint and verify the files against it before they get their names.

    The artifacts and their manifests appear together at the end; on any failure none is changed.

    Args:
        say: told what is being done. advance: told how far a search or a build is (done, total, what).

    Raises:
        CheckpointError: missing, truncated or foreign. StorageError: a file cannot be written.
        ExportError: the network has no such form, or the target refuses it.
        VerificationError: it computes something else.
        SettingsError, SamplingError: an option does not apply to this model.
        MissingDependencyError: torch, onnx, onnxruntime or the builder of engines is not installed.
    """
    start = time.monotonic()
    for module, purpose in (("torch", "export"), ("onnx", "write .onnx files"), ("onnxruntime", "verify .onnx files")):
        require(module, purpose)
    draft = manifests.draft(settings)
    _check_family(settings, draft)
    form = None if settings.engine is None else engine_form(settings, draft, say)
    paths = [path for one in (settings.path, settings.engine) if one is not None for path in (one, manifest_path(one))]
    before = _precision_of(settings.path)
    with atomic_files(*paths) as partials:
        partials[0].touch()
        say(f"writing the network for {settings.lowers_for}")
        model = _write_onnx(settings, draft)
        say("running the checkpoint in torch to compare with")
        expected = verification.references(settings.checkpoint, _cases(settings, draft), draft.interface)
        model, manifest, layers = _verified(settings, draft, model, expected, partials[0], say, advance)
        partials[1].write_text(json_text(manifest.to_dict()), encoding="utf-8")
        engine = None
        if form is not None:
            engine = write_engine(settings, manifest, form, model, partials[2], say, advance)
            partials[3].write_text(json_text(engine.to_dict()), encoding="utf-8")
    replaced = before if before != manifest.precision.kind else ""
    return ExportReport(tuple(paths), manifest, time.monotonic() - start, engine, layers, replaced)


def _precision_of(artifact: Path) -> str:
    """The precision of an artifact that is about to be replaced; empty where there is none that can be read."""
    try:
        return read_manifest(artifact).precision.kind
    except VidgenError:
        return ""


def _cases(settings: ExportSettings, draft: Manifest) -> tuple[Case, ...]:
    """What is run to compare: the standard cases, and the batches and frames that were asked for."""
    batches = sorted({size for profile in settings.batches for size in profile[:2] if size <= LARGEST_BATCH})
    cases = verification.cases_for(draft.interface, batches)
    if settings.frame_range is None:
        return cases
    rule = draft.interface.frames
    longest = Case(1, rule.length(settings.frame_range[2]), rule.dimension)
    return cases if longest in cases else (*cases, longest)


def _check_family(settings: ExportSettings, draft: Manifest) -> None:
    if draft.model == "g3an" and settings.sepconv is not None:
        raise bad_option("sepconv", settings.sepconv, "nothing", "a G3AN has no separable convolutions")


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
        "vidgen.lowering": settings.lowers_for,
        "vidgen.checkpoint": draft.checkpoint_sha256,
    }
    common: dict[str, Any] = {"opset": settings.opset, "name": draft.model, "metadata": metadata}
    if draft.model == "twostreamvan":
        return write_path(generator, draft.interface, settings.lowers_for, settings.separable, **common)
    module = lower(generator, settings.lowers_for, settings.output)
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


def _verified(
    settings: ExportSettings,
    draft: Manifest,
    model: Any,
    expected: list[Reference],
    partial: Path,
    say: Say,
    advance: Advance,
) -> tuple[Any, Manifest, PrecisionReport | None]:
    """Write the file after checking each arrow; the model that is in it, its manifest, and what of it is half."""
    checks: list[ArrowCheck] = []
    precision, layers = Precision(), None
    for kind in ("float32", "float16") if settings.fp16 else ("float32",):
        if kind == "float16":
            found = _half(settings, draft, model, expected, say, advance)
            model, precision = found.model, found.precision
            layers = precision_report(model, precision, recurrent=_recurrent(draft))
        partial.write_bytes(serialised(model, body=draft.sepconv != "plugin"))
        manifest = dataclasses.replace(draft, precision=precision)
        say(f"comparing the {kind} graph with the checkpoint")
        outcome = verification.compare(verification.arrow_name(manifest), partial, manifest, expected)
        outcome = dataclasses.replace(outcome, artifact=settings.path)
        fix = "export without --fp16" if kind == "float16" else "pip install -U vidgen onnxruntime"
        checks += outcome.expect(fix).checks
    return model, manifests.finish(draft, partial, precision, checks), layers


def _half(
    settings: ExportSettings, draft: Manifest, model: Any, expected: list[Reference], say: Say, advance: Advance
) -> Found:
    """The graph typed to half precision: by the rules, or with what a tolerance needs in float32."""

    if settings.tolerance is None:
        say("typing the graph to half precision")
        attention = bool(getattr(draft.config, "use_attention", False))

        def usual(typed: Any) -> Measured:
            return measure(typed, expected, stop=HALF_ATTENTION.levels)

        return half_graph(model, usual, recurrent=_recurrent(draft), attention=attention, advance=advance)

    def judge(typed: Any) -> Measured:
        return measure(typed, expected)

    say(f"searching what must stay float32 to be within {settings.tolerance:g} grey levels")
    found = search(model, judge, settings.tolerance, recurrent=_recurrent(draft), advance=advance)
    say(str(found))
    return found


def _recurrent(draft: Manifest) -> bool:
    return draft.model == "twostreamvan"
