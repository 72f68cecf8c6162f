"""The CUDA kernels of the separable convolution give the results of the CPU, on a device."""

from __future__ import annotations

import warnings

import pytest
import torch

import vidgen.plugins.sepconv_trt.op  # noqa: F401  # registers the operator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

SIZES = [(16, 16, 8, 8), (2, 128, 16, 16), (3, 5, 33, 37), (1, 3, 70, 90)]


def _tensors(taps: int, sizes: tuple[int, int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    batch, channels, height, width = sizes
    draw = torch.Generator().manual_seed(taps)
    shapes = [(batch, channels, height + taps - 1, width + taps - 1), (batch, taps, height, width)]
    return [torch.randn(shape, generator=draw).to(dtype) for shape in (*shapes, shapes[1])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("taps", [3, 5, 7, 13, 51])
def test_results_and_gradients_are_those_of_the_cpu(
    taps: int, sizes: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    tensors = _tensors(taps, sizes, dtype)
    grad = torch.randn(sizes, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for device in ("cpu", "cuda"):
        leaves = [tensor.to(device).requires_grad_() for tensor in tensors]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the portable form in place of the kernel would be a warning
            output = torch.ops.vidgen.separable_convolution(*leaves)
            output.backward(grad.to(device))
        found.append([output.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves if leaf.grad is not None)])
    for on_cpu, on_device in zip(*found, strict=True):
        scale = float(on_cpu.float().abs().max())
        step = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
        torch.testing.assert_close(on_device.float(), on_cpu.float(), rtol=step, atol=step * scale / 4)


def test_results_are_the_same_in_every_run_and_on_every_stream() -> None:
    tensors = [tensor.cuda() for tensor in _tensors(51, (2, 3, 40, 50), torch.float32)]
    grad = torch.randn(2, 3, 40, 50, device="cuda")
    first = torch.ops.vidgen.separable_convolution_backward(grad, *tensors)
    torch.cuda.synchronize()
    for _ in range(3):
        with torch.cuda.stream(torch.cuda.Stream()):
            again = torch.ops.vidgen.separable_convolution_backward(grad, *tensors)
            torch.cuda.current_stream().synchronize()
        assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


def test_a_launch_can_be_captured_in_a_graph() -> None:
    tensors = [tensor.cuda() for tensor in _tensors(5, (2, 8, 16, 16), torch.float32)]
    expected = torch.ops.vidgen.separable_convolution(*tensors)  # compiles and loads before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = torch.ops.vidgen.separable_convolution(*tensors)
    output.zero_()
    graph.replay()
    assert torch.equal(output, expected)
