"""The commands that train, import, export and verify models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen._console import Console, Result, polite_kill
from vidgen._imports import require
from vidgen.commands.options import given, make, option
from vidgen.errors import SettingsError

if TYPE_CHECKING:
    from vidgen.trainer.train import Tick

#: What to do with a trained model.
_NEXT = {
    "g3an": "vidgen export {} -o g3an.onnx",
    "twostreamvan": "vidgen export {} -o twostreamvan.onnx",
    "classifier": "vidgen score --protocol twostreamvan --classifier {} --engine ARTIFACT",
}


def train(
    console: Console,
    model: Annotated[str, typer.Argument(help="g3an, twostreamvan or classifier")],
    data: Annotated[Path | None, option("Clip store; built-in clips are made if left out.", "--data")] = None,
    out: Annotated[Path | None, option("Folder of the run.", "--out")] = None,
    preset: Annotated[str | None, option("small, smoke, or the reference's: paper, weizmann, ...", "--preset")] = None,
    steps: Annotated[int | None, option("Steps in all.", "--steps")] = None,
    resume: Annotated[bool, option("Go on from the last save.", "--resume")] = False,
    config: Annotated[Path | None, option("TOML file of settings.", "-c", "--config")] = None,
    assignments: Annotated[list[str] | None, option("One setting, key=value; may be repeated.", "--set")] = None,
) -> Result:
    """Train a model; a run that was killed goes on exactly with --resume."""
    from vidgen.settings import build_settings, parse_assignments, read_toml
    from vidgen.trainer.families import family
    from vidgen.trainer.run_settings import run_folder

    kind = family(model)
    typed: dict[str, Any] = dict(parse_assignments(assignments or []))
    typed |= given(data_path=data and str(data.absolute()), steps=steps)
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
        f"next: {_NEXT[kind.settings.MODEL].format(report.checkpoint)}"
    )
    return Result(dataclasses.asdict(report), text)


def import_(
    console: Console,
    source: Annotated[Path, typer.Argument(help="Official .pth or .pth.tar checkpoint.")],
    destination: Annotated[Path, typer.Argument(help=".safetensors to write; with --run, the folder of a run.")],
    model: Annotated[str | None, option("Network, where the file holds several.", "--model")] = None,
    run: Annotated[bool, option("Make a run to --resume from, with the optimisers.", "--run")] = False,
    data: Annotated[Path | None, option("Clip store that the run goes on with.", "--data")] = None,
    preset: Annotated[str | None, option("Settings of the run.", "--preset")] = None,
    assignments: Annotated[list[str] | None, option("What the tensors do not show, key=value.", "--set")] = None,
) -> Result:
    """Convert an official checkpoint; nothing in it is executed."""
    from vidgen.settings import parse_assignments

    settings = parse_assignments(assignments or [])
    if not run:
        _refuse_without_run(data=data, preset=preset)
        from vidgen.models.official import import_checkpoint

        report = import_checkpoint(source, destination, model=model, settings=settings)
        return Result(report.to_dict(), str(report))
    if data is None:
        raise SettingsError(
            f"cannot make a run of {source}",
            seen="no --data, expected a clip store",
            cause="names and order of the classes are not in the file, and training needs clips",
            fix=f"vidgen import {source} {destination} --run --data STORE",
        )
    require("torch", "make a run")
    from vidgen.trainer.official_run import import_run

    made = import_run(source, destination, data=data, preset=preset, settings=settings)
    return Result(made.to_dict(), str(made))


def _refuse_without_run(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingsError(
                f"cannot use --{name} here",
                seen=f"--{name} {value} without --run",
                cause="it is a setting of a run, and a single network is imported",
                fix=f"add --run, or drop --{name}",
            )


def export(
    console: Console,
    checkpoint: Annotated[Path, typer.Argument(help=".safetensors checkpoint of a generator.")],
    out: Annotated[Path | None, option(".onnx to write, or .plan for both.", "-o", "--out")] = None,
    engine: Annotated[Path | None, option("TensorRT engine (.plan) to write too.", "--engine")] = None,
    fp16: Annotated[bool, option("Type the graph to half precision.", "--fp16")] = False,
    tolerance: Annotated[
        float | None, option("With --fp16: grey levels allowed; as few nodes as it takes stay float32.", "--tolerance")
    ] = None,
    lowering: Annotated[str | None, option("cpu or tensorrt (cpu; tensorrt with an engine).", "--for")] = None,
    output: Annotated[str | None, option("uint8 or float32 (uint8).", "--output")] = None,
    frames: Annotated[
        str | None, option("Frames the artifact will be used for, or MIN:OPT:MAX; also verified.", "--frames")
    ] = None,
    batch: Annotated[
        str | None,
        option("MIN:OPT:MAX; MIN and OPT are verified, to 64. An engine takes several: 1:1:4,8:32:64.", "--batch"),
    ] = None,
    gpu: Annotated[str | None, option("Architectures of the engine: sm_86,sm_89, or current.", "--gpu")] = None,
    builder: Annotated[str | None, option("auto, tensorrt or tensorrt-rtx (auto).", "--builder")] = None,
    sepconv: Annotated[str | None, option("custom, standard or plugin; TwoStreamVAN only.", "--sepconv")] = None,
    plugin_library: Annotated[
        Path | None, option("With --sepconv plugin: the plugin's shared library.", "--plugin-library")
    ] = None,
    masks: Annotated[bool, option("TwoStreamVAN's masks as further outputs.", "--masks")] = False,
    conditional: Annotated[bool, option("TwoStreamVAN goes on from a given first frame.", "--conditional")] = False,
    opset: Annotated[int | None, option("Opset of the ONNX file (20).", "--opset")] = None,
    workspace: Annotated[str | None, option("Most memory of one layer, e.g. 2GiB.", "--workspace")] = None,
    builder_optimization_level: Annotated[
        int | None, option("0 (quick) to 5 (thorough).", "--builder-optimization-level")
    ] = None,
    timing_cache: Annotated[Path | None, option("File of timings, kept from build to build.", "--timing-cache")] = None,
    version_compatible: Annotated[bool, option("For later versions of TensorRT too.", "--version-compatible")] = False,
    hardware_compatibility_level: Annotated[
        str | None, option("none, ampere_plus or same_compute_capability.", "--hardware-compatibility-level")
    ] = None,
    weight_streaming: Annotated[bool, option("Weights may stay on the host.", "--weight-streaming")] = False,
    strip_plan: Annotated[bool, option("Without weights; they come from the .onnx.", "--strip-plan")] = False,
    refit: Annotated[bool, option("Weights may be replaced later.", "--refit")] = False,
    tf32: Annotated[bool, option("Float32 products with 10-bit mantissas.", "--tf32")] = False,
) -> Result:
    """Export a checkpoint and verify the artifact against it; what does not match is not written."""
    options = {key: value for key, value in locals().items() if key != "console"}
    from vidgen.export import ExportSettings
    from vidgen.export import export as run

    settings = make(ExportSettings, **options)
    with polite_kill(), console.progress("building") as advance:
        report = run(settings, console.say, advance)
    return Result(report.to_dict(), str(report))


def verify(
    console: Console,
    checkpoint: Annotated[Path, typer.Argument(help=".safetensors checkpoint.")],
    artifact: Annotated[Path, typer.Argument(help=".onnx or .plan made from it.")],
    per_layer: Annotated[bool, option("Compare every layer, and name the first that differs.", "--per-layer")] = False,
) -> Result:
    """Compare an artifact with its checkpoint again; ends with 1 if they differ."""
    from vidgen.export import verify as run

    if per_layer:
        from vidgen.export.per_layer import per_layer as compare

        layers = compare(checkpoint, artifact)
        # Many small differences may add up to one that no layer shows: the whole has the last word.
        whole = run(checkpoint, layers.artifact)
        values = {**layers.to_dict(), "verification": whole.to_dict()}
        lines = [layers.table(), str(layers), str(whole)]
        if layers.ok and not whole and layers.suspect is not None:
            values["suspect"] = dataclasses.asdict(layers.suspect)
            lines.append(f"the largest difference grows most at {layers.suspect.name} ({layers.suspect.operator})")
        return Result(values, "\n".join(lines), ok=layers.ok and bool(whole))
    report = run(checkpoint, artifact)
    return Result(report.to_dict(), str(report), ok=bool(report))
