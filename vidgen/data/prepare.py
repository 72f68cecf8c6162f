"""Turns videos, frame folders, image strips and the reference's arrays into a clip store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidgen._files import PARTIAL_PREFIX, storage_error
from vidgen.data.decode_pool import Decoded, DecodePool
from vidgen.data.decode_worker import Job
from vidgen.data.layouts import ReadOptions, SourceClip, unreadable
from vidgen.data.prepare_report import (
    Note,
    PrepareReport,
    Progress,
    Skipped,
    default_name,
    nothing_usable,
    unused_labels,
)
from vidgen.data.prepare_settings import PrepareSettings
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS
from vidgen.data.sources import find_labels, find_sources
from vidgen.data.store import StoreWriter, Window
from vidgen.errors import DataError

__all__ = ["Note", "PrepareReport", "PrepareSettings", "Progress", "Skipped", "prepare"]

#: Processor time after which a decoder is ended, in seconds a clip.
CPU_SECONDS = 3600
_BLOCK_FRAMES = 64


def prepare(settings: PrepareSettings, progress: Callable[[Progress], None] | None = None) -> PrepareReport:
    """Make a clip store from what lies at ``settings.source``.

    Sources are decoded in processes of limited memory and time; one that crashes its decoder, or is damaged,
    too short or of changing size, is skipped and reported by name. The store depends on the sources and the
    settings alone, not on the number of processes. On any error, and on Ctrl-C, nothing is left at ``out``.

    Args:
        settings: what to read and how.
        progress: called after each source, in order, and about every second while one is waited for.

    Raises:
        DataError: nothing usable was found, or with ``strict`` a source cannot be used.
        StorageError: the store cannot be written.
        SettingsError: the layout does not exist.
    """
    if settings.layout in REFERENCE_LAYOUTS:
        from vidgen.data.prepare_reference import prepare_reference

        return prepare_reference(settings, progress)
    layout, listing = find_sources(settings)
    labels = find_labels(settings, listing)
    clips = listing.clips
    writer = StoreWriter(
        settings.out,
        name=settings.name or default_name(settings.source.resolve()),
        height=settings.size,
        width=settings.size,
        labels=labels,
        overwrite=settings.overwrite,
    )
    run = _Run(settings, writer, labels, len(clips), progress)
    with writer:
        with _spool_folder(settings) as spool, _pool(settings, len(clips)) as pool:
            for job, decoded in pool.run(_jobs(settings, layout, clips, Path(spool)), run.wait):
                run.take(job, decoded)
        if not writer.clips:
            raise nothing_usable(settings, run.skipped)
    assert writer.info is not None
    return PrepareReport(
        out=settings.out,
        info=writer.info,
        layout=layout,
        sources=len(clips),
        skipped=tuple(run.skipped),
        notes=(*run.notes, *unused_labels(labels, writer.clips)),
        ignored=listing.ignored,
    )


@dataclass
class _Run:
    """One ``prepare`` under way: what is done with each clip that comes out of the decoders."""

    settings: PrepareSettings
    writer: StoreWriter
    labels: tuple[str, ...]
    total: int
    progress: Callable[[Progress], None] | None
    done: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def wait(self, job: Job, frames: int) -> None:
        """A clip is being decoded, and this many of its frames are."""
        if self.progress is not None:
            name, writer = job.clip.name, self.writer
            self.progress(Progress(self.done, self.total, name, len(writer.clips), writer.frames, frames))

    def take(self, job: Job, decoded: Decoded | DataError) -> None:
        """Write a decoded clip, or put down why it is skipped; with ``strict``, raise that."""
        try:
            if isinstance(decoded, DataError):
                raise decoded
            _store(self.settings, self.writer, job, decoded, _label_number(job.clip, self.labels))
            self.notes += [Note(job.clip.name, text) for text in decoded.notes]
        except DataError as error:
            if self.settings.strict:
                raise
            self.skipped.append(Skipped(job.clip.name, f"{error.seen}: {error.cause}"))
        finally:
            job.spool.unlink(missing_ok=True)
        self.done += 1
        self.wait(job, 0)


def _spool_folder(settings: PrepareSettings) -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk of the store, for frames whose clip is not known to be whole yet."""
    try:
        return tempfile.TemporaryDirectory(
            prefix=f"{PARTIAL_PREFIX}{os.getpid()}-spool-", dir=settings.out.resolve().parent
        )
    except OSError as error:
        raise storage_error(settings.out, error) from error


def _pool(settings: PrepareSettings, clips: int) -> DecodePool:
    workers = min(settings.workers or _processors(), clips)
    return DecodePool(workers, memory_bytes=settings.memory_mib << 20, timeout=settings.timeout)


def _processors() -> int:
    """Processors that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jobs(settings: PrepareSettings, layout: str, clips: tuple[SourceClip, ...], spool: Path) -> Iterator[Job]:
    options = ReadOptions(settings.max_pixels, settings.max_frames, settings.strip_size)
    for number, clip in enumerate(clips):
        yield Job(
            layout=layout,
            clip=clip,
            options=options,
            size=settings.size,
            crop=settings.media_crop,
            fps=settings.fps,
            resample=settings.resample == "auto",
            spool=spool / f"{number}.rgb",
            cpu_seconds=CPU_SECONDS,
        )


def _label_number(clip: SourceClip, labels: tuple[str, ...]) -> int | None:
    if not labels:
        return None
    if clip.label not in labels:
        raise unreadable(clip, "it has no label", "it lies in no folder that names a class")
    return labels.index(clip.label)


def _store(settings: PrepareSettings, writer: StoreWriter, job: Job, decoded: Decoded, label: int | None) -> None:
    """Copy the chosen frames from the spool file to the store, as one clip or as windows.

    Raises:
        DataError: there are too few frames.
    """
    order = np.arange(decoded.frames) if decoded.order is None else np.asarray(decoded.order)
    order = order[:: settings.frame_step]
    length, need = len(order), settings.window or settings.min_frames
    if length < need:
        step = f" with --frame-step {settings.frame_step}" if settings.frame_step > 1 else ""
        held = "1 frame" if length == 1 else f"{length} frames"
        raise unreadable(job.clip, f"it has {held}{step}, at least {need} are needed", "it is too short")
    shape = (decoded.frames, settings.size, settings.size, 3)
    frames = np.memmap(job.spool, dtype=np.uint8, mode="r", shape=shape)
    for chosen, windows in _runs(order, settings):
        writer.extend(
            (np.asarray(frames[chosen[i : i + _BLOCK_FRAMES]]) for i in range(0, len(chosen), _BLOCK_FRAMES)),
            windows,
            source=job.clip.name,
            fps=decoded.fps / settings.frame_step,
            label=label,
            attributes=job.clip.attributes,
        )


def _runs(
    order: npt.NDArray[np.int64], settings: PrepareSettings
) -> Iterator[tuple[npt.NDArray[np.int64], list[Window]]]:
    """Runs of frames with the clips in each: frames that windows share are stored once, unused ones not."""
    if settings.window is None:
        yield order, [Window(0, len(order))]
        return
    length = settings.window
    stride = settings.window_stride or length
    starts = range(0, len(order) - length + 1, stride)
    if stride >= length:
        for start in starts:
            first = {"first_frame": int(order[start])}
            yield order[start : start + length], [Window(0, length, first)]
    else:
        windows = [Window(start, length, {"first_frame": int(order[start])}) for start in starts]
        yield order[: starts[-1] + length], windows
