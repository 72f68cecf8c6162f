"""The file of a timing cache: read, and replaced whole under a lock, so that builds side by side lose nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vidgen._files import atomic_file, storage_error
from vidgen.errors import StorageError


def read_cache(path: Path) -> bytes:
    """The content of a cache; b"" where there is none yet.

    Raises:
        StorageError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(
            f"cannot read timing cache {path}",
            seen=error.strerror or str(error),
            cause="it is not a file, or not readable by you",
            fix="use --timing-cache with another path, or leave it out",
        ) from error


def write_cache(path: Path, given: bytes, made: bytes, merge: Callable[[bytes], bytes]) -> str:
    """Replace a cache by what a build made of it; what others wrote meanwhile is kept.

    Args:
        given: the content that the build started from. made: the content it left.
        merge: adds the timings of another cache to those of the build.

    Returns:
        SHA-256 of the new content, hex.

    Raises:
        StorageError: it cannot be written.
    """
    with _locked(path):
        present = read_cache(path)
        content = made if present in (b"", given) else merge(present)
        with atomic_file(path) as partial:
            partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cache: a file beside it that stays, since a lock on the file itself would go with it."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
