"""The model families: how to build the network of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidgen.models.config import G3ANConfig, ModelConfig

if TYPE_CHECKING:
    from torch import nn


def build_network(config: ModelConfig) -> nn.Module:
    """A freshly initialised network of this configuration, on the CPU, in training mode."""
    from vidgen.models.g3an import Generator, ImageDiscriminator, VideoDiscriminator

    if isinstance(config, G3ANConfig):
        return Generator(config)
    return VideoDiscriminator(config.ch) if config.kind == "video" else ImageDiscriminator(config.ch)
