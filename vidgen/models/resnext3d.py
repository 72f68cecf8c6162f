"""ResNeXt in 3-D, the network behind G3AN's FID: clips to features and Kinetics classes (spec g3an 8.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidgen.models.config import ResNeXt3DConfig

#: Channels of a block's result for each of its planes.
EXPANSION = 2
#: Planes of the four layers.
PLANES = (128, 256, 512, 1024)
#: Values that describe a clip.
FEATURES = EXPANSION * PLANES[-1]


class ZeroPadShortcut(nn.Module):
    """Shortcut type A: every ``stride``-th position, zeros for the channels that are not there; no parameters."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, channels, T', H', W']."""
        kept = functional.avg_pool3d(x, 1, self.stride)
        return functional.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.channels - kept.shape[1]))


class Bottleneck(nn.Module):
    """1x1x1, grouped 3x3x3 and 1x1x1 convolutions beside a shortcut."""

    def __init__(self, channels: int, planes: int, stride: int, config: ResNeXt3DConfig) -> None:
        super().__init__()
        middle, wide = config.cardinality * (planes // 32), EXPANSION * planes
        self.conv1 = nn.Conv3d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(middle)
        self.conv2 = nn.Conv3d(middle, middle, 3, stride, 1, groups=config.cardinality, bias=False)
        self.bn2 = nn.BatchNorm3d(middle)
        self.conv3 = nn.Conv3d(middle, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(wide)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != wide:
            self.downsample = (
                nn.Sequential(nn.Conv3d(channels, wide, 1, stride, bias=False), nn.BatchNorm3d(wide))
                if config.shortcut == "B"
                else ZeroPadShortcut(wide, stride)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, 2 planes, T / stride, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y)) + self.downsample(x)
        result: Tensor = self.relu(y)
        return result


class ResNeXt3D(nn.Module):
    """Clips [B, 3, T, H, W] of RGB, 0..255 less the mean of each channel, to features [B, 2048].

    ``fc`` turns features into class logits; the reference program stores it and leaves it unused.
    """

    def __init__(self, config: ResNeXt3DConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        channels = 64
        for number, (planes, blocks) in enumerate(zip(PLANES, config.layers, strict=True), start=1):
            made = []
            for block in range(blocks):
                made.append(Bottleneck(channels, planes, 2 if number > 1 and block == 0 else 1, config))
                channels = EXPANSION * planes
            setattr(self, f"layer{number}", nn.Sequential(*made))
        side = math.ceil(config.sample_size / 32)
        self.avgpool = nn.AvgPool3d((math.ceil(config.sample_duration / 16), side, side), stride=1)
        self.fc = nn.Linear(FEATURES, config.n_class)
        _initialise(self)

    def forward(self, clip: Tensor) -> Tensor:
        """Describe clips. What one pooling window does not cover is averaged over its positions.

        Raises:
            RuntimeError: a clip smaller than the pooling window of its configuration.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(clip))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        features: Tensor = self.avgpool(x).mean((2, 3, 4))
        return features


def _initialise(network: nn.Module) -> None:
    """Convolutions N(0, sqrt(2 / (kernel volume * out))); batch norms are 1 and 0 as they come."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                volume = math.prod(module.kernel_size) * module.out_channels
                module.weight.normal_(0.0, math.sqrt(2.0 / volume))
