"""Runs a network once with the weights of an import: names and shapes that fit do not prove usable weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vidgen.errors import CheckpointError
from vidgen.models.checkpoint import load_into
from vidgen.models.config import (
    G3ANConfig,
    G3ANDiscriminatorConfig,
    ModelConfig,
    ResNeXt3DConfig,
    TwoStreamVANConfig,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vidgen.models.resnext3d import ResNeXt3D
    from vidgen.models.twostreamvan import Generator

#: Frames of a proof of TwoStreamVAN: the fewest that pass through its motion encoder and recurrent network.
_FRAMES = 3


def prove(config: ModelConfig, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Load the tensors into their network and run it once in evaluation mode.

    Raises:
        CheckpointError: they do not fit, or what comes out is not finite.
    """
    import torch

    from vidgen.models.registry import build_network

    network = build_network(config).eval()
    load_into(network, tensors, source)
    with torch.inference_mode():
        finite = all(bool(torch.isfinite(result).all()) for result in _outputs(network, config))
    if not finite:
        raise CheckpointError(
            f"cannot import {source}",
            seen=f"{type(network).__name__} gives NaN or infinite values with these weights",
            cause="training diverged before this checkpoint was saved, or the file is damaged",
            fix="import an earlier checkpoint of the run",
        )


def _outputs(network: nn.Module, config: ModelConfig) -> Iterator[Tensor]:
    """Everything the network computes from fixed noise, batch 1."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    if isinstance(config, TwoStreamVANConfig):
        generates = cast("Generator", network)
        category = torch.zeros(1, dtype=torch.int64)
        frames = generates.sample(category, noise(1, config.cont_dim), noise(1, _FRAMES - 1, config.motion_dim))
        yield from (image for image, _ in frames)
        # Sampling leaves out the posterior of the motion latent.
        image, mean, logvar, _ = generates.predict_next_frame(noise(1, 3, 64, 64), noise(1, 3, 1, 64, 64), category)
        yield from (value for value in (image, mean, logvar) if value is not None)
    elif isinstance(config, G3ANConfig):
        yield network(noise(1, config.c_a, 1, 1, 1), noise(1, config.c_m, 1, 1, 1))
    elif isinstance(config, ResNeXt3DConfig):
        features = network(100 * noise(1, 3, config.sample_duration, config.sample_size, config.sample_size))
        yield from (features, cast("ResNeXt3D", network).fc(features))
    elif getattr(config, "kind", "video") == "image":
        yield network(noise(1, 3, 64, 64))
    else:
        clip = noise(1, 3, 16 if isinstance(config, G3ANDiscriminatorConfig) else 10, 64, 64)
        result = network(clip)
        yield from result if isinstance(result, tuple) else (result,)
