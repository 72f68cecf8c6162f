"""Real clips of a store, chosen and cropped as in a test: the ceiling, and the first frames to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.classifier import FRAMES, SIDE
from vidgen.bench.scores.sources import Batch, first_of_each, match_actions, parts
from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.windows import crop_and_resize, labels_of, pick_frames

#: The set that real clips are in.
REAL = "real"
SPLITS = ("held-out", "train", "all")


@dataclass(frozen=True)
class Selection:
    """Which clips of a store, and which of their frames.

    Attributes:
        split: ``held-out``, ``train`` or ``all``. held_out: share to hold out where the store does not say; seed of it.
        frame_step: distance of two frames; None for that of the classifier's clips.
        fps: frames a second of the classifier's clips; None where it does not say.
    """

    split: str = "held-out"
    held_out: float = 0.1
    split_seed: int = 0
    frame_step: int | None = None
    fps: float | None = None


class StoreClips:
    """The chosen clips of a store, cropped as in a test, with their actions.

    Raises:
        DataError: no such store, a clip without an action, or one that is too short.
        ScoreError: other classes than the classifier's, or too few clips.
    """

    def __init__(self, path: Path, labels: Sequence[str], n_actions: int, chosen: Selection, n: int | None) -> None:
        self.store = ClipStore.open(path)
        self.selection = chosen
        numbers, _, names, _ = labels_of(self.store)
        actions = match_actions(str(path), names, len(names), labels, n_actions, more=True)[numbers]
        members = list(range(len(self.store)))
        if chosen.split != "all":
            sides = split_clips(self.store, chosen.held_out, chosen.split_seed)
            members = sides[chosen.split == "held-out"]
        what = f"{'' if chosen.split == 'all' else chosen.split + ' '}clips of {path}"
        members = [member for member in members if actions[member] >= 0]
        of_each = first_of_each([int(actions[i]) for i in members], n_actions, n, what, labels)
        self.members = [members[i] for i in of_each]
        self.actions = actions[self.members]
        for member in self.members:
            self._times(member)
        self.store.info.crop.size(self.store.info.height, self.store.info.width)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def step(self) -> int:
        """Distance of two frames: the one asked for, or the one that shows the clips as fast as the classifier's."""
        chosen = self.selection
        if chosen.frame_step is not None:
            return chosen.frame_step
        return max(1, round(self.store.info.fps / chosen.fps)) if chosen.fps else 1

    def clip(self, position: int) -> NDArray[np.uint8]:
        """uint8 [10, 64, 64, 3]: the first frames at the step, in the middle of the frame (spec 6, test)."""
        member, info = self.members[position], self.store.info
        frames = self.store.frames(member, self._times(member))
        return crop_and_resize(frames, info.crop.box(info.height, info.width, test=True), SIDE)

    def _times(self, member: int) -> list[int]:
        return pick_frames(self.store.clips[member].length, FRAMES, self.step, test=True)

    def facts(self) -> dict[str, Any]:
        """What they are, for a report."""
        info = self.store.info
        return {
            "kind": "store",
            "path": str(self.store.path),
            "name": info.name,
            "data_hash": info.content_hash,
            "labels": list(info.labels),
            **asdict(self.selection),
            "frame_step": self.step,
            "crop": info.crop.to_dict(),
        }


class StoreSource:
    """Real clips: what a perfect generator would get, as the ceiling."""

    def __init__(self, clips: StoreClips) -> None:
        self.name = str(clips.store.path)
        self.clips = len(clips)
        self._clips = clips

    def batches(self, size: int) -> Iterator[Batch]:
        """See :class:`Source`."""
        for first, part in parts(range(self.clips), size):
            videos = np.stack([self._clips.clip(position) for position in part])
            yield Batch(REAL, range(first, first + len(part)), self._clips.actions[list(part)], videos)

    def facts(self) -> dict[str, Any]:
        """See :class:`Source`."""
        return self._clips.facts()
