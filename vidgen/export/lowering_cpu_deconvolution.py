"""Deconvolutions of stride 1 as convolutions, which CPU runtimes have vectorised kernels for."""

from __future__ import annotations

from torch import nn

#: With fewer output channels than this most of a vector is empty, and the deconvolution is no slower.
SMALLEST_OUTPUT = 8


def lower_deconvolutions(module: nn.Module) -> None:
    """Replace what is quicker as a convolution in each path of a module; changes the module.

    Those of stride 2 stay: a 2x2 convolution to four times the channels, put in order and cropped, was measured in
    ONNX Runtime and gained nothing.
    """
    for layers in module.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for index, layer in enumerate(layers):
            if (
                isinstance(layer, nn.ConvTranspose2d)
                and layer.stride == (1, 1)
                and layer.out_channels >= SMALLEST_OUTPUT
            ):
                layers[index] = _as_convolution(layer)


def _as_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """The kernel turned round, its channels exchanged."""
    size: int = layer.kernel_size[0]
    convolution = nn.Conv2d(
        layer.in_channels, layer.out_channels, size, 1, size - 1 - int(layer.padding[0]), device="meta"
    )
    turned = layer.weight.detach().flip(2, 3).transpose(0, 1).contiguous()
    convolution.weight = nn.Parameter(turned, requires_grad=False)
    convolution.bias = layer.bias
    return convolution
