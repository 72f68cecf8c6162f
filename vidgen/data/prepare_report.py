"""What ``prepare`` tells: how far it is, what it left out, and what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidgen.data.prepare_settings import PrepareSettings
from vidgen.data.store_format import Clip, StoreInfo
from vidgen.errors import DataError


@dataclass(frozen=True)
class Skipped:
    """A source that is not in the store, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Note:
    """A source (or label) that is in the store, and what is unexpected about it."""

    name: str
    text: str


@dataclass(frozen=True)
class PrepareReport:
    """What ``prepare`` did.

    Args:
        out: folder of the store.
        info: what the store holds.
        layout: the layout that was used.
        sources: number of sources found.
        skipped: those that are not in the store.
        notes: those that were read otherwise than one might expect, e.g. resampled.
        ignored: files that are no part of the layout.
        lists: lists of clips that were written.
    """

    out: Path
    info: StoreInfo
    layout: str
    sources: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()
    ignored: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "out": str(self.out)}


@dataclass(frozen=True)
class Progress:
    """How far ``prepare`` is.

    Args:
        done: sources that are done.
        total: sources found.
        name: the source just done, or the one that is waited for.
        clips: clips written.
        frames: frames written.
        decoding: frames decoded so far of the source that is waited for; 0 when one is just done.
    """

    done: int
    total: int
    name: str
    clips: int
    frames: int
    decoding: int = 0


def default_name(source: Path) -> str:
    """The name of a data set that is not given one."""
    return (source.stem if source.is_file() else source.name) or "clips"


def nothing_usable(settings: PrepareSettings, skipped: Sequence[Skipped]) -> DataError:
    """The error for sources none of which can be used."""
    reasons = "; ".join(f"{source.name}: {source.reason}" for source in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return DataError(
        f"no clip can be made from {settings.source}",
        seen=f"skipped {reasons}{more}",
        cause="the files are damaged or too short, or the options do not fit them",
        fix="pass other files, or change --window, --min-frames, --max-pixels or --crop to fit these",
    )


def unused_labels(labels: Sequence[str], clips: Sequence[Clip]) -> list[Note]:
    """A note for each class that no clip has."""
    used = {clip.label for clip in clips}
    return [Note(label, "no clip has this label") for number, label in enumerate(labels) if number not in used]
