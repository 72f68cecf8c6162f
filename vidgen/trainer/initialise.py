"""The weights that TwoStreamVAN and its classifier start from (spec twostreamvan 5)."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Xavier uniform with gain sqrt 2 for convolutions and linear layers.

    Transposed convolutions and all biases keep torch's default, as they do in the reference.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.xavier_uniform_(module.weight, gain=2**0.5)
