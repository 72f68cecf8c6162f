"""The small tables under that of the distances: temporal consistency, and disentanglement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vidgen.bench.scores.disentanglement import Disentanglement
from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.temporal_consistency import TemporalConsistency

#: Figure -> its column.
_TEMPORAL = {"value": "consistency", "order": "order", "motion": "motion"}
_RATIOS = {
    "value": "disentanglement",
    "appearance": "appearance",
    "motion": "motion",
    "appearance_share": "za of appearance",
    "motion_share": "zm of motion",
}


def temporal_rows(found: Sequence[tuple[str, TemporalConsistency | None]]) -> list[list[str]]:
    """The cells of the table of temporal consistency, its header first; empty where no set has any.

    Args:
        found: sets by name, in order.
    """
    rows = [
        [name, str(one.n), str(one.frames), *(_cell(one, figure, one.intervals) for figure in _TEMPORAL)]
        for name, one in found
        if one is not None
    ]
    return [["source", "N", "frames", *_TEMPORAL.values()], *rows] if rows else []


def temporal_lines(found: TemporalConsistency | None) -> list[str]:
    """The same of one set, as a line for a console."""
    if found is None:
        return []
    figures = ", ".join(f"{column} {_cell(found, name, {})}" for name, column in _TEMPORAL.items())
    return [f"temporal consistency of {found.n} clips of {found.frames} frames: {figures}"]


def temporal_notes(
    scored: Sequence[tuple[str, TemporalConsistency | None]], reference: tuple[str, TemporalConsistency | None]
) -> list[str]:
    """How to read that table, and what it lacks; empty where no source has any."""
    if not any(one for _, one in scored):
        return []
    name, real = reference
    notes = [
        "consistency 1: frozen, 0: the next frame might be of another video; order 1: smooth, 0: as if shuffled, "
        "below: flicker; motion 0: frozen, 1: a video changes as much as videos differ",
        "all three are to be near those of the reference: further off is worse, in either direction",
    ]
    if real is None:
        notes.append(f"{name} says nothing of single frames: for its own figures make it again with vidgen stats")
    return notes


def disentanglement_rows(found: Sequence[tuple[str, Disentanglement | None]]) -> list[list[str]]:
    """The cells of the table of disentanglement, its header first; empty where nobody asked."""
    rows = [
        [name, "{}x{}".format(*one.grid), *(_cell(one, ratio, one.intervals) for ratio in _RATIOS)]
        for name, one in found
        if one is not None
    ]
    return [["source", "za x zm", *_RATIOS.values()], *rows] if rows else []


def disentanglement_notes(found: Sequence[Disentanglement | None]) -> list[str]:
    """How to read that table."""
    if not any(found):
        return []
    notes = [
        "disentanglement 1: za moves appearance alone and zm motion alone, 0.5: both move both, 0: swapped; the mean "
        "of appearance (of the two spaces, how much rather appearance is what za moves) and motion (the same of zm)",
        "za of appearance: share of the appearance features' variance that za makes; zm of motion likewise (z_content "
        "and z_motion count as za and zm)",
    ]
    if any(one is not None and one.intervals for one in found):
        notes.append("± of disentanglement: other latents, drawn by resampling rows and columns")
    return notes


def _cell(found: object, name: str, intervals: Mapping[str, Interval]) -> str:
    value = float(getattr(found, name))
    if math.isnan(value):
        return "-"
    interval = intervals.get(name)
    return f"{value:.4f}" if interval is None else f"{value:.4f} ± {1.96 * interval.standard_error:.4f}"
