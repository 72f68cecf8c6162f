"""What the settings of all training runs share: where, how long, on what."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from vidgen.errors import SettingsError


@dataclass(frozen=True)
class RunSettings(ABC):
    """Settings of any run. A step is one update of the networks."""

    exp_name: str = "run"  # the run's folder is save_path/exp_name
    save_path: str = "./exps"
    data_path: str = ""  # a clip store; "" makes built-in clips
    builtin_clips: int = 512  # how many of them
    batch_size: int = 16  # over all processes
    random_seed: int = 12345  # seeds everything: weights, data order, windows, noise
    num_workers: int = 0  # data loading processes
    print_freq: int = 100  # steps between printed lines
    steps: int | None = None  # stop after this many steps in all; None: as the schedule says
    minutes: float | None = None  # stop after this long, with a checkpoint
    ema: float = 0.0  # decay a step of the averaged generator; 0: none, as in the papers
    amp: Literal["off", "bf16", "auto"] = "off"  # autocast; auto: bf16 where the device computes it natively
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0  # CPU threads; 0: the library's choice
    keep: int = 0  # checkpoints to keep; 0: all that last

    #: The model family, as ``vidgen train`` names it.
    MODEL: ClassVar[str]
    #: The built-in data made where no clip store is given: ``faces`` or ``actions``.
    BUILTIN: ClassVar[str]
    #: Flags of the reference's program that other commands answer to.
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}
    #: What may differ between a run and its continuation without changing the training.
    RESUMABLE: ClassVar[frozenset[str]] = frozenset(
        "steps minutes num_workers print_freq keep device threads exp_name save_path data_path builtin_clips".split()
    )
    COUNTS: ClassVar[tuple[str, ...]] = ("batch_size", "print_freq")
    COUNTS_FROM_ZERO: ClassVar[tuple[str, ...]] = ("num_workers", "threads", "keep", "random_seed")

    def __post_init__(self) -> None:
        for name in self.COUNTS:
            self.require(name, getattr(self, name) >= 1, "at least 1")
        for name in self.COUNTS_FROM_ZERO:
            self.require(name, getattr(self, name) >= 0, "at least 0")
        self.require("random_seed", self.random_seed < 2**31, "below 2147483648")
        self.require("steps", self.steps is None or self.steps >= 1, "at least 1")
        self.require("minutes", self.minutes is None or self.minutes > 0, "above 0")
        self.require("ema", 0 <= self.ema < 1, "from 0 (off) to below 1, e.g. 0.999")
        self.require("exp_name", bool(self.exp_name), "a folder name")
        enough = bool(self.data_path) or self.builtin_clips >= self.batch_size
        self.require("builtin_clips", enough, f"at least batch_size ({self.batch_size})")

    def require(self, name: str, holds: bool, expected: str) -> None:
        """Raise unless a setting is acceptable.

        Raises:
            SettingsError: it is not.
        """
        if not holds:
            raise SettingsError(
                "cannot train with these settings",
                seen=f"{name} = {getattr(self, name)!r}, expected {expected}",
                cause="the value is out of range",
                fix=f"--set {name}=VALUE",
            )

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return Path(self.save_path) / self.exp_name

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored beside the run."""
        return dataclasses.asdict(self)

    @abstractmethod
    def last_step(self, steps_an_epoch: int) -> int:
        """Steps in all."""

    @abstractmethod
    def save_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to save after this step (counted from 1)."""

    def lasting(self, step: int) -> bool:
        """Whether the save of this step stays when there are newer ones; of those that do not, the newest two stay."""
        return True

    @abstractmethod
    def validation_due(self, step: int, steps_an_epoch: int) -> bool:
        """Whether to validate after this step (counted from 1)."""


def run_folder(kind: type[RunSettings], values: Mapping[str, Any]) -> Path:
    """The folder of the run that these values of settings name."""
    return Path(values.get("save_path", kind.save_path)) / str(values.get("exp_name", kind.exp_name))
