"""``vidgen demo``: the whole story on built-in data, on a CPU, and a page that shows it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from vidgen import __version__
from vidgen._files import PARTIAL_PREFIX, atomic_file, remove_partials, storage_error, write_json
from vidgen._imports import require
from vidgen.demo import g3an, timing, twostreamvan
from vidgen.demo.story import Say, Step, Story
from vidgen.errors import SettingsError, StorageError

#: A folder that holds this file was made by the demo and may be made anew.
MARK = "demo.json"
#: All that the demo makes in its folder, the mark last.
MADE = ("report.html", *g3an.MADE, *twostreamvan.MADE, "bench", MARK)
NEEDS = (
    ("torch", "train"),
    ("tensorboard", "log training curves"),
    ("onnx", "export"),
    ("onnxruntime", "verify and sample"),
    ("matplotlib", "draw curves"),
    ("jinja2", "write the report"),
)
#: The models, in the order of the chapters.
NAMES = ("G3AN", "TwoStreamVAN")
_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class DemoSettings:
    """The demo.

    Attributes:
        out: folder to make. minutes: of training, for each model; 0 makes a few steps only, to see every part work.
    """

    out: Path = Path("demo")
    minutes: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if not 0 <= self.minutes <= 24 * 60:
            raise SettingsError(
                "cannot run the demo",
                seen=f"minutes = {self.minutes}, expected 0 to 1440",
                cause="the value is out of range",
                fix="vidgen demo --minutes 1",
            )


@dataclass(frozen=True)
class DemoReport:
    """What the demo made."""

    report: Path
    seconds: float
    steps: tuple[Step, ...]


def demo(settings: DemoSettings, say: Say = lambda _: None) -> DemoReport:
    """Data, both models trained, exported, verified, sampled, scored and timed, and ``out/report.html``.

    Raises:
        StorageError: ``out`` holds something that the demo did not make.
        MissingDependencyError: a package of the extras ``torch``, ``cpu`` or ``report`` is missing.
    """
    for module, purpose in NEEDS:
        require(module, purpose)
    start = time.monotonic()
    _clear(settings.out)
    story = Story(settings.out, settings.minutes, say)
    for name, engines in zip(NAMES, (g3an.tell(story), twostreamvan.tell(story)), strict=True):
        timing.tell(story, name, engines)
    report = _write_page(story, time.monotonic() - start)
    return DemoReport(report, time.monotonic() - start, tuple(story.steps))


def _clear(out: Path) -> None:
    """Make the folder, or empty one that the demo made; files of others are never touched."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            others = [path.name for path in out.iterdir() if not _is_made(path.name)] if out.is_dir() else [out.name]
            if others or not _is_marked(out):
                raise StorageError(
                    f"cannot run the demo in {out}",
                    seen=f"it holds {', '.join(sorted(others)[:3]) or 'a demo.json of another program'}",
                    cause="the demo did not make this",
                    fix="vidgen demo ANOTHER_FOLDER",
                )
            remove_partials(out)
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


def _is_made(name: str) -> bool:
    """Whether the demo makes a file of this name; what a kill left unfinished counts."""
    return name in MADE or name.startswith(PARTIAL_PREFIX)


def _is_marked(out: Path) -> bool:
    try:
        return "vidgen" in json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write_page(story: Story, seconds: float) -> Path:
    from jinja2 import Environment, FileSystemLoader

    out = story.out
    environment = Environment(loader=FileSystemLoader(_TEMPLATE.parent), autoescape=True)
    page = environment.get_template(_TEMPLATE.name).render(
        steps=[dataclasses.asdict(step) for step in story.steps],
        seconds=seconds,
        version=__version__,
        cores=os.cpu_count(),
    )
    path = out / "report.html"
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path
