"""Temporal consistency of a set of clips whose statistics were taken: in one pass with them, or read from a file."""

from __future__ import annotations

from vidgen.bench.scores.intervals import REPLICATES
from vidgen.bench.scores.moments import Moments
from vidgen.bench.scores.statistics_file import Statistics
from vidgen.bench.scores.temporal_consistency import (
    TemporalConsistency,
    consistency_of_means,
    consistency_of_moments,
)

#: Frames below which successive frames are all the frames there are.
FRAMES = 3


def temporal_of(statistics: Statistics, *, replicates: int = REPLICATES, seed: int = 0) -> TemporalConsistency | None:
    """The figures of a set; None where its statistics say nothing of single frames.

    That is so for a network that sees whole clips, for files of other programs and of earlier versions, and for fewer
    than 3 frames or 2 clips. Where the features were not kept the figures are there, without intervals.

    Args:
        replicates: resamplings behind the intervals; 0 gives none. seed: of them.
    """
    frames, changes, moments = statistics.protocol.get("frames"), statistics.changes, statistics.moments
    if changes is None or not isinstance(frames, int) or frames < FRAMES or len(changes) < 2:
        return None
    if statistics.features is not None:
        indices = None if statistics.indices is None else statistics.indices.tolist()
        return consistency_of_means(
            statistics.features, changes, frames=frames, replicates=replicates, seed=seed, indices=indices
        )
    return consistency_of_moments(moments, changes, frames=frames) if isinstance(moments, Moments) else None
