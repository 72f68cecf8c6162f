"""What is scored, clip by clip with the action it was to show: an artifact, a folder of videos, or a clip store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.classifier import FRAMES, SIDE, Clips
from vidgen.bench.scores.video_folder import BY_CLASS, FolderVideo, list_videos, read_video
from vidgen.errors import DataError, ScoreError
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.latents import classes, label_input
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.sampler import Sampler

T = TypeVar("T")
#: Opens a backend when it is needed.
Opener = Callable[[], Backend]


@dataclass(frozen=True)
class Batch:
    """Some clips of one set.

    Attributes:
        kind: the set: ``class-conditional``, ``first-frame`` or ``real``.
        indices: numbers of the clips within the source. actions: what they were to show, as the classifier's.
        clips: uint8 or float32 [k, 10, 64, 64, 3].
    """

    kind: str
    indices: Sequence[int]
    actions: NDArray[np.int64]
    clips: Clips


class Source(Protocol):
    """Clips to score. Everything that can be checked is checked before :meth:`batches`."""

    #: What tables call it.
    name: str
    #: Number of clips.
    clips: int

    def batches(self, size: int) -> Iterator[Batch]:
        """The clips, at most ``size`` at a time, in memory that does not grow with their number."""

    def facts(self) -> dict[str, Any]:
        """What it is, with hashes; complete once all batches were taken."""


def match_actions(
    what: str, names: Sequence[str], count: int, labels: Sequence[str], n_actions: int, *, more: bool = False
) -> NDArray[np.int64]:
    """The classifier's action for each class of a source, by name where both have names, else by number.

    Args:
        what: the source, for errors. names, count: its classes.
        labels, n_actions: the classifier's; ``labels`` may be empty.
        more: the source may have further classes, whose action is -1: a classifier of some classes of a store.

    Raises:
        ScoreError: they have other classes.
    """
    if names and labels:
        if sorted(names) == sorted(labels) or (more and set(labels) < set(names)):
            return np.array([list(labels).index(name) if name in labels else -1 for name in names], dtype=np.int64)
        unlike = sorted(set(names) ^ set(labels))
        seen = f"{', '.join(names)}; the classifier has {', '.join(labels)} ({', '.join(unlike[:3])} in one only)"
    elif count == n_actions:
        return np.arange(count, dtype=np.int64)
    else:
        seen = f"{count} classes; the classifier has {n_actions}"
    raise ScoreError(
        f"cannot score {what} with this classifier",
        seen=seen,
        cause="they were trained on other data",
        fix="use a classifier of the same data: vidgen train classifier --data STORE --out RUN",
    )


def engine_classes(manifest: Manifest, engine: Path) -> int:
    """The number of classes of an artifact that can be scored by class.

    Raises:
        ScoreError: it takes no labels, or makes frames of another size.
    """
    spec = label_input(manifest.interface)
    if spec is None:
        raise ScoreError(
            f"cannot score {engine} by class",
            seen=f"a {manifest.model} artifact without labels, expected one with a label input",
            cause="it was trained without classes, and this protocol asks for each",
            fix="score a TwoStreamVAN artifact",
        )
    output = manifest.interface.output
    size = output.shape[2:4] if output.dtype == "uint8" else output.shape[3:5]
    if size != (SIDE, SIDE):
        raise ScoreError(
            f"cannot score {engine} with this classifier",
            seen=f"frames of {size[1]}x{size[0]}, expected {SIDE}x{SIDE}",
            cause="the classifier takes one size, and resizing would be another protocol",
            fix="train a model of 64x64",
        )
    return classes(spec)


def engine_facts(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What an artifact is, for a report."""
    return {
        "kind": "engine",
        "path": str(path),
        "model": manifest.model,
        "sha256": manifest.sha256 or manifest.checkpoint_sha256,
        "checkpoint_sha256": manifest.checkpoint_sha256,
        "step": manifest.step,
        "precision": manifest.precision.kind,
        "labels": list(manifest.labels),
        "data": dict(manifest.data) if manifest.data else None,
    }


class EngineSource:
    """Videos by class: video i of the seed, of class i modulo the classes, as `vidgen sample --labels ALL` makes it.

    Args:
        open_backend: opens the backend when the first batch is taken; it is closed after the last.
        actions: the classifier's action of each class. per_class: videos of each class.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        open_backend: Opener,
        *,
        actions: NDArray[np.int64],
        per_class: int,
        seed: int,
    ) -> None:
        self.name = str(path)
        self.clips = per_class * len(actions)
        self._path, self._manifest, self._open = path, manifest, open_backend
        self._actions, self._seed = actions, seed
        self._ran: dict[str, str] = {}
        self._frames = enough_frames(manifest)

    def batches(self, size: int) -> Iterator[Batch]:
        """See :class:`Source`."""
        with Sampler(self._open(), batch=min(size, self.clips)) as sampler:
            self._ran = sampler.backend.describe()
            every = list(range(len(self._actions)))
            for indices, videos in sampler.batches(self.clips, self._seed, every, frames=self._frames):
                actions = self._actions[indices % len(every)]
                yield Batch(BY_CLASS, indices.tolist(), actions, videos[:, :FRAMES])

    def facts(self) -> dict[str, Any]:
        """See :class:`Source`."""
        return {**engine_facts(self._path, self._manifest), "frames_made": self._frames, "backend": self._ran}


def enough_frames(manifest: Manifest, at_least: int = FRAMES) -> int:
    """The smallest number of frames, at least that many, that a model makes."""
    rule = manifest.interface.frames
    length = max(1, -((rule.offset - at_least) // rule.scale))
    return rule.frames(length)


class FolderSource:
    """Generated videos that were written to a folder."""

    def __init__(self, folder: Path, labels: Sequence[str], n_actions: int, n: int | None) -> None:
        self.name = str(folder)
        listing = list_videos(folder, labels)
        self._record, self._folder = listing.record, folder
        #: Set -> its videos with the actions they were to show.
        self._sets: dict[str, list[tuple[FolderVideo, int]]] = {}
        for kind in sorted({video.kind for video in listing.videos}):
            members = [video for video in listing.videos if video.kind == kind]
            numbers = [_action_number(video, labels, n_actions) for video in members]
            chosen = first_of_each(numbers, n_actions, n, f"{kind} set of {folder}", labels)
            self._sets[kind] = [(members[i], numbers[i]) for i in chosen]
        self.clips = sum(len(videos) for videos in self._sets.values())
        self._digest = hashlib.sha256()

    def batches(self, size: int) -> Iterator[Batch]:
        """See :class:`Source`."""
        self._digest = hashlib.sha256()
        for kind, videos in self._sets.items():
            for first, part in parts(videos, size):
                clips = [self._read(video, action) for video, action in part]
                if len({clip.dtype for clip in clips}) > 1:
                    raise DataError(
                        f"cannot score the videos of {self._folder} together",
                        seen="some .npy files are 8-bit, others floating-point",
                        cause="files of different programs are in one folder",
                        fix="score them in folders of their own",
                    )
                actions = np.array([action for _, action in part], dtype=np.int64)
                stacked: NDArray[Any] = np.stack(clips)
                yield Batch(kind, range(first, first + len(part)), actions, stacked)

    def _read(self, video: FolderVideo, action: int) -> Clips:
        clip, file_hash = read_video(video)
        name = video.path.name.encode("utf-8", "surrogateescape")
        self._digest.update(f"{video.kind}/{action}/{file_hash}/".encode() + name + b"\n")
        # The reference clips its class-conditional set, and that alone, to [-1, 1].
        if clip.dtype != np.uint8 and video.kind == BY_CLASS:
            np.clip(clip, -1, 1, out=clip)
        return clip

    def facts(self) -> dict[str, Any]:
        """See :class:`Source`."""
        suffixes = {video.path.suffix for videos in self._sets.values() for video, _ in videos}
        facts: dict[str, Any] = {"kind": "folder", "path": str(self._folder), "data_hash": self._digest.hexdigest()}
        facts["formats"] = sorted(suffix.lstrip(".") for suffix in suffixes)
        if self._record:
            facts |= {"command": self._record.get("command"), "sampled": dict(self._record["settings"])}
        return facts


def _action_number(video: FolderVideo, labels: Sequence[str], n_actions: int) -> int:
    if video.label in labels:
        return list(labels).index(str(video.label))
    if isinstance(video.label, int) and 0 <= video.label < n_actions:
        return video.label
    known = ", ".join(labels) or f"numbers 0 to {n_actions - 1}: the classifier does not name its classes"
    raise ScoreError(
        f"cannot score {video.path} with this classifier",
        seen=f"class {video.label!r}, expected one of {known}",
        cause="the generator and the classifier were trained on other data",
        fix="use a classifier of the same data, or give its class names in their order: --labels a,b,c",
    )


def first_of_each(actions: Sequence[int], n_actions: int, n: int | None, what: str, labels: Sequence[str]) -> list[int]:
    """Positions of the first ``n`` clips of each action (all when None), in their order.

    Raises:
        ScoreError: an action has fewer clips than that, or none.
    """
    counts = Counter(actions)
    least = n or 1
    lacking = [action for action in range(n_actions) if counts[action] < least]
    if lacking:
        name = labels[lacking[0]] if labels else f"class {lacking[0]}"
        enough = min((counts[action] for action in range(n_actions)), default=0)
        raise ScoreError(
            f"cannot score the {what}",
            seen=f"{counts[lacking[0]]} clips of {name}, expected at least {least} of each class",
            cause="there are too few clips; entropies compare only where every class is asked for alike",
            fix=f"use -n {enough}" if enough else f"add clips of {name}",
        )
    taken: Counter[int] = Counter()
    positions = []
    for position, action in enumerate(actions):
        if n is None or taken[action] < n:
            positions.append(position)
            taken[action] += 1
    return positions


def parts(items: Sequence[T], size: int) -> Iterator[tuple[int, Sequence[T]]]:
    """Runs of at most ``size`` items, each with the number of its first."""
    for first in range(0, len(items), size):
        yield first, items[first : first + size]
