"""What a bench found: rows, JSON and a table that says how far to trust it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen._files import atomic_file, write_json
from vidgen.bench.scores.feature_report import FeatureReport, value_with_interval
from vidgen.bench.statistics import RUNS_FOR, Agreement, Distribution
from vidgen.bench.worker import WarmUp

FORMAT = 1
#: Rounds whose medians differ by more than this say that something else was running.
NOISY = 0.10


@dataclass(frozen=True)
class Measurement:
    """One contender at one batch size.

    Attributes:
        compute_ms: the run itself, latents in host memory to frames in host memory.
        end_to_end_ms: making the latents, the run, and a uint8 array of frames of one's own.
        device_ms: of the run on the device alone, copies left out; None where the backend does not measure it.
        videos_per_second, frames_per_second: one batch after the other, end to end, from the mean of all runs.
        reference: label of the first contender at this batch size, which speed-up and agreement refer to.
        speedup: times faster than the reference in compute time; 1 for itself.
        spread: how much the medians of the rounds differ.
        load_seconds: import of the library, check of the file and load, in a fresh process.
        peak_memory: bytes, of the contender's process up to this batch size; None where not known.
        agreement: with the reference; None for itself, or where they do not take the same latents.
        samples_ms: every compute time, by round.
    """

    contender: str
    artifact: str
    backend: str
    precision: str
    batch: int
    frames: int
    reference: str
    compute_ms: Distribution
    end_to_end_ms: Distribution
    device_ms: Distribution | None
    videos_per_second: float
    frames_per_second: float
    compute_videos_per_second: float
    speedup: float
    spread: float
    warm_up: WarmUp
    load_seconds: float
    peak_memory: int | None
    agreement: Agreement | None
    describe: Mapping[str, str]
    samples_ms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Failure:
    """A contender that could not be measured: at which step, and its error in four parts."""

    contender: str
    step: str
    error: Mapping[str, str]


@dataclass(frozen=True)
class BenchReport:
    """The result of a bench; ``scores`` of its artifacts where they were asked for."""

    environment: Mapping[str, Any]
    rows: tuple[Measurement, ...]
    failures: tuple[Failure, ...] = ()
    scores: FeatureReport | None = None

    @property
    def ok(self) -> bool:
        """Whether every contender was measured."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as bench.json holds them."""
        rows, failures = ([dataclasses.asdict(each) for each in part] for part in (self.rows, self.failures))
        values = {"format": FORMAT, "ok": self.ok, "environment": dict(self.environment), "rows": rows}
        return {**values, "failures": failures, "scores": None if self.scores is None else self.scores.to_dict()}

    def table(self) -> str:
        """The table and its notes for a console."""
        header, *body = _cells(self)
        widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(w) if i < 1 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
            for row in (header, *body)
        ]
        scores = ["", self.scores.table()] if self.scores else []
        return "\n".join([self._title(), "", *(line.rstrip() for line in lines), "", *self._notes(), *scores])

    def markdown(self) -> str:
        """The same as a Markdown document."""
        header, *body = _cells(self)
        lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] + ["---:"] * (len(header) - 1), *body)]
        scores = [self.scores.markdown()] if self.scores else []
        notes = [f"- {note}" for note in self._notes()]
        return "\n".join(["# Bench", "", self._title(), "", *lines, "", *notes, "", *scores])

    def _title(self) -> str:
        machine, settings = self.environment["machine"], self.environment["settings"]
        threads = settings["threads"] or "each library's choice of"
        versions = ", ".join(f"{name} {version}" for name, version in self.environment["versions"].items())
        return f"{machine['cpu']}, {machine['usable']:g} cores usable, {threads} threads; {versions}"

    def _notes(self) -> list[str]:
        frames = " or ".join(str(number) for number in sorted({row.frames for row in self.rows}))
        references = " or ".join(dict.fromkeys(row.reference for row in self.rows))
        notes = [
            f"times: milliseconds for a batch of videos of {frames} frames; speed-up and agreement: with {references}",
            "run: latents in memory to frames in memory; end to end: with making the latents and keeping the frames",
            "peak memory: of a process that does nothing else; load: with import of the library and hash check",
        ]
        if any(row.device_ms for row in self.rows):
            notes.append("device: between events on the device before and after the model, copies left out")
        notes.append("speed-up: median over rounds of the ratio of the runs' medians within a round")
        notes += self.doubts()
        notes += [
            f"FAILED {failure.contender} ({failure.step}): {failure.error['what']} - {failure.error['seen']} - "
            f"{failure.error['fix']}"
            for failure in self.failures
        ]
        return notes

    def doubts(self) -> list[str]:
        """Why some numbers are less sure than they look: noise, load, few runs, short warm-up."""
        notes = []
        fewest = min(row.compute_ms.runs for row in self.rows)
        if fewest < RUNS_FOR["p99"]:
            notes.append(f"p90 of {fewest} runs is rough; it settles at about {RUNS_FOR['p99']}, where p99 begins")
        noisy = [f"{row.contender} batch {row.batch} ({row.spread:.0%})" for row in self.rows if row.spread > NOISY]
        if noisy:
            notes.append(
                f"noisy, rounds differ by more than {NOISY:.0%}: {', '.join(noisy)}; run it on an idle machine"
            )
        load, cores = self.environment["load_average"][:1], self.environment["machine"]["usable"]
        if load and load[0] > cores / 2:
            notes.append(f"the machine was busy before the bench began: load {load[0]:.1f} on {cores:g} cores")
        wanted = self.environment["settings"]["min_runs"]
        if fewest < wanted:
            notes.append(f"slow contenders had fewer than {wanted} runs: their time was up (max_seconds)")
        cold = [f"{row.contender} batch {row.batch}" for row in self.rows if not row.warm_up.stable]
        if cold:
            notes.append(f"not yet stable when measured: {', '.join(cold)}; give a longer warm-up")
        return notes


_HEADER = ["artifact@backend", "batch", "runs", "device p50", "run p50", "run p90", "p99", "end to end p50"]
_HEADER += ["videos/s", "frames/s", "speed-up", "peak MiB", "load s", "agreement"]


def _distances(report: BenchReport) -> tuple[list[str], dict[str, list[str]]]:
    """A column of Fréchet distances for each feature space, and the cells of each artifact."""
    if report.scores is None or not report.scores.scores:
        return [], {}
    spaces = list(report.scores.scores[0].spaces)
    header = ["FID" if len(spaces) == 1 else f"FID {space}" for space in spaces]
    cells = {}
    for score in report.scores.scores:
        found = [score.spaces[space].frechet for space in spaces]
        cells[score.name] = [value_with_interval(one.value, one.interval) for one in found]
    return header, cells


def _cells(report: BenchReport) -> list[list[str]]:
    header, distances = _distances(report)
    rows = [[*_HEADER, *header]]
    for row in report.rows:
        run = row.compute_ms
        rows.append(
            [
                row.contender,
                str(row.batch),
                str(run.runs),
                "-" if row.device_ms is None else f"{row.device_ms.p50:.2f}",
                f"{run.p50:.2f}",
                "-" if run.p90 is None else f"{run.p90:.2f}",
                "-" if run.p99 is None else f"{run.p99:.2f}",
                f"{row.end_to_end_ms.p50:.2f}",
                f"{row.videos_per_second:.2f}",
                f"{row.frames_per_second:.1f}",
                f"{row.speedup:.2f}x",
                "-" if row.peak_memory is None else f"{row.peak_memory / 2**20:.0f}",
                f"{row.load_seconds:.2f}",
                _agreement(row),
                *distances.get(row.artifact, ["-"] * len(header)),
            ]
        )
    # Columns that nothing is known of are left out.
    known = {
        "p99": any(row.compute_ms.p99 for row in report.rows),
        "device p50": any(row.device_ms for row in report.rows),
    }
    empty = [_HEADER.index(name) for name, is_known in known.items() if not is_known]
    return [[cell for index, cell in enumerate(row) if index not in empty] for row in rows]


def _agreement(row: Measurement) -> str:
    found = row.agreement
    if row.contender == row.reference:
        return "reference"
    if found is None:
        return "other model"
    weights = "" if found.same_weights else ", other weights"
    if found.psnr is None:
        return f"equal{weights}"
    return f"max {found.max_grey_levels} levels, {found.psnr:.1f} dB{weights}"


def write_report(folder: Path, name: str, values: Mapping[str, Any], page: str) -> None:
    """Write NAME.json and NAME.md.

    Raises:
        StorageError: a file cannot be written.
    """
    write_json(folder / f"{name}.json", values)
    with atomic_file(folder / f"{name}.md") as partial:
        partial.write_text(page, encoding="utf-8")
