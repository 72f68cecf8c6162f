"""The operator on the CPU: the C++ kernel where there is one, else the portable torch form."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from vidgen.plugins.sepconv_trt import native, portable
from vidgen.plugins.sepconv_trt.checks import check, check_grad

_SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


def forward(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``torch.ops.vidgen.separable_convolution`` on the CPU.

    Args:
        input: [N, C, H + K - 1, W + K - 1], float32, float64, float16 or bfloat16 (summed in float32).
        vertical, horizontal: [N, K, H, W], same dtype.

    Returns:
        [N, C, H, W], contiguous.

    Raises:
        OperatorError: the tensors do not fit. MemoryError: it ran out.
    """
    check(input, vertical, horizontal)
    if input.dtype not in _SUFFIXES:
        return forward(input.float(), vertical.float(), horizontal.float()).to(input.dtype)
    kernel = _kernel("forward", 4, input.dtype)
    if kernel is None:
        return portable.forward(input, vertical, horizontal)
    input, vertical, horizontal = input.contiguous(), vertical.contiguous(), horizontal.contiguous()
    batch, taps, height, width = vertical.shape
    channels = input.shape[1]
    output = input.new_empty((batch, channels, height, width))
    failed = kernel(
        input.data_ptr(),
        vertical.data_ptr(),
        horizontal.data_ptr(),
        output.data_ptr(),
        batch,
        channels,
        taps,
        height,
        width,
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("separable convolution")
    return output


def backward(
    grad: Tensor,
    input: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    need_input: bool = True,
    need_kernels: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """``torch.ops.vidgen.separable_convolution_backward`` on the CPU.

    Args:
        grad: [N, C, H, W], of the output. The others as in ``forward``.
        need_input, need_kernels: an unwanted gradient is an empty tensor.

    Returns:
        gradients of input, vertical and horizontal, contiguous.

    Raises:
        OperatorError: the tensors do not fit. MemoryError: it ran out.
    """
    check_grad(grad, input, vertical, horizontal)
    if input.dtype not in _SUFFIXES:
        wide = (grad.float(), input.float(), vertical.float(), horizontal.float())
        first, second, third = backward(*wide, need_input=need_input, need_kernels=need_kernels)
        return first.to(input.dtype), second.to(input.dtype), third.to(input.dtype)
    kernel = _kernel("backward", 7, input.dtype)
    if kernel is None or grad.numel() == 0:
        return portable.backward(grad, input, vertical, horizontal, need_input, need_kernels)
    grad, input = grad.contiguous(), input.contiguous()
    vertical, horizontal = vertical.contiguous(), horizontal.contiguous()
    batch, taps, height, width = vertical.shape
    of_input = input.new_empty(input.shape if need_input else 0)
    of_vertical = input.new_empty(vertical.shape if need_kernels else 0)
    of_horizontal = input.new_empty(vertical.shape if need_kernels else 0)
    failed = kernel(
        grad.data_ptr(),
        input.data_ptr(),
        vertical.data_ptr(),
        horizontal.data_ptr(),
        of_input.data_ptr(),  # null where empty
        of_vertical.data_ptr(),
        of_horizontal.data_ptr(),
        batch,
        input.shape[1],
        taps,
        height,
        width,
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("gradient of separable convolution")
    return of_input, of_vertical, of_horizontal


@functools.cache
def _entry(name: str, pointers: int, dtype: torch.dtype) -> Callable[..., int] | None:
    loaded = native.library()
    if loaded is None:
        return None
    entry = getattr(loaded, f"vidgen_{name}_{_SUFFIXES[dtype]}")
    entry.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * 6
    entry.restype = ctypes.c_int
    return entry  # type: ignore[no-any-return]  # ctypes types no function


def _kernel(name: str, pointers: int, dtype: torch.dtype) -> Callable[..., int] | None:
    return None if native.form() == "portable" else _entry(name, pointers, dtype)
