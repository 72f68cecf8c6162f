"""The command line: the commands under their names."""

from __future__ import annotations

from typing import Annotated

import typer

from vidgen import __version__
from vidgen._console import command, run_app
from vidgen.commands import artifacts, data, machine, models, scores

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


for _app, _name, _function in (
    (data_app, "synth", data.synth),
    (data_app, "prepare", data.prepare),
    (data_app, "show", data.show),
    (app, "train", models.train),
    (app, "import", models.import_),
    (app, "export", models.export),
    (app, "verify", models.verify),
    (app, "sample", artifacts.sample),
    (app, "stats", scores.stats),
    (app, "merge", scores.merge),
    (app, "score", scores.score),
    (app, "bench", artifacts.bench),
    (app, "doctor", machine.doctor),
    (app, "demo", machine.demo),
):
    command(_app, _name)(_function)
