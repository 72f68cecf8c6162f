"""How commands speak: results on stdout, progress and errors on stderr, exit codes."""

from __future__ import annotations

import functools
import inspect
import io
import json
import os
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from vidgen.errors import SettingsError, VidgenError

USER_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """What a command has to say: an object for ``--json`` and text for people.

    ``ok`` false ends the command with exit code 1: it ran, and the answer is no.
    """

    values: dict[str, Any]
    text: str
    ok: bool = True


class Console:
    """The voice of one command."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.leads = os.environ.get("RANK", "0") == "0"  # of the processes of a torchrun, the first speaks
        self.quiet = quiet or not self.leads

    def say(self, line: str) -> None:
        """A line about progress, on stderr."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def show(self, result: Result) -> None:
        """The result, on stdout."""
        if self.leads:
            print(json.dumps(result.values, indent=2, default=str) if self.as_json else result.text, flush=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[..., None]]:
        """A progress bar; yields ``advance(done, total, note="")``.

        Nothing is drawn when quiet or when stderr is not a terminal.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda *_, **__: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None, note="")

            def advance(done: int, total: int | None = None, note: str = "") -> None:
                bar.update(task, completed=done, total=total, note=note)

            yield advance


def print_error(error: VidgenError, *, as_json: bool) -> None:
    """One message on stderr; with --json the same parts as an object on stdout."""
    print(f"error: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.to_dict()}, indent=2))


def run_app(app: typer.Typer) -> NoReturn:
    """Parse the command line of this process, run it and exit; a usage error is told like any other error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `vidgen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except TyperException as error:
        context = getattr(error, "ctx", None)
        if context is None or error.format_message().startswith("Usage:"):  # a bare command shows its help
            print(error.format_message())
            raise SystemExit(USER_ERROR) from None
        print_error(
            SettingsError(
                f"cannot understand the command line of {context.command_path!r}",
                seen=error.format_message().rstrip("."),
                cause="a typing error, or an option of another command",
                fix=f"{context.command_path} --help",
            ),
            as_json="--json" in sys.argv,
        )
        raise SystemExit(USER_ERROR) from None
    raise SystemExit(code if isinstance(code, int) else 0)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextmanager
def polite_kill() -> Iterator[None]:
    """Let SIGTERM (``timeout``, a scheduler, ``docker stop``) end a command as Ctrl-C does: nothing is left half."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Register ``function(console, **options) -> Result`` as a command with --json, -q and --debug.

    The function itself stays callable from Python.
    """

    def register(function: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(function)
        def run(*, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
            console = Console(as_json=as_json, quiet=quiet)
            try:
                result = function(console, **options)
            except VidgenError as error:
                if debug:
                    traceback.print_exc()
                print_error(error, as_json=as_json and console.leads)
                raise typer.Exit(USER_ERROR) from None
            except KeyboardInterrupt as interrupt:
                if debug:
                    traceback.print_exc()
                if console.leads:
                    message = str(interrupt) or "interrupted"
                    print(message, file=sys.stderr)
                    if as_json:
                        print(json.dumps({"interrupted": message}))
                raise typer.Exit(INTERRUPTED) from None
            console.show(result)
            if not result.ok:
                raise typer.Exit(1)

        hints = typing.get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for key, annotation in (("as_json", Json), ("quiet", Quiet), ("debug", Debug))
        ]
        signature = inspect.Signature([*own, *common])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        app.command(name)(run)
        return function

    return register
