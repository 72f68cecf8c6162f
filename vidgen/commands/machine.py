"""The commands about the machine and the whole: doctor and demo."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from vidgen._console import Console, Result
from vidgen.commands.options import make, option
from vidgen.errors import SettingsError


def doctor(
    console: Console,
    timeout: Annotated[float, option("Seconds to wait for a check.", "--timeout")] = 20.0,
) -> Result:
    """What this machine can run, a line a check, each with the command that mends it."""
    from vidgen.doctor import doctor as run

    if not 0 < timeout < float("inf"):
        raise SettingsError(
            "cannot wait so long for a check",
            seen=f"--timeout {timeout}, expected seconds above 0",
            cause="a typing error",
            fix="vidgen doctor --timeout 20",
        )
    report = run(timeout)
    return Result(report.to_dict(), report.table(), ok=report.ready)


def demo(
    console: Console,
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    minutes: Annotated[float | None, option("Minutes of training each model (1); 0: a few steps.", "--minutes")] = None,
) -> Result:
    """The whole story on built-in data: train, export, verify, sample, score, time, and a page."""
    from vidgen.demo import DemoSettings
    from vidgen.demo import demo as run

    report = run(make(DemoSettings, out=out, minutes=minutes), say=console.say)
    return Result(dataclasses.asdict(report), f"{report.report}: {len(report.steps)} steps in {report.seconds:.0f} s")
