"""Training and validation windows with their action and actor, as TwoStreamVAN and its classifier take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.windows import NO_CROP, crop_and_resize, labels_of, pick_frames, step_of
from vidgen.errors import DataError

_STREAM = 3


class LabelledBatch(TypedDict):
    """Windows uint8 [B, T, 64, 64, 3], action and actor int64 [B]; an unknown actor is -1."""

    frames: Tensor
    action: Tensor
    actor: Tensor


@dataclass(frozen=True)
class Split:
    """Clips to train on and clips held out, by their numbers in the store, with the labels of all clips.

    Attributes:
        actions, actors: int64 [clips of the store]; actions count within ``action_names``; -1: not chosen.
    """

    train: Sequence[int]
    test: Sequence[int]
    actions: NDArray[np.int64]
    actors: NDArray[np.int64]
    action_names: tuple[str, ...]
    actor_names: tuple[str, ...]


def split_store(store: ClipStore, held_out: float, classes: Sequence[str]) -> Split:
    """Divide a labelled store, using these classes alone (all where there are none).

    The division depends on the store alone, so that training, classifier and scores agree on what is held out.

    Raises:
        DataError: a class is unknown, the store has no labels, or its own split holds out none of these classes.
    """
    actions, actors, names, actor_names = labels_of(store)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise DataError(
            f"cannot train on the chosen classes of {store.path}",
            seen=f"{unknown[0]!r}, expected some of {', '.join(names)}",
            cause="a typing error, or another data set",
            fix=f"--set classes={names[0]},{names[-1]}",
        )
    chosen = tuple(classes) or names
    number = {names.index(name): i for i, name in enumerate(chosen)}
    actions = np.asarray([number.get(int(action), -1) for action in actions], np.int64)
    train, test = ([clip for clip in part if actions[clip] >= 0] for part in split_clips(store, held_out))
    if not test:
        raise DataError(
            f"cannot validate with {store.path}",
            seen=f"no test clip of {', '.join(chosen)}",
            cause="the store says which clips are the test, and has none of the chosen classes among them",
            fix="choose other classes, or prepare the store again with test clips of these",
        )
    return Split(train, test, actions, actors, chosen, actor_names)


@dataclass(frozen=True)
class WindowShape:
    """Frames of a window and the step between them (spec twostreamvan 6).

    Attributes:
        crop: cut by the store's crop rule. class_steps: take the step that a clip carries for its action, if any.
    """

    frames: int
    step: int
    crop: bool
    class_steps: bool = False


class LabelledWindows(Dataset[LabelledBatch]):
    """Windows of chosen clips, addressed by (epoch, number among the chosen).

    Args:
        chosen: numbers of clips in the store.
        test: take the first window and the fixed crop instead of drawn ones.
    """

    def __init__(
        self,
        store: ClipStore,
        split: Split,
        chosen: Sequence[int],
        shape: WindowShape,
        *,
        seed: int = 0,
        test: bool = False,
    ) -> None:
        self.store, self.split, self.chosen, self.shape = store, split, list(chosen), shape
        self.seed, self.test = seed, test
        self.crop = store.info.crop if shape.crop else NO_CROP

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, key: tuple[int, int]) -> LabelledBatch:
        epoch, number = key
        clip = self.chosen[number]
        generator = np.random.default_rng([self.seed, _STREAM, epoch, clip])
        record = self.store.clips[clip]
        step = step_of(record, self.shape.step, class_steps=self.shape.class_steps)
        times = pick_frames(record.length, self.shape.frames, step, test=self.test, draw=generator)
        frames = self.store.frames(clip, times)
        height, width = frames.shape[1:3]
        box = self.crop.box(height, width, test=self.test, generator=generator)
        return {
            "frames": torch.from_numpy(crop_and_resize(frames, box, 64)),
            "action": torch.tensor(self.split.actions[clip]),
            "actor": torch.tensor(self.split.actors[clip]),
        }

    def batch(self, numbers: Sequence[int]) -> LabelledBatch:
        """Several windows of epoch 0 at once."""
        items = [self[0, number] for number in numbers]
        return {
            "frames": torch.stack([item["frames"] for item in items]),
            "action": torch.stack([item["action"] for item in items]),
            "actor": torch.stack([item["actor"] for item in items]),
        }
