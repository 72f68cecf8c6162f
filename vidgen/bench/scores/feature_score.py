"""`vidgen score` over features: sources against a reference, artifacts on the same latents, one pass each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import write_json
from vidgen.bench.environment import versions
from vidgen.bench.scores.cache import content_key, statistics_folder
from vidgen.bench.scores.clip_sources import ClipSource, EngineClips
from vidgen.bench.scores.compare import Comparison, SpaceScore, psnr
from vidgen.bench.scores.disentanglement import Disentanglement
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.feature_report import FeatureReport, FeatureScore
from vidgen.bench.scores.feature_settings import FeatureScoreSettings
from vidgen.bench.scores.feature_sources import check_counts, check_sources, open_source
from vidgen.bench.scores.feature_statistics import Progress, Run, label, opened
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.grid_clips import GridClips, check_spaces, judge_grid
from vidgen.bench.scores.inception_score import InceptionScore
from vidgen.bench.scores.intervals import REPLICATES
from vidgen.bench.scores.protocols import ClipProtocol, describe, make_protocol
from vidgen.bench.scores.ranks import Ranks, join_ranks
from vidgen.bench.scores.reference_file import extractor_of, fitting, read_reference
from vidgen.bench.scores.statistics_file import (
    Statistics,
    read_statistics,
    without_run,
    write_all,
)
from vidgen.bench.scores.tally import Tally
from vidgen.bench.scores.temporal_consistency import TemporalConsistency
from vidgen.bench.scores.temporal_statistics import temporal_of
from vidgen.bench.scores.writable import check_writable
from vidgen.errors import ScoreError, StorageError
from vidgen.runtime.manifest import manifest_path


def score_features(
    settings: FeatureScoreSettings, progress: Progress | None = None, *, extractor: Extractor | None = None
) -> FeatureReport:
    """Score artifacts, folders and stores against a reference.

    Everything is checked before the first clip is made. Statistics of reference data are kept in the cache by content.
    Under torchrun each process takes its share of the clips, and the first one compares.

    Args:
        progress: called at the start and after each part.
        extractor: used instead of opening one; it stays open.

    Raises:
        ScoreError: the reference was made by another protocol or extractor, or clips that cannot be used.
        VidgenError: a file cannot be used.
        KeyboardInterrupt: Ctrl-C; what was done of a source is kept in the cache for ``resume``.
    """
    start = time.perf_counter()
    if settings.out is not None:
        check_writable(settings.out)
    assert settings.reference is not None
    _check_out(settings)
    stored = read_reference(settings.reference)
    known = next(iter(stored.values())).protocol if stored else {}
    named = None if extractor or settings.extractor else extractor_of(known, settings.weights)
    with join_ranks() as ranks, opened(settings, extractor, ranks, named) as network:
        frames = settings.frames or known.get("frames")
        protocol = make_protocol(settings.protocol, frames).for_extractor(network)
        labels = {space: describe(protocol, network, space) for space in network.spaces}
        stored = fitting(stored, labels, settings.reference)
        if settings.grid:
            check_spaces(network)
        scoring = _Scoring(settings, Run(settings, protocol, network, ranks), progress)
        paths = [*settings.engines, *settings.videos]
        sources = [open_source(path, protocol, settings, ranks.device(settings.device)) for path in paths]
        check_sources(sources, settings)
        check_counts(sources)
        grids = _grids(sources, settings.grid, protocol)
        if not stored:
            whole = replace(settings, n=settings.n if _is_engine(settings.reference) else None, split="all")
            reference_source = open_source(settings.reference, protocol, whole, ranks.device(settings.device))
            check_counts([reference_source])
            stored, facts = scoring.reference(reference_source)
        else:
            facts = {"path": str(settings.reference), "data": dict(known.get("data") or {})}
        scores = scoring.all(sources, grids, stored, str(settings.reference))
        report = ranks.share(
            FeatureReport(
                protocol={space: labels[space] for space in stored},
                reference=facts,
                scores=tuple(scores),
                compared=scoring.compared,
                versions=versions(),
                seconds=time.perf_counter() - start,
                reference_temporal=scoring.temporal(stored),
            )
            if ranks.leads
            else None
        )
        if settings.out is not None and ranks.leads:
            write_json(settings.out, report.to_dict())
        if ranks.leads:
            scoring.forget()
    return report


def _check_out(settings: FeatureScoreSettings) -> None:
    """Raise where the report would replace what is scored."""
    inputs = [*settings.engines, *map(manifest_path, settings.engines), *settings.videos, settings.reference]
    if settings.out is not None and os.path.realpath(settings.out) in {os.path.realpath(path or "") for path in inputs}:
        raise StorageError(
            f"cannot write {settings.out}",
            seen="a file that is to be scored, or its reference",
            cause="the report would replace it",
            fix="-o scores.json",
        )


def _grids(
    sources: Sequence[ClipSource], grid: tuple[int, int] | None, protocol: ClipProtocol
) -> list[GridClips | None]:
    """The grid of each artifact; None of other sources, and where nobody asked."""
    return [
        GridClips(source, *grid, protocol) if grid and isinstance(source, EngineClips) else None for source in sources
    ]


def _is_engine(path: Path) -> bool:
    return os.path.isfile(path)


@dataclass
class _Scoring:
    """The sources of one call, one after the other."""

    settings: FeatureScoreSettings
    run: Run
    progress: Progress | None
    compared: int = 0
    _first_videos: NDArray[np.uint8] | None = None
    _states: list[Path] = field(default_factory=list)

    @property
    def ranks(self) -> Ranks:
        return self.run.ranks

    def reference(self, source: ClipSource) -> tuple[dict[str, Statistics], dict[str, Any]]:
        """The statistics of reference data, from the cache where they are; empty in all processes but the first."""
        labels = {space: label(self.run.protocol, self.run.extractor, space, source) for space in self._spaces}
        keys = {space: content_key(without_run(values)) for space, values in labels.items()}
        files = {space: statistics_folder() / f"{key}.npz" for space, key in keys.items()}
        found = _cached(files, labels, self.run.extractor.frame_spaces) if self.ranks.leads else {}
        cached = self.ranks.share(bool(found) if self.ranks.leads else None)
        facts = {**source.facts(), "cached": cached}
        if cached:
            return found, facts
        tally = self._taken(source, keep_features=True)
        if tally is None:
            return {}, facts
        made = {space: tally.statistics(space, labels[space]) for space in self._spaces}
        with contextlib.suppress(StorageError):  # a cache that cannot be written costs time, nothing else
            write_all({path: made[space] for space, path in files.items()})
        return made, facts

    @property
    def _spaces(self) -> tuple[str, ...]:
        return self.run.extractor.spaces

    def all(
        self,
        sources: list[ClipSource],
        grids: list[GridClips | None],
        reference: Mapping[str, Statistics],
        name: str,
    ) -> list[FeatureScore]:
        """The scores of all sources; empty in all processes but the first."""
        reference = reference if self.ranks.leads else {}
        sides: dict[str, FrechetSide] = {space: statistics.side() for space, statistics in reference.items()}
        scores: list[FeatureScore] = []
        first: dict[str, SpaceScore] = {}
        first_answers: InceptionScore | None = None
        for source, grid in zip(sources, grids, strict=True):
            tally = self._taken(source, keep_features=self.settings.features)
            judged = self._judged(grid)
            if tally is None:
                continue
            say = partial(self._say, source)
            comparison = Comparison(self.settings.replicates, self.settings.seed, self.settings.infinity, say)
            spaces: dict[str, SpaceScore] = {}
            statistics = {
                space: tally.statistics(space, label(self.run.protocol, self.run.extractor, space, source))
                for space in self._spaces
            }
            for space, theirs in reference.items():
                pair = (source.name, name)
                spaces[space] = comparison.space(statistics[space], theirs, sides[space], first.get(space), pair)
                first.setdefault(space, spaces[space])
            answers = comparison.answers(tally.all_logits(), tally.positions)
            scores.append(
                FeatureScore(
                    name=source.name,
                    source=source.facts(),
                    spaces=spaces,
                    answers=answers,
                    answers_to_first={} if answers is None or first_answers is None else answers.minus(first_answers),
                    psnr=self._psnr(source),
                    seconds=tally.seconds,
                    warnings=self._warnings(source, grid),
                    temporal=self.temporal(statistics),
                    disentangled=judged,
                )
            )
            first_answers = first_answers or answers
        return scores

    def _warnings(self, source: ClipSource, grid: GridClips | None) -> tuple[str, ...]:
        if grid is not None:
            return (*source.warnings, *grid.warnings)
        skipped = ("videos have no latents to change: --disentanglement was skipped",) if self.settings.grid else ()
        return (*source.warnings, *skipped)

    def temporal(self, statistics: Mapping[str, Statistics]) -> TemporalConsistency | None:
        """The temporal consistency of a set, from its statistics by space."""
        replicates = REPLICATES if self.settings.replicates else 0
        for space in self.run.extractor.frame_spaces:
            if space in statistics:
                return temporal_of(statistics[space], replicates=replicates, seed=self.settings.seed)
        return None

    def _judged(self, grid: GridClips | None) -> Disentanglement | None:
        """How disentangled the videos of a grid are; every process takes its share."""
        if grid is None:
            return None
        return judge_grid(self.run, grid, self._state(grid), self.progress)

    def _state(self, source: ClipSource) -> Path:
        """The name that an unfinished run is kept under: what decides it."""
        out = _state_folder() / f"{content_key(label(self.run.protocol, self.run.extractor, '', source))}.npz"
        self._states.append(out)
        return out

    def forget(self) -> None:
        """Remove what was kept of the sources, once the scores of all of them are safe."""
        for out in self._states:
            self.run.forget(out)

    def _say(self, source: ClipSource, what: str) -> None:
        if self.progress:
            self.progress(source.clips, source.clips, f"{source.name}: {what}")

    def _taken(self, source: ClipSource, *, keep_features: bool) -> Tally | None:
        """The tally of a source; what is unfinished is kept in the cache under what decides it."""
        out = self._state(source)
        logits = self.run.extractor.has_logits
        return self.run.take(
            source, out, keep_features=keep_features, logits=logits, cached=True, progress=self.progress
        )

    def _psnr(self, source: ClipSource) -> float | None:
        """Of the first videos of an artifact to those of the first artifact."""
        count = min(self.settings.compared, source.clips)
        if not isinstance(source, EngineClips) or not count or len(self.settings.engines) < 2:
            return None
        self._say(source, "pixels")
        videos = source.first_videos(count)
        if self._first_videos is None:
            self._first_videos, self.compared = videos, count
            return None
        return psnr(self._first_videos, videos) if self._first_videos.shape == videos.shape else None


def _cached(
    files: Mapping[str, Path], labels: Mapping[str, Mapping[str, Any]], frame_spaces: Sequence[str]
) -> dict[str, Statistics]:
    """Statistics that an earlier run kept, if all are whole; a damaged file, or one without changes, counts as none."""
    found = {}
    for space, path in files.items():
        try:
            statistics = read_statistics(path) if path.exists() else None
        except ScoreError:
            statistics = None
        if statistics is None or statistics.missing or without_run(statistics.protocol) != without_run(labels[space]):
            return {}
        if space in frame_spaces and statistics.changes is None:
            return {}
        found[space] = statistics
    return found


def _state_folder() -> Path:
    """Where unfinished runs of scores are kept: the cache, or the folder of temporary files where it is read-only."""
    import tempfile

    folder = statistics_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir())
