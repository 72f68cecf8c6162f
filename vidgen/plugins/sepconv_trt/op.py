"""Importing this registers ``torch.ops.vidgen.separable_convolution`` and its gradient.

A CPU runs the C++ kernel where it can be built, a CUDA device the kernels of ``cuda``; others the portable torch form.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidgen.plugins.sepconv_trt import cpu, portable
from vidgen.plugins.sepconv_trt.checks import check, check_grad
from vidgen.plugins.sepconv_trt.cuda.launch import register_cuda

NAME = "vidgen::separable_convolution"
BACKWARD_NAME = "vidgen::separable_convolution_backward"

# The library object must live as long as its registrations.
_LIBRARY = torch.library.Library("vidgen", "FRAGMENT")
_LIBRARY.define(
    "separable_convolution(Tensor input, Tensor vertical, Tensor horizontal) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    "separable_convolution_backward(Tensor grad, Tensor input, Tensor vertical, Tensor horizontal, "
    "bool need_input=True, bool need_kernels=True) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _forward(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    check(input, vertical, horizontal)
    return portable.forward(input, vertical, horizontal)


def _backward(
    grad: Tensor,
    input: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    need_input: bool = True,
    need_kernels: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    check_grad(grad, input, vertical, horizontal)
    return portable.backward(grad, input, vertical, horizontal, need_input, need_kernels)


def _fake_forward(input: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    check(input, vertical, horizontal)
    return input.new_empty((input.shape[0], input.shape[1], vertical.shape[2], vertical.shape[3]))


def _fake_backward(
    grad: Tensor,
    input: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    need_input: bool = True,
    need_kernels: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    check_grad(grad, input, vertical, horizontal)
    return (
        input.new_empty(input.shape if need_input else (0,)),
        input.new_empty(vertical.shape if need_kernels else (0,)),
        input.new_empty(vertical.shape if need_kernels else (0,)),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])


def _forward_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, vertical, horizontal = ctx.saved_tensors
    need_input = ctx.needs_input_grad[0]
    need_kernels = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    grads = torch.ops.vidgen.separable_convolution_backward(grad, input, vertical, horizontal, need_input, need_kernels)
    return tuple(value if need else None for value, need in zip(grads, ctx.needs_input_grad))


def _backward_gradient(
    ctx: Any, of_input: Tensor | None, of_vertical: Tensor | None, of_horizontal: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradient of the gradient: the operator is linear in each of its three inputs, so it is made of itself."""
    grad, input, vertical, horizontal = ctx.saved_tensors
    apply = torch.ops.vidgen.separable_convolution
    apply_backward = torch.ops.vidgen.separable_convolution_backward
    totals: list[Tensor | None] = [None] * 4

    def add(index: int, value: Tensor) -> None:
        total = totals[index]
        totals[index] = value if total is None else total + value

    for replaced, cotangent in enumerate((of_input, of_vertical, of_horizontal)):
        if cotangent is None or cotangent.numel() == 0:
            continue
        operands = [input, vertical, horizontal]
        operands[replaced] = cotangent
        add(0, apply(*operands))
        for index, value in enumerate(apply_backward(grad, *operands)):
            if index != replaced:
                add(1 + index, value)
    return (*totals, None, None)


_LIBRARY.impl("separable_convolution", _forward, "CompositeExplicitAutograd")
_LIBRARY.impl("separable_convolution_backward", _backward, "CompositeExplicitAutograd")
_LIBRARY.impl("separable_convolution", cpu.forward, "CPU")
_LIBRARY.impl("separable_convolution_backward", cpu.backward, "CPU")
register_cuda(_LIBRARY)
torch.library.register_fake(NAME, _fake_forward, lib=_LIBRARY)
torch.library.register_fake(BACKWARD_NAME, _fake_backward, lib=_LIBRARY)
torch.library.register_autograd(NAME, _forward_gradient, setup_context=_save, lib=_LIBRARY)
torch.library.register_autograd(BACKWARD_NAME, _backward_gradient, setup_context=_save, lib=_LIBRARY)
# Autocast would save nothing on an operator this light, and would round its sums to half precision.
for _device in ("cpu", "cuda"):
    torch.library.register_autocast(NAME, _device, torch.float32, lib=_LIBRARY)
