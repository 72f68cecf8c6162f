"""Training windows from a clip store, in an order that depends on the seed and the step alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vidgen.data.store import ClipStore
from vidgen.data.windows import NO_CROP
from vidgen.errors import DataError, TrainingError
from vidgen.models.checkpoint import DataDescription

#: Frames of a training window (spec g3an 4).
WINDOW = 16
# Stream numbers keep the order and the windows independent of each other under one seed.
_ORDER, _WINDOWS = 1, 2


def check_store(
    store: ClipStore,
    chosen: Sequence[int],
    frames: int,
    batch_size: int,
    *,
    held_out: Sequence[int] = (),
    cropping: bool = False,
) -> None:
    """Refuse a store that cannot train: wrong size, too few or too short clips.

    Args:
        chosen: numbers of the clips to train on. frames: the fewest that a clip needs.
        held_out: numbers of those to validate with.
        cropping: windows are cut out by the store's rule and resized, so that one with a rule may have any size.

    Raises:
        DataError: with what to prepare instead.
    """
    info = store.info
    again = "vidgen data prepare SRC OUT --size 64"
    if (info.height, info.width) != (64, 64) and (not cropping or info.crop == NO_CROP):
        raise DataError(
            f"cannot train on {store.path}",
            seen=f"frames of {info.width}x{info.height}, expected 64x64",
            cause="the store was prepared for another size" + (", with a rule to crop by" * (info.crop != NO_CROP)),
            fix=again + (" --crop center" * (info.crop != NO_CROP)),
        )
    used = [store.clips[number] for number in (*chosen, *held_out)]
    short = [clip.source for clip in used if clip.length < frames]
    if short:
        raise DataError(
            f"cannot train on {store.path}",
            seen=f"{len(short)} clips of fewer than {frames} frames, e.g. {short[0]}",
            cause="the store was prepared without a lower limit",
            fix=f"{again} --min-frames {frames}",
        )
    if len(chosen) < batch_size:
        raise DataError(
            f"cannot train on {store.path}",
            seen=f"{len(chosen)} clips, expected at least one batch of {batch_size}",
            cause="incomplete batches are dropped, so that no step would be made",
            fix=f"--set batch_size={max(1, len(chosen))}, or prepare more clips",
        )


def fitting_step(length: int, step: int) -> int:
    """The step itself, or the largest that a clip of this length has room for (at least 1)."""
    return max(1, min(step, length // WINDOW))


def mean_step(store: ClipStore, frame_steps: Sequence[int]) -> float:
    """Frames from one frame of a window to the next, on average over clips and draws."""
    steps = [fitting_step(clip.length, step) for clip in store.clips for step in frame_steps]
    return sum(steps) / len(steps)


def describe(store: ClipStore, step: float, labels: Sequence[str] | None = None) -> DataDescription:
    """The data as a checkpoint tells it; a model sees only every ``step``-th frame, so it plays slower."""
    info = store.info
    names = tuple(info.labels if labels is None else labels)
    return DataDescription(info.name, round(info.fps / step, 3), names, info.content_hash)


def window_times(length: int, frame_steps: Sequence[int], generator: np.random.Generator) -> list[int]:
    """Frame numbers of one random window of 16 frames (spec g3an 4).

    A step is drawn with equal chance from ``frame_steps``; the start is uniform over 0 .. length - 16 step,
    inclusive. A clip too short for the step drawn takes the largest step that fits (at least 1).
    """
    step = fitting_step(length, int(generator.choice(np.asarray(frame_steps))))
    start = int(generator.integers(0, length - WINDOW * step, endpoint=True))
    return [start + i * step for i in range(WINDOW)]


class WindowDataset(Dataset[Tensor]):
    """Windows of a store as uint8 tensors [16, 64, 64, 3], addressed by (epoch, clip)."""

    def __init__(self, path: Path, seed: int, frame_steps: Sequence[int]) -> None:
        self.store = ClipStore.open(path)
        self.seed = seed
        self.frame_steps = tuple(frame_steps)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        epoch, clip = key
        generator = np.random.default_rng([self.seed, _WINDOWS, epoch, clip])
        times = window_times(self.store.clips[clip].length, self.frame_steps, generator)
        return torch.from_numpy(self.store.frames(clip, times))


def network_input(windows: Tensor) -> Tensor:
    """uint8 [B, 16, 64, 64, 3] to float32 [B, 3, 16, 64, 64] in [-1, 1] on the same device (spec g3an 4).

    Loading processes hand over bytes: a quarter of the shared memory that floats would need.
    """
    return windows.permute(0, 4, 1, 2, 3).float().div(255.0).sub(0.5).div(0.5)


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, clip) keys of each step's batch from ``first_step`` on, for ever; this process's share of them.

    Every epoch is a fresh permutation of all clips; an incomplete last batch is dropped. A rank takes every
    ``world``-th element of the batch, so that the global batch is the same for any number of processes.
    """

    def __init__(self, clips: int, batch_size: int, seed: int, first_step: int, rank: int, world: int) -> None:
        self.clips, self.batch_size, self.seed = clips, batch_size, seed
        self.first_step, self.rank, self.world = first_step, rank, world
        self.steps_an_epoch = clips // batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.first_step
        while True:
            epoch, offset = divmod(step, self.steps_an_epoch)
            order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.clips)
            while offset < self.steps_an_epoch:
                batch = order[offset * self.batch_size : (offset + 1) * self.batch_size]
                yield [(epoch, int(clip)) for clip in batch[self.rank :: self.world]]
                offset += 1
                step += 1


def _leave_ctrl_c_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def window_batches(
    dataset: Dataset[Any], store: Path, sampler: StepSampler, workers: int, pin_memory: bool
) -> Iterator[Any]:
    """Batches of a data set's items for ever, loaded by ``workers`` processes (0: in this one).

    Raises:
        TrainingError: a loading process ended or failed.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_leave_ctrl_c_to_the_parent,
    )
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except RuntimeError as error:  # what torch makes of anything that happens to a loading process
            raise TrainingError(
                f"cannot load training windows from {store}",
                seen=str(error).strip().splitlines()[-1][:300],
                cause="a loading process ran out of (shared) memory, or the clip store changed during the run",
                fix=f"vidgen data show {store} --verify; then go on with --resume --set num_workers=0",
            ) from error
        yield batch
