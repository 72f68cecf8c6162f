"""Loads the C++ kernel, building it at first use; without torch, so that runtimes can use it too."""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from pathlib import Path

from vidgen.errors import MissingDependencyError, SettingsError, StorageError
from vidgen.plugins.sepconv_trt import build

VARIABLE = "VIDGEN_SEPCONV"
FORMS = ("auto", "portable")


def form() -> str:
    """``auto``, or ``portable`` where ``$VIDGEN_SEPCONV`` asks for the form that needs no compiler.

    Raises:
        SettingsError: the variable has another value.
    """
    chosen = os.environ.get(VARIABLE) or "auto"
    if chosen not in FORMS:
        raise SettingsError(
            f"cannot choose the form of separable convolution from {VARIABLE}",
            seen=f"{chosen!r}, expected {' or '.join(FORMS)}",
            cause="a misspelt environment variable",
            fix=f"unset {VARIABLE}",
        )
    return chosen


def library_path() -> Path | None:
    """The shared library, built and known to load; None where the portable form is asked for or must do.

    Raises:
        SettingsError: ``$VIDGEN_SEPCONV`` is neither auto nor portable.
    """
    return None if form() == "portable" else _load()[0]


def library() -> ctypes.CDLL | None:
    """As ``library_path``, the loaded library."""
    return None if form() == "portable" else _load()[1]


@functools.cache
def _load() -> tuple[Path | None, ctypes.CDLL | None]:
    # Kept for the life of the process: a warning once, and no second attempt to compile.
    try:
        path = build.build()
        try:
            return path, ctypes.CDLL(str(path))
        except OSError:
            path = build.rebuild(path)
            return path, ctypes.CDLL(str(path))
    except (MissingDependencyError, StorageError, OSError) as error:
        reason = f"{error.seen} - {error.fix}" if isinstance(error, (MissingDependencyError, StorageError)) else error
        warnings.warn(
            f"separable convolution runs without its kernel, many times slower - {reason}", RuntimeWarning, stacklevel=3
        )
        return None, None
