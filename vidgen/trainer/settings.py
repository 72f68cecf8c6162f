"""Settings of a G3AN training run: the reference's flags under their names, and presets of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from vidgen.errors import SettingsError
from vidgen.models.config import G3ANConfig

_COUNTS = "max_epoch batch_size d_za d_zm ch_g ch_d val_freq print_freq save_freq n_za_test n_zm_test".split()
_COUNTS_FROM_ZERO = "num_workers threads save_steps val_steps keep random_seed".split()


@dataclass(frozen=True)
class G3ANTrainSettings:
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
    print_freq: int = 100  # steps between printed lines
    save_freq: int = 100  # epochs between checkpoints
    exp_name: str = "g3an"  # the run's folder is save_path/exp_name
    save_path: str = "./exps"
    data_path: str = ""  # a clip store; "" makes the built-in faces
    use_attention: bool = False  # factorised self-attention
    random_seed: int = 12345  # seeds everything: weights, data order, windows, noise
    n_za_test: int = 8  # appearances in the validation grid
    n_zm_test: int = 8  # motions in the validation grid

    steps: int | None = None  # stop after this many steps in all; None: after max_epoch
    minutes: float | None = None  # stop after this long, with a checkpoint
    frame_steps: tuple[int, ...] = (2, 3)  # every which frame a training window takes, drawn with equal chance
    attention_merge: Literal["reference", "clean"] = "reference"
    ema: float = 0.0  # decay a step of the averaged generator; 0: none, as in the paper
    amp: Literal["off", "bf16", "auto"] = "off"  # autocast; auto: bf16 where the device computes it natively
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0  # CPU threads; 0: the library's choice
    save_steps: int = 0  # also save every so many steps; 0: by save_freq alone
    val_steps: int = 0  # also draw a grid every so many steps; 0: by val_freq alone
    keep: int = 0  # checkpoints to keep; 0: all
    builtin_clips: int = 512  # clips of the built-in data made when data_path is ""

    #: Flags of the reference's shared parser that other commands answer to.
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "n": "it is an option of sampling: vidgen sample -n N",
        "model_path": "it is an option of sampling: vidgen sample --engine ARTIFACT",
        "demo_path": "it is an option of sampling: vidgen sample -o DIR",
        "demo_name": "it is an option of sampling: vidgen sample -o DIR",
    }
    #: What may differ between a run and its continuation without changing the training.
    RESUMABLE: ClassVar[frozenset[str]] = frozenset(
        "max_epoch steps minutes num_workers val_freq print_freq save_freq save_steps val_steps keep device "
        "threads exp_name save_path data_path dataset builtin_clips".split()
    )

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in _COUNTS_FROM_ZERO:
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("random_seed", self.random_seed < 2**31, "below 2147483648")
        for name in ("g_lr", "d_lr"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "a number above 0")
        self._require("img_size", self.img_size == 64, "64, the only size the networks make")
        self._require("steps", self.steps is None or self.steps >= 1, "at least 1")
        self._require("minutes", self.minutes is None or self.minutes > 0, "above 0")
        self._require("ema", 0 <= self.ema < 1, "from 0 (off) to below 1, e.g. 0.999")
        self._require("frame_steps", bool(self.frame_steps) and min(self.frame_steps) >= 1, "steps of at least 1")
        self._require("exp_name", bool(self.exp_name), "a folder name")
        enough = bool(self.data_path) or self.builtin_clips >= self.batch_size
        self._require("builtin_clips", enough, f"at least batch_size ({self.batch_size})")
        _ = self.generator_config

    def _require(self, name: str, holds: bool, expected: str) -> None:
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

    @property
    def generator_config(self) -> G3ANConfig:
        """Sizes of the generator to train."""
        return G3ANConfig(self.d_za, self.d_zm, self.ch_g, self.g_mode, self.use_attention, self.attention_merge)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored beside the run."""
        return dataclasses.asdict(self)


def run_folder(values: Mapping[str, Any]) -> Path:
    """The folder of the run that these values of settings name."""
    defaults = G3ANTrainSettings
    return Path(values.get("save_path", defaults.save_path)) / str(values.get("exp_name", defaults.exp_name))


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


def preset_values(name: str) -> Mapping[str, Any]:
    """The values of a preset.

    Raises:
        SettingsError: no such preset.
    """
    if name not in PRESETS:
        raise SettingsError(
            f"unknown preset {name!r}",
            seen=f"{name!r}, expected one of {', '.join(PRESETS)}",
            cause="a typing error",
            fix="vidgen train g3an --preset small",
        )
    return PRESETS[name]
