"""Which videos a job makes: names, indices and lengths, and which of them are made together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from vidgen.errors import SamplingError
from vidgen.models.config import ModelInterface
from vidgen.runtime.latents import classes, label_input
from vidgen.runtime.settings import SampleSettings


@dataclass(frozen=True)
class PlannedVideo:
    """One video to make.

    Attributes:
        name: of its file, without suffix: ``i``, ``row_column`` in a grid, ``i_frames`` with several lengths.
        index: the index of its appearance, or first frame. motion: that of its motion and label; another only in a
            grid of motions.
        frames: its length.
        label: its class, in a grid of classes. cell: its row and column, in any grid.
    """

    name: str
    index: int
    motion: int
    frames: int
    label: int | None = None
    cell: tuple[int, int] | None = None


#: Videos that are made together, all of one length and, in a grid of classes, of one class.
Unit = tuple[PlannedVideo, ...]


def plan_videos(
    settings: SampleSettings, interface: ModelInterface, labels: Sequence[int] | None = None
) -> list[PlannedVideo]:
    """All videos of a job, whatever the shard, in the order they are made.

    Args:
        labels: label indices of the settings' labels.

    Raises:
        SamplingError: the model cannot make videos of such a length, or has too few classes for the rows.
    """
    lengths = settings.lengths or (interface.frames.default,)
    for frames in lengths:
        interface.frames.length(frames)
    if settings.grid_size:
        rows, columns = settings.grid_size
        cells = [(i, j) for i in range(rows) for j in range(columns)]
        if settings.by_class:
            of_row = labels or _first_classes(interface, rows)
            return [PlannedVideo(f"{i}_{j}", j, j, lengths[0], of_row[i], (i, j)) for i, j in cells]
        return [PlannedVideo(f"{i}_{j}", i, j, lengths[0], None, (i, j)) for i, j in cells]
    return [
        PlannedVideo(f"{i}_{frames}" if settings.several_lengths else str(i), i, i, frames)
        for frames in lengths
        for i in range(settings.videos)
    ]


def _first_classes(interface: ModelInterface, rows: int) -> Sequence[int]:
    spec = label_input(interface)
    known = classes(spec) if spec else 0
    if rows > known:
        raise SamplingError(
            f"cannot make a grid of {rows} classes",
            seen=f"{rows} rows, expected at most {known}" if spec else "a model without labels",
            cause=f"the model has {known} classes" if spec else "the model was trained without classes",
            fix=f"use --grid {known}xM, or name the class of each row with --labels" if spec else "drop --grid-by",
        )
    return range(rows)


def plan_units(settings: SampleSettings, videos: Sequence[PlannedVideo], batch: int) -> list[Unit]:
    """The units of this job's shard; ``batch`` videos are computed together.

    With ``--range model`` a video's pixels are its own: a shard takes every n-th video, and a unit is a batch.
    With ``batch-minmax`` they depend on the whole group: a shard takes every n-th group of the whole set.
    """
    shard, shards = settings.shard_of
    if settings.range == "batch-minmax":
        return _cut(videos, settings.normalised_together)[shard::shards]
    return _cut(videos[shard::shards], batch)


def _cut(videos: Sequence[PlannedVideo], size: int) -> list[Unit]:
    """Runs of at most ``size`` videos that follow each other and have the same length and class."""
    units: list[Unit] = []
    for _, alike in groupby(videos, key=lambda video: (video.frames, video.label)):
        members = tuple(alike)
        units += [members[at : at + size] for at in range(0, len(members), size)]
    return units
