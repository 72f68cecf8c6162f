"""Small generators with every weight filled by rule, and their noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.fill import fill_module

from vidgen.models.checkpoint import CheckpointInfo, DataDescription, save_checkpoint
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.models.g3an import Generator
from vidgen.models.twostreamvan import Generator as TwoStreamVAN

Noise = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def filled() -> Callable[..., Generator]:
    """Make a generator in evaluation mode; ``ch=4`` unless told otherwise."""

    def make(**config: Any) -> Generator:
        generator: Generator = fill_module(Generator(G3ANConfig(**{"ch": 4, **config})))
        return generator.eval()

    return make


@pytest.fixture
def noise() -> Callable[..., Noise]:
    """Make za [B, c_a] and zm [B, c_m, T]."""

    def make(config: G3ANConfig, batch: int, length: int, seed: int = 0) -> Noise:
        random = np.random.default_rng(seed)
        shapes = (batch, config.c_a), (batch, config.c_m, length)
        za, zm = (torch.from_numpy(random.standard_normal(shape).astype(np.float32)) for shape in shapes)
        return za, zm

    return make


@pytest.fixture
def reference() -> Callable[..., NDArray[Any]]:
    """Run the unfolded network: raw [B, 3, F, 64, 64], or 8-bit [B, F, 64, 64, 3]."""

    def run(generator: Generator, za: torch.Tensor, zm: torch.Tensor, output: str = "float32") -> NDArray[Any]:
        with torch.inference_mode():
            video = generator(za[:, :, None, None, None], zm[:, :, :, None, None]).numpy()
        if output == "float32":
            return video
        levels = np.clip(np.rint((video.transpose(0, 2, 3, 4, 1) + np.float32(1)) * np.float32(127.5)), 0, 255)
        return levels.astype(np.uint8)

    return run


@pytest.fixture
def checkpoint(filled: Callable[..., Generator], tmp_path: Path) -> Callable[..., Path]:
    """Write a filled generator as a checkpoint."""

    def make(name: str = "g3an", **config: Any) -> Path:
        generator = filled(**config)
        data = DataDescription("faces", 12.5, ("smile", "nod"), "0123")
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, generator.state_dict(), CheckpointInfo("g3an", generator.config, 7, data))
        return path

    return make


@pytest.fixture
def actor() -> Callable[..., TwoStreamVAN]:
    """Make a filled TwoStreamVAN in evaluation mode, narrow unless told otherwise."""

    def make(**config: Any) -> TwoStreamVAN:
        narrow = {"n_cat": 3, "gf_dim": 1, "cont_dim": 6, "motion_dim": 4}
        generator: TwoStreamVAN = fill_module(TwoStreamVAN(TwoStreamVANConfig(**{**narrow, **config})))
        return generator.eval()

    return make


@pytest.fixture
def actor_checkpoint(actor: Callable[..., TwoStreamVAN], tmp_path: Path) -> Callable[..., Path]:
    """Write a filled TwoStreamVAN as a checkpoint."""

    def make(name: str = "actor", **config: Any) -> Path:
        generator = actor(**config)
        data = DataDescription("actions", 12.5, ("walk", "run", "jump"), "0123")
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, generator.state_dict(), CheckpointInfo("twostreamvan", generator.config, 7, data))
        return path

    return make
