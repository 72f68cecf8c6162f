"""What scoring over features found: one row a source and space, as JSON and as a table that says how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidgen.bench.scores.compare import SpaceScore
from vidgen.bench.scores.disentanglement import Disentanglement
from vidgen.bench.scores.figure_tables import (
    disentanglement_notes,
    disentanglement_rows,
    temporal_notes,
    temporal_rows,
)
from vidgen.bench.scores.inception_score import InceptionScore
from vidgen.bench.scores.intervals import Difference, Interval
from vidgen.bench.scores.neighbours import SCORES
from vidgen.bench.scores.report import aligned, markdown_table
from vidgen.bench.scores.temporal_consistency import TemporalConsistency

FORMAT = 1

#: Figure of an extractor's classes -> its column.
ANSWERS = {"value": "IS", "inter_entropy": "H(y)", "intra_entropy": "H(y|x)"}
#: Score -> its row in the table of differences, and what it is multiplied by there.
DIFFERENCES = {"frechet": ("FID", 1), "kernel": ("KID x1000", 1000), **{name: (name, 1) for name in SCORES}}
#: Sources beside each other in a table of differences.
_ABREAST = 4


@dataclass(frozen=True, eq=False)
class FeatureScore:
    """The scores of one source.

    Attributes:
        name: its path as it was given. source: what it is, with hashes.
        spaces: scores by feature space.
        answers: of the extractor's classes, where it has any.
        psnr: of its first videos to those of the first artifact, dB; infinite where equal; None where not compared.
        seconds: making or reading its clips and taking their features. warnings: sentences.
        answers_to_first: by figure of the answers (value, inter_entropy, intra_entropy), how much it differs from that
            of the first source that has any; empty for that one.
        temporal: temporal consistency, of an extractor that sees single frames. disentangled: where it was asked for.
    """

    name: str
    source: Mapping[str, Any]
    spaces: Mapping[str, SpaceScore]
    answers: InceptionScore | None
    psnr: float | None
    seconds: float
    warnings: tuple[str, ...]
    answers_to_first: Mapping[str, Difference] = field(default_factory=dict)
    temporal: TemporalConsistency | None = None
    disentangled: Disentanglement | None = None

    @property
    def videos_per_second(self) -> float | None:
        """Clips a second, from latents or files to features."""
        clips = max(score.n for score in self.spaces.values())
        return clips / self.seconds if self.seconds else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; videos that are equal have the PSNR "equal"."""
        return {
            "name": self.name,
            "source": dict(self.source),
            "spaces": {space: score.to_dict() for space, score in self.spaces.items()},
            "answers": None if self.answers is None else self.answers.to_dict(),
            "answers_to_first": {name: found.to_dict() for name, found in self.answers_to_first.items()},
            "temporal_consistency": None if self.temporal is None else self.temporal.to_dict(),
            "disentanglement": None if self.disentangled is None else self.disentangled.to_dict(),
            "psnr": "equal" if self.psnr is not None and math.isinf(self.psnr) else self.psnr,
            "seconds": self.seconds,
            "videos_per_second": self.videos_per_second,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class FeatureReport:
    """The result of scoring over features.

    Attributes:
        protocol: everything two reports must agree in to compare, by space.
        reference: what the sources were compared with.
        scores: one for each source, in the order given. compared: videos whose pixels were compared.
        versions: of the packages at work. seconds: in all.
        reference_temporal: temporal consistency of the reference; None where its statistics say nothing of frames.
    """

    protocol: Mapping[str, Mapping[str, Any]]
    reference: Mapping[str, Any]
    scores: tuple[FeatureScore, ...]
    compared: int
    versions: Mapping[str, str]
    seconds: float
    reference_temporal: TemporalConsistency | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        real = self.reference_temporal
        return {
            "format": FORMAT,
            "protocol": {space: dict(values) for space, values in self.protocol.items()},
            "reference": {**self.reference, "temporal_consistency": None if real is None else real.to_dict()},
            "scores": [score.to_dict() for score in self.scores],
            "compared": self.compared,
            "versions": dict(self.versions),
            "seconds": self.seconds,
        }

    def rows(self) -> list[list[str]]:
        """The cells of the table, its header first; columns that nothing fills are left out."""
        header = ["source", "space", "N / reference", "FID", "FID inf", "KID x1000", *SCORES]
        rows = [self._row(score, space, found) for score in self.scores for space, found in score.spaces.items()]
        return _filled([header, *rows], 4)

    def _row(self, score: FeatureScore, space: str, found: SpaceScore) -> list[str]:
        frechet, kernel, near, infinity = found.frechet, found.kernel, found.neighbours, found.infinity
        return [
            score.name,
            space,
            f"{found.n} / {'?' if found.reference_n is None else found.reference_n}",
            value_with_interval(frechet.value, frechet.interval),
            "-" if infinity is None else value_with_interval(infinity.value, infinity.interval),
            "-" if kernel is None else value_with_interval(1000 * kernel.value, kernel.interval, scale=1000),
            *("-" if near is None else f"{getattr(near, name):.3f}" for name in SCORES),
        ]

    def source_rows(self) -> list[list[str]]:
        """The cells of the table of what is of a source as a whole, its header first."""
        rows = [["source", *ANSWERS.values(), "videos/s", "PSNR dB"]]
        for score in self.scores:
            answers, speed = score.answers, score.videos_per_second
            cells = ["-"] * len(ANSWERS)
            if answers is not None:
                cells = [value_with_interval(getattr(answers, name), answers.intervals.get(name)) for name in ANSWERS]
            rows.append([score.name, *cells, "-" if speed is None else f"{speed:.1f}", _decibels(score.psnr)])
        return _filled(rows, 1)

    def difference_rows(self) -> list[list[list[str]]]:
        """The cells of the tables of differences to the first source, a column a source, so many that a line fits."""
        others = self.scores[1:]
        return [self._difference_rows(others[start : start + _ABREAST]) for start in range(0, len(others), _ABREAST)]

    def _difference_rows(self, scores: Sequence[FeatureScore]) -> list[list[str]]:
        rows = [[f"minus {self.scores[0].name}", "space", *(score.name for score in scores)]]
        for space in self.scores[0].spaces:
            for name, (column, scale) in DIFFERENCES.items():
                found = [score.spaces[space].to_first.get(name) for score in scores]
                rows.append([column, space, *(difference_with_interval(one, scale) for one in found)])
        for name, column in ANSWERS.items():
            rows.append([column, "", *(difference_with_interval(score.answers_to_first.get(name)) for score in scores)])
        return [row for row in rows if row[1] == "space" or any(cell != "-" for cell in row[2:])]

    def more_rows(self) -> list[list[list[str]]]:
        """The cells of the tables under the first, each with its header: what is of sources as a whole, differences to
        the first of them, temporal consistency, disentanglement."""
        temporal = [(score.name, score.temporal) for score in self.scores]
        if any(found for _, found in temporal):
            temporal.append((f"reference {self._reference}", self.reference_temporal))
        judged = [(one.name, one.disentangled) for one in self.scores]
        tables = [self.source_rows(), *self.difference_rows(), temporal_rows(temporal), disentanglement_rows(judged)]
        return [rows for rows in tables if rows]

    @property
    def _reference(self) -> str:
        return str(self.reference.get("path"))

    def table(self) -> str:
        """The tables and how to read them, for a console."""
        tables = [line for rows in (self.rows(), *self.more_rows()) for line in (*aligned(rows), "")]
        return "\n".join([self._title(), *tables, *self.notes()])

    def markdown(self) -> str:
        """The same as a Markdown document."""
        notes = (f"- {note}" for note in self.notes())
        tables = [line for rows in (self.rows(), *self.more_rows()) for line in (*markdown_table(rows), "")]
        return "\n".join(["# Scores", "", self._title(), "", *tables, *notes, ""])

    def notes(self) -> list[str]:
        """What a reader must know to trust or compare the numbers, warnings last."""
        notes = ["FID is biased by N: compare numbers of equal N on both sides alone; KID is not"]
        spaces = [found for score in self.scores for found in score.spaces.values()]
        if any(found.frechet.interval for found in spaces):
            notes.append("± is 1.96 standard errors over the scored clips; KID's is over those of the reference too")
        if sum(score.source.get("kind") == "engine" for score in self.scores) > 1:
            notes.append("artifacts had the same latents: the ± of a difference is that of pairs, and far narrower")
        if any(score.answers for score in self.scores):
            notes.append("IS and H(y), how varied: higher is better; H(y|x), how unsure: lower is better")
        if any(score.psnr is not None for score in self.scores):
            notes.append(f"PSNR: of {self.compared} videos to the same ones of the first artifact, as 8 bits")
        notes += temporal_notes(
            [(score.name, score.temporal) for score in self.scores], (self._reference, self.reference_temporal)
        )
        notes += disentanglement_notes([score.disentangled for score in self.scores])
        warned = [(score.name, warning) for score in self.scores for warning in self._warnings(score)]
        for warning in dict.fromkeys(text for _, text in warned):
            names = [name for name, text in warned if text == warning]
            of = "" if len(names) == len(self.scores) else f"{', '.join(names)}: "
            notes.append(f"warning: {of}{warning}")
        return notes

    def _warnings(self, score: FeatureScore) -> list[str]:
        several = len(score.spaces) > 1
        found = [
            f"{space}: {warning}" if several else warning
            for space, scores in score.spaces.items()
            for warning in scores.warnings
        ]
        parts = (score.answers, score.temporal, score.disentangled)
        more = [warning for part in parts if part is not None for warning in part.warnings]
        return list(dict.fromkeys([*score.warnings, *found, *more]))

    def _title(self) -> str:
        label = next(iter(self.protocol.values()))
        sha = str(label.get("weight_sha256", ""))[:12]
        frames = "all" if label.get("frames") is None else label["frames"]
        hashed = f" ({sha})" if sha else ""
        against = f"reference {self._reference}"
        return f"protocol {label['protocol']}, {frames} frames, extractor {label['extractor']}{hashed}, {against}"


def _filled(rows: list[list[str]], first: int) -> list[list[str]]:
    """Rows, the header first, without the columns from the ``first`` on that nothing fills."""
    kept = [at for at in range(len(rows[0])) if at < first or any(row[at] != "-" for row in rows[1:])]
    return [[row[at] for at in kept] for row in rows] if len(kept) > 1 else []


def difference_with_interval(found: Difference | None, scale: float = 1) -> str:
    """A difference to as many digits as its interval is known by; ``-`` for None."""
    if found is None:
        return "-"
    value = scale * found.value
    if found.interval is None:
        return f"{value:+.4g}"
    reach = 1.96 * scale * found.interval.standard_error
    size = reach or abs(value)
    digits = max(0, min(9, 1 - math.floor(math.log10(size)))) if size else 0
    return f"{value:+.{digits}f} ± {reach:.{digits}f}"


def value_with_interval(value: float, interval: Interval | None, *, scale: float = 1.0) -> str:
    """A number and the 1.96 standard errors to either side, with as many digits as its size deserves."""
    digits = 4 if abs(value) < 1 else 3 if abs(value) < 100 else 1
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} ± {1.96 * interval.standard_error * scale:.{digits}f}"


def _decibels(value: float | None) -> str:
    if value is None:
        return "-"
    return "equal" if math.isinf(value) else f"{value:.1f}"
