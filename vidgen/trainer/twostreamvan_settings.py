"""Settings of a TwoStreamVAN run: the reference's flags under their names, its schedules, and presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vidgen.models.config import TwoStreamVANConfig
from vidgen.trainer.labelled_settings import LabelledRunSettings
from vidgen.trainer.schedules import Line


@dataclass(frozen=True)
class TwoStreamVANTrainSettings(LabelledRunSettings):
    """How to train TwoStreamVAN. Defaults are those of the reference's Weizmann script (spec twostreamvan 8, 9).

    A step is one iteration: one of the tasks content, easier motion (the next frame) and harder motion (a clip).
    """

    exp_name: str = "twostreamvan"
    batch_size: int = 16
    motion_dim: int = 64
    cont_dim: int = 512
    gf_dim: int = 16
    use_bn: bool = False
    no_mask: bool = False  # the -M ablation
    joint: bool = True  # False: the -C ablation
    ac_kernel: int = 5
    kernel_layer: int = 4

    total_iters: int = 500000
    pretrain_iters: int = 0  # content alone, without a discriminator
    print_freq: int = 50
    save_freq: int = 10000
    c_kl_start: float = 7.0
    c_kl_end: float = 7.0
    c_img_dis: float = 10.0
    img_m_kl: float = 7.0
    vid_m_kl_start: float = 2.0
    vid_m_kl_end: float = 20.0
    xp_vs_xtilde: float = 1.0
    pred_scale_feat: float = 100.0
    video_scale_feat: float = 100.0
    cont_ratio_start: float = 0.4  # share of motion among all tasks, in spite of its name in the reference
    cont_ratio_end: float = 0.4
    cont_ratio_iter_start: int = 0
    cont_ratio_iter_end: int = 200000
    motion_ratio_start: float = 0.1  # share of whole clips among the motion tasks
    motion_ratio_end: float = 0.9
    motion_ratio_iter_start: int = 0
    motion_ratio_iter_end: int = 150000

    # Constants of the reference; a shorter run needs shorter ones.
    sampling_iter_start: int = 150000  # scheduled sampling and the clip's KL weight move from here
    sampling_iter_end: int = 400000  # to here
    sampling_end: float = 0.0  # probability of going on from real frames at the end
    c_kl_iter_end: int = 100000
    lr: float = 2e-4  # Adam, all six optimisers
    ndf_image: int = 16
    ndf_video: int = 64
    start_from_stills: bool = False  # kernels that copy at first, where the reference's are random
    last_frame: bool = False  # let the last frame be a target too; the reference never takes it

    val_clips: int = 64  # validation clips used for the losses of each validation; 0: all
    classifier: str = ""  # a classifier checkpoint that scores samples at each validation
    val_samples: int = 32  # samples of each class that it scores

    MODEL: ClassVar[str] = "twostreamvan"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        **LabelledRunSettings.ELSEWHERE,
        "miniclip": "mini-clips are made by vidgen data prepare SRC STORE --miniclip",
        "model": "it is the first argument: vidgen train twostreamvan",
        "output_dir": "use --out RUN: curves, checkpoints and grids lie in it",
        "latent_dim": "the reference does not use it either: remove it",
        "which_iter": "use --resume: a run goes on from its newest complete save",
        "val_num": "it is an option of scoring: vidgen score -n N",
        "get_seq": "it is an option of sampling: vidgen sample --strips",
        "get_mask": "it is an option of sampling: vidgen sample --masks",
    }
    RESUMABLE: ClassVar[frozenset[str]] = LabelledRunSettings.RESUMABLE | frozenset(
        "val_clips classifier val_samples".split()
    )
    COUNTS: ClassVar[tuple[str, ...]] = (
        *LabelledRunSettings.COUNTS,
        *"motion_dim cont_dim gf_dim ndf_image ndf_video".split(),
    )
    COUNTS_FROM_ZERO: ClassVar[tuple[str, ...]] = (
        *LabelledRunSettings.COUNTS_FROM_ZERO,
        *"pretrain_iters val_clips val_samples cont_ratio_iter_start motion_ratio_iter_start".split(),
        *"sampling_iter_start c_kl_iter_end".split(),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = "c_kl_start c_kl_end c_img_dis img_m_kl vid_m_kl_start vid_m_kl_end pred_scale_feat video_scale_feat"
        for name in weights.split():
            self.require(name, 0 <= getattr(self, name) < float("inf"), "a number of at least 0")
        shares = "cont_ratio_start cont_ratio_end motion_ratio_start motion_ratio_end xp_vs_xtilde sampling_end"
        for name in shares.split():
            self.require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("cont_ratio", "motion_ratio", "sampling"):
            start, end = (getattr(self, f"{name}_iter_{side}") for side in ("start", "end"))
            self.require(f"{name}_iter_end", end >= start, f"at least {name}_iter_start ({start})")
        self.require("val_samples", not self.classifier or self.val_samples > 0, "at least 1, for the classifier")
        _ = self.generator_config(1)

    def generator_config(self, n_cat: int) -> TwoStreamVANConfig:
        """Sizes of the generator for so many classes."""
        return TwoStreamVANConfig(
            n_cat,
            self.gf_dim,
            self.cont_dim,
            self.motion_dim,
            self.joint,
            self.no_mask,
            self.use_bn,
            self.ac_kernel,
            self.kernel_layer,
            self.n_channels,
        )

    @property
    def schedules(self) -> dict[str, Line]:
        """By name: ``epsilon``, ``m_kl``, ``c_kl``, ``cont_ratio``, ``motion_ratio`` (spec 4.3)."""
        p = self.pretrain_iters
        late = self.sampling_iter_start + p, self.sampling_iter_end + p
        return {
            "epsilon": Line(1.0, self.sampling_end, *late),
            "m_kl": Line(self.vid_m_kl_start, self.vid_m_kl_end, *late),
            "c_kl": Line(self.c_kl_start, self.c_kl_end, 0, self.c_kl_iter_end),
            "cont_ratio": Line(
                self.cont_ratio_start,
                self.cont_ratio_end,
                self.cont_ratio_iter_start + p,
                self.cont_ratio_iter_end + p,
            ),
            "motion_ratio": Line(
                self.motion_ratio_start,
                self.motion_ratio_end,
                self.motion_ratio_iter_start + p,
                self.motion_ratio_iter_end + p,
            ),
        }


#: For a few hours on two cores: narrow, five actions that differ much, schedules as long as the run.
_SMALL: Mapping[str, Any] = {
    "classes": ("walk", "jumping-jack", "wave-two", "bend", "kick"),
    "batch_size": 8,
    "gf_dim": 16,
    "cont_dim": 64,
    "motion_dim": 16,
    "ndf_video": 16,
    "lr": 5e-4,
    "ema": 0.99,
    "total_iters": 8000,
    "pretrain_iters": 5000,
    "c_kl_start": 3.0,
    "c_kl_end": 3.0,
    "img_m_kl": 4.0,
    "vid_m_kl_end": 7.0,
    "cont_ratio_start": 0.6,
    "cont_ratio_end": 0.8,
    "cont_ratio_iter_end": 600,
    "motion_ratio_start": 0.3,
    "motion_ratio_end": 0.8,
    "motion_ratio_iter_end": 600,
    "sampling_iter_start": 0,
    "sampling_iter_end": 900,
    "start_from_stills": True,
    "save_freq": 200,
    "val_freq": 200,
    "keep": 2,
    "amp": "auto",
    "builtin_clips": 1500,
}

#: Presets: differences from the defaults.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "weizmann": {},
    "mug": {
        "every_nth": 1,
        "c_kl_start": 5.0,
        "c_kl_end": 5.0,
        "img_m_kl": 5.0,
        "vid_m_kl_start": 5.0,
        "vid_m_kl_end": 25.0,
    },
    "synaction": {
        "cont_dim": 1024,
        "gf_dim": 32,
        "pretrain_iters": 300000,
        "total_iters": 800000,
        "c_kl_start": 0.0,
        "xp_vs_xtilde": 0.1,
    },
    "weizmann-C": {"joint": False},
    "weizmann-M": {"no_mask": True},
    "weizmann-layer1": {"kernel_layer": 1},
    "weizmann-layer2": {"kernel_layer": 2},
    "weizmann-layer3": {"kernel_layer": 3},
    "weizmann-layer1-large": {"kernel_layer": 1, "ac_kernel": 17},
    "small": _SMALL,
    "smoke": {
        **_SMALL,
        "classes": (),
        "ema": 0.0,
        "batch_size": 4,
        "gf_dim": 4,
        "cont_dim": 8,
        "motion_dim": 8,
        "ndf_image": 4,
        "ndf_video": 4,
        "total_iters": 6,
        "pretrain_iters": 2,
        "save_freq": 3,
        "val_freq": 6,
        "val_clips": 8,
        "val_samples": 2,
        "builtin_clips": 40,
        "amp": "off",
    },
}
