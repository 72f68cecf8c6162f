"""Settings of a classifier run: the reference's flags under their names, and presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vidgen.models.config import CLIP_FRAMES
from vidgen.trainer.run_settings import RunSettings


@dataclass(frozen=True)
class ClassifierTrainSettings(RunSettings):
    """How to train the classifier that scores samples (spec twostreamvan 7, 9).

    With ``is_actor`` its classes are action + actions * actor.
    """

    exp_name: str = "classifier"
    batch_size: int = 32
    ndf: int = 64
    is_actor: bool = False
    every_nth: int = 2
    video_length: int = 10
    image_size: int = 64
    n_channels: int = 3
    crop: bool = True
    print_freq: int = 10
    save_freq: int = 500
    val_freq: int = 100
    total_iters: int = 100000
    lr: float = 5e-4  # 1e-4 for actors
    decay: float = 0.995  # of the learning rate, an epoch; 0.999 for actors

    classes: tuple[str, ...] = ()  # these actions alone; none: all
    held_out: float = 0.1  # share of the clips kept for validation, where the store has no split of its own
    patience: int = 0  # stop after so many validations without a better one; 0: never

    MODEL: ClassVar[str] = "classifier"
    BUILTIN: ClassVar[str] = "actions"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "dataset": "clip stores are all read the same way: --data STORE",
        "dataroot": "vidgen data prepare SRC STORE --layout weizmann, then --data STORE",
        "textroot": "lists are read by vidgen data prepare SRC STORE --list FILE",
        "model_is_actor": "use is_actor",
        "data_is_actor": "use is_actor",
        "ckpt_path": "it is an option of scoring: vidgen score --classifier CKPT",
        "log_dir": "use --out RUN: curves and checkpoints lie in it",
        "checkpoint_dir": "use --out RUN: curves and checkpoints lie in it",
    }
    RESUMABLE: ClassVar[frozenset[str]] = RunSettings.RESUMABLE | frozenset(
        "total_iters save_freq val_freq patience".split()
    )
    COUNTS: ClassVar[tuple[str, ...]] = (
        *RunSettings.COUNTS,
        *"ndf every_nth print_freq save_freq val_freq total_iters".split(),
    )
    COUNTS_FROM_ZERO: ClassVar[tuple[str, ...]] = (*RunSettings.COUNTS_FROM_ZERO, "patience")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("video_length", self.video_length == CLIP_FRAMES, "10, the only length the classifier takes")
        self.require("image_size", self.image_size == 64, "64, the only size the classifier takes")
        self.require("n_channels", self.n_channels == 3, "3")
        self.require("lr", 0 < self.lr < float("inf"), "a number above 0")
        self.require("decay", 0 < self.decay <= 1, "above 0 and at most 1")
        self.require("held_out", 0 < self.held_out < 1, "above 0 and below 1")

    def last_step(self, steps_an_epoch: int) -> int:
        """Steps in all."""
        return min(self.total_iters, self.steps or self.total_iters)

    def save_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to save after this step."""
        return step % self.save_freq == 0 or step % self.val_freq == 0

    def validation_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to validate after this step."""
        return step % self.val_freq == 0


#: Presets: differences from the defaults, which are the reference's for actions.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "action": {},
    "actor": {"is_actor": True, "lr": 1e-4, "decay": 0.999},
    "small": {
        "ndf": 16,
        "batch_size": 16,
        "builtin_clips": 1500,
        "total_iters": 1500,
        "val_freq": 50,
        "save_freq": 50,
        "keep": 2,
        "patience": 6,
    },
    "smoke": {
        "ndf": 2,
        "batch_size": 4,
        "total_iters": 6,
        "val_freq": 3,
        "save_freq": 3,
        "builtin_clips": 40,
    },
}
