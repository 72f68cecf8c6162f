"""Settings of a G3AN training run: the reference's flags under their names, and presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vidgen.models.config import G3ANConfig
from vidgen.trainer.run_settings import RunSettings


@dataclass(frozen=True)
class G3ANTrainSettings(RunSettings):
    """How to train G3AN. Defaults are the reference's (spec g3an 9); the second block is ours.

    A step is one iteration of the loop: both discriminators and the generator updated once.
    """

    max_epoch: int = 5001  # epochs 0 .. max_epoch - 1
    batch_size: int = 96  # over all processes
    g_lr: float = 2e-4  # Adam, generator
    d_lr: float = 2e-4  # Adam, both discriminators
    d_za: int = 128  # appearance noise
    d_zm: int = 10  # motion noise
    num_workers: int = 8  # data loading processes
    ch_g: int = 64  # base width of the generator
    ch_d: int = 64  # base width of the discriminators
    g_mode: Literal["1p2d", "2p1d", "3d"] = "1p2d"  # factorisation of the video stream
    img_size: int = 64  # the networks are for 64
    dataset: str = "uva"  # a name for the logs; any clip store is read the same way
    val_freq: int = 50  # epochs between validation grids
    save_freq: int = 100  # epochs between checkpoints
    exp_name: str = "g3an"  # the run's folder is save_path/exp_name
    use_attention: bool = False  # factorised self-attention
    n_za_test: int = 8  # appearances in the validation grid
    n_zm_test: int = 8  # motions in the validation grid

    frame_steps: tuple[int, ...] = (2, 3)  # every which frame a training window takes, drawn with equal chance
    attention_merge: Literal["reference", "clean"] = "reference"
    save_steps: int = 0  # also save every so many steps; 0: by save_freq alone
    val_steps: int = 0  # also draw a grid every so many steps; 0: by val_freq alone

    MODEL: ClassVar[str] = "g3an"
    BUILTIN: ClassVar[str] = "faces"
    #: Flags of the reference's shared parser that other commands answer to.
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "n": "it is an option of sampling: vidgen sample -n N",
        "model_path": "it is an option of sampling: vidgen sample --engine ARTIFACT",
        "demo_path": "it is an option of sampling: vidgen sample -o DIR",
        "demo_name": "it is an option of sampling: vidgen sample -o DIR",
    }
    RESUMABLE: ClassVar[frozenset[str]] = RunSettings.RESUMABLE | frozenset(
        "max_epoch val_freq save_freq save_steps val_steps dataset".split()
    )
    COUNTS: ClassVar[tuple[str, ...]] = (
        *RunSettings.COUNTS,
        *"max_epoch d_za d_zm ch_g ch_d val_freq save_freq n_za_test n_zm_test".split(),
    )
    COUNTS_FROM_ZERO: ClassVar[tuple[str, ...]] = (*RunSettings.COUNTS_FROM_ZERO, "save_steps", "val_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("g_lr", "d_lr"):
            self.require(name, 0 < getattr(self, name) < float("inf"), "a number above 0")
        self.require("img_size", self.img_size == 64, "64, the only size the networks make")
        self.require("frame_steps", bool(self.frame_steps) and min(self.frame_steps) >= 1, "steps of at least 1")
        _ = self.generator_config

    @property
    def generator_config(self) -> G3ANConfig:
        """Sizes of the generator to train."""
        return G3ANConfig(self.d_za, self.d_zm, self.ch_g, self.g_mode, self.use_attention, self.attention_merge)

    def last_step(self, steps_an_epoch: int) -> int:
        """Steps in all: of ``max_epoch`` epochs, or ``steps`` where that is less."""
        return min(self.max_epoch * steps_an_epoch, self.steps or 2**62)

    def save_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to save after this step."""
        return _due(step, self.save_steps) or _due_epoch(step, steps_an_epoch, self.save_freq)

    def validation_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to draw a grid after this step."""
        return _due(step, self.val_steps) or _due_epoch(step, steps_an_epoch, self.val_freq)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _due_epoch(step: int, steps_an_epoch: int, every: int) -> bool:
    """Whether an epoch whose number divides ends with this step; epochs count from 0."""
    return step % steps_an_epoch == 0 and (step // steps_an_epoch - 1) % every == 0


#: Presets: differences from the reference's values.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "small": {
        "ch_g": 16,
        "ch_d": 16,
        "batch_size": 8,
        "g_lr": 4e-4,
        "d_lr": 8e-4,
        "num_workers": 0,
        "steps": 1600,
        "frame_steps": (1, 2),
        "ema": 0.99,
        "amp": "auto",
        "save_steps": 100,
        "val_steps": 100,
        "keep": 2,
    },
    "smoke": {
        "ch_g": 4,
        "ch_d": 4,
        "batch_size": 4,
        "num_workers": 0,
        "steps": 6,
        "frame_steps": (1, 2),
        "n_za_test": 2,
        "n_zm_test": 2,
        "builtin_clips": 16,
        "save_steps": 3,
        "keep": 2,
    },
}
