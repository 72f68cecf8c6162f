"""What the settings of runs on labelled clips share: windows, iterations, saves, what is held out."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vidgen.models.config import CLIP_FRAMES
from vidgen.trainer.run_settings import RunSettings


@dataclass(frozen=True)
class LabelledRunSettings(RunSettings, ABC):
    """Settings of TwoStreamVAN and of its classifier, under the reference's names (spec twostreamvan 9).

    A step is one iteration.
    """

    every_nth: int = 2  # step between the frames of a window
    class_steps: bool = False  # the step meant for each action, where clips carry one; the reference never applies it
    video_length: int = CLIP_FRAMES  # the video discriminator and the classifier take no other
    image_size: int = 64  # the networks are for 64
    n_channels: int = 3
    crop: bool = True  # cut windows by the crop rule of the clip store
    total_iters: int = 100000
    save_freq: int = 1000
    val_freq: int = 1000
    lr: float = 2e-4
    classes: tuple[str, ...] = ()  # these actions alone; none: all
    held_out: float = 0.1  # share of the clips kept for validation, where the store has no split of its own

    BUILTIN: ClassVar[str] = "actions"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "dataset": "clip stores are all read the same way: --data STORE",
        "dataroot": "vidgen data prepare SRC STORE --layout weizmann, then --data STORE",
        "textroot": "lists are read by vidgen data prepare SRC STORE --list FILE",
        "log_dir": "use --out RUN: curves, checkpoints and grids lie in it",
        "checkpoint_dir": "use --out RUN: curves, checkpoints and grids lie in it",
    }
    RESUMABLE: ClassVar[frozenset[str]] = RunSettings.RESUMABLE | frozenset("total_iters save_freq val_freq".split())
    COUNTS: ClassVar[tuple[str, ...]] = (*RunSettings.COUNTS, "every_nth", "total_iters", "save_freq", "val_freq")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("video_length", self.video_length == CLIP_FRAMES, "10, the only length the networks take")
        self.require("image_size", self.image_size == 64, "64, the only size of the networks")
        self.require("n_channels", self.n_channels == 3, "3")
        self.require("lr", 0 < self.lr < float("inf"), "a number above 0")
        self.require("classes", len(set(self.classes)) == len(self.classes), "each class once")
        self.require("held_out", 0 < self.held_out < 1, "above 0 and below 1")

    def last_step(self, steps_an_epoch: int) -> int:
        """Steps in all."""
        return min(self.total_iters, self.steps or self.total_iters)

    def save_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to save after this step."""
        return step % self.save_freq == 0 or step % self.val_freq == 0

    def lasting(self, step: int) -> bool:
        """The reference too keeps those of ``save_freq``, and of the others the latest."""
        return step % self.save_freq == 0

    def validation_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to validate after this step."""
        return step % self.val_freq == 0
