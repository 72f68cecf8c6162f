"""The commands that run artifacts: sample and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from vidgen._console import Console, Result
from vidgen.commands.options import Backend, Device, Frames, Seed, Threads, Trust, listed, make, option
from vidgen.errors import SettingsError


def sample(
    console: Console,
    engine: Annotated[Path, option("Artifact: .plan, .onnx or .safetensors checkpoint.", "--engine")],
    out: Annotated[Path, option("Folder to write to.", "-o", "--out")],
    n: Annotated[int | None, option("Number of videos (64).", "-n")] = None,
    seed: Seed = None,
    labels: Annotated[
        str | None, option("Class names, separated by commas, taken in turn (drawn from the seed).", "--labels")
    ] = None,
    grid: Annotated[
        str | None,
        option("NxM videos and a sheet: appearance x motion, or class x sample if N labels are given.", "--grid"),
    ] = None,
    grid_by: Annotated[
        str | None,
        option("What the grid shows: motion (a column's label goes with it) or class (one a row).", "--grid-by"),
    ] = None,
    frames: Frames = None,
    first_frame: Annotated[
        Path | None,
        option(
            "Go on from real frames: image, clip, folder of them, or clip store (all taken in turn).", "--first-frame"
        ),
    ] = None,
    masks: Annotated[bool, option("Where motion acts in each video: masks/NAME.png.", "--masks")] = False,
    strips: Annotated[bool, option("The frames of each video side by side: strips/NAME.png.", "--strips")] = False,
    format: Annotated[str | None, option("mp4, webp, gif, png (strip) or npy (mp4).", "--format")] = None,
    range: Annotated[str | None, option("model, or batch-minmax as the reference (model).", "--range")] = None,
    group: Annotated[int | None, option("Videos that batch-minmax takes together (64).", "--group")] = None,
    shard: Annotated[str | None, option("i/n: every n-th video from the i-th, i from 0.", "--shard")] = None,
    resume: Annotated[bool, option("Go on with an unfinished run.", "--resume")] = False,
    batch: Annotated[int | None, option("Videos computed together.", "--batch")] = None,
    backend: Backend = None,
    device: Device = None,
    threads: Threads = None,
    encoders: Annotated[int | None, option("Threads that encode.", "--encoders")] = None,
    fps: Annotated[float | None, option("Frames a second (those of the data).", "--fps")] = None,
    crf: Annotated[int | None, option("Quality of mp4, 0 (exact) to 51.", "--crf")] = None,
    pix_fmt: Annotated[str | None, option("Pixel format of mp4 (yuv420p).", "--pix-fmt")] = None,
    quality: Annotated[int | None, option("Quality of webp, 1 to 100.", "--quality")] = None,
    sheet: Annotated[bool, option("Overview images of a grid or of lengths.", "--sheet/--no-sheet")] = True,
    trust: Trust = False,
) -> Result:
    """Sample videos from an artifact, in batches, resumably."""
    options = {key: value for key, value in locals().items() if key not in ("console", "labels")}
    from vidgen.runtime.jobs import sample as run
    from vidgen.runtime.settings import SampleSettings

    names = listed(labels)
    if names == ():
        raise SettingsError(
            f"cannot sample with --labels {labels!r}",
            seen="no class name in it",
            cause="an empty variable of the shell",
            fix="name classes, e.g. --labels walk,run, or drop --labels to draw them",
        )
    settings = make(SampleSettings, labels=names, **options)
    with console.progress("sampling") as advance:
        report = run(settings, advance)
    made = f"{report.written} videos in {report.seconds:.1f} s ({report.videos_per_second:.1f} a second)"
    kept = f", {report.kept} kept" if report.kept else ""
    images = [
        f"{report.out / name}: {len(paths)} images" for name in ("masks", "strips") if (paths := getattr(report, name))
    ]
    lines = [f"{report.out}: {made}{kept}", *images, *(f"wrote {path}" for path in report.sheets)]
    return Result(report.to_dict(), "\n".join(lines))


def bench(
    console: Console,
    engine: Annotated[list[Path] | None, option("Artifact, or ARTIFACT@BACKEND; may be repeated.", "--engine")] = None,
    roofline: Annotated[
        bool, option("Instead: what the kernels of separable convolution can reach on GPUs.", "--roofline")
    ] = False,
    out: Annotated[Path | None, option("Folder for bench.json and bench.md.", "-o", "--out")] = None,
    backend: Annotated[list[str] | None, option("Backend to try; all installed if left out.", "--backend")] = None,
    batch: Annotated[list[int] | None, option("Videos in a batch; may be repeated (1 and 8).", "--batch")] = None,
    frames: Annotated[int | None, option("Frames of each video.", "--frames")] = None,
    threads: Threads = None,
    device: Device = None,
    seconds: Annotated[float | None, option("Measuring time of each row, at least (5).", "--seconds")] = None,
    min_runs: Annotated[int | None, option("Runs of each row, at least (20).", "--min-runs")] = None,
    max_seconds: Annotated[float | None, option("Measuring time of each row, at most (60).", "--max-seconds")] = None,
    rounds: Annotated[int | None, option("Slices the time is given in, taken in turn (5).", "--rounds")] = None,
    warmup_seconds: Annotated[float | None, option("Longest warm-up (15).", "--warmup-seconds")] = None,
    seed: Seed = None,
    score: Annotated[
        Path | None, option("Also score each artifact's videos against these statistics, STATS.npz.", "--score")
    ] = None,
    videos: Annotated[int | None, option("Videos that are scored (as many as STATS.npz has).", "-n")] = None,
    extractor: Annotated[str | None, option("Network for --score (the one STATS.npz names).", "--extractor")] = None,
    weights: Annotated[Path | None, option("Weights of that network.", "--weights")] = None,
    trust: Trust = False,
) -> Result:
    """Time artifacts and backends side by side, and compare what they make."""
    given = ("console", "engine", "roofline", "backend", "batch")
    options = {key: value for key, value in locals().items() if key not in (*given, "given")}
    if roofline:
        return _roofline(
            out, batch, {"engine": engine, "backend": backend, **options, "out": None, "trust": trust or None}
        )
    from vidgen.bench.latency import bench as run
    from vidgen.bench.settings import BenchSettings

    settings = make(BenchSettings, engines=tuple(engine or ()), backends=backend, batches=batch, **options)
    with console.progress("timing") as advance:
        report = run(settings, advance)
    wrote = f"\nwrote {out}/bench.json and {out}/bench.md" if out else ""
    return Result(report.to_dict(), report.table() + wrote, ok=report.ok)


def _roofline(out: Path | None, batch: list[int] | None, others: dict[str, Any]) -> Result:
    """The bench of what was never run: counted from sizes, and from what the compiler says of each kernel."""
    for name, value in {**others, "batch": batch if batch and len(batch) > 1 else None}.items():
        if value not in (None, []):
            raise SettingsError(
                f"cannot use --{name.replace('_', '-')} with --roofline",
                seen=" ".join(f"--{name.replace('_', '-')} {each}" for each in _each(value)),
                cause="the roofline is computed for one batch size, and nothing is run",
                fix="vidgen bench --roofline --batch 16",
            )
    from vidgen.bench.report import write_report
    from vidgen.plugins.sepconv_trt.cuda.roofline import RooflineSettings, roofline

    report = roofline(make(RooflineSettings, batch=batch[0] if batch else None))
    if out is not None:
        write_report(out, "roofline", report.to_dict(), report.table())
    wrote = f"\nwrote {out}/roofline.json and {out}/roofline.md" if out else ""
    return Result(report.to_dict(), report.table() + wrote)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
