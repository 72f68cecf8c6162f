"""The model families: how to build the network of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidgen.errors import SettingsError
from vidgen.models.config import (
    ExtractorConfig,
    G3ANConfig,
    G3ANDiscriminatorConfig,
    ModelConfig,
    ResNeXt3DConfig,
    TwoStreamVANConfig,
    TwoStreamVANDiscriminatorConfig,
)

if TYPE_CHECKING:
    from torch import nn


def build_network(config: ModelConfig) -> nn.Module:
    """A freshly initialised network of this configuration, on the CPU, in training mode.

    Raises:
        SettingsError: an extractor, whose graph is all there is of it.
    """
    if isinstance(config, ExtractorConfig):
        raise SettingsError(
            "cannot build this network",
            seen=f"the extractor {config.network}, expected a network with a checkpoint",
            cause="a graph that scores run was given where a checkpoint is wanted",
            fix=f"use it as --extractor {config.network}",
        )
    if isinstance(config, G3ANConfig | G3ANDiscriminatorConfig):
        from vidgen.models import g3an

        if isinstance(config, G3ANConfig):
            return g3an.Generator(config)
        return g3an.VideoDiscriminator(config.ch) if config.kind == "video" else g3an.ImageDiscriminator(config.ch)
    if isinstance(config, ResNeXt3DConfig):
        from vidgen.models import resnext3d

        return resnext3d.ResNeXt3D(config)
    from vidgen.models import classifier, twostreamvan

    if isinstance(config, TwoStreamVANConfig):
        return twostreamvan.Generator(config)
    if isinstance(config, TwoStreamVANDiscriminatorConfig):
        video = config.kind == "video"
        return classifier.VideoDiscriminator(config) if video else classifier.ImageDiscriminator(config)
    return classifier.Classifier(config)
