"""The label of a statistics file, checked before anybody relies on it: files come from anywhere."""

from __future__ import annotations

import json
from typing import Any

#: Entries that programs read, with what they must be where they are there; null is as good as nothing.
_KINDS: dict[str, tuple[type, str]] = {
    "protocol": (str, "a name"),
    "space": (str, "a name"),
    "frames": (int, "a number"),
    "samples": (int, "a number"),
    "data": (dict, "an object"),
}


def read_label(text: str) -> dict[str, Any]:
    """The label from the JSON that a file keeps.

    Raises:
        ValueError: no JSON, no object, or an entry of another type; its text says what was seen.
    """
    try:
        label = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"protocol is no JSON: {error}") from error
    if not isinstance(label, dict):
        raise ValueError("protocol is no JSON object")
    for name, (kind, expected) in _KINDS.items():
        value = label.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{name} is {str(value)[:80]!r}, expected {expected}")
    return label
