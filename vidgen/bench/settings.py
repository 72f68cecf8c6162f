"""What a bench measures: artifacts, the backends that run them, and for how long."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from vidgen.errors import BackendError, SettingsError
from vidgen.runtime.backends import BACKENDS, RUNS, backend_for, runs


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Attributes:
        engines: artifacts; ``model.onnx@openvino`` asks for one backend of one artifact.
        backends: names to try on every artifact that has no ``@``; empty means all that are installed.
        batches: videos in a batch, each measured by itself.
        frames: of a video; None is what the model was trained for.
        threads: of every backend; None is each library's own choice, which makes comparisons weaker.
        device: ``cpu``, ``cuda`` (``cuda:1`` is the second), or ``tensorrt``: ONNX Runtime's provider of that name.
            Engines run on CUDA, whatever it says.
        seconds: measuring time of each contender and batch size, at least.
        min_runs: runs of each contender and batch size, at least; ``max_seconds`` ends it before.
        max_seconds: longest measuring time of each contender and batch size; slow ones then have fewer runs.
        rounds: the time is given in so many slices, taken in turn, so that noise hits all alike.
        warmup_seconds: longest warm-up of a contender and batch size.
        seed: of the latents.
        score: statistics file (`vidgen stats`) that the videos of each artifact are scored against; None scores none.
        videos: videos that are scored; as many as the reference has, at most 5000, when None.
        extractor, weights: of a reference that does not name the first, or is not enough to find the second.
        trust: allow engines without a manifest.
        out: folder for bench.json and bench.md; None writes nothing.
    """

    engines: tuple[Path, ...]
    backends: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 8)
    frames: int | None = None
    threads: int | None = None
    device: str = "cpu"
    seconds: float = 5.0
    min_runs: int = 20
    max_seconds: float = 60.0
    rounds: int = 5
    warmup_seconds: float = 15.0
    seed: int = 0
    score: Path | None = None
    videos: int | None = None
    extractor: str | None = None
    weights: Path | None = None
    trust: bool = False
    out: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "engines", tuple(Path(engine) for engine in self.engines))
        object.__setattr__(self, "batches", tuple(sorted(set(self.batches))))
        _require(bool(self.engines), "engines", "none", "at least one artifact", "vidgen bench --engine MODEL.onnx")
        _require(bool(self.batches), "batches", "none", "at least one batch size", "use --batch 1")
        at_least_one = {"min_runs": self.min_runs, "rounds": self.rounds, "threads": self.threads}
        at_least_one |= {"frames": self.frames, "batches": self.batches[0]}
        for name, value in at_least_one.items():
            _require(value is None or value >= 1, name, value, "at least 1", f"use {name} 1")
        for name in ("seconds", "max_seconds", "warmup_seconds"):
            seconds = getattr(self, name)
            _require(0 <= seconds < float("inf"), name, seconds, "a number of seconds", f"use {name} 5")
        for name in ("videos", "extractor", "weights"):
            alone = getattr(self, name) is not None and self.score is None
            _require(not alone, name, getattr(self, name), "nothing without --score", "add --score STATS.npz")
        enough = self.videos is None or self.videos >= 2
        _require(enough, "videos", self.videos, "at least 2: one clip has no covariance", "use -n 1000")
        known = re.fullmatch(r"cpu|(cuda|tensorrt)(:\d+)?", self.device)
        _require(known is not None, "device", self.device, "cpu, cuda or tensorrt", "use device cpu")


def _require(good: bool, name: str, value: object, expected: str, fix: str) -> None:
    if not good:
        raise SettingsError(
            "cannot bench as asked",
            seen=f"{name} = {value}, expected {expected}",
            cause="a value out of range",
            fix=fix,
        )


@dataclass(frozen=True)
class Contender:
    """One artifact on one backend."""

    artifact: Path
    backend: str

    @property
    def label(self) -> str:
        """What tables call it, e.g. ``g3an.onnx@openvino``."""
        return f"{self.artifact.name}@{self.backend}"


def contenders(settings: BenchSettings) -> tuple[Contender, ...]:
    """Every pair of artifact and backend to measure, in the order given; the first is the reference.

    Raises:
        BackendError: a backend that does not exist or does not run the artifact asked for.
        ArtifactError: a kind of file that no backend runs.
        SettingsError: the same pair twice.
    """
    found: list[Contender] = []
    for engine in settings.engines:
        stem, at, name = str(engine).rpartition("@")
        if at and name in BACKENDS and not engine.exists():
            found.append(Contender(Path(stem), backend_for(stem, name)))
        else:
            found += _all_of(engine, settings.backends)
    twice = [pair for number, pair in enumerate(found) if pair in found[:number]]
    _require(not twice, "engines", twice and twice[0].label, "each artifact and backend once", "name it only once")
    return tuple(found)


def _all_of(artifact: Path, wanted: tuple[str, ...]) -> list[Contender]:
    default = backend_for(artifact)  # refuses what is no artifact
    for name in wanted:
        if name not in BACKENDS:
            backend_for(artifact, name)
    suited = RUNS[artifact.suffix]
    if wanted:
        names = [name for name in wanted if runs(artifact, name)]
        if not names:
            raise BackendError(
                f"cannot run {artifact.name} with {' or '.join(wanted)}",
                seen=f"backends {', '.join(wanted)}, expected one of {', '.join(suited)}",
                cause="none of these backends reads this kind of file",
                fix=f"add --backend {default}",
            )
    else:
        # The default stays even where it is not installed, so that its absence is said and not passed over.
        names = [name for name in suited if name == default or _installed(name)]
    return [Contender(artifact, name) for name in names]


def _installed(backend: str) -> bool:
    return importlib.util.find_spec(backend) is not None
