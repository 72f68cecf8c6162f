"""Dataclasses made of what JSON holds, checked against their type hints: a file may hold anything."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, cast

#: Types of JSON that are taken as they are; true and false are no numbers.
_PLAIN = (str, int, bool, type(None))


def from_stored(hint: Any, value: Any, where: str, *, complete: bool = False) -> Any:
    """A value of the type of a hint, from what ``json.loads`` gave.

    Lists become tuples, objects become dataclasses; numbers and text stay as they are, and are never made of each
    other. Numbers are finite and text can be written.

    Args:
        hint: a type hint: plain types, unions, ``Literal``, tuples, mappings, dataclasses and ``Any``.
        where: what the value is called in messages, e.g. ``"engine"``.
        complete: every field of a dataclass must be there, those with a default too.

    Raises:
        ValueError: of another type, a key too many or missing, or what ``__post_init__`` refuses.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or origin is Mapping:
        return _free(hint, value, where)
    if origin in (Union, types.UnionType):
        return _either(parts, value, where)
    if origin is Literal:
        return _check(value in parts if isinstance(value, str) else False, value, where, " or ".join(map(repr, parts)))
    if origin is tuple:
        return _list(parts, value, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(cast(type[Any], hint), value, where, complete)
    if hint is float:
        return _check(type(value) in (int, float) and _finite(value), value, where, "a number")
    if hint not in _PLAIN:
        raise TypeError(f"{hint} is no type of a stored value")
    name = {str: "text", int: "a whole number", bool: "true or false"}.get(hint, "null")
    return _check(type(value) is hint and (hint is not str or _writable(value)), value, where, name)


def _check(good: bool, value: Any, where: str, expected: str) -> Any:
    if not good:
        raise ValueError(f"{where} is {_shown(value)}, expected {expected}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return "an object" if isinstance(value, Mapping) else "a list"
    try:
        text = ascii(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a huge number"
    return text if len(text) <= 40 else f"{text[:40]}..."


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _writable(text: str) -> bool:
    """Whether UTF-8 has the text: JSON can hold half a character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _free(hint: Any, value: Any, where: str) -> Any:
    """What no hint describes need only be storable again."""
    if hint is not Any:
        _check(isinstance(value, Mapping), value, where, "an object")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} cannot be stored again: {type(error).__name__}") from error
    return value


def _either(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    problems: list[str] = []
    for part in parts:
        try:
            return from_stored(part, value, where)
        except ValueError as error:
            problems.append(str(error))
    # Of "number or nothing" the first says what is wrong.
    raise ValueError(problems[0])


def _list(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _check(isinstance(value, list | tuple), value, where, "a list")
    if len(parts) == 2 and parts[1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(value) != len(parts):
        raise ValueError(f"{where} has {len(value)} entries, expected {len(parts)}")
    return tuple(from_stored(part, each, f"{where}[{i}]") for i, (part, each) in enumerate(zip(parts, value)))


def _dataclass(kind: type[Any], value: Any, where: str, complete: bool) -> Any:
    if isinstance(value, kind):
        return value
    _check(isinstance(value, Mapping), value, where, "an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise ValueError(f"{where} has an unknown key {_shown(unknown[0])}")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in value and (complete or not optional):
            raise ValueError(f"{where} has no {name}")
    return kind(**{name: from_stored(hints[name], each, f"{where}.{name}") for name, each in value.items()})
