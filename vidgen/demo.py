"""``vidgen demo``: the whole story on built-in data, on a CPU, and a page that shows it."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen import __version__
from vidgen._files import atomic_file, storage_error, write_json
from vidgen._imports import require
from vidgen.bench.settings import BenchSettings
from vidgen.errors import BackendError, SettingsError, StorageError
from vidgen.runtime.settings import SampleSettings

Say = Callable[[str], None]

#: A folder that holds this file was made by the demo and may be made anew.
MARK = "demo.json"
#: All that the demo makes in its folder, the mark last.
MADE = (
    *("report.html", "faces", "faces.png", "run", "curves.svg", "grid", "lengths", "bench"),
    *("g3an.onnx", "g3an.onnx.json", "g3an-fp16.onnx", "g3an-fp16.onnx.json"),
    MARK,
)
NEEDS = (
    ("torch", "train"),
    ("tensorboard", "log training curves"),
    ("onnx", "export"),
    ("onnxruntime", "verify and sample"),
    ("matplotlib", "draw curves"),
    ("jinja2", "write the report"),
)
_CLIPS = 160
_GRID = 6
_FEWEST_STEPS = 4
_TEMPLATE = Path(__file__).with_name("demo_report.html")


@dataclass(frozen=True)
class DemoSettings:
    """The demo.

    Attributes:
        out: folder to make. minutes: of training; 0 makes a few steps only, to see every part work.
    """

    out: Path = Path("demo")
    minutes: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if not 0 <= self.minutes <= 24 * 60:
            raise SettingsError(
                "cannot run the demo",
                seen=f"minutes = {self.minutes}, expected 0 to 1440",
                cause="the value is out of range",
                fix="vidgen demo --minutes 2",
            )


@dataclass(frozen=True)
class Step:
    """One step of the story as the page tells it: the command a user would type, how long it took, what it said."""

    title: str
    command: str
    seconds: float
    facts: dict[str, str]


@dataclass(frozen=True)
class DemoReport:
    """What the demo made."""

    report: Path
    seconds: float
    steps: tuple[Step, ...]


@dataclass
class _Story:
    """The demo on its way: where files lie and what was done so far."""

    settings: DemoSettings
    say: Say
    steps: list[Step] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.settings.out

    def tell(self, title: str, command: str, do: Callable[[], dict[str, str]]) -> None:
        self.say(f"[{len(self.steps) + 1}] {title}: {command}")
        start = time.monotonic()
        facts = do()
        self.steps.append(Step(title, command, time.monotonic() - start, facts))
        self.say("    " + ", ".join(f"{key} {value}" for key, value in facts.items()))


def demo(settings: DemoSettings, say: Say = lambda _: None) -> DemoReport:
    """Data, training, export in both precisions, verification, sampling, timing, and ``out/report.html``.

    Raises:
        StorageError: ``out`` holds something that the demo did not make.
        MissingDependencyError: a package of the extras ``torch``, ``cpu`` or ``report`` is missing.
    """
    for module, purpose in NEEDS:
        require(module, purpose)
    start = time.monotonic()
    _clear(settings.out)
    story = _Story(settings, say)
    out = settings.out
    checkpoint, artifact, half = out / "run" / "g3an.safetensors", out / "g3an.onnx", out / "g3an-fp16.onnx"
    story.tell("Data", _words("data", "synth", out / "faces", "--clips", _CLIPS), lambda: _data(out))
    limit: dict[str, float] = {"minutes": settings.minutes} if settings.minutes else {"steps": _FEWEST_STEPS}
    sets = [word for key, value in limit.items() for word in ("--set", f"{key}={value:g}")]
    train = _words("train", "g3an", "--preset", "small", "--data", out / "faces", "--out", out / "run", *sets)
    story.tell("Training", train, lambda: _train(out, limit))
    story.tell("Export", _words("export", checkpoint, "-o", artifact), lambda: _export(checkpoint, artifact, False))
    story.tell(
        "Half precision",
        _words("export", checkpoint, "--fp16", "-o", half),
        lambda: _export(checkpoint, half, True),
    )
    grid = SampleSettings(engine=artifact, out=out / "grid", grid=f"{_GRID}x{_GRID}", format="webp")
    story.tell("Appearance x motion", grid.command(), lambda: _sample(grid))
    lengths = SampleSettings(engine=artifact, out=out / "lengths", n=4, frames="16:48:16")
    story.tell("Longer videos", lengths.command(), lambda: _sample(lengths))
    timing = BenchSettings(
        (artifact, half, checkpoint),
        batches=(1, 4),
        seconds=2.0,
        max_seconds=10.0,
        warmup_seconds=3.0,
        out=out / "bench",
    )
    story.tell("Timing", _bench_command(timing), lambda: _bench(timing))
    report = _write_page(story, time.monotonic() - start)
    return DemoReport(report, time.monotonic() - start, tuple(story.steps))


def _words(*words: object) -> str:
    """A command line as one would type it."""
    return shlex.join(["vidgen", *map(str, words)])


def _clear(out: Path) -> None:
    """Make the folder, or empty one that the demo made; files of others are never touched."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            others = [path.name for path in out.iterdir() if path.name not in MADE] if out.is_dir() else [out.name]
            if others or not _is_marked(out):
                raise StorageError(
                    f"cannot run the demo in {out}",
                    seen=f"it holds {', '.join(sorted(others)[:3]) or 'a demo.json of another program'}",
                    cause="the demo did not make this",
                    fix="vidgen demo ANOTHER_FOLDER",
                )
            for name in MADE:  # the mark last, so that a kill leaves a folder that can be cleared again
                path = out / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error) from error
    write_json(out / MARK, {"vidgen": __version__})


def _is_marked(out: Path) -> bool:
    try:
        return "vidgen" in json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _data(out: Path) -> dict[str, str]:
    from vidgen.data.contact_sheet import write_contact_sheet
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    synthesize(SyntheticSettings(kind="faces", out=out / "faces", clips=_CLIPS))
    write_contact_sheet(out / "faces", out / "faces.png", clips=6, frames_per_clip=8)
    return {"clips": str(_CLIPS)}


def _train(out: Path, limit: dict[str, float]) -> dict[str, str]:
    from vidgen.settings import build_settings
    from vidgen.trainer.curves import draw_curves
    from vidgen.trainer.g3an_settings import PRESETS, G3ANTrainSettings
    from vidgen.trainer.train import train

    place = {"data_path": str(out / "faces"), "save_path": str(out), "exp_name": "run"}
    report = train(build_settings(G3ANTrainSettings, ("preset", PRESETS["small"]), ("demo", place | limit)))
    draw_curves(report.run, out / "curves.svg")
    return {"steps": str(report.step), "seconds": f"{report.seconds:.0f}"}


def _export(checkpoint: Path, artifact: Path, fp16: bool) -> dict[str, str]:
    from vidgen.export import ExportSettings, export

    manifest = export(ExportSettings(checkpoint=checkpoint, out=artifact, fp16=fp16)).manifest
    facts = {"size": f"{artifact.stat().st_size / 2**20:.1f} MiB"}
    for check in manifest.verification:
        facts[check.arrow] = f"{check.max_grey_levels:.2f} grey levels at most over {len(check.cases)} cases"
    if fp16:
        facts["in half"] = f"{manifest.precision.half_share:.0%} of floating-point tensors"
    return facts


def _sample(settings: SampleSettings) -> dict[str, str]:
    from vidgen.runtime.jobs import sample

    report = sample(settings)
    return {"videos": str(report.written), "videos a second, written": f"{report.videos_per_second:.1f}"}


def _bench_command(settings: BenchSettings) -> str:
    engines = [word for path in settings.engines for word in ("--engine", path)]
    batches = [word for batch in settings.batches for word in ("--batch", batch)]
    limits = [
        *("--seconds", f"{settings.seconds:g}", "--max-seconds", f"{settings.max_seconds:g}"),
        *("--warmup-seconds", f"{settings.warmup_seconds:g}"),
    ]
    return _words("bench", *engines, *batches, *limits, "-o", settings.out)


def _bench(settings: BenchSettings) -> dict[str, str]:
    from vidgen.bench.latency import bench

    report = bench(settings)
    if report.failures:
        first = report.failures[0]
        raise BackendError(
            f"{first.contender} could not be timed",
            seen=first.error["seen"],
            cause=first.error["cause"],
            fix=first.error["fix"],
        )
    return {"measurements": str(len(report.rows))}


def _bench_rows(path: Path) -> list[dict[str, Any]]:
    """What the page shows of each measurement."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [
        {
            "name": row["contender"],
            "batch": row["batch"],
            "p50": row["compute_ms"]["p50"],
            "p90": row["compute_ms"]["p90"],
            "rate": row["videos_per_second"],
            "speedup": row["speedup"],
            "memory": row["peak_memory"] and row["peak_memory"] / 2**20,
            "grey": row["agreement"] and row["agreement"]["max_grey_levels"],
        }
        for row in rows
    ]


def _write_page(story: _Story, seconds: float) -> Path:
    from jinja2 import Environment, FileSystemLoader

    out = story.out
    environment = Environment(loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True)
    page = environment.get_template(_TEMPLATE.name).render(
        steps=[dataclasses.asdict(step) for step in story.steps],
        rows=_bench_rows(out / "bench" / "bench.json"),
        grid=_GRID,
        seconds=seconds,
        version=__version__,
        cores=os.cpu_count(),
    )
    path = out / "report.html"
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path
