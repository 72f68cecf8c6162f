"""Settings of a classifier run: the reference's flags under their names, and presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vidgen.trainer.labelled_settings import LabelledRunSettings


@dataclass(frozen=True)
class ClassifierTrainSettings(LabelledRunSettings):
    """How to train the classifier that scores samples (spec twostreamvan 7, 9).

    With ``is_actor`` its classes are action + actions * actor.
    """

    exp_name: str = "classifier"
    batch_size: int = 32
    ndf: int = 64
    is_actor: bool = False
    print_freq: int = 10
    save_freq: int = 500
    val_freq: int = 100
    lr: float = 5e-4  # 1e-4 for actors
    decay: float = 0.995  # of the learning rate, an epoch; 0.999 for actors

    patience: int = 0  # stop after so many validations without a better one; 0: never

    MODEL: ClassVar[str] = "classifier"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        **LabelledRunSettings.ELSEWHERE,
        "model_is_actor": "use is_actor",
        "data_is_actor": "use is_actor",
        "ckpt_path": "it is an option of scoring: vidgen score --classifier CKPT",
    }
    RESUMABLE: ClassVar[frozenset[str]] = LabelledRunSettings.RESUMABLE | {"patience"}
    COUNTS: ClassVar[tuple[str, ...]] = (*LabelledRunSettings.COUNTS, "ndf")
    COUNTS_FROM_ZERO: ClassVar[tuple[str, ...]] = (*LabelledRunSettings.COUNTS_FROM_ZERO, "patience")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("amp", self.amp == "off", "off: bfloat16 is not safe in 3-D convolutions on every CPU")
        self.require("decay", 0 < self.decay <= 1, "above 0 and at most 1")


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
