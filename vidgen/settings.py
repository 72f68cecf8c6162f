"""One way for the command line, TOML files and Python callers to make the same settings object."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vidgen.errors import SettingsError

T = TypeVar("T")


def build_settings(kind: type[T], *layers: tuple[str, Mapping[str, Any]]) -> T:
    """Make a settings dataclass from layers of plain values; later layers win.

    Args:
        kind: a frozen dataclass; its ``__post_init__`` checks what types cannot.
        layers: pairs of a name for error messages (``"preset small"``) and values by field name. Values may
            be text, as typed on a command line: ``"1e-4"`` becomes a float where the field is one.

    Raises:
        SettingsError: unknown key, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind)) if field.init]
    values: dict[str, Any] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in names:
                raise _unknown_key(kind, key, names, origin)
            values[key] = _convert(hints[key], key, value, origin)
    return kind(**values)


def _convert(hint: Any, key: str, value: Any, origin: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    kinds = (hint, *typing.get_args(hint))
    if isinstance(value, str) and typing.get_origin(hint) is tuple:
        value = _parse_list(value)
    elif isinstance(value, str) and str not in kinds:
        value = _parse(value)
    try:
        if isinstance(value, bool) and bool not in kinds:
            raise _wrong_type(key, value, origin, "expected no true or false")
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise _wrong_type(key, value, origin, problem[0].lower() + problem[1:]) from error


def _parse(text: str) -> Any:
    """A value typed on a command line: TOML if it can be, ``none``, or the text itself."""
    if text.strip() in ("none", "None"):
        return None
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _parse_list(text: str) -> Any:
    """A list typed on a command line: TOML in brackets, or items separated by commas."""
    if text.strip().startswith("["):
        return _parse(text)
    return [_parse(item) for item in text.split(",") if item.strip()]


def _wrong_type(key: str, value: Any, origin: str, problem: str) -> SettingsError:
    return SettingsError(
        f"cannot set {key} from {origin}",
        seen=f"{value!r}, {problem}",
        cause="the value is of another type than the setting",
        fix=f"give a valid value, e.g. --set {key}=VALUE",
    )


def _unknown_key(kind: type[Any], key: str, names: Sequence[str], origin: str) -> SettingsError:
    elsewhere: Mapping[str, str] = getattr(kind, "ELSEWHERE", {})
    near = difflib.get_close_matches(key, names, n=1)
    return SettingsError(
        f"unknown setting {key!r} in {origin}",
        seen=f"{key!r}, expected one of {', '.join(sorted(names))}",
        cause="it belongs to another command" if key in elsewhere else "a typing error",
        fix=elsewhere.get(key) or (f"did you mean {near[0]!r}?" if near else "remove it"),
    )


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        SettingsError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"cannot read settings file {path}",
            seen=str(error),
            cause="a wrong path, or not a TOML file",
            fix=f"check {path}; lines look like: batch_size = 16",
        ) from error


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """``["ch_g=16", "g_mode=3d"]`` as a mapping of text; ``build_settings`` gives it the settings' types.

    Raises:
        SettingsError: an item has no ``=``.
    """
    values: dict[str, str] = {}
    for item in assignments:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise SettingsError(
                f"cannot understand --set {item}",
                seen=f"{item!r}, expected key=value",
                cause="the equals sign or the key is missing",
                fix="write for example --set batch_size=16",
            )
        values[key.strip()] = text.strip()
    return values
