"""Finds out before hours of sampling whether a report can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from vidgen._files import storage_error


def check_writable(out: Path) -> None:
    """Raise now, and not after the work, where a file cannot be written; its folder is made.

    Raises:
        StorageError: it cannot.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(out.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise storage_error(out, error) from error
