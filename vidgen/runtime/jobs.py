"""One sampling job from settings to files: `vidgen sample`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidgen.errors import SamplingError, StorageError
from vidgen.models.config import ModelInterface
from vidgen.runtime.backends import backend_for, device_for, manifest_of, open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.first_frames import FirstFrames, read_first_frames
from vidgen.runtime.latents import check_first_frames, label_indices, video_labels
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.outputs import OutputFiles
from vidgen.runtime.overview import Overview
from vidgen.runtime.plan import PlannedVideo, Unit, plan_units, plan_videos
from vidgen.runtime.record import claim
from vidgen.runtime.sampler import Rendered, Request, Sampler, check_range, output_for, usual_batch
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
        masks, strips: the images of masks and of frames, one a video, where they were asked for.
        written, kept: how many of the videos were made now, and how many an earlier run had made, with their images.
        seconds: in all. compute_seconds: of these waiting for the backend.
        backend: what ran, see :meth:`Backend.describe`; empty when nothing was left to make.
    """

    out: Path
    files: tuple[Path, ...]
    sheets: tuple[Path, ...]
    masks: tuple[Path, ...]
    strips: tuple[Path, ...]
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
            **{name: [str(path) for path in getattr(self, name)] for name in ("files", "sheets", "masks", "strips")},
            "videos_per_second": self.videos_per_second,
        }


@dataclass(frozen=True)
class _Job:
    """Everything a run needs that follows from the settings and the manifest alone."""

    settings: SampleSettings
    manifest: Manifest
    backend: str
    batch: int
    labels: tuple[int, ...] | None
    videos: tuple[PlannedVideo, ...]
    units: tuple[Unit, ...]
    sink: Sink
    overview: Overview
    first: FirstFrames | None

    @property
    def fps(self) -> float:
        return self.settings.fps or self.manifest.fps

    @property
    def outputs(self) -> OutputFiles:
        return OutputFiles(self.settings, self.sink)

    def render(self, sampler: Sampler, units: Sequence[Unit]) -> Iterator[Rendered]:
        """The videos of each unit, with their masks if these are to be written."""
        requests = (
            Request(
                [video.index for video in unit],
                motion=[video.motion for video in unit],
                seed=self.settings.seed,
                labels=self.labels if unit[0].label is None else (unit[0].label,),
                frames=unit[0].frames,
                first_frames=None if self.first is None else self.first.frames,
            )
            for unit in units
        )
        return sampler.stream(requests, extras=self.settings.masks)

    def decisive(self) -> dict[str, Any]:
        """Every setting that changes the content of files; only runs that agree in all of them mix."""
        settings = self.settings
        several = settings.several_lengths
        values = {
            "artifact": self.manifest.sha256 or self.manifest.checkpoint_sha256,
            "model": self.manifest.model,
            "backend": self.backend,
            "device": device_for(settings.engine, settings.device),
            "n": settings.videos,
            "seed": settings.seed,
            "labels": None if self.labels is None else list(self.labels),
            "grid": settings.grid and "x".join(str(size) for size in settings.grid_size or ()),
            "frames": settings.frames if several else self.videos[0].frames,
            "range": settings.range,
            "batch": self.batch,
            "fps": self.fps,
            "format": settings.format,
        }
        if settings.range == "batch-minmax":
            values["group"] = settings.normalised_together
        # Added only where they are used: records of versions without them stay valid.
        values |= {name: True for name in ("masks", "strips") if getattr(settings, name)}
        if settings.by_class:
            values["grid_by"] = "class"
            values["labels"] = list({video.cell: video.label for video in self.videos if video.motion == 0}.values())
        if self.first:
            values["first_frame"] = self.first.sha256
        if dataclasses.is_dataclass(self.sink):
            values |= dataclasses.asdict(self.sink)
        return values

    def facts(self) -> dict[str, Any]:
        """What else the record tells: the first frames, and the class of each video.

        Classes are by video index; in a grid by column, or by row where rows are classes.
        """
        facts: dict[str, Any] = {"engine": str(self.settings.engine)}
        if self.first:
            facts["first_frames"] = {"source": str(self.first.source), "names": list(self.first.names)}
        classes = _classes(self.settings, self.manifest, self.videos, self.labels)
        return {**facts, "labels": {str(key): name for key, name in classes.items()}} if classes else facts


def _classes(
    settings: SampleSettings, manifest: Manifest, videos: Sequence[PlannedVideo], labels: tuple[int, ...] | None
) -> dict[int, str | int]:
    """Index of a video, column of a grid, or row of one by class -> name of its class, or number; empty if none."""
    if settings.by_class:
        numbers = {video.cell[0]: video.label for video in videos if video.cell and video.label is not None}
    else:
        indices = sorted({video.motion for video in videos})
        numbers = dict(zip(indices, video_labels(manifest.interface, settings.seed, indices, labels) or ()))
    names = manifest.labels
    return {key: names[number] if names else number for key, number in numbers.items()}


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
    outputs = job.outputs
    videos = [video for unit in job.units for video in unit]
    own = [name for video in videos for name in outputs.names(video)]
    every = [name for video in job.videos for name in outputs.names(video)] + list(job.overview.names)
    with claim(settings, job.decisive(), own=own, every=every, more=job.facts()):
        missing = {video: paths for video in videos if (paths := [p for p in outputs.of(video) if not p.exists()])}
        drawing = job.overview.wanted
        units = [
            unit
            for unit in job.units
            if any(video in missing or (drawing and job.overview.shows(video)) for video in unit)
        ]
        compute = 0.0
        described: dict[str, str] = {}
        kept = len(videos) - len(missing)
        if progress:
            progress(kept, len(videos))
        with _disk_full_names_resume(settings):
            if units:
                overview = job.overview if drawing else None
                compute, described = _make(job, units, missing, overview, progress, backend)
            if drawing:
                job.overview.write(job.fps)
    return SampleReport(
        out=settings.out,
        files=tuple(outputs.video(video) for video in videos),
        sheets=tuple(path for path in job.overview.paths if path.exists()),
        masks=tuple(path for video in videos if (path := outputs.masks(video))),
        strips=tuple(path for video in videos if (path := outputs.strip(video))),
        written=len(missing),
        kept=kept,
        seconds=time.perf_counter() - start,
        compute_seconds=compute,
        backend=described,
    )


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
        manifest = manifest_of(settings.engine, **_wanted(settings), trust=settings.trust)
    else:
        name, manifest = backend.name, backend.manifest
    check_range(settings.range, manifest)
    interface = manifest.interface
    _check_masks(settings, interface)
    first = _first_frames(settings, interface)
    labels = _labels(settings, manifest, first)
    videos = plan_videos(settings, interface, labels)
    classes = _classes(settings, manifest, videos, labels)
    overview = Overview(settings, interface.output, videos[0].frames, tuple(map(str, classes.values())))
    batch = settings.batch or usual_batch(manifest)
    units = tuple(plan_units(settings, videos, batch))
    return _Job(settings, manifest, name, batch, labels, tuple(videos), units, settings.sink(), overview, first)


def _labels(settings: SampleSettings, manifest: Manifest, first: FirstFrames | None) -> tuple[int, ...] | None:
    """Labels to take in turn: those asked for, else the classes of the clips that videos go on from; None to draw."""
    names = manifest.labels
    if settings.labels:
        return label_indices(manifest.interface, names, settings.labels)
    if settings.grid or first is None or not first.labels or not names:
        return None
    unknown = sorted({label for label in first.labels if label not in names})
    if unknown:
        raise SamplingError(
            f"cannot go on from the clips of {first.source} as what they show",
            seen=f"clips of {unknown[0]}, expected {', '.join(names)}",
            cause="the store holds other classes than the model was trained on",
            fix=f"name the classes to show: --labels {names[0]}",
        )
    return tuple(names.index(label) for label in first.labels)


def _wanted(settings: SampleSettings) -> dict[str, Any]:
    """What the artifact must be able to do."""
    return {
        "output": output_for(settings.engine, settings.range),
        "masks": settings.masks,
        "conditional": settings.first_frame is not None,
    }


def _check_masks(settings: SampleSettings, interface: ModelInterface) -> None:
    if settings.masks and not interface.extras:
        raise SamplingError(
            "cannot write masks",
            seen=f"a model with the output {interface.output.name} alone",
            cause="it was opened without masks, or its family has none",
            fix="vidgen export CHECKPOINT.safetensors -o MODEL.onnx --masks, or drop --masks",
        )


def _first_frames(settings: SampleSettings, interface: ModelInterface) -> FirstFrames | None:
    """The first frames asked for, which suit the model."""
    spec = next((spec for spec in interface.inputs if spec.kind == "image"), None)
    if settings.first_frame is None or spec is None:
        # Says which of the two is missing, if one is.
        given = None if settings.first_frame is None else np.zeros((1, 3, 1, 1), np.float32)
        check_first_frames(interface, given)
        return None
    first = read_first_frames(settings.first_frame, int(spec.shape[-1]))
    check_first_frames(interface, first.frames)
    return first


def _make(
    job: _Job,
    units: list[Unit],
    missing: dict[PlannedVideo, list[Path]],
    overview: Overview | None,
    progress: Progress | None,
    backend: Backend | None,
) -> tuple[float, dict[str, str]]:
    """Compute some units and write the missing files; return the seconds of computing and what ran."""
    settings, outputs = job.settings, job.outputs
    total = sum(len(unit) for unit in job.units)
    done = total - len(missing)
    # Files are reported in order: with its last one a video is made.
    last = {paths[-1] for paths in missing.values()}

    def count(path: Path) -> None:
        nonlocal done
        done += path in last
        if progress and path in last:
            progress(done, total)

    with contextlib.ExitStack() as stack:
        if backend is None:
            opened = open_backend(
                settings.engine,
                settings.backend,
                threads=settings.threads,
                device=settings.device,
                trust=settings.trust,
                **_wanted(settings),
            )
            backend = stack.enter_context(opened)
        sampler = Sampler(backend, batch=job.batch, range=settings.range, group=settings.normalised_together)
        compute = 0.0
        waiting = max(len(unit) for unit in units) * len(outputs.of(units[0][0]))
        writer = FileWriter(job.sink, job.fps, threads=settings.encoders, waiting=waiting, written=count)
        with writer:
            coming = job.render(sampler, units)
            for unit in units:
                start = time.perf_counter()
                made = next(coming)
                compute += time.perf_counter() - start
                for row, (video, clip) in enumerate(zip(unit, made.videos)):
                    if overview:
                        overview.put(video, clip)
                    masks = {name: array[row] for name, array in made.extras.items()}
                    for path, frames, sink in outputs.content(video, clip, masks):
                        if path in missing.get(video, ()):
                            writer.put(path, frames, sink)
        return compute, backend.describe()
