"""What holds on a CPU holds on a CUDA device: run ``pytest tests/gpu`` where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.fill import fill_module

import vidgen
from vidgen.export import ExportSettings, export
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import G3ANConfig
from vidgen.models.g3an import Generator
from vidgen.trainer.distributed import World
from vidgen.trainer.g3an import Draws, Networks, Optimisers, train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled checkpoint with attention."""
    path = tmp_path_factory.mktemp("gpu") / "g.safetensors"
    config = G3ANConfig(ch=8)
    save_checkpoint(path, fill_module(Generator(config)).state_dict(), CheckpointInfo("g3an", config))
    return path


@pytest.mark.parametrize("kind", ["torch", "onnxruntime"])
@pytest.mark.parametrize("lowering", ["cpu", "tensorrt"])
@pytest.mark.parametrize("fp16", [False, True])
def test_videos_are_those_of_the_cpu(checkpoint: Path, tmp_path: Path, kind: str, lowering: str, fp16: bool) -> None:
    artifact = checkpoint
    if kind == "onnxruntime":
        settings = ExportSettings(checkpoint, tmp_path / "g.onnx", lowering=lowering, fp16=fp16)
        export(settings)
        artifact = tmp_path / "g.onnx"
    elif fp16 or lowering == "tensorrt":
        pytest.skip("a checkpoint has one precision and no lowering")
    with vidgen.load(checkpoint) as reference, vidgen.load(artifact, device="cuda") as sampler:
        expected, videos = reference.sample(5, seed=3).astype(int), sampler.sample(5, seed=3).astype(int)
    assert np.abs(videos - expected).max() <= (3 if fp16 else 1)


def test_a_training_step_is_that_of_the_cpu() -> None:
    config = G3ANConfig(c_a=8, c_m=4, ch=4, use_attention=True)
    real = torch.rand(2, 3, 16, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    losses = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        torch.manual_seed(0)
        networks = Networks.create(config, 4, averaged=False)
        networks.to(device)
        optimisers = Optimisers.create(networks, 2e-4, 2e-4)
        draws = Draws.of_step(0, 0, 2, config, World()).to(device)
        losses.append(train_step(networks, optimisers, real.to(device), draws).cpu())
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=0)
