"""`vidgen stats` and `vidgen merge`: from clips to a file of statistics, over shards, processes and interruptions."""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.bench.scores.clip_sources import ClipSource
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.feature_settings import ClipSettings, StatsSettings, bad
from vidgen.bench.scores.feature_sources import check_sources, open_source
from vidgen.bench.scores.figure_tables import temporal_lines
from vidgen.bench.scores.protocols import ClipProtocol, describe, make_protocol
from vidgen.bench.scores.ranks import Ranks, join_ranks
from vidgen.bench.scores.reference_file import space_files
from vidgen.bench.scores.statistics_file import (
    OF_THE_RUN,
    differences,
    merge_statistics,
    read_statistics,
    without_run,
    write_all,
    write_statistics,
)
from vidgen.bench.scores.stream import collect, parts_of
from vidgen.bench.scores.tally import Tally
from vidgen.bench.scores.temporal_consistency import TemporalConsistency
from vidgen.bench.scores.temporal_statistics import temporal_of
from vidgen.bench.scores.writable import check_writable
from vidgen.errors import ScoreError, SettingsError

#: Called with (clips done, clips in all, what is at work).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class StatsReport:
    """What taking statistics did.

    Attributes:
        files: the file of each feature space. n: clips in them; missing: clips of the whole set that are not, as in a
            shard. kept: an earlier run had made the files.
        protocol: the label of the first file. source: what the clips are. seconds: in all.
        temporal: temporal consistency of the clips in the files, without intervals; None where the extractor sees whole
            clips.
    """

    files: Mapping[str, Path]
    n: int
    missing: int
    kept: bool
    protocol: Mapping[str, Any]
    source: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    temporal: TemporalConsistency | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "temporal"}
        temporal = None if self.temporal is None else self.temporal.to_dict()
        files = {space: str(path) for space, path in self.files.items()}
        return {**values, "files": files, "temporal_consistency": temporal}

    def text(self) -> str:
        """For a console: what was written."""
        note = f"; {self.missing} clips of the set are in other shards" if self.missing else ""
        lines = [
            f"wrote {path}: {self.n} clips, {space} of {self.protocol['extractor']}{note}"
            if not self.kept
            else f"{path}: {self.n} clips, kept as it was"
            for space, path in self.files.items()
        ]
        lines += temporal_lines(self.temporal)
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def stats(
    settings: StatsSettings, progress: Progress | None = None, *, extractor: Extractor | None = None
) -> StatsReport:
    """Take the statistics of an artifact's videos, a folder or a clip store, and write them.

    Under torchrun each process takes its share of the clips, and the first one writes the sum. An interrupted run
    leaves a file beside the output, from which ``resume=True`` goes on to the same numbers.

    Args:
        progress: called at the start and after each part.
        extractor: used instead of opening the settings' one; it stays open.

    Raises:
        VidgenError: the source, the extractor or the output cannot be used.
        KeyboardInterrupt: Ctrl-C; what was done is kept.
    """
    start = time.perf_counter()
    with join_ranks() as ranks, opened(settings, extractor, ranks) as network:
        protocol = make_protocol(settings.protocol, settings.frames).for_extractor(network)
        source = open_source(settings.source, protocol, settings, ranks.device(settings.device))
        check_sources([source], settings)
        files = space_files(settings.out, network.spaces)
        labels = {space: label(protocol, network, space, source) for space in files}
        for path in files.values():
            check_writable(path)
        done = _finished(files, labels, protocol, source, settings) if settings.resume else None
        if done is None:
            run = Run(settings, protocol, network, ranks, settings.shard_of)
            tally = run.take(source, settings.out, keep_features=settings.features, progress=progress)
            if tally is not None:
                write_all({path: tally.statistics(space, labels[space]) for space, path in files.items()})
                run.forget(settings.out)
            done = ranks.share(None if tally is None else len(tally.positions))
            kept = False
        else:
            kept = True
        return StatsReport(
            files=files,
            n=done,
            missing=source.clips - done,
            kept=kept,
            protocol=labels[network.spaces[0]],
            source=source.facts(),
            warnings=source.warnings,
            seconds=time.perf_counter() - start,
            temporal=_temporal(files, network.frame_spaces) if ranks.leads else None,
        )


def merge(files: Sequence[Path], out: Path) -> StatsReport:
    """Put the statistics of shards of one set together, and write them.

    Raises:
        ScoreError: they are of different sets or protocols, or share clips. StorageError: ``out`` cannot be written.
    """
    start = time.perf_counter()
    if out.suffix != ".npz":
        raise bad("out", out, "a name that ends with .npz")
    merged = merge_statistics(files)
    write_statistics(out, merged)
    warnings = [f"{merged.missing} clips of the set are in no file that was named"] if merged.missing else []
    if merged.features is None:
        warnings.append("not every file has features: FID alone can be taken of the whole, without an interval")
    return StatsReport(
        files={str(merged.protocol.get("space", "features")): out},
        n=merged.n or 0,
        missing=merged.missing,
        kept=False,
        protocol={"extractor": "?", **merged.protocol},
        source={"files": [str(file) for file in files]},
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
        temporal=temporal_of(merged, replicates=0),
    )


def _temporal(files: Mapping[str, Path], spaces: Sequence[str]) -> TemporalConsistency | None:
    found = [temporal_of(read_statistics(files[space]), replicates=0) for space in spaces]
    return found[0] if found else None


def label(protocol: ClipProtocol, extractor: Extractor, space: str, source: ClipSource) -> dict[str, Any]:
    """What a file of statistics says of itself."""
    return {**describe(protocol, extractor, space), "samples": source.clips, "data": dict(source.identity)}


def no_extractor() -> SettingsError:
    """The error of a command that nobody told an extractor."""
    from vidgen.bench.scores.extractors import REGISTRY

    return SettingsError(
        "cannot take features without an extractor",
        seen=f"no --extractor, expected a file or one of {', '.join(REGISTRY)}",
        cause="a score belongs to the network that looks at the clips, so none is chosen silently",
        fix="vidgen train classifier --data STORE --out RUN, then --extractor RUN/classifier.safetensors",
    )


@contextlib.contextmanager
def opened(
    settings: ClipSettings, extractor: Extractor | None, ranks: Ranks, default: str | None = None
) -> Iterator[Extractor]:
    """The given extractor, or the settings' one until the block is left.

    Args:
        default: extractor where the settings name none.
    """
    if extractor is not None:
        yield extractor
        return
    name = settings.extractor or default
    from vidgen.bench.scores.extractors import open_extractor

    if name is None and settings.weights is None:
        raise no_extractor()
    device = ranks.device(settings.device)
    with open_extractor(
        name, threads=settings.threads, device=device, weights=settings.weights, trust=settings.trust
    ) as network:
        yield network


@dataclass(frozen=True)
class Run:
    """How the clips of a source are taken in this process."""

    settings: ClipSettings
    protocol: ClipProtocol
    extractor: Extractor
    ranks: Ranks
    shard: tuple[int, int] = (0, 1)

    def take(
        self,
        source: ClipSource,
        out: Path,
        *,
        keep_features: bool = True,
        logits: bool = False,
        cached: bool = False,
        progress: Progress | None = None,
    ) -> Tally | None:
        """The tally of a source's clips, those of all processes in the first one; None in the others.

        Args:
            out: the file that the statistics are for; an unfinished run is kept beside it.
            cached: that is in the cache, see :func:`~vidgen.bench.scores.stream.collect`.
        """
        number, shards = self.shard
        # Every process finds out for all of them: one that failed alone would leave the others waiting.
        parts_of(source.clips, self.protocol, (number + shards * (self.ranks.size - 1), shards * self.ranks.size))
        share = (number + shards * self.ranks.rank, shards * self.ranks.size)
        total = len(range(share[0], source.clips, share[1])) if self.protocol.batch == 1 else source.clips
        key: dict[str, Any] = {
            "spaces": [label(self.protocol, self.extractor, space, source) for space in self.extractor.spaces],
            "shard": list(share),
            "features": keep_features,
            "logits": logits,
        }
        if self.extractor.frame_spaces:
            # Runs of earlier versions left files without them.
            key["changes"] = list(self.extractor.frame_spaces)
        done = 0

        def listen(clips: int) -> None:
            nonlocal done
            done = clips
            if progress:
                progress(clips, max(clips, total), source.name)

        try:
            tally = collect(
                source,
                self.protocol,
                self.extractor,
                shard=share,
                keep_features=keep_features,
                logits=logits,
                state=self.state(out),
                key=key,
                resume=self.settings.resume,
                cached=cached,
                listen=listen,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: {done} clips of {source.name} are kept; the same command with --resume goes on"
            ) from None
        tallies = self.ranks.gather(tally)
        return Tally.together(tallies) if tallies else None

    def state(self, out: Path) -> Path:
        """The file that this process's unfinished run is kept in."""
        ranks = f"-{self.ranks.rank}-of-{self.ranks.size}" if self.ranks.size > 1 else ""
        return out.with_name(f"{out.stem}.unfinished{ranks}.npz")

    def forget(self, out: Path) -> None:
        """Remove what was kept of unfinished runs; called by the first process, when all is written."""
        for path in out.parent.glob(f"{glob.escape(out.stem)}.unfinished*.npz"):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _finished(
    files: Mapping[str, Path],
    labels: Mapping[str, Any],
    protocol: ClipProtocol,
    source: ClipSource,
    settings: StatsSettings,
) -> int | None:
    """The clips in the files where an earlier run finished them; None where it did not.

    Raises:
        ScoreError: a file is there, of another run.
    """
    if not all(path.exists() for path in files.values()):
        return None
    expected = sorted(i for part in parts_of(source.clips, protocol, settings.shard_of) for i in part)
    for space, path in files.items():
        found = read_statistics(path)
        same_clips = found.indices is not None and found.indices.tolist() == expected
        same = without_run(found.protocol) == without_run(labels[space])
        if not same or not same_clips or (settings.features and found.features is None):
            different = differences(found.protocol, labels[space], ignored=OF_THE_RUN)
            different = different or ["the clips in it, or whether it has features"]
            raise ScoreError(
                f"cannot go on with {path}",
                seen=f"it is finished, and differs in {'; '.join(different)}",
                cause="an earlier run wrote it with other settings, or of other data",
                fix="choose another -o, or drop --resume to replace it",
            )
    return len(expected)
