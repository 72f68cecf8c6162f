"""The generator made ready for export: norms folded into the convolutions, artifact inputs and output."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vidgen.models.g3an import Generator

Module = TypeVar("Module", bound=nn.Module)
Convolution = nn.ConvTranspose3d | nn.Conv3d


def quantise(video: Tensor) -> Tensor:
    """Raw network output to 8-bit levels: ``clip(round_half_even((x + 1) * 127.5), 0, 255)``, any shape."""
    return ((video + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def spectral_weight(convolution: nn.Module) -> Tensor:
    """The weight a spectrally normalised layer uses in evaluation mode, float64 (spec g3an 1.5).

    ``weight_orig / sigma`` with ``sigma = u^T M v``; M has the output channels first, which is axis 1 of a
    transposed convolution.
    """
    tensors = convolution.state_dict()
    weight, u, v = (tensors[name].double() for name in ("weight_orig", "weight_u", "weight_v"))
    axis = 1 if isinstance(convolution, nn.ConvTranspose3d) else 0
    matrix = weight.movedim(axis, 0).flatten(1)
    normalised: Tensor = weight / (u @ matrix @ v)
    return normalised


def _plain(convolution: Convolution, weight: Tensor, bias: Tensor) -> Convolution:
    """A convolution of the same geometry without norms."""
    kernel: Any = convolution.kernel_size
    stride: Any = convolution.stride
    padding: Any = convolution.padding
    channels = (convolution.in_channels, convolution.out_channels)
    plain = type(convolution)(*channels, kernel, stride, padding, device="meta")
    plain.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    plain.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)
    return plain


def _fold_sequence(layers: nn.Sequential) -> None:
    """Fold spectral norm and evaluation-mode batch norm into each deconvolution of a path."""
    for index in range(0, len(layers), 3):
        convolution, norm = layers[index], layers[index + 1]
        if not isinstance(convolution, nn.ConvTranspose3d) or not isinstance(norm, nn.BatchNorm3d):
            raise TypeError(f"expected a deconvolution and its norm, found {convolution} and {norm}")
        statistics = {name: value.double() for name, value in norm.state_dict().items()}
        scale = statistics["weight"] / torch.sqrt(statistics["running_var"] + norm.eps)
        weight = spectral_weight(convolution) * scale[:, None, None, None]
        bias = convolution.state_dict()["bias"].double() - statistics["running_mean"]
        layers[index] = _plain(convolution, weight, bias * scale + statistics["bias"])
        layers[index + 1] = nn.Identity()


def fold_batch_norms(module: Module) -> Module:
    """Fold each batch norm, in evaluation mode, into the layer before it; changes the module and returns it."""
    for layers in module.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for index in range(1, len(layers)):
            if isinstance(layers[index], nn.BatchNorm1d | nn.BatchNorm2d):
                _fold(layers[index - 1], layers[index])
                layers[index] = nn.Identity()
    return module


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Scale a layer's outputs and shift them, in float64, as the batch norm would."""
    if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) or not isinstance(
        norm, nn.BatchNorm1d | nn.BatchNorm2d
    ):
        raise TypeError(f"expected a layer and its norm, found {layer} and {norm}")
    statistics = {name: value.double() for name, value in norm.state_dict().items()}
    scale = statistics["weight"] / torch.sqrt(statistics["running_var"] + norm.eps)
    shift = statistics["bias"] - statistics["running_mean"] * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    shape = [-1 if i == axis else 1 for i in range(layer.weight.dim())]
    layer.weight = nn.Parameter((layer.weight.double() * scale.reshape(shape)).float(), requires_grad=False)
    layer.bias = nn.Parameter(shift.float(), requires_grad=False)


class PlainGenerator(Generator):
    """The reference network with folded norms: the lowering for TensorRT, and the start of the CPU lowering.

    ``forward(za [B, c_a], zm [B, c_m, T])`` gives uint8 [B, 4 (T + 3), 64, 64, 3] or float32
    [B, 3, 4 (T + 3), 64, 64] in (-1, 1).

    Args:
        generator: any G3AN generator; it is not changed.
        output: ``uint8`` or ``float32``.
    """

    def __init__(self, generator: Generator, output: str = "float32") -> None:
        super().__init__(generator.config)
        # Rebuilt rather than deep-copied: legacy spectral norm leaves a non-leaf weight that cannot be copied.
        self.load_state_dict(generator.state_dict())
        self.output = output
        for name, module in list(self.named_modules()):
            if isinstance(module, nn.Sequential) and name != "to_rgb":
                _fold_sequence(module)
            elif name.endswith(("q_conv", "k_conv", "v_conv")) and isinstance(module, nn.Conv3d):
                parent, _, child = name.rpartition(".")
                plain = _plain(module, spectral_weight(module), module.state_dict()["bias"])
                setattr(self.get_submodule(parent), child, plain)
        self.requires_grad_(False).eval()

    def forward(self, za: Tensor, zm: Tensor) -> Tensor:
        """Generate videos in the artifact's layout."""
        video = super().forward(za[:, :, None, None, None], zm[:, :, :, None, None])
        if self.output == "uint8":
            # The cast last: TensorRT has 8-bit integers only where a graph ends.
            return quantise(video.permute(0, 2, 3, 4, 1))
        return video
