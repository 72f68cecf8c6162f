"""Which videos a job makes: names, indices and lengths, and which of them are made together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from vidgen.models.config import ModelInterface
from vidgen.runtime.settings import SampleSettings


@dataclass(frozen=True)
class PlannedVideo:
    """One video to make.

    Attributes:
        name: of its file, without suffix: ``i``, ``i_j`` in a grid, ``i_frames`` with several lengths.
        index: the index of its appearance. motion: that of its motion and label; another only in a grid.
        frames: its length.
    """

    name: str
    index: int
    motion: int
    frames: int


#: Videos that are made together, all of one length.
Unit = tuple[PlannedVideo, ...]


def plan_videos(settings: SampleSettings, interface: ModelInterface) -> list[PlannedVideo]:
    """All videos of a job, whatever the shard, in the order they are made.

    Raises:
        SamplingError: the model cannot make videos of such a length.
    """
    lengths = settings.lengths or (interface.frames.default,)
    for frames in lengths:
        interface.frames.length(frames)
    if settings.grid_size:
        rows, columns = settings.grid_size
        cells = [(i, j) for i in range(rows) for j in range(columns)]
        return [PlannedVideo(f"{i}_{j}", i, j, lengths[0]) for i, j in cells]
    return [
        PlannedVideo(f"{i}_{frames}" if settings.several_lengths else str(i), i, i, frames)
        for frames in lengths
        for i in range(settings.videos)
    ]


def plan_units(settings: SampleSettings, videos: Sequence[PlannedVideo]) -> list[Unit]:
    """The units of this job's shard.

    With ``--range model`` a video's pixels are its own: a shard takes every n-th video, and a unit is a batch.
    With ``batch-minmax`` they depend on the whole group: a shard takes every n-th group of the whole set.
    """
    shard, shards = settings.shard_of
    if settings.range == "batch-minmax":
        return _cut(videos, settings.normalised_together)[shard::shards]
    return _cut(videos[shard::shards], settings.batch)


def _cut(videos: Sequence[PlannedVideo], size: int) -> list[Unit]:
    """Runs of at most ``size`` videos that follow each other and have the same length."""
    units: list[Unit] = []
    for _, alike in groupby(videos, key=lambda video: video.frames):
        members = tuple(alike)
        units += [members[at : at + size] for at in range(0, len(members), size)]
    return units
