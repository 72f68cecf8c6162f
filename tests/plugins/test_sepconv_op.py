"""The operator's values, gradients and registration, in its kernel and in its portable form."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.vectors import assert_matches, load

import vidgen.plugins.sepconv_trt.op  # noqa: F401  (registers the operator)
from vidgen.errors import OperatorError, SettingsError
from vidgen.plugins.sepconv_trt import build, native, portable

ROOT = Path(__file__).resolve().parents[2]
op = torch.ops.vidgen.separable_convolution
backward = torch.ops.vidgen.separable_convolution_backward
Arrays = tuple[np.ndarray, ...]


@contextlib.contextmanager
def chosen_form(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, name)
        yield


@pytest.fixture(params=["auto", "portable"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(native.VARIABLE, request.param)
    return str(request.param)


def draw(batch: int, channels: int, height: int, width: int, taps: int, dtype: torch.dtype = torch.float64) -> list:
    """Upstream gradient, input, vertical and horizontal kernels."""
    generator = torch.Generator().manual_seed(batch + 10 * channels + 100 * height + 1000 * width + taps)
    kernels = (batch, taps, height, width)
    shapes = [
        (batch, channels, height, width),
        (batch, channels, height + taps - 1, width + taps - 1),
        kernels,
        kernels,
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def naive(grad: np.ndarray, input: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> Arrays:
    """Output and gradients by the sums of the specification (1.8), in float64."""
    grad, input, vertical, horizontal = (array.astype(np.float64) for array in (grad, input, vertical, horizontal))
    taps, height, width = vertical.shape[1:]
    output, of_input = np.zeros(grad.shape), np.zeros(input.shape)
    of_vertical, of_horizontal = np.zeros(vertical.shape), np.zeros(horizontal.shape)
    for j in range(taps):
        for i in range(taps):
            window = input[:, :, j : j + height, i : i + width]
            v, h = vertical[:, None, j], horizontal[:, None, i]
            output += window * v * h
            of_input[:, :, j : j + height, i : i + width] += grad * v * h
            of_vertical[:, j] += (grad * window * h).sum(axis=1)
            of_horizontal[:, i] += (grad * window * v).sum(axis=1)
    return output, of_input, of_vertical, of_horizontal


def everything(grad: torch.Tensor, *tensors: torch.Tensor) -> Arrays:
    """Output and gradients through autograd."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = op(*leaves)
    return tuple(each.detach().numpy() for each in (output, *torch.autograd.grad(output, leaves, grad)))


@pytest.mark.skipif(not any(map(shutil.which, build.COMPILERS)), reason="needs a C++ compiler")
def test_the_kernel_is_built_here() -> None:
    assert native.library() is not None


@pytest.mark.parametrize("case", ["tsv_sepconv_k5", "tsv_sepconv_k51"])
def test_reference_vectors(case: str, form: str) -> None:
    stored = load(case)
    tensors = [torch.from_numpy(stored[f"in_{name}"]) for name in ("grad_output", "input", "vertical", "horizontal")]
    names = ("out_output", "out_grad_input", "out_grad_vertical", "out_grad_horizontal")
    for name, value in zip(names, everything(*tensors)):
        assert_matches(value, stored, name, 1e-4 * max(1.0, float(np.abs(stored[name]).max())))


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(*(st.integers(1, limit) for limit in (3, 9, 24, 70))),
    taps=st.sampled_from([1, 3, 5, 7, 9, 13, 21]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    threads=st.integers(1, 3),
)
def test_kernel_meets_the_definition_at_any_size(
    sizes: tuple[int, int, int, int], taps: int, dtype: torch.dtype, threads: int
) -> None:
    tensors = draw(*sizes, taps, dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = everything(*tensors)
    finally:
        torch.set_num_threads(before)
    for value, exact in zip(found, naive(*(tensor.numpy() for tensor in tensors))):
        scale = 1e-13 if dtype == torch.float64 else 1e-5
        np.testing.assert_allclose(value, exact, rtol=0, atol=scale * max(1.0, np.abs(exact).max()))


@pytest.mark.parametrize("sizes", [(1, 3, 20, 90, 51), (2, 5, 64, 33, 5), (1, 128, 16, 16, 5), (1, 4, 70, 150, 7)])
def test_portable_form_equals_the_kernel(sizes: tuple[int, int, int, int, int]) -> None:
    tensors = draw(*sizes, torch.float32)
    kernel = everything(*tensors)
    with chosen_form("portable"):
        other = everything(*tensors)
    for one, two in zip(kernel, other):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6 * np.abs(two).max())


def test_peers_of_the_benchmark_agree() -> None:
    _, *tensors = draw(2, 3, 6, 7, 5)
    for other in (portable.by_rows, portable.by_unfold, op):
        torch.testing.assert_close(other(*tensors), portable.by_shifts(*tensors))


@pytest.mark.parametrize("sizes", [(2, 3, 37, 41, 5), (1, 2, 50, 200, 9)])
def test_result_does_not_depend_on_threads(sizes: tuple[int, int, int, int, int]) -> None:
    tensors = draw(*sizes, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(everything(*tensors))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other):
            assert one.tobytes() == two.tobytes()


def test_gradients_and_their_gradients(form: str) -> None:
    for taps in (1, 3) if form == "portable" else (1, 3, 5, 9):
        leaves = [tensor.requires_grad_() for tensor in draw(2, 2, 2, 1, taps)[1:]]
        assert torch.autograd.gradcheck(op, leaves)
        assert torch.autograd.gradgradcheck(op, leaves)


def test_only_wanted_gradients_are_made() -> None:
    grad, input, vertical, horizontal = draw(1, 2, 3, 4, 3)
    everything_ = backward(grad, input, vertical, horizontal)
    only_input = backward(grad, input, vertical, horizontal, True, False)
    only_kernels = backward(grad, input, vertical, horizontal, False, True)
    assert torch.equal(only_input[0], everything_[0])
    assert [each.numel() for each in only_input[1:]] == [0, 0]
    assert only_kernels[0].numel() == 0
    assert torch.equal(only_kernels[1], everything_[1])
    assert torch.equal(only_kernels[2], everything_[2])
    output = op(input, vertical.requires_grad_(), horizontal)
    (found,) = torch.autograd.grad(output, [vertical], grad)
    torch.testing.assert_close(found, everything_[1])


@pytest.mark.parametrize("sizes", [(0, 2, 3, 4, 3), (2, 0, 3, 4, 3), (2, 2, 0, 4, 3), (2, 2, 3, 0, 5)])
def test_empty_tensors(sizes: tuple[int, int, int, int, int], form: str) -> None:
    tensors = draw(*sizes)
    output, of_input, of_vertical, _ = everything(*tensors)
    assert output.shape == tensors[0].shape
    assert of_input.shape == tensors[1].shape
    assert not of_vertical.any()
    assert not of_input.any()


def test_strided_arguments(form: str) -> None:
    grad, input, vertical, horizontal = draw(2, 3, 8, 6, 5)
    strided = [
        grad.to(memory_format=torch.channels_last),
        torch.stack([input, input], dim=-1)[..., 1],
        vertical.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        horizontal[:1].expand(2, -1, -1, -1),
    ]
    assert not any(tensor.is_contiguous() for tensor in strided)
    found = everything(*strided)
    for one, two in zip(found, everything(*(tensor.contiguous() for tensor in strided))):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype, form: str) -> None:
    grad, *tensors = (tensor.to(dtype) for tensor in draw(1, 2, 6, 9, 7))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    output = op(*leaves)
    found = (output, *torch.autograd.grad(output, leaves, grad))
    exact = everything(grad.float(), *(tensor.detach().float() for tensor in tensors))
    for value, other in zip(found, exact):
        assert value.dtype == dtype
        torch.testing.assert_close(value, torch.from_numpy(other).to(dtype))


def test_autocast_runs_it_in_float32() -> None:
    grad, input, vertical, horizontal = draw(2, 3, 6, 9, 5, torch.float32)
    leaf = input.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = op(leaf, vertical, horizontal)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, op(leaf.detach().float(), vertical, horizontal))
    (found,) = torch.autograd.grad(output, [leaf], grad)
    assert found.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_not_a_number_stays_where_it_was() -> None:
    grad, input, vertical, horizontal = draw(1, 1, 20, 40, 5)
    input[0, 0, 10, 20] = torch.nan
    expected, *_ = naive(*(tensor.numpy() for tensor in (grad, input, vertical, horizontal)))
    np.testing.assert_array_equal(np.isnan(op(input, vertical, horizontal).numpy()), np.isnan(expected))
    grad[0, 0, 19, 39] = torch.inf
    _, expected, *_ = naive(*(tensor.numpy() for tensor in (grad, input, vertical, horizontal)))
    found = backward(grad, input, vertical, horizontal)[0]
    np.testing.assert_array_equal(np.isfinite(found.numpy()), np.isfinite(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype, form: str) -> None:
    grad, *tensors = (tensor.requires_grad_() for tensor in draw(2, 3, 4, 5, 3, dtype))
    for operator, arguments in ((op, tensors), (backward, (grad, *tensors)), (backward, (grad, *tensors, True, False))):
        found = torch.library.opcheck(operator, arguments)
        assert len(found) >= 4 and set(found.values()) == {"SUCCESS"}


class Module(torch.nn.Module):
    def forward(self, input: torch.Tensor, vertical: torch.Tensor, horizontal: torch.Tensor) -> torch.Tensor:
        return op(input, vertical, horizontal).tanh()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile(backend: str) -> None:
    grad, *tensors = draw(2, 3, 8, 9, 5, torch.float32)
    results = []
    for module in (Module(), torch.compile(Module(), backend=backend, fullgraph=True)):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        output = module(*leaves)
        results.append([output.detach(), *torch.autograd.grad(output, leaves, grad)])
    for one, two in zip(*results):
        torch.testing.assert_close(one, two)


def test_export_with_dynamic_sizes() -> None:
    _, *tensors = draw(2, 3, 8, 9, 5, torch.float32)
    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    kernels = {0: batch, 2: height, 3: width}
    dynamic = ({0: batch, 2: height + 4, 3: width + 4}, kernels, kernels)
    exported = torch.export.export(Module(), tuple(tensors), dynamic_shapes=dynamic)
    assert next(node.target for node in exported.graph.nodes if node.op == "call_function") is op.default
    _, *others = draw(3, 3, 11, 6, 5, torch.float32)
    torch.testing.assert_close(exported.module()(*others), Module()(*others))


def refuse(*shapes: tuple[int, ...], dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3) -> str:
    tensors = [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes)]
    messages = []
    for device in ("cpu", "meta"):
        with pytest.raises(OperatorError) as caught:
            op(*(tensor.to(device) for tensor in tensors))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


def test_what_does_not_fit_is_refused_by_name() -> None:
    good = (2, 5, 4, 6)
    assert "4 taps, expected an odd number" in refuse((2, 3, 7, 9), (2, 4, 4, 6), (2, 4, 4, 6))
    assert "horizontal - shape [2, 3, 4, 6], expected [2, 5, 4, 6]" in refuse((2, 3, 8, 10), good, (2, 3, 4, 6))
    assert "input - shape [2, 3, 8, 9], expected [2, 3, 8, 10]" in refuse((2, 3, 8, 9), good, good)
    assert "input - shape [1, 3, 8, 10], expected [2, 3, 8, 10]" in refuse((1, 3, 8, 10), good, good)
    assert "input - shape [3, 8, 10]" in refuse((3, 8, 10), good, good)
    mixed = (torch.float32, torch.float64, torch.float32)
    assert "vertical - dtype torch.float64" in refuse((2, 3, 8, 10), good, good, dtypes=mixed)
    assert "input - dtype torch.int64" in refuse((2, 3, 8, 10), good, good, dtypes=(torch.int64,) * 3)
    with pytest.raises(OperatorError, match="grad"):
        backward(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 8, 10), torch.zeros(good), torch.zeros(good))


def test_unknown_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "fast")
    with pytest.raises(SettingsError, match="'fast', expected auto or portable"):
        op(*draw(1, 1, 1, 1, 1)[1:])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure the peak of memory")
@pytest.mark.parametrize("gradients", [[], ["--gradients"]])
def test_many_taps_need_little_memory(gradients: list[str]) -> None:
    program = ROOT / "benchmarks" / "sepconv.py"
    command = [sys.executable, str(program), "--memory-of", "kernel", *gradients]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert 0 < float(done.stdout) < 64
