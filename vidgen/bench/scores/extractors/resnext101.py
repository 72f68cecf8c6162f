"""The extractor behind G3AN's FID: ResNeXt-101 in 3-D, trained on Kinetics (spec g3an 8); weights are the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.clips import LOGITS, ClipExtractor
from vidgen.bench.scores.extractors.network import PRECISION, Artifact, Graph, cached_graph, open_network, write_graph
from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import load_into, load_tensors, read_info
from vidgen.models.config import ResNeXt3DConfig

if TYPE_CHECKING:
    from torch import nn

    from vidgen.models.resnext3d import ResNeXt3D

NAME = "resnext101-kinetics"
#: Subtracted from R, G and B of 0..255; nothing is divided (spec g3an 8.2).
MEAN = (114.7748, 107.7354, 99.4750)
FEATURES = 2048
BATCH = 8
#: The page that links the official file says nothing else of its licence than the repository's.
LICENCE = (
    "of the weights: as the user's file came; the official ones carry no statement of their own, and are linked from "
    "3D-ResNets-PyTorch, which is under the MIT licence (Copyright 2017 Kensho Hara); trained on Kinetics"
)


def opens(weights: Path | None, *, threads: int | None, device: str, backend: str | None = None) -> Extractor:
    """Open it.

    Args:
        weights: the official checkpoint after `vidgen import`.

    Raises:
        SettingsError: no weights were given.
        CheckpointError: they are missing, not imported, or of another network.
    """
    made = graph(weights)
    network = open_network(made, threads=threads, device=device, backend=backend)
    (clips,) = made.manifest.interface.inputs
    _, frames, height, width, _ = clips.shape
    facts = {
        "name": NAME,
        "backend": network.description,
        "spaces": ("features",),
        "frames": frames,
        "size": (height, width),
        "weight_sha256": made.manifest.checkpoint_sha256,
        "licence": LICENCE,
    }
    said = {"mean": list(MEAN), "resize": "PIL bilinear", "batch": BATCH, **PRECISION}
    return ClipExtractor(network, facts, said, classes=True)


def graph(weights: Path | None) -> Artifact:
    """The network of a checkpoint, in the user's cache; raises as opening does."""
    if weights is None:
        raise SettingsError(
            f"no weights for {NAME}",
            seen="--weights was left out, expected the imported checkpoint",
            cause="no package carries weights trained on Kinetics: the file resnext-101-kinetics.pth comes with "
            "3D-ResNets-PyTorch (Hara et al.), linked from its page and from G3AN's",
            fix="vidgen import resnext-101-kinetics.pth resnext101.safetensors, then --weights resnext101.safetensors",
        )
    config = _config(weights)
    return cached_graph(NAME, sha256(weights), lambda: _write(weights, config), batch=BATCH)


def _config(weights: Path) -> ResNeXt3DConfig:
    if weights.suffix in (".pth", ".pt", ".tar"):
        raise CheckpointError(
            f"cannot use {weights} as weights of {NAME}",
            seen=f"a {weights.suffix} file, expected .safetensors",
            cause="the official checkpoint has to be imported once",
            fix=f"vidgen import {weights} resnext101.safetensors, then --weights resnext101.safetensors",
        )
    info = read_info(weights)
    if not isinstance(info.config, ResNeXt3DConfig):
        raise CheckpointError(
            f"cannot use {weights} as weights of {NAME}",
            seen=f"a {info.model} checkpoint, expected resnext3d",
            cause="the checkpoint of another network was given",
            fix="vidgen import resnext-101-kinetics.pth resnext101.safetensors, then --weights resnext101.safetensors",
        )
    return info.config


def _write(weights: Path, config: ResNeXt3DConfig) -> Graph:
    require("torch", f"prepare {NAME} for its first use")
    from vidgen.models.resnext3d import ResNeXt3D

    network = ResNeXt3D(config)
    load_into(network, load_tensors(weights), weights)
    shape = ("batch", config.sample_duration, config.sample_size, config.sample_size, 3)
    return write_graph(_prepared(network), shape, {"features": FEATURES, LOGITS: config.n_class}, NAME)


def _prepared(network: ResNeXt3D) -> nn.Module:
    import torch

    class Prepared(torch.nn.Module):
        """8-bit clips as they come to features and logits."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.mean = torch.nn.Parameter(torch.tensor(MEAN))

        def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features: torch.Tensor = self.network((clips.to(torch.float32) - self.mean).permute(0, 4, 1, 2, 3))
            return features, self.network.fc(features)

    return Prepared()
