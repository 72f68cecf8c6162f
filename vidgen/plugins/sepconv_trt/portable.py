"""Separable convolution in plain torch: for machines without a kernel, and as the peers it is measured against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def forward(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Separable convolution (spec/twostreamvan.md 1.8).

    Args:
        input: [N, C, H + K - 1, W + K - 1], any floating dtype.
        vertical, horizontal: [N, K, H, W], same dtype.

    Returns:
        [N, C, H, W]; half precision is summed in float32.
    """
    wide = _accumulator(input.dtype)
    return by_shifts(input.to(wide), vertical.to(wide), horizontal.to(wide)).to(input.dtype)


def by_shifts(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """K x K shifted multiply-adds; shapes as in ``forward``. The quickest torch form at K = 5 and at K = 51."""
    taps, height, width = vertical.shape[1:]
    output = None
    for y in range(taps):
        row = input[:, :, y : y + height, :width] * horizontal[:, :1]
        for x in range(1, taps):
            row = torch.addcmul(row, input[:, :, y : y + height, x : x + width], horizontal[:, x : x + 1])
        scale = vertical[:, y : y + 1]
        output = row * scale if output is None else torch.addcmul(output, row, scale)
    assert output is not None
    return output


def by_rows(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """K passes, each over all taps of one row; K times the output in memory. For comparison only."""
    taps, height, _ = vertical.shape[1:]
    weights = horizontal.permute(0, 2, 3, 1).unsqueeze(1)
    output = None
    for y in range(taps):
        row = (input[:, :, y : y + height].unfold(3, taps, 1) * weights).sum(dim=-1)
        scale = vertical[:, y : y + 1]
        output = row * scale if output is None else torch.addcmul(output, row, scale)
    assert output is not None
    return output


def by_unfold(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``unfold`` and ``einsum``, as most programs write it; K x K times the input in memory. For comparison only."""
    batch, taps, height, width = vertical.shape
    windows = functional.unfold(input, taps).view(batch, input.shape[1], taps, taps, height, width)
    return torch.einsum("ncjihw,njhw,nihw->nchw", windows, vertical, horizontal)


def backward(
    grad: Tensor, input: Tensor, vertical: Tensor, horizontal: Tensor, need_input: bool, need_kernels: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to input, vertical and horizontal (spec/twostreamvan.md 1.8).

    Args:
        grad: [N, C, H, W], of the output. The others as in ``forward``.
        need_input, need_kernels: an unwanted gradient is an empty tensor.
    """
    wide = _accumulator(input.dtype)
    tensors = [tensor.to(wide) for tensor in (grad, input, vertical, horizontal)]
    empty = input.new_empty(0)
    grad_input = _grad_input(*tensors).to(input.dtype) if need_input else empty
    grad_vertical, grad_horizontal = _grad_kernels(*tensors) if need_kernels else (empty, empty.clone())
    return grad_input, grad_vertical.to(input.dtype), grad_horizontal.to(input.dtype)


def _grad_input(grad: Tensor, input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    taps, height, width = vertical.shape[1:]
    result = torch.zeros_like(input, memory_format=torch.contiguous_format)
    for y in range(taps):
        scaled = grad * vertical[:, y : y + 1]
        for x in range(taps):
            result[:, :, y : y + height, x : x + width].addcmul_(scaled, horizontal[:, x : x + 1])
    return result


def _grad_kernels(grad: Tensor, input: Tensor, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
    taps, height, width = vertical.shape[1:]
    grad_vertical = torch.zeros_like(vertical, memory_format=torch.contiguous_format)
    grad_horizontal = torch.zeros_like(horizontal, memory_format=torch.contiguous_format)
    for y in range(taps):
        for x in range(taps):
            product = (grad * input[:, :, y : y + height, x : x + width]).sum(dim=1)
            grad_vertical[:, y].addcmul_(product, horizontal[:, x])
            grad_horizontal[:, x].addcmul_(product, vertical[:, y])
    return grad_vertical, grad_horizontal


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
