"""What scoring found: one row a set of clips, as JSON and as a table that says how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from vidgen.bench.scores.classifier_metrics import CLIPS_FOR_INTERVAL, ClassifierMetrics

FORMAT = 1


@dataclass(frozen=True)
class SourceScore:
    """The scores of one source.

    Attributes:
        name: its path as it was given. source: what it is, with hashes.
        sets: metrics by set: ``class-conditional``, ``first-frame``, ``real``.
        seconds: making or reading its clips and classifying them.
    """

    name: str
    source: Mapping[str, Any]
    sets: Mapping[str, ClassifierMetrics]
    seconds: float

    @property
    def clips(self) -> int:
        """Number of clips in all sets."""
        return sum(metrics.clips for metrics in self.sets.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "source": dict(self.source),
            "sets": {kind: metrics.to_dict() for kind, metrics in self.sets.items()},
            "seconds": self.seconds,
            "videos_per_second": self.clips / self.seconds if self.seconds else None,
        }


@dataclass(frozen=True)
class ScoreReport:
    """The result of scoring.

    Attributes:
        protocol: everything two reports must agree in to compare. classifier: what judged, with its hash.
        scores: one for each source, in the order given. versions: of the packages at work. seconds: in all.
    """

    protocol: Mapping[str, Any]
    classifier: Mapping[str, Any]
    scores: tuple[SourceScore, ...]
    versions: Mapping[str, str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return {
            "format": FORMAT,
            "protocol": dict(self.protocol),
            "classifier": dict(self.classifier),
            "scores": [score.to_dict() for score in self.scores],
            "versions": dict(self.versions),
            "seconds": self.seconds,
        }

    def rows(self) -> list[list[str]]:
        """The cells of the table, its header first."""
        rows = [["source", "set", "clips", "accuracy %", "IS", "H(y|x)", "H(y)", "videos/s"]]
        for score in self.scores:
            speed = f"{score.clips / score.seconds:.1f}" if score.seconds else "-"
            for kind, found in score.sets.items():
                cells = [
                    _cell(found, "accuracy", 1),
                    _cell(found, "inception_score", 3),
                    _cell(found, "intra_entropy", 4),
                    _cell(found, "inter_entropy", 4),
                ]
                rows.append([score.name, kind, str(found.clips), *cells, speed])
        return rows

    def class_rows(self) -> list[list[str]]:
        """The cells of the table by class, its header first: accuracy and H(y|x), two columns a set."""
        sets = [(PurePath(score.name).name, kind, found) for score in self.scores for kind, found in score.sets.items()]
        header = ["class"]
        for name, kind, _ in sets:
            header += [f"{name} {kind}: accuracy %", "H(y|x)"]
        rows = [header]
        for action, label in enumerate(self._class_names()):
            row = [label]
            for _, _, found in sets:
                row += [
                    _number(found.per_class_accuracy[action], 1),
                    _number(found.per_class_intra_entropy[action], 4),
                ]
            rows.append(row)
        return rows

    def table(self) -> str:
        """Both tables and how to read them, for a console."""
        blocks = [self._title(), *aligned(self.rows()), "", *aligned(self.class_rows()), "", *self.notes()]
        return "\n".join(blocks)

    def markdown(self) -> str:
        """The same as a Markdown document."""
        lines = [
            "# Scores",
            "",
            self._title(),
            "",
            *markdown_table(self.rows()),
            "",
            *markdown_table(self.class_rows()),
            "",
        ]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes()), ""])

    def notes(self) -> list[str]:
        """What a reader must know to trust or compare the numbers."""
        actions, outputs = int(self.classifier["n_actions"]), int(self.classifier["n_class"])
        notes = [
            f"chance is {100 / actions:.1f} %; H(y) is at most {math.log(outputs):.4f}, IS at most {outputs}; "
            "higher is better, but for H(y|x)",
            "H(y|x) by class is of the clips the classifier takes for it; '-' where there is none",
        ]
        if any(found.intervals for score in self.scores for found in score.sets.values()):
            notes.append("± is 1.96 standard errors of a bootstrap over clips; it knows nothing of the classifier")
        if any(not found.intervals for score in self.scores for found in score.sets.values()):
            notes.append(f"no ± below {CLIPS_FOR_INTERVAL} clips of some class, or with --replicates 0")
        nameless = [score.name for score in self.scores if score.source.get("labels") == []]
        if nameless:
            notes.append(f"{', '.join(nameless)}: names no classes; class i was taken for the classifier's class i")
        sizes = {found.clips for score in self.scores for found in score.sets.values()}
        if len(sizes) > 1:
            notes.append("IS and H(y) grow with the number of clips: compare sets of one size, see -n")
        return notes

    def _title(self) -> str:
        sha = str(self.classifier.get("sha256", ""))[:12]
        data = (self.classifier.get("data") or {}).get("name")
        judge = f"{self.classifier.get('path') or 'a network in memory'}{f' ({sha})' if sha else ''}"
        return f"protocol {self.protocol['name']}, classifier {judge}{f' trained on {data}' if data else ''}"

    def _class_names(self) -> list[str]:
        labels = [str(label) for label in self.classifier.get("labels") or ()]
        return labels or [str(number) for number in range(int(self.classifier["n_actions"]))]


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _cell(metrics: ClassifierMetrics, name: str, digits: int) -> str:
    value = f"{getattr(metrics, name):.{digits}f}"
    interval = metrics.intervals.get(name)
    return value if interval is None else f"{value} ± {1.96 * interval.standard_error:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, the header first, as lines of a console; names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = 2 if rows[0][1] in ("set", "space") else 1
    return [
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The same as lines of Markdown."""
    header, *body = rows
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] + ["---:"] * (len(header) - 1), *body)]
