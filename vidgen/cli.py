"""The commands: parse, build a settings object, call the library, say what was written; nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from vidgen import __version__
from vidgen._console import Console, Result, command, run_app
from vidgen._imports import require

if TYPE_CHECKING:
    from vidgen.trainer.train import Tick

T = TypeVar("T")

app = typer.Typer(
    name="vidgen",
    help="From a video generator in PyTorch to a verified ONNX file, sampled and timed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make, convert and look at clip stores.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line of this process and end it with the command's exit code."""
    run_app(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"vidgen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given: None means left out."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def _make(kind: type[T], /, **options: Any) -> T:
    """The settings object of the options that were given."""
    from vidgen.settings import build_settings

    return build_settings(kind, ("the command line", _given(**options)))


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text)


Out = Annotated[Path, typer.Argument(help="Folder of the clip store.")]
Overwrite = Annotated[bool, _option("Replace a clip store that is there.", "--overwrite")]
Workers = Annotated[int | None, _option("Processes; 0 is one a core.", "--workers")]
Size = Annotated[int | None, _option("Pixels of a side (64).", "--size")]
Seed = Annotated[int | None, _option("Seed (0).", "--seed")]
Threads = Annotated[int | None, _option("CPU threads; the library's choice if left out.", "--threads")]
Device = Annotated[str | None, _option("cpu or cuda.", "--device")]
Frames = Annotated[str | None, _option("Frames of each video, or START:STOP:STEP.", "--frames")]


@command(data_app, "synth")
def synth(
    console: Console,
    out: Out,
    kind: Annotated[str | None, _option("faces or actions (faces).", "--kind")] = None,
    clips: Annotated[int | None, _option("Number of clips (512).", "--clips")] = None,
    frames: Annotated[int | None, _option("Frames of a clip (32).", "--frames")] = None,
    size: Size = None,
    seed: Seed = None,
    fps: Annotated[float | None, _option("Frames a second (25).", "--fps")] = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> Result:
    """Make the built-in data: drawn faces, or acting figures."""
    from vidgen.data.contact_sheet import describe
    from vidgen.data.store import ClipStore
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    settings = _make(
        SyntheticSettings,
        out=out,
        kind=kind or "faces",
        clips=clips,
        frames=frames,
        size=size,
        seed=seed,
        fps=fps,
        workers=workers,
        overwrite=overwrite,
    )
    with console.progress("drawing") as advance:
        path = synthesize(settings, progress=advance)
    values = describe(ClipStore.open(path))
    return Result(values, f"{_store_line(values)}\nnext: vidgen data show {path} -o sheet.png")


@command(data_app, "prepare")
def prepare(
    console: Console,
    source: Annotated[Path, typer.Argument(help="Folder of videos, frame folders or image strips; or one video.")],
    out: Out,
    layout: Annotated[str | None, _option("auto, videos, frames or strips (auto).", "--layout")] = None,
    size: Size = None,
    crop: Annotated[str | None, _option("center, none, or a box x,y,w,h (center).", "--crop")] = None,
    window: Annotated[int | None, _option("Frames of a clip; the whole source if left out.", "--window")] = None,
    window_stride: Annotated[int | None, _option("Frames between windows (= window).", "--window-stride")] = None,
    frame_step: Annotated[int | None, _option("Take each n-th frame (1).", "--frame-step")] = None,
    fps: Annotated[float | None, _option("Resample videos to this rate; attach it to images.", "--fps")] = None,
    resample: Annotated[str | None, _option("auto or never (auto).", "--resample")] = None,
    strip_size: Annotated[int | None, _option("Pixels of a frame in a strip.", "--strip-size")] = None,
    labels: Annotated[str | None, _option("none, or folder: the first folder is the class.", "--labels")] = None,
    name: Annotated[str | None, _option("Name of the data set.", "--name")] = None,
    min_frames: Annotated[int | None, _option("Skip shorter sources (16).", "--min-frames")] = None,
    max_frames: Annotated[int | None, _option("Skip longer sources.", "--max-frames")] = None,
    max_pixels: Annotated[int | None, _option("Skip sources with larger frames.", "--max-pixels")] = None,
    timeout: Annotated[float | None, _option("Seconds to wait for a frame (60).", "--timeout")] = None,
    memory_mib: Annotated[int | None, _option("Memory of a decoder in MiB (4096).", "--memory-mib")] = None,
    workers: Workers = None,
    strict: Annotated[bool, _option("End at the first unusable source.", "--strict")] = False,
    overwrite: Overwrite = False,
) -> Result:
    """Turn videos, frame folders or image strips into a clip store."""
    options = {key: value for key, value in locals().items() if key != "console"}
    from vidgen.data.prepare import PrepareSettings
    from vidgen.data.prepare import prepare as run

    settings = _make(PrepareSettings, **options)
    with console.progress("reading") as advance:
        report = run(settings, lambda at: advance(at.done, at.total, f"{at.name} {at.decoding or ''}".strip()))
    for note in report.notes:
        console.say(f"note: {note.name}: {note.text}")
    info = report.info
    lines = [f"skipped {skipped.name}: {skipped.reason}" for skipped in report.skipped]
    if report.ignored:
        more = ", ..." if len(report.ignored) > 3 else ""
        lines.append(f"ignored {len(report.ignored)} other files: {', '.join(report.ignored[:3])}{more}")
    lines.append(f"{report.out}: {info.clips} clips, {info.frames} frames of {info.width}x{info.height}")
    lines.append(f"from {report.sources - len(report.skipped)} of {report.sources} sources ({report.layout})")
    return Result(report.to_dict(), "\n".join([*lines, f"next: vidgen data show {report.out} -o sheet.png"]))


@command(data_app, "show")
def show(
    console: Console,
    store: Annotated[Path, typer.Argument(help="Folder of the clip store.")],
    out: Annotated[Path | None, _option("Also draw a contact sheet into this PNG.", "-o", "--out")] = None,
    clips: Annotated[int, _option("Clips on the sheet.", "--clips")] = 24,
    seed: Annotated[int, _option("Which clips.", "--seed")] = 0,
    verify: Annotated[bool, _option("Read everything and check the content hash.", "--verify")] = False,
) -> Result:
    """Describe a clip store, and draw a contact sheet."""
    from vidgen.data.contact_sheet import describe, write_contact_sheet
    from vidgen.data.store import ClipStore

    opened = ClipStore.open(store)
    if verify:
        opened.verify()
    values = describe(opened)
    length = values["length"]
    lines = [_store_line(values), f"clip length {length['min']} to {length['max']} frames, {values['fps']:g} fps"]
    lines += [f"  {label}: {count} clips" for label, count in values["labels"].items()]
    lines.append(f"content hash {values['content_hash']}" + (" (verified)" if verify else ""))
    if out is not None:
        values["sheet"] = str(write_contact_sheet(store, out, clips=clips, seed=seed))
        lines.append(f"wrote {values['sheet']}")
    return Result(values, "\n".join(lines))


def _store_line(values: dict[str, Any]) -> str:
    size = f"{values['width']}x{values['height']}"
    return f"{values['path']}: {values['name']}, {values['clips']} clips, {values['frames']} frames of {size}"


#: What to do with a trained model.
_NEXT = {
    "g3an": "vidgen export {} -o g3an.onnx",
    "twostreamvan": "vidgen export {} -o twostreamvan.onnx",
    "classifier": "vidgen score --classifier {} --engine ARTIFACT",
}


@command(app, "train")
def train(
    console: Console,
    model: Annotated[str, typer.Argument(help="g3an, twostreamvan or classifier")],
    data: Annotated[Path | None, _option("Clip store; built-in clips are made if left out.", "--data")] = None,
    out: Annotated[Path | None, _option("Folder of the run.", "--out")] = None,
    preset: Annotated[str | None, _option("small, smoke, or the reference's: paper, weizmann, ...", "--preset")] = None,
    steps: Annotated[int | None, _option("Steps in all.", "--steps")] = None,
    resume: Annotated[bool, _option("Go on from the last save.", "--resume")] = False,
    config: Annotated[Path | None, _option("TOML file of settings.", "-c", "--config")] = None,
    assignments: Annotated[list[str] | None, _option("One setting, key=value; may be repeated.", "--set")] = None,
) -> Result:
    """Train a model; a run that was killed goes on exactly with --resume."""
    from vidgen.settings import build_settings, parse_assignments, read_toml
    from vidgen.trainer.families import family
    from vidgen.trainer.run_settings import run_folder

    kind = family(model)
    typed: dict[str, Any] = dict(parse_assignments(assignments or []))
    typed |= _given(data_path=data and str(data.absolute()), steps=steps)
    if out is not None:
        typed |= {"save_path": str(out.absolute().parent), "exp_name": out.absolute().name}
    layers = [
        (f"preset {preset}", kind.preset(preset) if preset else {}),
        (str(config), read_toml(config) if config else {}),
        ("the command line", typed),
    ]
    require("torch", "train")
    from vidgen.trainer.resume import resumed_settings
    from vidgen.trainer.train import train as run

    if resume:
        changes = {key: value for _, layer in layers for key, value in layer.items()}
        settings = resumed_settings(kind.settings, run_folder(kind.settings, changes), changes)
    else:
        settings = build_settings(kind.settings, *layers)
    with console.progress("training") as advance:

        def listen(tick: Tick) -> None:
            minutes = f"{tick.seconds_left / 60:.1f} min left"
            advance(tick.step, tick.last_step, f"{tick.samples_a_second:.1f} samples/s {tick.losses} {minutes}")

        report = run(settings, resume=resume, listen=listen, say=console.say)
    text = (
        f"{report.checkpoint}: step {report.step} after {report.seconds:.0f} s of training\n"
        f"next: {_NEXT[model].format(report.checkpoint)}"
    )
    return Result(dataclasses.asdict(report), text)


@command(app, "import")
def import_(
    console: Console,
    source: Annotated[Path, typer.Argument(help="Official .pth checkpoint.")],
    destination: Annotated[Path, typer.Argument(help=".safetensors to write.")],
    model: Annotated[str | None, _option("Network, where the file holds several.", "--model")] = None,
) -> Result:
    """Convert an official checkpoint; nothing in it is executed."""
    from vidgen.models.official import import_checkpoint

    report = import_checkpoint(source, destination, model=model)
    sizes = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(report.config).items())
    text = f"{report.destination}: {report.model} ({sizes}), {report.tensors} tensors"
    return Result(report.to_dict(), text)


@command(app, "export")
def export(
    console: Console,
    checkpoint: Annotated[Path, typer.Argument(help=".safetensors checkpoint of a generator.")],
    out: Annotated[Path | None, _option(".onnx to write.", "-o", "--out")] = None,
    engine: Annotated[Path | None, _option("Engine to write; not in this version.", "--engine")] = None,
    fp16: Annotated[bool, _option("Type the graph to half precision.", "--fp16")] = False,
    lowering: Annotated[str | None, _option("cpu or tensorrt (cpu).", "--for")] = None,
    output: Annotated[str | None, _option("uint8 or float32 (uint8).", "--output")] = None,
    frames: Annotated[int | None, _option("Frames the artifact will be used for; also verified.", "--frames")] = None,
    batch: Annotated[str | None, _option("MIN:OPT:MAX; MIN and OPT are verified too.", "--batch")] = None,
    gpu: Annotated[str | None, _option("Architectures of an engine, e.g. sm_89.", "--gpu")] = None,
    sepconv: Annotated[str | None, _option("custom, standard or plugin; TwoStreamVAN only.", "--sepconv")] = None,
    opset: Annotated[int | None, _option("Opset of the ONNX file (20).", "--opset")] = None,
) -> Result:
    """Export a checkpoint and verify the artifact against it; what does not match is not written."""
    options = {key: value for key, value in locals().items() if key != "console"}
    from vidgen.export import ExportSettings
    from vidgen.export import export as run

    report = run(_make(ExportSettings, **options), console.say)
    return Result(report.to_dict(), str(report))


@command(app, "verify")
def verify(
    console: Console,
    checkpoint: Annotated[Path, typer.Argument(help=".safetensors checkpoint.")],
    artifact: Annotated[Path, typer.Argument(help=".onnx made from it.")],
) -> Result:
    """Compare an artifact with its checkpoint again; ends with 1 if they differ."""
    from vidgen.export import verify as run

    report = run(checkpoint, artifact)
    return Result(report.to_dict(), str(report), ok=bool(report))


@command(app, "sample")
def sample(
    console: Console,
    engine: Annotated[Path, _option("Artifact: .onnx or .safetensors checkpoint.", "--engine")],
    out: Annotated[Path, _option("Folder to write to.", "-o", "--out")],
    n: Annotated[int | None, _option("Number of videos (64).", "-n")] = None,
    seed: Seed = None,
    labels: Annotated[str | None, _option("Class names, separated by commas.", "--labels")] = None,
    grid: Annotated[str | None, _option("NxM: N appearances x M motions, and a sheet.", "--grid")] = None,
    frames: Frames = None,
    format: Annotated[str | None, _option("mp4, webp, gif, png (strip) or npy (mp4).", "--format")] = None,
    range: Annotated[str | None, _option("model, or batch-minmax as the reference (model).", "--range")] = None,
    group: Annotated[int | None, _option("Videos that batch-minmax takes together (64).", "--group")] = None,
    shard: Annotated[str | None, _option("i/n: every n-th video from the i-th, i from 0.", "--shard")] = None,
    resume: Annotated[bool, _option("Go on with an unfinished run.", "--resume")] = False,
    batch: Annotated[int | None, _option("Videos computed together.", "--batch")] = None,
    backend: Annotated[str | None, _option("onnxruntime, openvino or torch.", "--backend")] = None,
    device: Device = None,
    threads: Threads = None,
    encoders: Annotated[int | None, _option("Threads that encode.", "--encoders")] = None,
    fps: Annotated[float | None, _option("Frames a second (those of the data).", "--fps")] = None,
    crf: Annotated[int | None, _option("Quality of mp4, 0 (exact) to 51.", "--crf")] = None,
    pix_fmt: Annotated[str | None, _option("Pixel format of mp4 (yuv420p).", "--pix-fmt")] = None,
    quality: Annotated[int | None, _option("Quality of webp, 1 to 100.", "--quality")] = None,
    sheet: Annotated[bool, _option("Overview images of a grid or of lengths.", "--sheet/--no-sheet")] = True,
    trust: Annotated[bool, _option("Run an engine without a manifest.", "--trust")] = False,
) -> Result:
    """Sample videos from an artifact, in batches, resumably."""
    options = {key: value for key, value in locals().items() if key not in ("console", "labels")}
    from vidgen.runtime.jobs import sample as run
    from vidgen.runtime.settings import SampleSettings

    names = None if labels is None else tuple(name.strip() for name in labels.split(",") if name.strip())
    settings = _make(SampleSettings, labels=names, **options)
    with console.progress("sampling") as advance:
        report = run(settings, advance)
    made = f"{report.written} videos in {report.seconds:.1f} s ({report.videos_per_second:.1f} a second)"
    kept = f", {report.kept} kept" if report.kept else ""
    lines = [f"{report.out}: {made}{kept}", *(f"wrote {path}" for path in report.sheets)]
    return Result(report.to_dict(), "\n".join(lines))


@command(app, "bench")
def bench(
    console: Console,
    engine: Annotated[list[Path], _option("Artifact, or ARTIFACT@BACKEND; may be repeated.", "--engine")],
    out: Annotated[Path | None, _option("Folder for bench.json and bench.md.", "-o", "--out")] = None,
    backend: Annotated[list[str] | None, _option("Backend to try; all installed if left out.", "--backend")] = None,
    batch: Annotated[list[int] | None, _option("Videos in a batch; may be repeated (1 and 8).", "--batch")] = None,
    frames: Annotated[int | None, _option("Frames of each video.", "--frames")] = None,
    threads: Threads = None,
    device: Device = None,
    seconds: Annotated[float | None, _option("Measuring time of each row, at least (5).", "--seconds")] = None,
    min_runs: Annotated[int | None, _option("Runs of each row, at least (20).", "--min-runs")] = None,
    max_seconds: Annotated[float | None, _option("Measuring time of each row, at most (60).", "--max-seconds")] = None,
    rounds: Annotated[int | None, _option("Slices the time is given in, taken in turn (5).", "--rounds")] = None,
    warmup_seconds: Annotated[float | None, _option("Longest warm-up (15).", "--warmup-seconds")] = None,
    seed: Seed = None,
) -> Result:
    """Time artifacts and backends side by side, and compare what they make."""
    options = {key: value for key, value in locals().items() if key not in ("console", "engine", "backend", "batch")}
    from vidgen.bench.latency import bench as run
    from vidgen.bench.settings import BenchSettings

    settings = _make(BenchSettings, engines=engine, backends=backend, batches=batch, **options)
    with console.progress("timing") as advance:
        report = run(settings, advance)
    wrote = f"\nwrote {out}/bench.json and {out}/bench.md" if out else ""
    return Result(report.to_dict(), report.table() + wrote, ok=report.ok)


@command(app, "doctor")
def doctor(
    console: Console,
    timeout: Annotated[float, _option("Seconds to wait for a check.", "--timeout")] = 9.0,
) -> Result:
    """What this machine can run, a line a check, each with the command that mends it."""
    from vidgen.doctor import doctor as run

    report = run(timeout)
    return Result(report.to_dict(), report.table(), ok=report.ready)


@command(app, "demo")
def demo(
    console: Console,
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    minutes: Annotated[float | None, _option("Minutes of training (2); 0 makes a few steps.", "--minutes")] = None,
) -> Result:
    """The whole story on built-in data: train, export, verify, sample, time, and a page."""
    from vidgen.demo import DemoSettings
    from vidgen.demo import demo as run

    report = run(_make(DemoSettings, out=out, minutes=minutes), say=console.say)
    return Result(dataclasses.asdict(report), f"{report.report}: {len(report.steps)} steps in {report.seconds:.0f} s")
