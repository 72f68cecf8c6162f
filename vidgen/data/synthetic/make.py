"""Fills a clip store with drawn clips, in several processes but always in the same order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

from vidgen._child import child_command
from vidgen.data.store import StoreWriter
from vidgen.data.synthetic.mocap import mocap_files
from vidgen.data.synthetic.render import SyntheticClip, labels
from vidgen.data.synthetic.settings import SyntheticSettings
from vidgen.data.synthetic.worker import Share, read_clip
from vidgen.errors import DataError

#: A process takes about as long to start as it takes to draw this many 64x64 frames.
_WORTH_A_PROCESS = 1000


def synthesize(settings: SyntheticSettings, progress: Callable[[int, int], None] | None = None) -> Path:
    """Draw the clips and write them as a clip store named like ``faces-seed0``.

    Args:
        progress: called after each clip with the number of clips done and of all clips.

    Returns:
        The store's folder.

    Raises:
        StorageError: the folder exists and may not be replaced, or cannot be written.
        MissingDependencyError: ``mocap`` without pybullet; nothing was begun.
        DataError: a drawing process was killed. In any case nothing half-written is left.
    """
    if settings.kind == "mocap":
        mocap_files()
    writer = StoreWriter(
        settings.out,
        name=f"{settings.kind}-seed{settings.seed}",
        height=settings.size,
        width=settings.size,
        labels=labels(settings.kind),
        overwrite=settings.overwrite,
    )
    with writer, contextlib.closing(_clips(settings)) as clips:
        for index, clip in enumerate(clips):
            writer.add(
                clip.frames,
                source=f"{settings.kind}/seed{settings.seed}/{index:06d}",
                fps=float(settings.fps),
                label=clip.label,
                attributes=clip.attributes,
            )
            if progress is not None:
                progress(index + 1, settings.clips)
    return settings.out


def _workers(settings: SyntheticSettings) -> int:
    """How many processes to draw in; 1 is this one."""
    if not sys.executable:
        return 1
    if settings.workers:
        return min(settings.workers, settings.clips)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = settings.clips * settings.frames * settings.size**2 // 64**2
    return max(1, min(cores, settings.clips, work // _WORTH_A_PROCESS))


def _share(settings: SyntheticSettings, first: int, step: int) -> Share:
    return Share(
        settings.kind, settings.seed, settings.frames, settings.size, float(settings.fps), first, step, settings.clips
    )


def _clips(settings: SyntheticSettings) -> Generator[SyntheticClip, None, None]:
    """All clips in order."""
    workers = _workers(settings)
    # What pybullet says, and any crash of it, stays in a process of its own.
    if workers == 1 and (settings.kind != "mocap" or not sys.executable):
        whole = _share(settings, 0, 1)
        yield from map(whole.draw, range(settings.clips))
        return
    with contextlib.ExitStack() as stack:
        # Each process is a few clips ahead at most: then its pipe is full.
        processes = [stack.enter_context(_Process(_share(settings, first, workers))) for first in range(workers)]
        for index in range(settings.clips):
            yield processes[index % workers].clip(index)


class _Process:
    """A drawing process, ended with its ``with`` block."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            self._process = subprocess.Popen(
                child_command("vidgen.data.synthetic.worker", share.to_json()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # Ctrl-C in a terminal is for the main process, which then ends this one.
                start_new_session=True,
            )
        except BaseException:
            self._errors.close()
            raise

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def clip(self, index: int) -> SyntheticClip:
        assert self._process.stdout is not None
        clip = read_clip(self._process.stdout, self._share.frames, self._share.size)
        if clip is not None:
            return clip
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        by = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise DataError(
            f"cannot draw clip {index}",
            seen=f"its process ended with {by}" + (f", saying {lines[-1][:200]!r}" if lines else ""),
            cause="it was killed, or memory ran out" if status < 0 else "the Python environment is damaged",
            fix="run the command again with --workers 1",
        )
