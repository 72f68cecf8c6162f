"""What the chapters of the demo share: how a step is told, and what exporting and sampling say."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.runtime.settings import SampleSettings

Say = Callable[[str], None]
Facts = dict[str, str]
#: Steps of a training run that is only to show that it works.
FEWEST_STEPS = 4


@dataclass(frozen=True)
class Picture:
    """A picture of a step: its file in the demo's folder, what it shows, and what to say under it."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of a step.

    Attributes:
        header: one cell a column. rows: as many cells each, or one that is a heading over the rows under it.
        notes: how to read it, a paragraph each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """What a step said: short facts, and a table where there is one."""

    facts: Facts
    table: Table | None = None


@dataclass(frozen=True)
class Step:
    """One step of the story as the page tells it: the command a user would type, how long it took, what it said."""

    title: str
    command: str
    seconds: float
    facts: Facts
    picture: Picture | None = None
    table: Table | None = None


@dataclass
class Story:
    """The demo on its way: where files lie and what was done so far."""

    out: Path
    minutes: float
    say: Say
    steps: list[Step] = field(default_factory=list)

    @property
    def limit(self) -> dict[str, float]:
        """Settings that end a training run in the time there is, or after a few steps."""
        return {"minutes": self.minutes} if self.minutes else {"steps": FEWEST_STEPS}

    def tell(self, title: str, command: str, do: Callable[[], Facts | Told], picture: Picture | None = None) -> None:
        """Do one step, and remember it with a picture to show."""
        self.say(f"[{len(self.steps) + 1}] {title}: {command}")
        start = time.monotonic()
        said = do()
        told = said if isinstance(said, Told) else Told(said)
        self.steps.append(Step(title, command, time.monotonic() - start, told.facts, picture, told.table))
        self.say("    " + ", ".join(f"{key} {value}" for key, value in told.facts.items()))


def words(*words: object) -> str:
    """A command line as one would type it."""
    return shlex.join(["vidgen", *map(str, words)])


def options(values: dict[str, Any]) -> list[str]:
    """Settings as one would type them behind a command."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={_typed(value)}")]


def _typed(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def export_facts(checkpoint: Path, artifact: Path, fp16: bool, gpu: str | None = None) -> Facts:
    """Export, with an engine for ``gpu`` beside it where that is given."""
    from vidgen.export import ExportSettings, export

    engine = artifact.with_suffix(".plan") if gpu else None
    report = export(ExportSettings(checkpoint=checkpoint, out=artifact, engine=engine, fp16=fp16, gpu=gpu))
    facts = {"size": f"{artifact.stat().st_size / 2**20:.1f} MiB"}
    for check in report.manifest.verification:
        facts[check.arrow] = f"{check.max_grey_levels:.2f} grey levels at most over {len(check.cases)} cases"
    if fp16:
        facts["in half"] = f"{report.manifest.precision.half_share:.0%} of floating-point tensors"
    if engine is not None and report.engine is not None and report.engine.engine is not None:
        built = report.engine.engine
        size = f"{engine.stat().st_size / 2**20:.1f} MiB for {', '.join(report.engine.target)}"
        facts["engine"] = f"{size}, by {built.library} {built.version}; not run: it needs such a GPU"
    return facts


def sample_facts(settings: SampleSettings) -> Facts:
    from vidgen.runtime.jobs import sample

    report = sample(settings)
    return {"videos": str(report.written), "videos a second, written": f"{report.videos_per_second:.1f}"}
