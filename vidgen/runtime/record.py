"""The record of a run in its output folder, samples.json: what may be resumed, and who is writing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from vidgen import __version__
from vidgen._files import PARTIAL_PREFIX, storage_error, write_json
from vidgen.errors import SamplingError, StorageError
from vidgen.runtime.settings import SampleSettings

FORMAT = 1
PATTERN = "samples*.json"


def record_name(settings: SampleSettings) -> str:
    """``samples.json``; a shard has its own, ``samples-0-of-4.json``, so that shards can share a folder."""
    shard, shards = settings.shard_of
    return "samples.json" if settings.shard is None else f"samples-{shard}-of-{shards}.json"


@contextlib.contextmanager
def claim(
    settings: SampleSettings,
    decisive: Mapping[str, Any],
    *,
    own: Collection[str],
    every: Collection[str],
    more: Mapping[str, Any],
) -> Iterator[None]:
    """Own the output folder's part of this job while the block runs.

    Checks that the folder is free or holds a run that may be resumed, writes the record, and removes what a killed
    run left unfinished. A lock on the record keeps a second run of the same job out; the system drops it with the
    process, however that ends. A run that fails before its first file takes its record with it: another may follow.

    Args:
        decisive: everything that changes file content, by option name.
        own: names of the files that this job, or this shard of it, writes; with ``/`` if they lie in sub-folders.
        every: names of the files of all its shards.
        more: further facts for the reader of the record.

    Raises:
        StorageError: the folder cannot be written, or holds files of another run.
        SamplingError: resuming with settings that would change pixels, or another process is at it.
    """
    out, name = settings.out, record_name(settings)
    with contextlib.ExitStack() as held:
        try:
            found = out.exists(), (out / name).exists()
            out.mkdir(parents=True, exist_ok=True)
            with _folder_lock(out):
                _lock(settings, out / name, held)
                _check(settings, decisive, own)
                if _write(settings, out / name, decisive, more):
                    _lock(settings, out / name, held)
                _remove_leftovers(out, name, {*every, *(path.name for path in out.glob(PATTERN)), name})
        except OSError as error:
            raise storage_error(out, error) from error
        try:
            yield
        except BaseException:
            _withdraw(out, name, own, *found)
            raise


def _check(settings: SampleSettings, decisive: Mapping[str, Any], own: Collection[str]) -> None:
    """Raise unless this run may write into the folder."""
    out, name = settings.out, record_name(settings)
    records = {path.name: _read(path, settings) for path in sorted(out.glob(PATTERN))}
    for found, values in records.items():
        difference = _difference(values, decisive, own=found == name)
        if difference:
            raise SamplingError(
                f"cannot write to {out}",
                seen=difference,
                cause=f"an earlier run wrote {found} there with settings that give other files",
                fix=settings.elsewhere(),
            )
    present = [target for target in own if (out / target).exists()]
    if not present and (settings.resume or name not in records):
        return
    if settings.resume and records:
        return
    raise StorageError(
        f"cannot write to {out}",
        seen=f"{len(present)} of the files to write are there" if present else f"{name} of an earlier run",
        cause="an earlier run wrote them" if records else "another program, or another version, wrote them",
        fix=settings.command(resume=True) if records else settings.elsewhere(),
    )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], own: bool) -> str:
    """The first few settings that differ, "" where none does. A run may be resumed with more videos."""
    unlike = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if new.get("range") == "model" and new.get("grid") is None and "n" in unlike and (not own or old["n"] < new["n"]):
        unlike.remove("n")
    return "; ".join(f"{key} is {old.get(key)!r} there, {new.get(key)!r} here" for key in unlike[:3])


def _read(path: Path, settings: SampleSettings) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}, expected {FORMAT}")
        if not isinstance(values["settings"]["n"], int):
            raise TypeError(f"n is {values['settings']['n']!r}, expected a number")
        return dict(values["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"cannot write to {path.parent}",
            seen=f"{path.name}: {type(error).__name__} {error}",
            cause="another program, or another version, wrote this file",
            fix=settings.elsewhere(),
        ) from error


def _write(settings: SampleSettings, path: Path, decisive: Mapping[str, Any], more: Mapping[str, Any]) -> bool:
    """Write the record where there is none, or where the number of videos has grown; return whether it was."""
    if path.exists() and _read(path, settings) == dict(decisive):
        return False
    record = {
        "format": FORMAT,
        "program": f"vidgen {__version__}",
        "command": settings.command(resume=False),
        "settings": dict(decisive),
        **more,
    }
    write_json(path, record)
    return True


def _withdraw(out: Path, name: str, own: Collection[str], had_folder: bool, had_record: bool) -> None:
    """Remove the record, and the folder, that a run made and put nothing into."""
    if had_record or any((out / each).exists() for each in own):
        return
    with contextlib.suppress(OSError), _folder_lock(out):
        (out / name).unlink()
        if not had_folder:
            out.rmdir()


@contextlib.contextmanager
def _folder_lock(out: Path) -> Iterator[None]:
    """Keep others from checking and claiming at the same instant."""
    descriptor = os.open(out, os.O_RDONLY)
    try:
        # Some network file systems cannot lock a folder; then only the record's own lock is left.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(settings: SampleSettings, path: Path, held: contextlib.ExitStack) -> None:
    """Lock a record, if it is there, until ``held`` is left."""
    if not path.exists():
        return
    descriptor = os.open(path, os.O_RDWR)
    held.callback(os.close, descriptor)
    if not _try_lock(descriptor):
        raise SamplingError(
            f"cannot write to {path.parent}",
            seen=f"{path.name} is in use",
            cause="another vidgen sample is running there",
            fix=f"wait for it to end, or: {settings.elsewhere()}",
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: as if nobody else were there
    return True


def _remove_leftovers(out: Path, name: str, ours: Collection[str]) -> None:
    """Remove unfinished files of killed runs, unless another shard may be writing one just now."""
    for path in out.glob(PATTERN):
        if path.name != name:
            with open(path, "r+b") as stream:
                if not _try_lock(stream.fileno()):
                    return
    for folder in {out / name for name in map(os.path.dirname, ours)}:
        for path in folder.glob(PARTIAL_PREFIX + "*"):
            match = re.fullmatch(re.escape(PARTIAL_PREFIX) + r"[0-9]+-(.+)", path.name)
            if match and (folder / match[1]).relative_to(out).as_posix() in ours:
                path.unlink(missing_ok=True)
