"""What `vidgen sample` is asked for: one validated object, and the command line that says the same."""

from __future__ import annotations

import dataclasses
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from vidgen.errors import SettingsError
from vidgen.runtime.latents import LIMIT
from vidgen.runtime.ranges import RANGES, REFERENCE_GROUP
from vidgen.runtime.sinks import DEFAULT_CRF, DEFAULT_QUALITY, Sink, make_sink

#: The reference's demos: 64 random videos, 8 videos at each of several lengths (spec g3an 6, 9).
DEFAULT_VIDEOS = 64
DEFAULT_VIDEOS_LENGTHS = 8

#: Options that the command line spells in another way than their field.
OPTIONS = {"out": "-o", "n": "-n"}

#: What changes along the rows of a grid: the appearance, while columns are motions; or the class.
GRID_KINDS = ("motion", "class")


@dataclass(frozen=True)
class SampleSettings:
    """One sampling job.

    Attributes:
        engine: the artifact: .plan, .onnx or .safetensors. out: the folder to write to.
        n: number of videos; when None 64, or 8 with several lengths; a grid has its own number.
        seed: of the whole set, in [0, 2**32).
        labels: class names or indices; video i takes ``labels[i % len(labels)]``; drawn when empty.
        grid: ``"NxM"``: N rows x M columns, files ``row_column``, and a sheet of all.
        grid_by: ``motion``: row i has appearance i, column j motion j and, of a model with classes, its label.
            ``class``: row i has the i-th of ``labels`` (or of the model's classes), column j noise j in every row, so
            that cell i_j is video j of that class alone. When None ``class`` where there are as many labels as rows,
            and more than one; else ``motion``.
        frames: frames in each video, ``"F"``; or several lengths ``"START:STOP:STEP"``, STOP included, files
            ``i_frames``. The length the model was trained for when None.
        first_frame: image, video, .npy array, folder of such, or clip store whose first frames videos go on from;
            video i (in a grid row, by class column, i) takes frame i modulo their number. See
            :mod:`vidgen.runtime.first_frames`.
        format: ``mp4``, ``webp``, ``gif``, ``png`` (strip) or ``npy``.
        masks: write the masks of each video to ``masks/NAME.png``. strips: write its frames, side by side, to
            ``strips/NAME.png``.
        range: ``model``, or ``batch-minmax`` as the reference does.
        group: videos normalised together with ``batch-minmax``: 64 when None, or the whole grid.
        shard: ``"i/n"``, i from 0: of the videos every n-th from the i-th on; with ``batch-minmax`` of the groups.
        resume: go on with an unfinished run of the same settings; ``n`` may have grown.
        batch: videos computed together; what suits the artifact when None.
        backend: see :data:`vidgen.runtime.backends.BACKENDS`; None picks.
        device: ``cpu``, ``cuda`` (``cuda:1`` is the second), or ``tensorrt``: ONNX Runtime's provider of that name. An
            engine runs on CUDA, whatever it says.
        threads: CPU threads of the backend; None leaves the library's choice.
        encoders: threads that encode and write; None is one for each CPU, at most 4.
        fps: frames a second; those of the training data when None.
        crf, pix_fmt: of mp4. quality: of webp, and of the sheet, 1..100.
        sheet: draw ``grid.png`` and ``grid.webp``, or ``lengths.png``.
        trust: allow an engine without a manifest.

    Raises:
        SettingsError: an option out of range, or two that exclude each other.
    """

    engine: Path
    out: Path
    n: int | None = None
    seed: int = 0
    labels: tuple[str, ...] = ()
    grid: str | None = None
    grid_by: str | None = None
    frames: str | None = None
    first_frame: Path | None = None
    format: str = "mp4"
    masks: bool = False
    strips: bool = False
    range: str = "model"
    group: int | None = None
    shard: str | None = None
    resume: bool = False
    batch: int | None = None
    backend: str | None = None
    device: str = "cpu"
    threads: int | None = None
    encoders: int | None = None
    fps: float | None = None
    crf: int = DEFAULT_CRF
    pix_fmt: str = "yuv420p"
    quality: int = DEFAULT_QUALITY
    sheet: bool = True
    trust: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", Path(self.engine))
        object.__setattr__(self, "out", Path(self.out))
        if self.first_frame is not None:
            object.__setattr__(self, "first_frame", Path(self.first_frame))
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        for name in ("n", "group", "batch", "threads", "encoders"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise _bad(name, value, "at least 1", "1")
        if not 0 <= self.seed < LIMIT:
            raise _bad("seed", self.seed, f"0 to {LIMIT - 1}", "0")
        if self.fps is not None and not 0.1 <= self.fps <= 1000:
            raise _bad("fps", self.fps, "0.1 to 1000", "25")
        if self.range not in RANGES:
            raise _bad("range", self.range, " or ".join(RANGES), "model")
        if self.grid_by is not None and self.grid_by not in GRID_KINDS:
            raise _bad("grid_by", self.grid_by, " or ".join(GRID_KINDS), "class")
        if self.frames is not None and isinstance(self.frames, int):
            object.__setattr__(self, "frames", str(self.frames))
        self.sink()
        self._check_combinations()

    def _check_combinations(self) -> None:
        # Reading the three small notations is their check.
        grid, lengths, _ = self.grid_size, self.lengths, self.shard_of
        if grid and self.n is not None:
            raise _clash("-n", "--grid", f"a grid of {self.grid} has {grid[0] * grid[1]} videos", "-n")
        if grid and len(lengths) > 1:
            raise _clash("--grid", f"--frames {self.frames}", "a grid has one length", f"--frames {lengths[0]}")
        if self.group is not None and self.range != "batch-minmax":
            raise _clash("--group", f"--range {self.range}", "only batch-minmax normalises in groups", "--group")
        if self.strips and self.format == "png":
            raise _clash("--strips", "--format png", "png videos are such strips themselves", "--strips")
        self._check_rows(grid)

    def _check_rows(self, grid: tuple[int, int] | None) -> None:
        if self.grid_by is not None and grid is None:
            raise SettingsError(
                f"cannot sample with --grid-by {self.grid_by} alone",
                seen="no --grid",
                cause="it says what the rows of a grid are",
                fix="add --grid NxM, e.g. --grid 4x8",
            )
        if not self.by_class or grid is None:
            return
        if self.labels and len(self.labels) != grid[0]:
            raise _clash(
                "--grid-by class",
                f"--labels {','.join(self.labels)}",
                f"each row shows one class: {grid[0]} rows take {grid[0]} labels",
                f"--grid {len(self.labels)}x{grid[1]}",
            )
        if self.range == "batch-minmax":
            raise _clash("--grid-by class", "--range batch-minmax", "rows are made one by one", "--range model")

    @property
    def grid_size(self) -> tuple[int, int] | None:
        """Numbers of appearances and motions of the grid."""
        if self.grid is None:
            return None
        match = re.fullmatch(r"([1-9][0-9]{0,4})[xX]([1-9][0-9]{0,4})", self.grid)
        if match is None:
            raise _bad("grid", self.grid, "NxM, rows x columns", "8x8")
        return int(match[1]), int(match[2])

    @property
    def by_class(self) -> bool:
        """Whether the rows of the grid are classes."""
        if self.grid_size is None:
            return False
        if self.grid_by is None:
            return len(self.labels) == self.grid_size[0] > 1
        return self.grid_by == "class"

    @property
    def several_lengths(self) -> bool:
        """Whether ``frames`` is a range, which names the files by length."""
        return self.frames is not None and ":" in self.frames

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of frames asked for, shortest first; empty for the model's own."""
        if self.frames is None:
            return ()
        match = re.fullmatch(r"([1-9][0-9]{0,5})(?::([1-9][0-9]{0,5}):([1-9][0-9]{0,5}))?", self.frames)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise _bad("frames", self.frames, "F, or START:STOP:STEP with STOP not below START", "16:48:4")
        first = int(match[1])
        if match[2] is None:
            return (first,)
        lengths: list[int] = []
        while first + len(lengths) * int(match[3]) <= int(match[2]):
            lengths.append(first + len(lengths) * int(match[3]))
        return tuple(lengths)

    @property
    def shard_of(self) -> tuple[int, int]:
        """This shard, from 0, and the number of shards; (0, 1) for the whole."""
        if self.shard is None:
            return 0, 1
        match = re.fullmatch(r"([0-9]{1,6})/([1-9][0-9]{0,5})", self.shard)
        if match is None or int(match[1]) >= int(match[2]):
            raise _bad("shard", self.shard, "i/n with i from 0 to n - 1", "0/4")
        return int(match[1]), int(match[2])

    @property
    def videos(self) -> int:
        """Number of video indices: of each length, or of cells in the grid."""
        if self.grid_size:
            return self.grid_size[0] * self.grid_size[1]
        return self.n or (DEFAULT_VIDEOS_LENGTHS if self.several_lengths else DEFAULT_VIDEOS)

    @property
    def normalised_together(self) -> int:
        """Videos in a group of ``batch-minmax``."""
        return self.group or (self.videos if self.grid else REFERENCE_GROUP)

    def sink(self) -> Sink:
        """The sink of the format with its options."""
        return make_sink(self.format, crf=self.crf, pix_fmt=self.pix_fmt, quality=self.quality)

    def elsewhere(self) -> str:
        """The command line of these settings with another output folder."""
        named = self.out.name not in ("", "..")
        return self.command(out=Path(f"{self.out}-2" if named else "samples-2"), resume=False)

    def command(self, **changes: object) -> str:
        """The command line of these settings, with some changed; options at their default are left out."""
        settings = dataclasses.replace(self, **changes)  # type: ignore[arg-type]
        words = ["vidgen", "sample"]
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            option = _option(field.name)
            if value == field.default:
                continue
            if isinstance(value, bool):
                words.append(option if value else option.replace("--", "--no-", 1))
            else:
                words += [option, ",".join(value) if isinstance(value, tuple) else str(value)]
        return shlex.join(words)


def _option(name: str) -> str:
    return OPTIONS.get(name, "--" + name.replace("_", "-"))


def _bad(name: str, value: object, expected: str, example: str) -> SettingsError:
    option = _option(name)
    return SettingsError(
        f"cannot sample with {option} {value}",
        seen=f"{value!r}, expected {expected}",
        cause="the option is out of range",
        fix=f"use {option} {example}",
    )


def _clash(one: str, other: str, why: str, drop: str) -> SettingsError:
    return SettingsError(
        f"cannot sample with {one} and {other} together",
        seen=f"both {one} and {other}",
        cause=why,
        fix=f"use {drop}" if " " in drop else f"drop {drop}",
    )
