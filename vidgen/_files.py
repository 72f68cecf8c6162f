"""Files and folders that appear whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidgen.errors import StorageError

#: Every unfinished file or folder starts with this, so that leftovers of a kill are easy to tell.
PARTIAL_PREFIX = ".partial-"


def _partial_name(path: Path) -> Path:
    if not path.name or path.name == "..":
        raise StorageError(
            f"cannot write {path}",
            seen="a path without a name of its own",
            cause="a folder was given where a name was expected",
            fix="name the file or folder to make",
        )
    # The suffix stays last: encoders choose the container by it.
    return path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Turn an ``OSError`` met while writing ``path`` into our error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause, fix = "the disk is full", f"free space on the disk of {path.parent} and run the command again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cause, fix = "no permission to write there", "choose another output path"
    else:
        cause, fix = "the path cannot be written", "choose another output path"
    return StorageError(f"cannot write {path}", seen=error.strerror or str(error), cause=cause, fix=fix)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it onto ``path`` when the block ends well.

    The content is synced to disk before the rename, so that a power cut leaves either the old or the new
    file. On any exception the partial file is removed and ``path`` is as it was.

    Raises:
        StorageError: the file cannot be written.
    """
    with atomic_files(path) as (partial,):
        yield partial


@contextlib.contextmanager
def atomic_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """As :func:`atomic_file`, for files that belong together: all are written before the first is renamed.

    Raises:
        StorageError: one of them cannot be written; none is changed.
    """
    partials = tuple(_partial_name(Path(path)) for path in paths)
    current = Path(paths[0])
    try:
        for path in map(Path, paths):
            current = path
            _refuse_folder(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_orphans(path)
        yield partials
        for partial in partials:
            _sync(partial)
        for path, partial in zip(paths, partials, strict=True):
            current = path
            os.replace(partial, path)
        for folder in {path.parent for path in partials}:
            _sync(folder)
    except OSError as error:
        raise storage_error(Path(current), error) from error
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise StorageError(
            f"cannot write {path}",
            seen="a folder of that name, expected a file or nothing",
            cause="the folder is something else",
            fix="choose another path, or remove the folder",
        )


def _remove_orphans(path: Path) -> None:
    """Remove unfinished files for ``path`` whose process was killed."""
    for left in path.parent.glob(f"{PARTIAL_PREFIX}*-{glob.escape(path.name)}"):
        number = left.name[len(PARTIAL_PREFIX) : -len(path.name) - 1]
        if number.isdigit() and not _lives(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``path``; rename it onto ``path`` when the block ends well.

    Args:
        replace: an existing folder at ``path`` is removed just before the rename; without it an existing
            non-empty folder is an error.

    Raises:
        StorageError: the folder cannot be written, or exists and ``replace`` is false.
    """
    path = Path(path)
    partial = _partial_name(path)
    try:
        if not replace:
            _refuse_full_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                _sync(file)
        _exchange(partial, path)
        _sync(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_full_folder(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(
            f"cannot write {path}",
            seen="it exists and is not empty" if path.is_dir() else "it exists and is not a folder",
            cause="an earlier run wrote it, or it is used for something else",
            fix="choose another path, or remove it first",
        )


def _exchange(new: Path, path: Path) -> None:
    """Rename ``new`` onto ``path``; what stood there is put back if that fails, and removed if it does not."""
    if not path.exists():
        os.replace(new, path)
        return
    retired = path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-old-{path.name}")
    os.replace(path, retired)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(retired, path)
        raise
    if retired.is_dir():
        shutil.rmtree(retired, ignore_errors=True)
    else:
        retired.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left unfinished directly in a folder; nobody else may be writing there."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON with a final newline."""
    with atomic_file(path) as partial:
        partial.write_text(json_text(value), encoding="utf-8")


def json_text(value: Any) -> str:
    """``value`` as indented JSON with a final newline."""
    return json.dumps(value, indent=2) + "\n"


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
