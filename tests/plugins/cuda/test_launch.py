"""The launcher, over a driver that runs the kernels on a CPU: what it passes is what the kernels need."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from plugins.cuda.emulation.emulator import Emulator

import vidgen.plugins.sepconv_trt.op  # noqa: F401  # registers the operator that results are compared with
from vidgen.errors import BackendError, MissingDependencyError, OperatorError
from vidgen.plugins.sepconv_trt import portable
from vidgen.plugins.sepconv_trt.cuda import launch
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, Resources
from vidgen.plugins.sepconv_trt.cuda.launch import CudaCore, Launcher, register_cuda
from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, SCALARS, Launch, Plan

STORED = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def compiled(plan: Plan, architecture: str) -> CompiledKernel:
    """A kernel without code, for drivers that need none."""
    return CompiledKernel(plan, architecture, "none", b"", "", Resources(0, 0, 0, 0))


class EmulatedDriver:
    """Runs launches on the CPU, reading and writing at the addresses it is given."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.loads: list[str] = []
        self.launches: list[Launch] = []

    def architecture(self, device: int) -> str:
        return "sm_89"

    def load(self, kernel: CompiledKernel, device: int) -> Plan:
        self.loads.append(kernel.plan.entry)
        return kernel.plan

    def launch(self, loaded: Plan, launch: Launch, arguments: Sequence[Any], device: int) -> None:
        assert loaded == launch.plan
        self.launches.append(launch)
        tensors, results = ARGUMENTS[loaded.kernel]
        first, last = len(tensors), len(tensors) + len(SCALARS)
        assert all(type(size) is ctypes.c_int32 for size in arguments[first:last])
        scalars = dict(zip(SCALARS, (size.value for size in arguments[first:last]), strict=True))
        batch = self._batch(launch, scalars["channels"])
        shapes = self._shapes(batch, loaded.taps, **scalars)
        dtype = STORED[loaded.dtype]
        inputs = {}
        for name, address in zip(tensors, arguments[:first], strict=True):
            bytes_ = ctypes.string_at(address, int(np.prod(shapes[name])) * dtype.itemsize)
            inputs[name] = np.frombuffer(bytes_, dtype).reshape(shapes[name])
        outputs = {name: (shapes[name], dtype) for name in results}
        found = self.emulator.run(launch, inputs, scalars, outputs)
        for name, address in zip(results, arguments[last:], strict=True):
            ctypes.memmove(address, found[name].tobytes(), found[name].nbytes)

    @staticmethod
    def _batch(launch: Launch, channels: int) -> int:
        groups = 1 if launch.plan.kernel == "backward_kernels" else -(-channels // launch.plan.channels)
        return int(launch.grid[0]) // groups

    @staticmethod
    def _shapes(batch: int, taps: int, channels: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
        image = (batch, channels, height + taps - 1, width + taps - 1)
        kernels, output = (batch, taps, height, width), (batch, channels, height, width)
        return {
            "input": image, "grad_input": image, "grad": output, "output": output, "vertical": kernels,
            "horizontal": kernels, "grad_vertical": kernels, "grad_horizontal": kernels,
        }  # fmt: skip


@pytest.fixture
def driver(emulator: Emulator) -> EmulatedDriver:
    """One driver a test."""
    return EmulatedDriver(emulator)


@pytest.fixture
def launcher(driver: EmulatedDriver) -> Launcher:
    """Launches on the CPU."""
    return Launcher(driver, compiled)


def _tensors(dtype: torch.dtype = torch.float32, taps: int = 5, channels: int = 5) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(taps)
    shapes = [(2, channels, 7, 18), (2, channels, 6 + taps, 17 + taps), (2, taps, 7, 18), (2, taps, 7, 18)]
    return [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("taps", [5, 19])
def test_launched_results_are_those_of_the_operator(launcher: Launcher, taps: int, dtype: torch.dtype) -> None:
    grad, *tensors = _tensors(dtype, taps)
    torch.testing.assert_close(launcher.forward(*tensors), torch.ops.vidgen.separable_convolution(*tensors))
    found = launcher.backward(grad, *tensors, need_input=True, need_kernels=True)
    wanted = torch.ops.vidgen.separable_convolution_backward(grad, *tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_tensors_need_not_be_contiguous(launcher: Launcher) -> None:
    grad, *tensors = _tensors()
    strided = [tensor.transpose(1, 3).contiguous().transpose(1, 3) for tensor in (grad, *tensors)]
    assert not any(tensor.is_contiguous() for tensor in strided)
    assert torch.equal(launcher.forward(*strided[1:]), launcher.forward(*tensors))
    for one, other in zip(
        launcher.backward(*strided, need_input=True, need_kernels=True),
        launcher.backward(grad, *tensors, need_input=True, need_kernels=True),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_only_wanted_gradients_are_computed(launcher: Launcher, driver: EmulatedDriver) -> None:
    tensors = _tensors()
    sizes = [tensor.numel() for tensor in launcher.backward(*tensors, need_input=True, need_kernels=False)]
    assert sizes == [tensors[1].numel(), 0, 0]
    sizes = [tensor.numel() for tensor in launcher.backward(*tensors, need_input=False, need_kernels=True)]
    assert sizes == [0, tensors[2].numel(), tensors[2].numel()]
    assert [one.plan.kernel for one in driver.launches] == ["backward_input", "backward_kernels"]


def test_a_kernel_is_compiled_once_for_its_taps_dtype_and_group(launcher: Launcher, driver: EmulatedDriver) -> None:
    for channels in (4, 8, 4, 3):
        launcher.forward(*_tensors(channels=channels)[1:])
    launcher.forward(*_tensors(torch.float16, channels=4)[1:])
    assert driver.loads == [
        "vidgen_sepconv_forward_k5_float32_c4",
        "vidgen_sepconv_forward_k5_float32_c3",
        "vidgen_sepconv_forward_k5_float16_c4",
    ]


def test_a_failed_compilation_is_tried_once(driver: EmulatedDriver) -> None:
    tried = []

    def refuse(plan: Plan, architecture: str) -> CompiledKernel:
        tried.append(architecture)
        raise BackendError("no", seen="an old compiler", cause="age", fix="a new one")

    launcher = Launcher(driver, refuse)
    for _ in range(3):
        with pytest.raises(BackendError, match="an old compiler"):
            launcher.forward(*_tensors()[1:])
    assert tried == ["sm_89"]


class _Core(types.SimpleNamespace):
    """Stands where cuda.core does and writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        device = lambda number: types.SimpleNamespace(set_current=lambda: self.calls.append(("device", number)))  # noqa: E731
        code = types.SimpleNamespace(get_kernel=lambda name: f"kernel {name}")
        super().__init__(
            Device=device,
            ObjectCode=types.SimpleNamespace(from_cubin=lambda cubin: self.calls.append(("cubin", cubin)) or code),
            Stream=types.SimpleNamespace(from_handle=lambda handle: f"stream {handle}"),
            LaunchConfig=lambda **options: options,
            launch=lambda *arguments: self.calls.append(("launch", *arguments)),
        )


def test_cuda_core_is_given_torchs_stream_the_geometry_and_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    core = _Core()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=70 + device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (12, 0))
    left: list[int] = []

    @contextlib.contextmanager
    def on(device: int) -> Iterator[None]:
        yield
        left.append(device)  # torch's own choice of device comes back after each use

    monkeypatch.setattr(torch.cuda, "device", on)
    tensors = _tensors()[1:]
    output = Launcher(CudaCore(core), compiled).forward(*tensors)
    (place, cubin, again, call) = core.calls
    assert (place, cubin, again) == (("device", 0), ("cubin", b""), ("device", 0))
    name, stream, config, kernel, *arguments = call
    assert (name, stream, kernel) == ("launch", "stream 70", "kernel vidgen_sepconv_forward_k5_float32_c3")
    assert config == {"grid": (4, 1, 2), "block": (16, 8, 1), "shmem_size": 0}
    assert arguments[:3] == [tensor.data_ptr() for tensor in tensors]
    assert [size.value for size in arguments[3:6]] == [5, 7, 18]
    assert arguments[6:] == [output.data_ptr()]
    assert CudaCore(core).architecture(0) == "sm_120" and left == [0, 0]


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda.core is not installed (extra gpu)")
def test_cuda_core_has_what_is_asked_of_it_and_packs_arguments_so() -> None:
    core = pytest.importorskip("cuda.core")
    handler = pytest.importorskip("cuda.core._kernel_arg_handler")
    for name in (
        "Device.set_current",
        "ObjectCode.from_cubin",
        "ObjectCode.get_kernel",
        "Stream.from_handle",
        "launch",
    ):
        owner: Any = core
        for part in name.split("."):
            owner = getattr(owner, part)
    assert core.LaunchConfig(grid=(4, 1, 2), block=(16, 8, 1), shmem_size=0).grid == (4, 1, 2)
    packed = handler.ParamHolder((0x7F0012345678, ctypes.c_int32(-5)))
    slots = ctypes.cast(packed.ptr, ctypes.POINTER(ctypes.c_void_p))
    assert ctypes.c_uint64.from_address(slots[0]).value == 0x7F0012345678
    assert ctypes.c_int32.from_address(slots[1]).value == -5


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget what was loaded and said, before and after."""
    for _ in range(2):
        launch._launcher.cache_clear()
        launch._warn.cache_clear()
        if _ == 0:
            yield


@pytest.mark.usefixtures("fresh")
def test_without_cuda_core_the_portable_form_runs_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> CudaCore:
        raise MissingDependencyError("no", seen="no cuda.core", cause="not installed", fix="pip install 'vidgen[gpu]'")

    monkeypatch.setattr(launch, "CudaCore", missing)
    grad, *tensors = _tensors()
    with pytest.warns(RuntimeWarning, match="no cuda.core - pip install") as said:
        for _ in range(3):
            assert torch.equal(launch.forward(*tensors), portable.forward(*tensors))
        found = launch.backward(grad, *tensors)
    assert len(said) == 1
    assert all(torch.equal(*pair) for pair in zip(found, portable.backward(grad, *tensors, True, True), strict=True))


@pytest.mark.usefixtures("fresh")
def test_what_has_no_kernel_runs_in_the_portable_form_silently(
    launcher: Launcher, driver: EmulatedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_launcher", lambda: launcher)
    monkeypatch.setattr(launch._launcher, "cache_clear", lambda: None, raising=False)
    empty = [tensor[:0] for tensor in _tensors()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tensors in (_tensors(torch.float64), _tensors(taps=65), empty, _tensors(channels=0)):
            assert torch.equal(launch.forward(*tensors[1:]), portable.forward(*tensors[1:]))
            found, wanted = launch.backward(*tensors), portable.backward(*tensors, True, True)
            assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
        monkeypatch.setenv("VIDGEN_SEPCONV", "portable")
        launch.forward(*_tensors()[1:])
    assert driver.launches == []
    monkeypatch.delenv("VIDGEN_SEPCONV")
    launch.forward(*_tensors()[1:])
    assert len(driver.launches) == 1


def test_tensors_that_do_not_fit_are_refused() -> None:
    grad, input, vertical, horizontal = _tensors()
    with pytest.raises(OperatorError):
        launch.forward(input[..., 1:], vertical, horizontal)
    with pytest.raises(OperatorError):
        launch.backward(grad[..., 1:], input, vertical, horizontal)


def test_both_operators_are_registered_for_cuda() -> None:
    library = torch.library.Library("vidgen_cuda_registration", "FRAGMENT")
    names = ("separable_convolution", "separable_convolution_backward")
    library.define(f"{names[0]}(Tensor input, Tensor vertical, Tensor horizontal) -> Tensor")
    library.define(
        f"{names[1]}(Tensor grad, Tensor input, Tensor vertical, Tensor horizontal, bool need_input=True, "
        "bool need_kernels=True) -> (Tensor, Tensor, Tensor)"
    )
    register_cuda(library)
    for name in names:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"vidgen_cuda_registration::{name}", "CUDA")
