"""Which packages vidgen asks for, and which versions are installed; reads metadata and imports nothing."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass

#: What a source tree that was never installed cannot say of itself.
_BASE = ("av", "numpy", "pillow", "pydantic", "rich", "safetensors", "typer")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEAST = re.compile(r">=\s*([0-9][0-9.]*)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
#: Distributions that bring the same modules.
_ALTERNATIVES = {"onnxruntime": ("onnxruntime-gpu",), "onnxruntime-gpu": ("onnxruntime",)}


@dataclass(frozen=True)
class Requirement:
    """A package that vidgen or one of its extras asks for.

    Attributes:
        extra: the first extra that asks for it; "" for what is always needed.
        least: the oldest version allowed; "" when any will do.
    """

    name: str
    least: str = ""
    extra: str = ""


def parse_requirement(text: str) -> Requirement | None:
    """A line such as ``torch>=2.10; extra == "torch"``; None for what cannot be read."""
    specifier, _, marker = text.strip().partition(";")
    name, least, extra = _NAME.match(specifier), _LEAST.search(specifier), _EXTRA.search(marker)
    return Requirement(name[0].lower(), least[1] if least else "", extra[1] if extra else "") if name else None


def requirements(distribution: str = "vidgen") -> list[Requirement]:
    """What the installed distribution asks for, each package once; the base packages if it is not installed."""
    lines = importlib.metadata.requires(distribution) if installed(distribution) else None
    if lines is None:
        return [Requirement(name) for name in _BASE]
    found: dict[str, Requirement] = {}
    for line in lines:
        requirement = parse_requirement(line)
        if requirement and requirement.name != distribution:
            found.setdefault(requirement.name, requirement)
    return list(found.values())


def installed(name: str) -> str:
    """The installed version of a distribution, or of another that brings the same modules; "" if none."""
    for candidate in (name, *_ALTERNATIVES.get(name, ())):
        try:
            return importlib.metadata.version(candidate) or "unknown version"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def older(version: str, least: str) -> bool:
    """Whether a version is below the least one; compares the leading numbers, ``2.10`` above ``2.9``."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part]  # type: ignore[index]

    return bool(least) and numbers(version) < numbers(least)
