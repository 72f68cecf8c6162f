"""The commands: parse, build a settings object, call the library, say what was written; nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen import __version__
from vidgen._console import Console, Result, command, run_app
from vidgen.errors import SettingsError

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
    return {name: value for name, value in options.items() if value is not None}


Preset = Annotated[str | None, typer.Option("--preset", help="paper, small or smoke.")]
Config = Annotated[Path | None, typer.Option("-c", "--config", help="TOML file of settings.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One setting, key=value; may be repeated.")]


@command(app, "train")
def train(
    console: Console,
    model: Annotated[str, typer.Argument(help="g3an")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Clip store; left out, built-in faces are made.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    preset: Preset = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last save.")] = False,
    config: Config = None,
    assignments: Set = None,
) -> Result:
    """Train a model; a killed run goes on exactly with --resume."""
    if model != "g3an":
        raise SettingsError(
            f"cannot train {model!r}",
            seen=f"{model!r}, expected g3an",
            cause="this version trains G3AN only",
            fix="vidgen train g3an --preset small --out runs/g3an",
        )
    from vidgen._imports import require

    require("torch", "train")
    from vidgen.settings import build_settings, parse_assignments, read_toml
    from vidgen.trainer.settings import G3ANTrainSettings
    from vidgen.trainer.settings import preset as preset_values
    from vidgen.trainer.train import Tick, resumed_settings
    from vidgen.trainer.train import train as run

    place = {} if out is None else {"save_path": str(out.parent), "exp_name": out.name}
    typed = _given(data_path=None if data is None else str(data), steps=steps) | parse_assignments(assignments or [])
    layers = [
        (f"preset {preset}", preset_values(preset) if preset else {}),
        (str(config), read_toml(config) if config else {}),
        ("the command line", {**place, **typed}),
    ]
    settings = build_settings(G3ANTrainSettings, *layers)
    if resume:
        changes = {key: value for _, layer in layers for key, value in layer.items()}
        settings = resumed_settings(settings.run, changes)
    with console.progress("training") as advance:

        def listen(tick: Tick) -> None:
            left = min(tick.last_step, 2**31)
            losses = f"D {tick.losses.D_vid_loss:.2f} G {tick.losses.G_vid_loss:.2f}"
            advance(tick.step, left, f"{tick.samples_a_second:.1f} samples/s {losses}")

        report = run(settings, resume=resume, listen=listen, say=console.say)
    values = dataclasses.asdict(report) | {"checkpoint": str(report.checkpoint), "run": str(report.run)}
    text = (
        f"{report.checkpoint}: step {report.step} after {report.seconds:.0f} s of training\n"
        f"next: vidgen export {report.checkpoint} -o g3an.onnx"
    )
    return Result(values, text)
