"""The last step of a chapter of the demo: its artifacts timed on every backend there is."""

from __future__ import annotations

from pathlib import Path

from vidgen.bench.report import Measurement
from vidgen.bench.settings import BenchSettings
from vidgen.demo.story import Story, Table, Told, words
from vidgen.errors import BackendError

HEADER = (
    *("artifact @ backend", "batch", "p50 ms", "p90 ms"),
    *("videos/s", "speed-up", "peak MiB", "grey levels off"),
)
NOTE = (
    "A second or two a row: compare rows with each other, not with other machines. speed-up is that of the run itself, "
    "to the first row of the same batch size: the median over rounds of the ratio within a round."
)


def tell(story: Story, model: str, engines: tuple[Path, ...]) -> None:
    """Time a chapter's artifacts.

    Raises:
        BackendError: one of them cannot be timed.
    """
    out = story.out / "bench" / model.lower()
    settings = BenchSettings(engines, batches=(1, 4), seconds=1.0, max_seconds=4.0, warmup_seconds=1.0, out=out)
    story.tell(f"{model}: timing", _command(settings), lambda: _bench(settings))


def _command(settings: BenchSettings) -> str:
    engines = [word for path in settings.engines for word in ("--engine", path)]
    batches = [word for batch in settings.batches for word in ("--batch", batch)]
    limits = [
        *("--seconds", f"{settings.seconds:g}", "--max-seconds", f"{settings.max_seconds:g}"),
        *("--warmup-seconds", f"{settings.warmup_seconds:g}"),
    ]
    return words("bench", *engines, *batches, *limits, "-o", settings.out)


def _bench(settings: BenchSettings) -> Told:
    from vidgen.bench.latency import bench

    report = bench(settings)
    if report.failures:
        first = report.failures[0]
        raise BackendError(
            f"{first.contender} could not be timed",
            seen=first.error["seen"],
            cause=first.error["cause"],
            fix=first.error["fix"],
        )
    facts = {"measurements": str(len(report.rows))}
    return Told(facts, Table(HEADER, tuple(_cells(row) for row in report.rows), (NOTE, *report.doubts())))


def _cells(row: Measurement) -> tuple[str, ...]:
    return (
        row.contender,
        str(row.batch),
        f"{row.compute_ms.p50:.1f}",
        "" if row.compute_ms.p90 is None else f"{row.compute_ms.p90:.1f}",
        f"{row.videos_per_second:.1f}",
        f"{row.speedup:.2f}",
        f"{row.peak_memory / 2**20:.0f}" if row.peak_memory else "",
        "" if row.agreement is None else str(row.agreement.max_grey_levels),
    )
