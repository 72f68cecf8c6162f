"""Does an engine compute what its checkpoint computes? It is run on its GPU, within its profiles, and compared."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import ArtifactError
from vidgen.export.measure import Case, Reference, quantise, tolerance_for
from vidgen.export.unrounded import grey_levels
from vidgen.export.verify import Verification, extra_problems, measured, references, rounding_problems, run_case
from vidgen.models.config import ModelInterface
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.elsewhere import onnx_of
from vidgen.runtime.manifest import EngineProfile, Manifest
from vidgen.runtime.tensorrt_library import device_architecture

#: Largest batch that is compared: the checkpoint runs on the CPU.
LARGEST_BATCH = 16


def verify_engine(checkpoint: Path, artifact: Path, manifest: Manifest) -> Verification:
    """Compare an engine with its checkpoint.

    Args:
        manifest: of the engine; it was made from this checkpoint.

    Raises:
        ArtifactError: there is no GPU here; names the graph that can be compared instead.
        BackendError, MissingDependencyError: the engine cannot be loaded or run on this GPU.
    """
    if device_architecture() is None:
        raise _no_device(checkpoint, artifact, manifest)
    profiles = () if manifest.engine is None else manifest.engine.profiles
    expected = references(checkpoint, engine_cases(manifest.interface, profiles), manifest.interface)
    with open_backend(artifact) as backend:
        return compare_engine(artifact, backend, expected)


def compare_engine(artifact: Path, backend: Backend, expected: Sequence[Reference]) -> Verification:
    """Run a loaded artifact as users run it, against references: 8-bit values where it makes such, else raw ones."""
    manifest = backend.manifest
    tolerance = tolerance_for(manifest)
    rounded = manifest.interface.output.dtype == "uint8"
    problems: list[str] = []
    found: list[NDArray[np.float32]] = []
    for reference in expected:
        video, extras = run_case(backend, manifest.interface, reference.inputs, reference.case)
        problems += extra_problems(extras, reference, tolerance)
        if rounded:
            problems += rounding_problems(video, reference, tolerance)
            # Rounding alone is no difference: a value counts from the level it should have been.
            exact = quantise(reference.levels()).astype(np.float32)
            found.append(reference.levels() + (video.astype(np.float32) - exact))
        else:
            found.append(grey_levels(video))
    check, more = measured("torch -> engine", found, expected, tolerance)
    # Of 8-bit values a whole level is the least that can differ; how many may is checked above.
    return Verification(artifact, (check,), tuple(problems if rounded else problems + more))


def engine_cases(interface: ModelInterface, profiles: Sequence[EngineProfile]) -> tuple[Case, ...]:
    """The ends and the middle of each profile, as far as a CPU can follow."""
    pairs = [
        pair
        for profile in profiles
        for pair in (
            (profile.batch[0], profile.length[0]),
            (profile.batch[0], profile.length[2]),
            (max(profile.batch[0], min(profile.batch[1], LARGEST_BATCH)), profile.length[1]),
        )
    ]
    return tuple(Case(*pair, interface.frames.dimension) for pair in dict.fromkeys(pairs))


def _no_device(checkpoint: Path, artifact: Path, manifest: Manifest) -> ArtifactError:
    try:
        graph = onnx_of(artifact, manifest)
        fix = f"vidgen verify {shlex.quote(str(checkpoint))} {shlex.quote(str(graph))}"
        fix += "   (the graph it was built from)"
    except ArtifactError:
        fix = f"run this command on a machine with {' or '.join(manifest.target) or 'its GPU'}"
    return ArtifactError(
        f"cannot verify engine {artifact} here",
        seen="no GPU, expected one the engine is for",
        cause="an engine runs on its GPU alone; the graph it was built from was verified before the build",
        fix=fix,
    )
