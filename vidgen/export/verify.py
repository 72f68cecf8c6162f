"""Does an artifact compute what its checkpoint computes? Both are run on the same noise and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.errors import ArtifactError, VerificationError
from vidgen.export.measure import Case, Measured, Reference, Tolerance, quantise, tolerance_for
from vidgen.export.unrounded import grey_levels, run_unrounded
from vidgen.models.config import ModelInterface
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import ArrowCheck, Manifest, read_manifest
from vidgen.runtime.rebuild import rebuild_with

Say = Callable[[str], None]
#: Batch and motion length of the cases every artifact is run on.
CASES = ((1, 1), (3, 1), (1, 3), (2, 2))
#: Half files run as they are for up to so many videos at once: a CPU is slow at them. Larger batches were compared in
#: float32, and are among what runs with every half tensor rounded.
LARGEST_HALF_BATCH = 2
#: Above this share of values at the ends of the range, a network is no good, and rounding alone flips values.
SATURATED = 0.95
#: Below this many grey levels from frame to frame, videos do not move enough to tell one motion from another.
STILL = 0.05
#: Seed of the noise, so that a failure can be repeated.
SEED = 2020


@dataclass(frozen=True)
class Verification:
    """The outcome for one artifact; true where every check passed.

    Attributes:
        artifact: the file. checks: one for each arrow. problems: what failed, empty if all is well.
    """

    artifact: Path
    checks: tuple[ArrowCheck, ...]
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.artifact}: {'matches its checkpoint' if self else 'DOES NOT MATCH its checkpoint'}"]
        for check in self.checks:
            psnr = "equal" if check.psnr is None else f"PSNR {check.psnr:.1f} dB"
            lines.append(
                f"  {check.arrow}: at most {check.max_grey_levels:.4g} grey levels off "
                f"(allowed {check.tolerance_grey_levels:.4g}) at {check.worst_sample}, {psnr}, {len(check.cases)} cases"
            )
            if check.drift:
                lines.append(f"    from {check.drift[0]:.3g} in the first to {check.drift[-1]:.3g} in the last frame")
            if check.motion is not None and check.motion < STILL:
                still = f"{check.motion:.2g} grey levels from frame to frame"
                lines.append(f"    the checkpoint's own videos hardly move ({still}): this says nothing of motion")
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {**dataclasses.asdict(self), "artifact": str(self.artifact), "matches": bool(self)}

    def expect(self, fix: str) -> Verification:
        """Itself if true.

        Raises:
            VerificationError: otherwise, naming the first problem.
        """
        if self:
            return self
        raise VerificationError(
            f"{self.artifact.name} does not compute what its checkpoint computes",
            seen="; ".join(self.problems[:3]),
            cause="half precision is too coarse for these weights"
            if any("half" in check.arrow for check in self.checks)
            else "a defect of the export or of the runtime library",
            fix=fix,
        )


def cases_for(interface: ModelInterface, batches: Sequence[int] = ()) -> tuple[Case, ...]:
    """The standard cases, the model's default length, and further batch sizes."""
    rule = interface.frames
    pairs = [(batch, length + rule.shortest - 1) for batch, length in CASES]
    pairs += [(1, rule.length(rule.default)), *((batch, rule.shortest) for batch in batches)]
    return tuple(Case(*pair, rule.dimension) for pair in dict.fromkeys(pairs))


def references(checkpoint: Path, cases: Sequence[Case], artifact: ModelInterface | None = None) -> list[Reference]:
    """Run the checkpoint's network, unfolded and unrewritten, in float32.

    Args:
        artifact: whose extra outputs and inputs are wanted.

    Raises:
        CheckpointError: missing, truncated or foreign.
        VerificationError: the network itself makes NaN or infinity.
    """
    results = []
    masks = bool(artifact and artifact.extras)
    conditional = artifact is not None and _takes_image(artifact)
    with open_backend(checkpoint, "torch", output="float32", masks=masks, conditional=conditional) as backend:
        interface = backend.manifest.interface
        for case in cases:
            inputs = noise(interface, case)
            video, extras = run_case(backend, interface, inputs, case)
            if not np.isfinite(video).all():
                raise VerificationError(
                    f"{checkpoint.name} cannot be exported",
                    seen=f"NaN or infinity in its own videos at {case}",
                    cause="training diverged",
                    fix="use an earlier checkpoint, or train with a lower learning rate",
                )
            results.append(Reference(case, inputs, video, extras))
    return results


def noise(interface: ModelInterface, case: Case) -> dict[str, NDArray[Any]]:
    """What a case gives the network, the same every time."""
    frames = interface.frames.frames(case.length)
    first = None
    if _takes_image(interface):
        blocks = np.random.default_rng(SEED).uniform(-1, 1, (case.batch, 3, 8, 8))
        first = np.kron(blocks, np.ones((8, 8))).astype(np.float32)
    return latents(interface, SEED, range(case.batch), frames=frames, first_frames=first)


def _takes_image(interface: ModelInterface) -> bool:
    return any(spec.kind == "image" for spec in interface.inputs)


def run_case(
    backend: Backend, interface: ModelInterface, inputs: dict[str, NDArray[Any]], case: Case
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The video and the extra outputs."""
    frames = interface.frames
    sizes = {"batch": case.batch, frames.dimension: case.length, "frames": frames.frames(case.length)}
    output, *more = (
        np.empty(spec.resolve(**sizes), dtype=spec.dtype) for spec in (interface.output, *interface.extras)
    )
    extras = {spec.name: array for spec, array in zip(interface.extras, more, strict=True)}
    backend.run(inputs, output, extras)
    return output, extras


def compare(arrow: str, artifact: Path, manifest: Manifest, expected: Sequence[Reference]) -> Verification:
    """Run an .onnx file as users run it, and once more without its rounding, against references.

    Args:
        arrow: name of the check. manifest: of the artifact; need not be written yet.

    Raises:
        BackendError, MissingDependencyError: the artifact cannot be run here.
    """
    from vidgen.runtime.backends.onnxruntime import OnnxRuntimeBackend

    onnx = require("onnx", "verify .onnx files")
    tolerance = tolerance_for(manifest)
    problems: list[str] = []
    found: list[NDArray[np.float32]] = []
    half = manifest.precision.kind == "float16"
    quantised = manifest.interface.output.dtype == "uint8"
    with OnnxRuntimeBackend.load(artifact, manifest) as backend:
        for reference in expected:
            if half and reference.case.batch > LARGEST_HALF_BATCH:
                continue
            video, extras = run_case(backend, manifest.interface, reference.inputs, reference.case)
            problems += extra_problems(extras, reference, tolerance)
            if quantised:
                problems += rounding_problems(video, reference, tolerance)
            elif half:
                problems += rounding_problems(quantise(grey_levels(video)), reference, tolerance)
            else:
                found.append(grey_levels(video))
    if quantised or half:
        model = onnx.load(artifact, load_external_data=False)
        found = list(run_unrounded(model, [reference.inputs for reference in expected]))
    check, more = measured(arrow, found, expected, tolerance)
    problems += more
    saturated = float(np.mean([np.mean(np.abs(reference.video) > 0.999) for reference in expected]))
    if problems and saturated > SATURATED:
        problems.append(
            f"{saturated:.0%} of the network's own values are -1 or 1: it is untrained, or training diverged"
        )
    if manifest.model == "twostreamvan":
        check = dataclasses.replace(check, drift=_drift(found, expected), motion=_motion(expected))
    return Verification(artifact, (check,), tuple(problems))


def _drift(found: Sequence[NDArray[np.float32]], expected: Sequence[Reference]) -> tuple[float, ...]:
    """Largest difference in each frame of the longest case."""
    levels, reference = max(zip(found, expected, strict=True), key=lambda pair: pair[1].case.length)
    off = np.abs(levels - reference.levels()).max(axis=(0, 2, 3, 4))
    return tuple(float(f"{value:.4g}") for value in off)


def _motion(expected: Sequence[Reference]) -> float:
    """Largest mean difference between successive frames."""
    steps = [np.abs(np.diff(reference.levels(), axis=1)).mean(axis=(0, 2, 3, 4)) for reference in expected]
    return float(f"{max(values.max() for values in steps if len(values)):.4g}")


def extra_problems(extras: dict[str, NDArray[Any]], reference: Reference, tolerance: Tolerance) -> list[str]:
    """Masks against the reference's, as if their range were 255 grey levels."""
    problems = []
    for name, mask in extras.items():
        off = float(np.abs(mask - reference.extras[name]).max()) * 255
        if not off <= tolerance.levels:
            problems.append(
                f"{name} is {off:.4g} of 255 levels off at {reference.case}, allowed {tolerance.levels:.4g}"
            )
    return problems


def rounding_problems(video: NDArray[Any], reference: Reference, tolerance: Tolerance) -> list[str]:
    """8-bit values against the reference's, rounded: neighbours are allowed, rarely, where float32 differs."""
    off = np.abs(video.astype(np.int16) - quantise(reference.levels()).astype(np.int16))
    if off.max() > tolerance.made:
        return [f"8-bit values {off.max()} levels off at {reference.case}, allowed {tolerance.made}"]
    share = float((off > 0).mean())
    if share > tolerance.moved:
        return [f"{share:.1%} of 8-bit values differ at {reference.case}, allowed {tolerance.moved:.0%}"]
    return []


def measured(
    arrow: str, found: Sequence[NDArray[np.float32]], expected: Sequence[Reference], tolerance: Tolerance
) -> tuple[ArrowCheck, list[str]]:
    """The largest difference, where it was, and the PSNR over all cases; and what exceeds the tolerance."""
    total = Measured()
    for levels, reference in zip(found, expected, strict=True):
        total = total.plus(levels, reference)
    problems = [
        f"NaN or infinity in the artifact's videos at {reference.case}"
        for levels, reference in zip(found, expected, strict=True)
        if not np.isfinite(levels).all()
    ]
    worst, psnr, place = total.levels, total.psnr, total.place
    if not problems and worst > tolerance.levels:
        problems.append(f"{worst:.4g} grey levels off at {place}, allowed {tolerance.levels:.4g}")
    elif not problems and psnr is not None and psnr < tolerance.psnr:
        problems.append(f"PSNR {psnr:.1f} dB over all cases, expected at least {tolerance.psnr:.0f} dB")
    cases = tuple(str(reference.case) for reference in expected)
    return ArrowCheck(arrow, cases, worst, psnr, place, tolerance.levels), problems


def verify(checkpoint: str | Path, artifact: str | Path) -> Verification:
    """Compare an artifact with a checkpoint again; the answer is true or false, and prints well.

    Raises:
        ArtifactError, CheckpointError: a file is missing, altered or foreign.
        VerificationError: the artifact was made from another checkpoint.
        MissingDependencyError: torch or onnxruntime is not installed.
    """
    checkpoint, artifact = Path(checkpoint), Path(artifact)
    manifest = checked_manifest(checkpoint, artifact)
    if artifact.suffix == ".plan":
        from vidgen.export.verify_engine import verify_engine

        outcome = verify_engine(checkpoint, artifact, manifest)
    else:
        expected = references(checkpoint, cases_for(manifest.interface), manifest.interface)
        outcome = compare(arrow_name(manifest), artifact, manifest, expected)
    if not outcome and sha256(checkpoint) != manifest.checkpoint_sha256:
        note = "the artifact was exported from another checkpoint (its SHA-256 differs)"
        return dataclasses.replace(outcome, problems=(*outcome.problems, note))
    return outcome


def checked_manifest(checkpoint: Path, artifact: Path) -> Manifest:
    """The manifest of an artifact that can be compared with a checkpoint.

    Raises:
        ArtifactError, CheckpointError: a file is missing, altered or foreign.
        VerificationError: the artifact was made from another checkpoint.
    """
    from vidgen.models.checkpoint import read_info

    own = read_info(checkpoint)
    if artifact.suffix not in (".onnx", ".plan"):
        raise ArtifactError(
            f"cannot verify {artifact}",
            seen=f"a file named *{artifact.suffix or ' (no suffix)'}, expected .onnx or .plan",
            cause="it is no artifact of an export",
            fix=f"vidgen verify {checkpoint} MODEL.onnx",
        )
    manifest = read_manifest(artifact)
    if (own.model, own.config) != (manifest.model, manifest.config):
        raise VerificationError(
            f"{artifact} was not made from {checkpoint}",
            seen=f"{manifest.model} {manifest.config}, expected {own.model} {own.config}",
            cause="the artifact was exported from another checkpoint",
            fix=rebuild_with(artifact, manifest, checkpoint=checkpoint),
        )
    return manifest


def arrow_name(manifest: Manifest) -> str:
    """The arrow that ends at an artifact of this precision."""
    return "torch -> onnx" if manifest.precision.kind == "float32" else "torch -> onnx, half"
