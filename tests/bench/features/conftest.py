"""What the tests of statistics and scores over features share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scoring import artifact

from vidgen.bench.scores.feature_settings import FeatureScoreSettings
from vidgen.data.store import StoreWriter
from vidgen.models.config import G3ANConfig, ModelInterface

Make = Callable[..., FeatureScoreSettings]
#: Side of the frames: small, for speed.
SIDE = 16


def small_interface(output: str) -> ModelInterface:
    """The interface of a G3AN whose frames are small."""
    made = G3ANConfig(c_a=6, c_m=4, ch=2).interface(output)
    shape = tuple(SIDE if size == 64 else size for size in made.output.shape)
    return dataclasses.replace(made, output=dataclasses.replace(made.output, shape=shape))


@pytest.fixture
def raw_artifact(tmp_path: Path) -> Path:
    """A G3AN artifact with raw output, for backends without a device."""
    return artifact(tmp_path / "raw.onnx", small_interface("float32"), ())


@pytest.fixture
def clean_artifact(tmp_path: Path) -> Path:
    """The same with 8-bit output."""
    return artifact(tmp_path / "clean.onnx", small_interface("uint8"), ())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A clip store of 40 smooth clips of 18 frames."""
    rng = np.random.default_rng(3)
    path = tmp_path / "store"
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    with StoreWriter(path, name="waves", height=SIDE, width=SIDE) as writer:
        for number in range(40):
            a, b, c = rng.uniform(1, 6, 3)
            frames = [np.stack([np.sin(a * x + b * y + c + 0.2 * t + k) for k in range(3)], axis=-1) for t in range(18)]
            clip = (127.5 * (np.stack(frames) + 1)).astype(np.uint8)
            writer.add(clip, source=f"wave{number}", fps=25)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(clean_artifact: Path, store: Path) -> Make:
    def settings(**more: Any) -> FeatureScoreSettings:
        given: dict[str, Any] = {"engines": (clean_artifact,), "reference": store, "n": 40, "backend": "fake"}
        return FeatureScoreSettings(**{**given, "replicates": 10, **more})

    return settings
