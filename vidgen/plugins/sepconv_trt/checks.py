"""What tensors a separable convolution takes, and the sentence about those it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidgen.errors import OperatorError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check(input: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    """Raise unless the three belong together.

    Raises:
        OperatorError: ranks, sizes, dtypes or devices do not fit, or the number of taps is even.
    """
    batch, taps, height, width = _four_axes("vertical", vertical)
    if taps % 2 == 0:
        raise _refused("vertical", f"{taps} taps, expected an odd number", "kernels are centred on a pixel")
    _expect("horizontal", _four_axes("horizontal", horizontal), (batch, taps, height, width), "the shape of vertical")
    sizes = _four_axes("input", input)
    wanted = (batch, sizes[1], height + taps - 1, width + taps - 1)
    _expect("input", sizes, wanted, f"[N, C, H + K - 1, W + K - 1] of vertical {_shape(vertical.shape)}")
    for name, tensor in (("input", input), ("vertical", vertical), ("horizontal", horizontal)):
        if tensor.dtype not in DTYPES or tensor.dtype != input.dtype:
            raise _refused(name, f"dtype {tensor.dtype} beside input {input.dtype}", "all three share a floating dtype")
        if tensor.device != input.device:
            raise _refused(name, f"on {tensor.device}, input on {input.device}", "all three lie on one device")


def check_grad(grad: Tensor, input: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    """As ``check``, and raise unless ``grad`` has the shape and dtype of the output.

    Raises:
        OperatorError: as ``check``.
    """
    check(input, vertical, horizontal)
    wanted = (input.shape[0], input.shape[1], *vertical.shape[2:])
    _expect("grad", _four_axes("grad", grad), wanted, "the shape of the output")
    if grad.dtype != input.dtype or grad.device != input.device:
        raise _refused("grad", f"{grad.dtype} on {grad.device}", f"input is {input.dtype} on {input.device}")


def _four_axes(name: str, tensor: Tensor) -> tuple[Any, ...]:
    if tensor.dim() != 4:
        raise _refused(name, f"shape {_shape(tensor.shape)}", "it has four axes, batch first")
    return tuple(tensor.shape)


def _expect(name: str, seen: Sequence[Any], wanted: Sequence[Any], meaning: str) -> None:
    # One by one: under torch.export each comparison of symbolic sizes is a guard.
    if any(one != other for one, other in zip(seen, wanted)):
        raise _refused(name, f"shape {_shape(seen)}, expected {_shape(wanted)}", f"it must be {meaning}")


def _shape(sizes: Sequence[Any]) -> str:
    return "[" + ", ".join(str(size) for size in sizes) + "]"


def _refused(name: str, seen: str, cause: str) -> OperatorError:
    return OperatorError(
        f"separable convolution refuses {name}",
        seen=seen,
        cause=cause,
        fix="pass input [N, C, H + K - 1, W + K - 1], vertical and horizontal [N, K, H, W], K odd",
    )
