"""Clips whose features are taken: made by an artifact, read from a folder of videos, or from a clip store."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from operator import floordiv, mod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import sha256
from vidgen.bench.scores.protocols.base import Clip, ClipProtocol
from vidgen.bench.scores.sources import Opener, enough_frames
from vidgen.bench.scores.video_folder import list_unlabelled, read_whole
from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.windows import crop_and_resize
from vidgen.errors import DataError, ScoreError
from vidgen.runtime.latents import label_indices
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.sampler import Request, Sampler, check_range, usual_batch

#: Side that clips of stores with a crop rule are resized to, as in training.
CROPPED_SIDE = 64


class ClipSource(ABC):
    """Clips by position, always the same ones at the same position.

    Attributes:
        name: what tables call it.
        clips: how many there are.
        identity: everything that decides them, as JSON, and nothing else: no path, no machine.
        from_files: they are decoded from videos.
        warnings: what a reader of their scores must know.
    """

    name: str
    clips: int
    identity: Mapping[str, Any]
    from_files: bool = False
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def read(self, parts: Sequence[Sequence[int]]) -> Iterator[Sequence[Clip]]:
        """The clips of each part, in order, in memory that does not grow with their number.

        Yields:
            For each part its clips, uint8 [T, H, W, 3].
        """

    def facts(self) -> dict[str, Any]:
        """What it is and where it came from, as JSON; complete once all clips were read."""
        return {**self.identity, "path": self.name}


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class EngineClips(ClipSource):
    """Videos 0 ... n - 1 of a seed.

    Args:
        open_backend: opens the backend when the first clip is read; it is closed after the last.
        labels: class names or numbers, taken in turn; drawn from the seed when empty.
        batch: videos computed together; the artifact's own when None. It does not move a video of ``clean``.

    Raises:
        SamplingError: the model cannot make enough frames, or has no such labels.
        SettingsError: a protocol that wants the raw output, of an artifact with 8-bit output.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        open_backend: Opener,
        protocol: ClipProtocol,
        *,
        n: int,
        seed: int = 0,
        labels: Sequence[str | int] = (),
        batch: int | None = None,
    ) -> None:
        check_range(protocol.range, manifest)
        self.name, self.clips = str(path), n
        self._manifest, self._open, self._protocol, self._seed = manifest, open_backend, protocol, seed
        self._labels = label_indices(manifest.interface, manifest.labels, labels) if labels else None
        rule = manifest.interface.frames
        wanted = protocol.frames or rule.default
        self._frames = rule.default if rule.default >= wanted else enough_frames(manifest, wanted)
        self._batch = min(batch or usual_batch(manifest), n) if manifest.engine is None else batch
        self._ran: dict[str, str] = {}
        self.identity = {
            "kind": "engine",
            "hash": manifest.sha256 or manifest.checkpoint_sha256,
            "seed": seed,
            "labels": None if self._labels is None else list(self._labels),
            "frames_made": self._frames,
        }

    @property
    def manifest(self) -> Manifest:
        """Of the artifact."""
        return self._manifest

    def read(self, parts: Sequence[Sequence[int]]) -> Iterator[Sequence[Clip]]:
        """See :meth:`ClipSource.read`."""
        return self._made(parts, lambda part: Request(part, None, self._seed, self._labels, self._frames))

    def read_grid(self, parts: Sequence[Sequence[int]], columns: int) -> Iterator[Sequence[Clip]]:
        """The same of a grid: position r * columns + c is a video of appearance r with motion (and class) c."""

        def request(part: Sequence[int]) -> Request:
            rows, motions = ([each(position, columns) for position in part] for each in (floordiv, mod))
            return Request(rows, motions, self._seed, self._labels, self._frames)

        return self._made(parts, request)

    def _made(
        self, parts: Sequence[Sequence[int]], request: Callable[[Sequence[int]], Request]
    ) -> Iterator[Sequence[Clip]]:
        together = self._protocol.range == "batch-minmax"
        with Sampler(
            self._open(), batch=self._batch, range=self._protocol.range, group=self._protocol.batch
        ) as sampler:
            self._ran = sampler.backend.describe()
            every = [index for part in parts for index in part]
            # A group that is normalised together is asked for together; else the device gets full batches.
            asked = parts if together else [every[at : at + sampler.unit] for at in range(0, len(every), sampler.unit)]
            requests = (request(part) for part in asked)
            made = (rendered.videos for rendered in sampler.stream(requests))
            yield from (list(rows) for rows in _regrouped(made, [len(part) for part in parts]))

    def first_videos(self, count: int) -> NDArray[np.uint8]:
        """The first videos as 8 bits of the true range, whatever the protocol; uint8 [count, F, H, W, 3]."""
        with Sampler(self._open(), batch=self._batch) as sampler:
            return sampler.sample(count, self._seed, self._labels, frames=self._frames)

    def facts(self) -> dict[str, Any]:
        """See :meth:`ClipSource.facts`."""
        manifest = self._manifest
        return {
            **super().facts(),
            "model": manifest.model,
            "checkpoint_sha256": manifest.checkpoint_sha256,
            "step": manifest.step,
            "precision": manifest.precision.kind,
            "backend": self._ran,
        }


def _regrouped(arrays: Iterable[NDArray[np.uint8]], sizes: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """The rows of the arrays, in order, in parts of the given sizes."""
    waiting: list[NDArray[np.uint8]] = []
    coming = iter(arrays)
    for size in sizes:
        while sum(map(len, waiting)) < size:
            waiting.append(next(coming))
        rows = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        yield rows[:size]
        waiting = [rows[size:]] if len(rows) > size else []


def drawn(count: int, n: int | None, seed: int, what: str) -> list[int]:
    """Positions of ``n`` of ``count`` clips, drawn by a seed, increasing; all when None.

    Raises:
        ScoreError: there are not so many.
    """
    if n is None or n == count:
        return list(range(count))
    if n > count:
        raise ScoreError(
            f"cannot take {n} clips of {what}",
            seen=f"{count} clips there, expected at least {n}",
            cause="there are too few, and repeating some would bend the score",
            fix=f"use -n {count}",
        )
    return sorted(np.random.default_rng(seed).permutation(count)[:n].tolist())


class FolderClips(ClipSource):
    """Videos in a folder.

    Args:
        n: how many, drawn by ``seed``; all when None. frame_step: take each n-th frame.

    Raises:
        DataError: no such folder, or no videos in it. ScoreError: fewer than ``n``.
    """

    from_files = True

    def __init__(
        self, folder: Path, protocol: ClipProtocol, *, n: int | None = None, seed: int = 0, frame_step: int = 1
    ) -> None:
        listing = list_unlabelled(folder, protocol.suffixes)
        chosen = drawn(len(listing.videos), n, seed, f"the videos of {folder}")
        self._videos = [listing.videos[position] for position in chosen]
        self._record, self._step = listing.record, frame_step
        self.name, self.clips = str(folder), len(chosen)
        names = [[video.path.name, _file_hash(video.path)] for video in self._videos]
        self.identity = {
            "kind": "folder",
            "hash": _hash(names),
            "formats": sorted({video.path.suffix.lstrip(".") for video in self._videos}),
            "frame_step": frame_step,
        }
        made = (listing.record.get("settings") or {}).get("n")
        if isinstance(made, int) and made > len(listing.videos):
            self.warnings = (f"{folder}: {len(listing.videos)} of the {made} videos of its record are there",)

    def read(self, parts: Sequence[Sequence[int]]) -> Iterator[Sequence[Clip]]:
        """See :meth:`ClipSource.read`; files are decoded on threads."""
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for part in parts:
                clips = pool.map(read_whole, [self._videos[position] for position in part])
                yield [clip[:: self._step] for clip in clips]

    def facts(self) -> dict[str, Any]:
        """See :meth:`ClipSource.facts`."""
        if not self._record:
            return super().facts()
        return super().facts() | {"command": self._record.get("command"), "sampled": dict(self._record["settings"])}


def _file_hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(
            f"cannot score {path}",
            seen=error.strerror or str(error),
            cause="the file cannot be read",
            fix=f"ls -l {path}",
        ) from error


@dataclass(frozen=True)
class StoreSelection:
    """Which clips of a store.

    Attributes:
        split: ``all``, ``train`` or ``held-out``. held_out, split_seed: share to hold out, and which, where the
            clips do not say.
        frame_step: take each n-th frame, as training did.
    """

    split: str = "all"
    held_out: float = 0.1
    split_seed: int = 0
    frame_step: int = 1


class StoreClips(ClipSource):
    """Clips of a store, in the crop of a test where the store has a rule for it.

    Args:
        n: how many, drawn by ``seed``; all of the split when None.

    Raises:
        DataError: no such store. ScoreError: fewer than ``n`` clips.
    """

    def __init__(self, path: Path, chosen: StoreSelection, *, n: int | None = None, seed: int = 0) -> None:
        self.store = ClipStore.open(path)
        self._chosen = chosen
        members = list(range(len(self.store)))
        if chosen.split != "all":
            members = split_clips(self.store, chosen.held_out, chosen.split_seed)[chosen.split == "held-out"]
        what = f"the {'' if chosen.split == 'all' else chosen.split + ' '}clips of {path}"
        self._members = [members[position] for position in drawn(len(members), n, seed, what)]
        self.name, self.clips = str(path), len(self._members)
        self.identity = {
            "kind": "store",
            "hash": self.store.info.content_hash,
            **asdict(chosen),
            "clips": _hash(self._members) if n is not None else None,
        }

    def read(self, parts: Sequence[Sequence[int]]) -> Iterator[Sequence[Clip]]:
        """See :meth:`ClipSource.read`."""
        for part in parts:
            yield [self._clip(self._members[position]) for position in part]

    def _clip(self, member: int) -> Clip:
        info = self.store.info
        frames = self.store.frames(member, range(0, self.store.clips[member].length, self._chosen.frame_step))
        if info.crop.kind == "none":
            return frames
        return crop_and_resize(frames, info.crop.box(info.height, info.width, test=True), CROPPED_SIDE)

    def facts(self) -> dict[str, Any]:
        """See :meth:`ClipSource.facts`."""
        return super().facts() | {"name": self.store.info.name}
