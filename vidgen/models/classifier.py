"""Networks that judge clips and frames: TwoStreamVAN's two discriminators and the clip classifier (spec 2 and 7)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from torch import Tensor, nn

from vidgen.models.config import ClassifierConfig, TwoStreamVANDiscriminatorConfig


def _clip_layers(outputs: int, ndf: int, *, noise_slots: bool) -> nn.Sequential:
    """Five 3-D convolutions, 10 frames of 64x64 to one vector.

    Args:
        noise_slots: leave a place before each of the first four convolutions, as the reference's noise layers did:
            they never did anything, but count in the names of the tensors.
    """
    layers: list[nn.Module] = []
    widths = (3, ndf, 2 * ndf, 4 * ndf, 8 * ndf)
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        time_padding = 0 if number < 2 else 1
        layers += [nn.Identity()] if noise_slots else []
        layers.append(nn.Conv3d(before, after, 4, (1, 2, 2), (time_padding, 1, 1), bias=False))
        layers += [nn.BatchNorm3d(after)] if number else []
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv3d(8 * ndf, outputs, 4, 1, (1, 0, 0), bias=False))


class Judgement(NamedTuple):
    """Logits of the video discriminator: realness [B] and classes [B, n_cat]."""

    realness: Tensor
    categories: Tensor


class VideoDiscriminator(nn.Module):
    """Clips [B, 3, 10, 64, 64] to realness and class (spec 2)."""

    def __init__(self, config: TwoStreamVANDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.main = _clip_layers(1 + config.n_cat, config.ndf, noise_slots=True)

    def forward(self, clip: Tensor) -> Judgement:
        """Judge clips."""
        logits = self.main(clip).flatten(1)
        return Judgement(logits[:, 0], logits[:, 1:])


class ImageDiscriminator(nn.Module):
    """Frames [B, 3, 64, 64] to realness of patches, logits [B, 4, 4] (spec 2)."""

    def __init__(self, config: TwoStreamVANDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        ndf = config.ndf
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(((3, ndf), (ndf, 2 * ndf), (2 * ndf, 4 * ndf))):
            layers += [nn.Identity(), nn.Conv2d(before, after, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(after)] if number else []
            layers.append(nn.LeakyReLU(0.2))
        self.main = nn.Sequential(*layers, nn.Identity(), nn.Conv2d(4 * ndf, 1, 4, 2, 1, bias=False))

    def forward(self, frame: Tensor) -> Tensor:
        """Judge frames."""
        logits: Tensor = self.main(frame)
        return logits.squeeze(1)


class Classifier(nn.Module):
    """Clips [B, 3, 10, 64, 64] in [-1, 1] to class logits [B, n_class] (spec 7)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.main = _clip_layers(config.n_class, config.ndf, noise_slots=False)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips."""
        logits: Tensor = self.main(clip)
        return logits.flatten(1)
