"""Separable convolution and its gradients in float64, straight from the sums of spec/twostreamvan.md 1.8."""

from __future__ import annotations

import numpy as np


def forward(input: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """[N, C, H + K - 1, W + K - 1] and twice [N, K, H, W] to [N, C, H, W]."""
    windows = np.lib.stride_tricks.sliding_window_view(input, (vertical.shape[1],) * 2, axis=(2, 3))
    return np.einsum("nchwji,njhw,nihw->nchw", windows, vertical, horizontal, optimize=True)


def backward_kernels(
    grad: np.ndarray, input: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of vertical and horizontal."""
    windows = np.lib.stride_tricks.sliding_window_view(input, (vertical.shape[1],) * 2, axis=(2, 3))
    products = np.einsum("nchw,nchwji->njihw", grad, windows)
    return np.einsum("njihw,nihw->njhw", products, horizontal), np.einsum("njihw,njhw->nihw", products, vertical)


def backward_input(grad: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """Gradient of input, scattered tap by tap."""
    batch, taps, height, width = vertical.shape
    result = np.zeros((batch, grad.shape[1], height + taps - 1, width + taps - 1))
    for j in range(taps):
        for i in range(taps):
            result[:, :, j : j + height, i : i + width] += grad * vertical[:, j : j + 1] * horizontal[:, i : i + 1]
    return result
