"""Statistics of reference data, kept by what decides them: a change of a byte anywhere is another file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidgen.plugins.sepconv_trt.build import cache_folder

#: Counted up when the same key would give other numbers.
VERSION = 1


def statistics_folder() -> Path:
    """``stats`` in ``$VIDGEN_CACHE``, else in ``vidgen`` of the user's cache folder."""
    return cache_folder("stats")


def content_key(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 of plain values."""
    text = json.dumps({**values, "version": VERSION}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
