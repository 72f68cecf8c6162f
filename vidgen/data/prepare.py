"""Turns videos, frame folders and image strips into a clip store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen._files import PARTIAL_PREFIX, storage_error
from vidgen.data.decode_pool import Decoded, DecodePool
from vidgen.data.decode_worker import Job
from vidgen.data.layouts import ReadOptions, SourceClip, unreadable
from vidgen.data.prepare_settings import PrepareSettings
from vidgen.data.sources import find_labels, find_sources
from vidgen.data.store import StoreInfo, StoreWriter, Window
from vidgen.data.transform import parse_crop
from vidgen.errors import DataError

__all__ = ["Note", "PrepareReport", "PrepareSettings", "Progress", "Skipped", "prepare"]

#: Processor time after which a decoder is ended, in seconds a clip.
CPU_SECONDS = 3600
_BLOCK_FRAMES = 64


@dataclass(frozen=True)
class Skipped:
    """A source that is not in the store, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Note:
    """A source (or label) that is in the store, and what is unexpected about it."""

    name: str
    text: str


@dataclass(frozen=True)
class PrepareReport:
    """What ``prepare`` did.

    Args:
        out: folder of the store.
        info: what the store holds.
        layout: the layout that was used.
        sources: number of sources found.
        skipped: those that are not in the store.
        notes: those that were read otherwise than one might expect, e.g. resampled.
        ignored: files that are no part of the layout.
    """

    out: Path
    info: StoreInfo
    layout: str
    sources: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()
    ignored: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "out": str(self.out)}


@dataclass(frozen=True)
class Progress:
    """How far ``prepare`` is: sources done of all, the last one's name, clips and frames written so far."""

    done: int
    total: int
    name: str
    clips: int
    frames: int


def prepare(settings: PrepareSettings, progress: Callable[[Progress], None] | None = None) -> PrepareReport:
    """Make a clip store from what lies at ``settings.source``.

    Sources are decoded in processes of limited memory and time; one that crashes its decoder, or is damaged,
    too short or of changing size, is skipped and reported by name. The store depends on the sources and the
    settings alone, not on the number of processes. On any error, and on Ctrl-C, nothing is left at ``out``.

    Args:
        settings: what to read and how.
        progress: called after each source, in order.

    Raises:
        DataError: nothing usable was found, or with ``strict`` a source cannot be used.
        StorageError: the store cannot be written.
        SettingsError: the layout does not exist.
    """
    layout, listing = find_sources(settings)
    labels = find_labels(settings, listing)
    skipped: list[Skipped] = []
    notes: list[Note] = []
    writer = StoreWriter(
        settings.out,
        name=settings.name or settings.source.resolve().stem or "clips",
        height=settings.size,
        width=settings.size,
        labels=labels,
        overwrite=settings.overwrite,
    )
    clips = listing.clips
    with writer:
        with _spool_folder(settings) as spool, _pool(settings, len(clips)) as pool:
            jobs = _jobs(settings, layout, clips, Path(spool))
            for done, (job, decoded) in enumerate(pool.run(jobs), 1):
                outcome = _keep(settings, writer, job, decoded, labels)
                name = job.clip.name
                if isinstance(outcome, DataError):
                    if settings.strict:
                        raise outcome
                    skipped.append(Skipped(name, f"{outcome.seen}: {outcome.cause}"))
                else:
                    notes += [Note(name, text) for text in outcome]
                if progress is not None:
                    progress(Progress(done, len(clips), name, len(writer.clips), writer.frames))
        if not writer.clips:
            raise _nothing_usable(settings, skipped)
    assert writer.info is not None
    used = {clip.label for clip in writer.clips}
    notes += [Note(label, "no clip has this label") for i, label in enumerate(labels) if i not in used]
    return PrepareReport(
        out=settings.out,
        info=writer.info,
        layout=layout,
        sources=len(listing.clips),
        skipped=tuple(skipped),
        notes=tuple(notes),
        ignored=listing.ignored,
    )


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
            crop=parse_crop(settings.crop),
            fps=settings.fps,
            resample=settings.resample == "auto",
            spool=spool / f"{number}.rgb",
            cpu_seconds=CPU_SECONDS,
        )


def _keep(
    settings: PrepareSettings,
    writer: StoreWriter,
    job: Job,
    decoded: Decoded | DataError,
    labels: tuple[str, ...],
) -> tuple[str, ...] | DataError:
    """Write a decoded clip; give back what is to be said about it, or why it is not used."""
    try:
        if isinstance(decoded, DataError):
            return decoded
        _store(settings, writer, job, decoded, _label_number(job.clip, labels))
        return decoded.notes
    except DataError as error:
        return error
    finally:
        job.spool.unlink(missing_ok=True)


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


def _nothing_usable(settings: PrepareSettings, skipped: list[Skipped]) -> DataError:
    reasons = "; ".join(f"{source.name}: {source.reason}" for source in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return DataError(
        f"no clip can be made from {settings.source}",
        seen=f"skipped {reasons}{more}",
        cause="the files are damaged or too short, or the options do not fit them",
        fix="pass other files, or change --window, --min-frames, --max-pixels or --crop to fit these",
    )
