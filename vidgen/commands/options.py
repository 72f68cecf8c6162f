"""What the commands share: options that several have, and how options become a settings object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: None means left out."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def make(kind: type[T], /, **options: Any) -> T:
    """The settings object of the options that were given."""
    from vidgen.settings import build_settings

    return build_settings(kind, ("the command line", given(**options)))


def option(text: str, *names: str) -> Any:
    """An option with its help."""
    return typer.Option(*names, help=text)


def listed(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas; None where the option was left out."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


Out = Annotated[Path, typer.Argument(help="Folder of the clip store.")]
Overwrite = Annotated[bool, option("Replace a clip store that is there.", "--overwrite")]
Workers = Annotated[int | None, option("Processes; 0 is one a core.", "--workers")]
Size = Annotated[int | None, option("Pixels of a side (64).", "--size")]
Seed = Annotated[int | None, option("Seed (0).", "--seed")]
Threads = Annotated[int | None, option("CPU threads; the library's choice if left out.", "--threads")]
Device = Annotated[
    str | None, option("cpu, cuda, cuda:1, or tensorrt (ONNX Runtime's); engines always take cuda.", "--device")
]
Frames = Annotated[str | None, option("Frames of each video, or START:STOP:STEP.", "--frames")]
Backend = Annotated[str | None, option("onnxruntime, openvino, torch or tensorrt.", "--backend")]
Trust = Annotated[bool, option("Run an engine file (.plan) without a manifest.", "--trust")]
