"""One sampling job from settings to files: `vidgen sample`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import StorageError
from vidgen.runtime.backends import backend_for, manifest_of, open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.latents import label_indices, video_labels
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.overview import Overview
from vidgen.runtime.plan import PlannedVideo, Unit, plan_units, plan_videos
from vidgen.runtime.record import claim
from vidgen.runtime.sampler import Sampler, check_range, output_for
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks import Sink
from vidgen.runtime.writer import FileWriter

#: Called with (videos done, videos in all), from the thread that samples.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SampleReport:
    """What a job did.

    Attributes:
        out: its folder. files: the videos of the job, or of its shard, in order. sheets: the overview images.
        written, kept: how many of the files were made now, and how many an earlier run had made.
        seconds: in all. compute_seconds: of these in the backend.
        backend: what ran, see :meth:`Backend.describe`; empty when nothing was left to make.
    """

    out: Path
    files: tuple[Path, ...]
    sheets: tuple[Path, ...]
    written: int
    kept: int
    seconds: float
    compute_seconds: float
    backend: dict[str, str]

    @property
    def videos_per_second(self) -> float:
        """Videos written a second, encoding and writing included."""
        return self.written / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "out": str(self.out),
            "files": [str(path) for path in self.files],
            "sheets": [str(path) for path in self.sheets],
            "videos_per_second": self.videos_per_second,
        }


@dataclass(frozen=True)
class _Job:
    """Everything a run needs that follows from the settings and the manifest alone."""

    settings: SampleSettings
    manifest: Manifest
    backend: str
    labels: tuple[int, ...] | None
    videos: tuple[PlannedVideo, ...]
    units: tuple[Unit, ...]
    sink: Sink
    overview: Overview

    @property
    def fps(self) -> float:
        return self.settings.fps or self.manifest.fps

    def path(self, video: PlannedVideo) -> Path:
        return self.settings.out / f"{video.name}.{self.sink.extension}"

    def decisive(self) -> dict[str, Any]:
        """Every setting that changes the content of files; only runs that agree in all of them mix."""
        settings = self.settings
        several = settings.several_lengths
        values = {
            "artifact": self.manifest.sha256 or self.manifest.checkpoint_sha256,
            "model": self.manifest.model,
            "backend": self.backend,
            "device": settings.device,
            "n": settings.videos,
            "seed": settings.seed,
            "labels": None if self.labels is None else list(self.labels),
            "grid": settings.grid and "x".join(str(size) for size in settings.grid_size or ()),
            "frames": settings.frames if several else self.videos[0].frames,
            "range": settings.range,
            "batch": settings.batch,
            "fps": self.fps,
            "format": settings.format,
        }
        if settings.range == "batch-minmax":
            values["group"] = settings.normalised_together
        if dataclasses.is_dataclass(self.sink):
            values |= dataclasses.asdict(self.sink)
        return values

    def facts(self) -> dict[str, Any]:
        """What else the record tells: the labels of the videos."""
        indices = sorted({video.motion for video in self.videos})
        labels = video_labels(self.manifest.interface, self.settings.seed, indices, self.labels)
        if labels is None:
            return {"engine": str(self.settings.engine)}
        names = self.manifest.labels
        return {
            "engine": str(self.settings.engine),
            "labels": {str(i): names[label] if names else label for i, label in zip(indices, labels)},
        }


def sample(
    settings: SampleSettings, progress: Progress | None = None, *, backend: Backend | None = None
) -> SampleReport:
    """Make the videos of a job and write them, computing and encoding at the same time.

    Files are named by index and appear whole or not at all, so a run that was killed at any moment goes on with
    ``resume=True`` and ends with the files of an uninterrupted run: units are always computed in the same
    composition, and those that are complete are not computed again.

    Args:
        progress: called at the start and after each file.
        backend: an open backend to use instead of opening the engine; it stays open.

    Raises:
        VidgenError: the artifact cannot be used, the folder cannot be written, or the settings do not suit.
        KeyboardInterrupt: Ctrl-C, after the encoding threads have ended; complete files stay.
    """
    start = time.perf_counter()
    job = _plan(settings, backend)
    files = [job.path(video) for unit in job.units for video in unit]
    own = [path.name for path in files]
    every = [job.path(video).name for video in job.videos] + list(job.overview.names)
    with claim(settings, job.decisive(), own=own, every=every, more=job.facts()):
        missing = {path for path in files if not path.exists()}
        drawing = job.overview.wanted
        units = [
            unit
            for unit in job.units
            if any(job.path(video) in missing or (drawing and job.overview.shows(video)) for video in unit)
        ]
        compute = 0.0
        described: dict[str, str] = {}
        if progress:
            progress(len(files) - len(missing), len(files))
        with _disk_full_names_resume(settings):
            if units:
                overview = job.overview if drawing else None
                compute, described = _make(job, units, missing, overview, progress, backend)
            if drawing:
                job.overview.write(job.fps)
    sheets = tuple(path for path in job.overview.paths if path.exists())
    kept = len(files) - len(missing)
    seconds = time.perf_counter() - start
    return SampleReport(settings.out, tuple(files), sheets, len(missing), kept, seconds, compute, described)


@contextlib.contextmanager
def _disk_full_names_resume(settings: SampleSettings) -> Iterator[None]:
    """Add to a full disk's error the command that goes on from there."""
    try:
        yield
    except StorageError as error:
        if getattr(error.__cause__, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fix = f"free space on the disk of {settings.out}, then: {settings.command(resume=True)}"
        raise StorageError(error.what, seen=error.seen, cause=error.cause, fix=fix) from error


def _plan(settings: SampleSettings, backend: Backend | None) -> _Job:
    """Check everything that can be checked before a file or the model is touched."""
    if backend is None:
        name = backend_for(settings.engine, settings.backend)
        manifest = manifest_of(settings.engine, output=output_for(settings.engine, settings.range))
    else:
        name, manifest = backend.name, backend.manifest
    check_range(settings.range, manifest)
    interface = manifest.interface
    labels = label_indices(interface, manifest.labels, settings.labels) if settings.labels else None
    videos = plan_videos(settings, interface)
    overview = Overview(settings, interface.output, videos[0].frames)
    units = plan_units(settings, videos)
    return _Job(settings, manifest, name, labels, tuple(videos), tuple(units), settings.sink(), overview)


def _make(
    job: _Job,
    units: list[Unit],
    missing: set[Path],
    overview: Overview | None,
    progress: Progress | None,
    backend: Backend | None,
) -> tuple[float, dict[str, str]]:
    """Compute some units and write the missing files; return the seconds of computing and what ran."""
    settings = job.settings
    total = sum(len(unit) for unit in job.units)
    done = total - len(missing)

    def count(path: Path) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    with contextlib.ExitStack() as stack:
        if backend is None:
            output = output_for(settings.engine, settings.range)
            backend = stack.enter_context(
                open_backend(
                    settings.engine,
                    settings.backend,
                    threads=settings.threads,
                    device=settings.device,
                    output=output,
                    trust=settings.trust,
                )
            )
        sampler = Sampler(backend, batch=settings.batch, range=settings.range, group=settings.normalised_together)
        compute = 0.0
        waiting = max(len(unit) for unit in units)
        writer = FileWriter(job.sink, job.fps, threads=settings.encoders, waiting=waiting, written=count)
        with writer:
            for unit in units:
                start = time.perf_counter()
                frames = sampler.render(
                    [video.index for video in unit],
                    motion=[video.motion for video in unit],
                    seed=settings.seed,
                    labels=job.labels,
                    frames=unit[0].frames,
                )
                compute += time.perf_counter() - start
                for video, clip in zip(unit, frames):
                    if overview:
                        overview.put(video, clip)
                    if job.path(video) in missing:
                        writer.put(job.path(video), clip)
        return compute, backend.describe()
