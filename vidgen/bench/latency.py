"""Latency and throughput of artifacts on backends, side by side: warm-up, interleaved rounds, memory, agreement."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vidgen._files import storage_error
from vidgen.bench.environment import beginning, environment
from vidgen.bench.process import ProcessWorker
from vidgen.bench.report import BenchReport, Failure, Measurement, write_report
from vidgen.bench.scored import score_settings_of
from vidgen.bench.settings import BenchSettings, Contender, contenders
from vidgen.bench.statistics import Agreement, agreement, distribution, speedup, spread
from vidgen.bench.worker import Load, Loaded, Slice, WarmUp, Worker
from vidgen.errors import VidgenError
from vidgen.runtime.backends import manifest_of

if TYPE_CHECKING:
    from vidgen.bench.scores.feature_report import FeatureReport

#: Called with (steps done, steps in all, what is being done).
Progress = Callable[[int, int, str], None]


class _Worker(Protocol):
    def load(self, artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Loaded: ...
    def prepare(self, batch: int, frames: int | None, seed: int, output: Path) -> int: ...
    def warm_up(self, limit: float) -> WarmUp: ...
    def measure(self, seconds: float, least: int, limit: float) -> Slice: ...
    def peak_memory(self) -> int | None: ...
    def close(self) -> None: ...


@dataclass
class _Entry:
    """A contender on its way through the bench."""

    contender: Contender
    worker: _Worker
    loaded: Loaded | None = None
    warm: WarmUp | None = None
    frames: int = 0
    slices: list[Slice] = field(default_factory=list)

    def runs(self) -> int:
        return sum(len(one.compute) for one in self.slices)


def bench(settings: BenchSettings, progress: Progress | None = None, *, load: Load | None = None) -> BenchReport:
    """Measure every contender at every batch size and compare each with the first.

    Each contender lives in a process of its own, so that its memory and its crashes are its own; one works while
    the others wait. Contenders take turns slice by slice, beginning with another one each round, so that what
    else goes on in the machine hits all alike. No run is left out of any number.

    Args:
        progress: told of each step.
        load: opens contenders in this process instead; peak memory is then not reported.

    Raises:
        SettingsError, BackendError: what was asked for makes no sense.
        ArtifactError, CheckpointError: a file is missing, altered or foreign.
        SamplingError: a model makes no videos of that many frames.
        VidgenError: no contender could be measured; the first one's error.
        StorageError: ``out`` cannot be written.
    """
    entries_wanted = contenders(settings)
    # A bench takes minutes: what can be refused is refused before.
    if load is None:
        _check_artifacts(entries_wanted, settings)
    if settings.score is not None:
        score_settings_of(settings, entries_wanted)
    if settings.out is not None:
        _check_writable(settings.out)
    began = beginning()
    bar = _Steps(progress, len(entries_wanted) * (1 + len(settings.batches) * (2 + settings.rounds)))
    failures: list[tuple[Failure, VidgenError]] = []
    rows: list[Measurement] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidgen-bench-")))
        entries = []
        for contender in entries_wanted:
            worker: _Worker = Worker(load) if load else ProcessWorker(contender.label, settings.threads)
            stack.enter_context(_ending(worker))
            entries.append(_Entry(contender, worker))
        alive = _each(entries, "load", failures, bar, lambda entry: _load(entry, settings))
        for batch in settings.batches:
            alive = _measure_batch(alive, batch, settings, scratch, failures, bar)
            rows += _rows(alive, batch, scratch, measured_memory=load is None)
    if not rows:
        raise failures[0][1]
    # After the timings, which it would disturb, and of those that run.
    scores = _scores(settings, alive, failures, progress) if settings.score is not None else None
    report = BenchReport(
        environment=environment(settings, began),
        rows=tuple(rows),
        failures=tuple(failure for failure, _ in failures),
        scores=scores,
    )
    if settings.out is not None:
        write_report(settings.out, "bench", report.to_dict(), report.markdown())
    return report


def _scores(
    settings: BenchSettings,
    entries: Sequence[_Entry],
    failures: list[tuple[Failure, VidgenError]],
    progress: Progress | None,
) -> FeatureReport | None:
    """The scores of the artifacts; an error is noted, so that no timing is lost by it."""
    from vidgen.bench.scores.feature_score import score_features

    try:
        wanted = score_settings_of(settings, [entry.contender for entry in entries])
        return score_features(wanted, progress)
    except VidgenError as error:
        failures.append((Failure("all artifacts", "score", error.to_dict()), error))
        return None


def _check_artifacts(wanted: Sequence[Contender], settings: BenchSettings) -> None:
    for artifact in dict.fromkeys(contender.artifact for contender in wanted):
        rule = manifest_of(artifact, trust=settings.trust).interface.frames
        rule.length(settings.frames or rule.default)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise storage_error(folder, error) from error


@contextlib.contextmanager
def _ending(worker: _Worker) -> Iterator[None]:
    """Close a worker; on an exception, such as Ctrl-C, a child process is ended at once."""
    try:
        yield
    except BaseException:
        if isinstance(worker, ProcessWorker):
            worker.kill()
        raise
    finally:
        worker.close()


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def step(self, what: str) -> None:
        self._done += 1
        if self._progress:
            self._progress(min(self._done, self._total), self._total, what)


def _each(
    entries: Sequence[_Entry],
    what: str,
    failures: list[tuple[Failure, VidgenError]],
    bar: _Steps,
    action: Callable[[_Entry], None],
) -> list[_Entry]:
    """Do something with each entry; those that fail are noted and left out of what follows."""
    alive = []
    for entry in entries:
        bar.step(f"{what} {entry.contender.label}")
        try:
            action(entry)
        except VidgenError as error:
            failures.append((Failure(entry.contender.label, what, error.to_dict()), error))
            entry.worker.close()
        else:
            alive.append(entry)
    return alive


def _load(entry: _Entry, settings: BenchSettings) -> None:
    contender = entry.contender
    where = settings.threads, settings.device, settings.trust
    entry.loaded = entry.worker.load(contender.artifact, contender.backend, *where)


def _measure_batch(
    entries: list[_Entry],
    batch: int,
    settings: BenchSettings,
    scratch: Path,
    failures: list[tuple[Failure, VidgenError]],
    bar: _Steps,
) -> list[_Entry]:
    def prepare(entry: _Entry) -> None:
        entry.slices = []
        output = _output(scratch, entry, batch)
        entry.frames = entry.worker.prepare(batch, settings.frames, settings.seed, output)

    def warm(entry: _Entry) -> None:
        entry.warm = entry.worker.warm_up(settings.warmup_seconds)

    least = -(-settings.min_runs // settings.rounds)
    seconds, limit = settings.seconds / settings.rounds, settings.max_seconds / settings.rounds

    def measure(entry: _Entry) -> None:
        entry.slices.append(entry.worker.measure(seconds, least, limit))

    alive = _each(entries, f"batch {batch}: first run of", failures, bar, prepare)
    alive = _each(alive, f"batch {batch}: warm up", failures, bar, warm)
    for number in range(settings.rounds):
        turn = number % max(1, len(alive))
        survivors = _each(alive[turn:] + alive[:turn], f"batch {batch}: round {number + 1} of", failures, bar, measure)
        alive = [entry for entry in alive if entry in survivors]
    return alive


def _output(scratch: Path, entry: _Entry, batch: int) -> Path:
    return scratch / f"{id(entry)}-{batch}.npy"


def _rows(entries: Sequence[_Entry], batch: int, scratch: Path, *, measured_memory: bool) -> list[Measurement]:
    """One row of the table for each entry; the first is the reference of the others."""
    rows = []
    for entry in entries:
        assert entry.loaded and entry.warm
        first = entries[0]
        compute = [one.compute for one in entry.slices]
        end_to_end = [one.end_to_end for one in entry.slices]
        whole = distribution([value for one in compute for value in one])
        ends = distribution([value for one in end_to_end for value in one])
        on_device = [value for one in entry.slices for value in one.device]
        rows.append(
            Measurement(
                contender=entry.contender.label,
                artifact=str(entry.contender.artifact),
                backend=entry.contender.backend,
                precision=entry.loaded.precision,
                batch=batch,
                frames=entry.frames,
                reference=first.contender.label,
                compute_ms=whole,
                end_to_end_ms=ends,
                device_ms=distribution(on_device) if on_device else None,
                videos_per_second=1000 * batch / ends.mean,
                frames_per_second=1000 * batch * entry.frames / ends.mean,
                compute_videos_per_second=1000 * batch / whole.mean,
                speedup=speedup([one.compute for one in first.slices], compute),
                spread=spread(compute),
                warm_up=entry.warm,
                load_seconds=entry.loaded.seconds,
                peak_memory=_peak(entry) if measured_memory else None,
                agreement=None if entry is first else _compare(first, entry, batch, scratch),
                describe=entry.loaded.describe,
                samples_ms=tuple(tuple(round(1000 * value, 4) for value in one) for one in compute),
            )
        )
    return rows


def _peak(entry: _Entry) -> int | None:
    with contextlib.suppress(VidgenError):
        return entry.worker.peak_memory()
    return None


def _compare(first: _Entry, other: _Entry, batch: int, scratch: Path) -> Agreement | None:
    """How far the videos lie apart; None where the two do not take the same latents."""
    assert first.loaded and other.loaded
    if first.loaded.interface != other.loaded.interface:
        return None
    # A memory map: a large batch of long videos need not be in memory twice.
    videos = [np.load(_output(scratch, entry, batch), mmap_mode="r", allow_pickle=False) for entry in (first, other)]
    if videos[0].shape != videos[1].shape:
        return None
    return agreement(videos[0], videos[1], same_weights=first.loaded.checkpoint == other.loaded.checkpoint)
