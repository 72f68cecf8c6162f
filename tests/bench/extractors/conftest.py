"""Checkpoints and clips that tests of extractors share; the cache of models is the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.fill import fill_module

from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import ClassifierConfig, ModelConfig, ResNeXt3DConfig
from vidgen.models.registry import build_network

CLASSIFIER = ClassifierConfig(6, 4)
#: Small in everything but its 2048 features.
RESNEXT = ResNeXt3DConfig((1, 1, 1, 1), cardinality=1, n_class=5, sample_size=64)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VIDGEN_CACHE", str(folder))
        yield folder


def saved(folder: Path, name: str, model: str, config: ModelConfig) -> Path:
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, fill_module(build_network(config)).state_dict(), CheckpointInfo(model, config))
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "classifier": saved(folder, "classifier", "classifier", CLASSIFIER),
        "resnext101-kinetics": saved(folder, "resnext", "resnext3d", RESNEXT),
    }


def noise_clips(count: int, frames: int = 16, height: int = 64, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, frames, height, width, 3)
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, shape, dtype=np.uint8)
