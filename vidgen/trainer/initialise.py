"""The weights that TwoStreamVAN and its classifier start from (spec twostreamvan 5)."""

from __future__ import annotations

import torch
from torch import nn

from vidgen.models.twostreamvan import Generator


def initialise(network: nn.Module) -> None:
    """Xavier uniform with gain sqrt 2 for convolutions and linear layers.

    Transposed convolutions and all biases keep torch's default, as they do in the reference.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.xavier_uniform_(module.weight, gain=2**0.5)


@torch.no_grad()
def start_from_stills(generator: Generator) -> None:
    """Make the adaptive kernels of a fresh generator copy: its videos are then its still frames, which hold still.

    The reference starts from random kernels, whose frames are noise that a run has to unlearn first. With one tap at
    1 and the others at 0 the separable convolution is the identity, whatever the masks are (spec 1.8).
    """
    taps = generator.config.ac_kernel
    for name, module in generator.kernelGen.named_modules():
        # The linear layer at the end of each kernel's branch (spec 1.6).
        if name.startswith(("kernel_h_block", "kernel_v_block")) and name.endswith(".3"):
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            module.weight.mul_(0.1)
            module.bias.zero_()
            module.bias[taps // 2] = 1.0
