"""The sampler: video i of seed s from any artifact, in batches of one fixed shape."""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import SettingsError
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend, Batch
from vidgen.runtime.latents import label_indices, latents
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.ranges import RANGES, REFERENCE_GROUP, batch_minmax, to_uint8
from vidgen.runtime.rebuild import rebuild_with

#: Videos in a batch where nothing else is asked for: on a CPU larger ones gain next to nothing.
DEFAULT_BATCH = 4


class Rendered(NamedTuple):
    """Videos uint8 [n, frames, height, width, 3], and the extra outputs by name (``mask_8``, ...), n rows each."""

    videos: NDArray[np.uint8]
    extras: dict[str, NDArray[Any]]


class Request(NamedTuple):
    """Videos to make together; arguments as for :func:`vidgen.runtime.latents.latents`."""

    indices: Sequence[int]
    motion: Sequence[int] | None = None
    seed: int = 0
    labels: Sequence[int] | None = None
    frames: int | None = None
    first_frames: NDArray[np.float32] | None = None


class Sampler:
    """Makes videos from a backend, always in batches of the same size.

    The last batch is padded, so that shapes never change: the runtime plans once, and video i is the same to the
    bit however it is asked for, as far as the runtime computes each row of a batch alike (torch, ONNX Runtime and
    OpenVINO do on a CPU). Another batch size may move the last bit of a float, which now and then is one grey level.

    A sampler owns its backend, belongs to one thread at a time, and is a context manager: leaving closes both.

    Args:
        backend: an open backend.
        batch: videos computed together; :func:`usual_batch` when None.
        range: ``model`` or ``batch-minmax`` (see :mod:`vidgen.runtime.ranges`).
        group: videos normalised together with ``batch-minmax``; pixels depend on it.

    Raises:
        SettingsError: a value out of range, or ``batch-minmax`` on an artifact with 8-bit output.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        batch: int | None = None,
        range: str = "model",
        group: int = REFERENCE_GROUP,
    ) -> None:
        for name, value in (("batch", batch), ("group", group)):
            if value is not None and value < 1:
                raise SettingsError(
                    f"cannot sample with {name} {value}",
                    seen=f"{value}, expected at least 1",
                    cause="a batch holds at least one video",
                    fix=f"use {name} 1",
                )
        check_range(range, backend.manifest)
        self._backend = backend
        self._batch = usual_batch(backend.manifest) if batch is None else batch
        self._range = range
        self._group = group

    @classmethod
    def open(
        cls,
        path: str | Path,
        backend: str | None = None,
        *,
        batch: int | None = None,
        range: str = "model",
        group: int = REFERENCE_GROUP,
        threads: int | None = None,
        device: str = "cpu",
        masks: bool = False,
        conditional: bool = False,
        trust: bool = False,
    ) -> Self:
        """Open an artifact; arguments as for :class:`Sampler` and :func:`vidgen.runtime.backends.open_backend`.

        Raises:
            VidgenError: the artifact is missing, altered, cannot run here, or does not suit the settings.
        """
        loaded = open_backend(
            path,
            backend,
            threads=threads,
            device=device,
            output=output_for(path, range),
            masks=masks,
            conditional=conditional,
            trust=trust,
        )
        try:
            return cls(loaded, batch=batch, range=range, group=group)
        except BaseException:
            loaded.close()
            raise

    @property
    def info(self) -> Manifest:
        """What the artifact is: sizes, frame rule, fps, labels, hashes."""
        return self._backend.manifest

    @property
    def backend(self) -> Backend:
        """The backend that runs the artifact."""
        return self._backend

    @property
    def unit(self) -> int:
        """Videos that are made, and yielded by :meth:`batches`, together."""
        return self._group if self._range == "batch-minmax" else self._batch

    def sample(
        self,
        n: int,
        seed: int = 0,
        labels: Sequence[str | int] | None = None,
        start: int = 0,
        frames: int | None = None,
        first_frames: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """Videos start ... start + n - 1 of a seed.

        Args:
            n: number of videos, at least 1.
            seed: of the whole set, in [0, 2**32).
            labels: class names or indices; video i takes ``labels[i % len(labels)]``. Drawn from (seed, i) when None.
            start: index of the first video.
            frames: frames in each video; what the model was trained for when None.
            first_frames: see :func:`vidgen.runtime.latents.latents`.

        Returns:
            uint8 [n, frames, height, width, 3], RGB.

        Raises:
            SettingsError: n, seed or start out of range.
            SamplingError: no videos of that many frames or with these labels.
            BackendError: the runtime failed.
        """
        parts = self.batches(n, seed, labels, start, frames, first_frames)
        indices, first = next(parts)
        videos = np.empty((n, *first.shape[1:]), dtype=np.uint8)
        videos[: len(indices)] = first
        for indices, part in parts:
            videos[indices - start] = part
        return videos

    def batches(
        self,
        n: int,
        seed: int = 0,
        labels: Sequence[str | int] | None = None,
        start: int = 0,
        frames: int | None = None,
        first_frames: NDArray[np.float32] | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """The same videos as :meth:`sample`, a batch at a time, in memory that does not grow with n.

        Yields:
            Indices int64 [k] and frames uint8 [k, frames, height, width, 3]; k is :attr:`unit`, or less in the last.
            Each array is new and belongs to the caller.

        Raises:
            As :meth:`sample`, when the first batch is taken.
        """
        if n < 1:
            raise SettingsError(
                f"cannot make {n} videos",
                seen=f"{n}, expected at least 1",
                cause="nothing was asked for",
                fix="use -n 1",
            )
        chosen = None if labels is None else label_indices(self.info.interface, self.info.labels, labels)
        units = [
            np.arange(first, min(first + self.unit, start + n), dtype=np.int64)
            for first in builtins.range(start, start + n, self.unit)
        ]
        requests = (Request(unit.tolist(), None, seed, chosen, frames, first_frames) for unit in units)
        for indices, made in zip(units, self.stream(requests)):
            yield indices, made.videos

    def render(
        self,
        indices: Sequence[int],
        *,
        motion: Sequence[int] | None = None,
        seed: int = 0,
        labels: Sequence[int] | None = None,
        frames: int | None = None,
        first_frames: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """Make some videos together; with ``batch-minmax`` they, and they alone, are normalised together.

        Args:
            indices, motion, labels, frames, first_frames: as for :func:`vidgen.runtime.latents.latents`.

        Returns:
            uint8 [len(indices), frames, height, width, 3]; the caller's.
        """
        return next(self.stream([Request(indices, motion, seed, labels, frames, first_frames)])).videos

    def render_with_extras(
        self,
        indices: Sequence[int],
        *,
        motion: Sequence[int] | None = None,
        seed: int = 0,
        labels: Sequence[int] | None = None,
        frames: int | None = None,
        first_frames: NDArray[np.float32] | None = None,
    ) -> Rendered:
        """As :meth:`render`, with the extra outputs that the artifact was exported with (a checkpoint: opened with).

        Returns:
            The same videos, and e.g. ``mask_64`` float32 [len(indices), frames, 64, 64] in [0, 1]; the caller's.
        """
        return next(self.stream([Request(indices, motion, seed, labels, frames, first_frames)], extras=True))

    def stream(self, requests: Iterable[Request], *, extras: bool = False) -> Iterator[Rendered]:
        """Make the videos of each request in turn; a device works on the next batch meanwhile.

        Requests are asked for ahead, by as many batches as the backend has in work.

        Args:
            extras: also the extra outputs, see :meth:`render_with_extras`.

        Yields:
            As :meth:`render_with_extras`, for each request.
        """
        rows: deque[int] = deque()

        def batches() -> Iterator[Batch]:
            for request in requests:
                rows.append(len(request.indices))
                for at in builtins.range(0, max(1, len(request.indices)), self._batch):
                    yield self._padded(request, at, extras)

        parts: list[Batch] = []
        for batch in self._backend.run_many(batches()):
            parts.append(batch)
            if len(parts) * self._batch >= rows[0]:
                yield self._together(parts, rows.popleft())
                parts = []

    def _padded(self, request: Request, at: int, extras: bool) -> Batch:
        """Up to a batch of a request's latents, padded to the full batch with copies of the last row, and buffers."""
        interface = self.info.interface
        rule = interface.frames
        chosen = slice(at, at + self._batch)
        inputs = latents(
            interface,
            request.seed,
            request.indices[chosen],
            motion=None if request.motion is None else request.motion[chosen],
            labels=request.labels,
            frames=request.frames,
            first_frames=request.first_frames,
        )
        frames = rule.default if request.frames is None else request.frames
        rows = len(inputs[rule.input])
        if rows < self._batch:
            inputs = {
                name: np.concatenate([array, np.repeat(array[-1:], self._batch - rows, axis=0)])
                for name, array in inputs.items()
            }
        sizes = {"batch": self._batch, "frames": frames, rule.dimension: rule.length(frames)}
        wanted = {
            spec.name: np.empty(spec.resolve(**sizes), dtype=spec.dtype)
            for spec in (interface.extras if extras else ())
        }
        output = np.empty(interface.output.resolve(**sizes), dtype=interface.output.dtype)
        return Batch(inputs, output, wanted)

    def _together(self, parts: list[Batch], rows: int) -> Rendered:
        """The videos of a request, 8-bit, from its batches, without the padding."""
        together = parts[0].output if len(parts) == 1 else np.concatenate([part.output for part in parts])
        extras = {
            name: np.concatenate([(part.extras or {})[name] for part in parts])[:rows] for name in parts[0].extras or {}
        }
        videos = together[:rows]
        if videos.dtype == np.uint8:
            return Rendered(videos, extras)
        return Rendered(batch_minmax(videos) if self._range == "batch-minmax" else to_uint8(videos), extras)

    def close(self) -> None:
        """Close the backend. Closing twice is allowed."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def usual_batch(manifest: Manifest) -> int:
    """Videos to compute together where nobody says: what an engine was tuned for, or a few."""
    if manifest.engine is None:
        return DEFAULT_BATCH
    rule = manifest.interface.frames
    suited = [each for each in manifest.engine.profiles if each.holds(each.batch[1], rule.length(rule.default))]
    return (suited or manifest.engine.profiles)[0].batch[1]


def output_for(path: str | Path, range: str) -> str | None:
    """The output to ask of an artifact for a range: raw for a checkpoint to be normalised, else what it has."""
    return "float32" if range == "batch-minmax" and Path(path).suffix == ".safetensors" else None


def check_range(range: str, manifest: Manifest) -> None:
    """Raise unless an artifact can give this range.

    Raises:
        SettingsError: unknown range, or ``batch-minmax`` on an artifact with 8-bit output.
    """
    if range not in RANGES:
        raise SettingsError(
            f"unknown range {range!r}",
            seen=f"{range!r}, expected one of {', '.join(RANGES)}",
            cause="a typing error",
            fix="use --range model",
        )
    if range == "batch-minmax" and manifest.interface.output.dtype != "float32":
        again = rebuild_with(None, manifest, output="float32")
        raise SettingsError(
            "cannot normalise with --range batch-minmax",
            seen=f"an artifact with {manifest.interface.output.dtype} output, expected float32",
            cause="its pixels are already rounded to 8 bits; min and max must come from the raw video",
            fix=f"{again}   (or sample the checkpoint itself)",
        )
