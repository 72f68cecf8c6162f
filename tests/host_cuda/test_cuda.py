"""vidgen.runtime.cuda through real pycuda and real cuda-python, over a driver that runs on a CPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cuda import refusals, scenarios
from host_cuda.harness import HostCuda, libraries
from plugins.cuda.emulation import reference

from vidgen.errors import BackendError, MissingDependencyError, SettingsError
from vidgen.plugins.sepconv_trt.cuda.compile import compile_kernel
from vidgen.plugins.sepconv_trt.geometry import DType, Plan, launch_geometry
from vidgen.runtime import cuda as interface
from vidgen.runtime import cuda_errors, cuda_python

SCHEDULES = ("now", "late", "ahead")
with_each_library = pytest.mark.parametrize("library", libraries())
with_graphs = pytest.mark.parametrize("library", libraries()[1:])


@with_each_library
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copies_come_back_as_they_went(host_cuda: HostCuda, library: str, schedule: str) -> None:
    found = host_cuda(scenarios.round_trip, library, 1000, schedule=schedule)
    assert np.array_equal(found, np.arange(1000))


@with_each_library
def test_ordinary_memory_can_be_copied_too(host_cuda: HostCuda, library: str) -> None:
    assert host_cuda(scenarios.ordinary_memory, library, schedule="late").tolist() == [0, 1, 2, 3, 4, 5]


@with_each_library
def test_a_device_tells_what_it_is(host_cuda: HostCuda, library: str) -> None:
    options = {"architecture": "sm_120", "driver": "13.1", "memory": 3 * 2**30}
    described, name, architecture, captures = host_cuda(scenarios.about, library, **options)
    assert described.pop("library").startswith(f"{library} ")
    assert described == {
        "driver": "13.1", "device": "CUDA on a CPU", "architecture": "sm_120", "memory": "3072.0 MiB",
    }  # fmt: skip
    assert (name, architecture, captures) == (library, "sm_120", library == "cuda-python")


@with_each_library
def test_an_event_is_done_when_its_work_is(host_cuda: HostCuda, library: str) -> None:
    before, after, milliseconds = host_cuda(scenarios.events, library, schedule="late")
    assert (before, after) == (False, True)
    assert 0 < milliseconds < 10_000
    assert host_cuda(scenarios.events, library, schedule="now")[0]


@with_each_library
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_pinned_ring_hands_on_every_batch_once(host_cuda: HostCuda, library: str, schedule: str) -> None:
    results = host_cuda(scenarios.ring, library, 3, 8, schedule=schedule)
    assert [result.tolist() for result in results] == [[2 * (batch + i) for i in range(4)] for batch in range(8)]


def test_a_ring_waits_for_nothing_but_its_event(host_cuda: HostCuda) -> None:
    calls = host_cuda.outcome(scenarios.ring, "cuda-python", 3, 8).calls
    # The three streams are waited for at the end, each slot's event once a batch.
    assert calls["cuStreamSynchronize"] == 3
    assert calls["cuEventSynchronize"] == 8
    assert calls["cuMemAlloc"] == 2
    assert "cuCtxSynchronize" not in calls and "cuStreamQuery" not in calls


def _tensors(dtype: str, taps: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(taps)
    shapes = [(2, 3, 6 + taps, 17 + taps), (2, taps, 7, 18), (2, taps, 7, 18)]
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def _plan(dtype: DType, taps: int = 5) -> Plan:
    return launch_geometry("forward", 2, 3, 7, 18, taps, dtype).plan


def _expected(arrays: list[np.ndarray]) -> np.ndarray:
    return reference.forward(*(array.astype(np.float64) for array in arrays))


@with_each_library
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_launched_kernel_computes_the_separable_convolution(host_cuda: HostCuda, library: str, dtype: DType) -> None:
    arrays = _tensors(dtype)
    options = {"schedule": "late", "kernels": [_plan(dtype)]}
    found = host_cuda(scenarios.convolve, library, None, arrays, dtype, **options)
    expected = _expected(arrays)
    # Sums of 25 products in float32, rounded once to the result's type.
    ulp = 2.0 ** (-24 if dtype == "float32" else -11)
    scale = _expected([np.abs(array) for array in arrays])
    assert (np.abs(found - expected) <= ulp * np.abs(expected) + 26 * 2.0**-24 * scale).all()


@with_each_library
def test_a_compiled_cubin_loads_where_it_was_compiled_for(host_cuda: HostCuda, library: str) -> None:
    plan, arrays = _plan("float32"), _tensors("float32")
    cubin = compile_kernel(plan, "sm_89").cubin
    found = host_cuda(scenarios.convolve, library, cubin, arrays, "float32", kernels=[plan])
    assert np.abs(found - _expected(arrays)).max() < 1e-4
    error = host_cuda.outcome(refusals.load, library, cubin, architecture="sm_120").error
    assert isinstance(error, BackendError)
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in error.seen and "--gpu" in error.fix


@with_each_library
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_work_on_a_borrowed_stream_keeps_its_order(host_cuda: HostCuda, library: str, schedule: str) -> None:
    assert host_cuda(scenarios.order_across_a_foreign_stream, library, schedule=schedule) == [1, 2, 3]


@with_each_library
def test_kernels_launch_on_a_stream_of_another_library(host_cuda: HostCuda, library: str) -> None:
    arrays = _tensors("float32")
    options = {"schedule": "late", "kernels": [_plan("float32")]}
    found = host_cuda(scenarios.convolve, library, None, arrays, "float32", True, **options)
    assert np.abs(found - _expected(arrays)).max() < 1e-4


@with_graphs
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_captured_graph_runs_again_and_again(host_cuda: HostCuda, library: str, schedule: str) -> None:
    results, ran_during_capture = host_cuda(scenarios.replay, library, 4, schedule=schedule)
    assert results == [1, 11, 21, 31]
    assert ran_during_capture == 0


@with_graphs
def test_a_stream_survives_a_capture_that_fails(host_cuda: HostCuda, library: str) -> None:
    said, values = host_cuda(scenarios.failed_capture, library)
    assert "CUDA_ERROR_STREAM_CAPTURE" in said
    assert values == [7]


@with_graphs
@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        ("never joined", "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"),
        ("waits for earlier work", "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"),
        ("allocates", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
    ],
)
def test_what_a_capture_forbids_is_explained(host_cuda: HostCuda, library: str, mistake: str, name: str) -> None:
    assert host_cuda(scenarios.capture_across_streams, library, "") == 2
    error = host_cuda.outcome(scenarios.capture_across_streams, library, mistake).error
    assert isinstance(error, BackendError)
    assert name in error.seen
    assert error.cause != "CUDA refuses the call"


@pytest.mark.parametrize("library", libraries()[:1])
def test_pycuda_says_that_it_has_no_graphs(host_cuda: HostCuda, library: str) -> None:
    error = host_cuda.outcome(scenarios.replay, library, 1).error
    assert isinstance(error, BackendError)
    assert "cuda-python" in error.fix


@with_each_library
def test_everything_can_be_closed_twice(host_cuda: HostCuda, library: str) -> None:
    assert host_cuda(scenarios.closing_twice, library) == 0


@with_each_library
def test_the_primary_context_is_shared(host_cuda: HostCuda, library: str) -> None:
    assert host_cuda(scenarios.beside_another_user, library) == [True, False, False]


@with_each_library
def test_another_thread_is_told_that_it_has_no_context(host_cuda: HostCuda, library: str) -> None:
    said = host_cuda(refusals.on_another_thread, library)
    assert "CUDA_ERROR_INVALID_CONTEXT" in said or "no currently active context" in said
    assert "thread" in said


@with_each_library
@pytest.mark.parametrize(
    ("function", "arguments", "options", "seen", "fix"),
    [
        (refusals.opened, (), {"devices": 0}, "CUDA_ERROR_NO_DEVICE", "nvidia-smi"),
        (refusals.opened, (3,), {"devices": 2}, "0 to 1", "nvidia-smi -L"),
        (refusals.opened, (-1,), {"devices": 2}, "0 to 1", "nvidia-smi -L"),
        (refusals.opened, (), {"fail": "cuInit:1:CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}, "MISMATCH", "reboot"),
        (
            refusals.opened, (), {"fail": "cuDevicePrimaryCtxRetain:1:CUDA_ERROR_DEVICE_UNAVAILABLE"},
            "UNAVAILABLE", "nvidia-smi",
        ),
        (
            refusals.too_much, (5 * 2**20,), {"memory": 4 * 2**20},
            "CUDA_ERROR_OUT_OF_MEMORY", "--batch",
        ),
        (refusals.too_much, (0,), {}, "at least one byte", ""),
        (
            refusals.too_much_pinned, (), {"fail": "cuMemHostAlloc:1:CUDA_ERROR_OUT_OF_MEMORY"},
            "CUDA_ERROR_OUT_OF_MEMORY", "",
        ),
        (refusals.load, (b"not a kernel",), {}, "CUDA_ERROR_INVALID_IMAGE", "export"),
        (
            refusals.load, (scenarios.PTX.format(entry="one").replace("sm_80", "sm_120").encode(),), {},
            "CUDA_ERROR_INVALID_PTX", "--gpu",
        ),
        (
            refusals.load, (scenarios.PTX.format(entry="one").encode(),), {"driver": "11.8"},
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "driver",
        ),
        (refusals.launch_unknown, (), {}, "CUDA_ERROR_NOT_FOUND", "export"),
        (refusals.launch_bad_argument, (3.0,), {}, "3.0", "np.int32(3)"),
        (refusals.launch_bad_argument, (True,), {}, "True", "np.int32(3)"),
        (refusals.copy_bad_array, ("strided",), {}, "strided", "C-contiguous"),
        (refusals.copy_bad_array, ("read-only",), {}, "read-only", "writable"),
    ],
)  # fmt: skip
def test_errors_carry_cudas_name_and_what_to_do(
    host_cuda: HostCuda,
    library: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    seen: str,
    fix: str,
) -> None:
    outcome = host_cuda.outcome(function, library, *arguments, **options)
    assert isinstance(outcome.error, BackendError), outcome.stderr
    assert seen in outcome.error.seen
    assert fix in outcome.error.fix
    assert outcome.error.cause
    assert not outcome.violations and outcome.status == 0


@with_graphs
def test_a_driver_that_is_too_old_is_told_apart(host_cuda: HostCuda, library: str) -> None:
    error = host_cuda.outcome(refusals.opened, library, fail="cuInit:1:35").error
    assert isinstance(error, BackendError)
    assert "cudaErrorInsufficientDriver" in error.seen and "driver" in error.fix


def test_out_of_memory_says_how_much_is_free(host_cuda: HostCuda) -> None:
    error = host_cuda.outcome(refusals.too_much, "cuda-python", 5 * 2**20, memory=4 * 2**20).error
    assert isinstance(error, BackendError)
    assert "5.0 MiB" in error.what and "4.0 MiB of 4.0 MiB are free" in error.seen


def test_without_a_driver_the_error_says_so() -> None:
    pytest.importorskip("cuda.bindings.driver")
    with pytest.raises(BackendError, match="driver is not installed"):
        interface.open_cuda()


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(SettingsError, match="pycuda, cuda-python"):
        interface.open_cuda(0, "cupy")


def test_libraries_are_tried_in_order(host_cuda: HostCuda) -> None:
    here = [parameter.values[0] for parameter in libraries() if not parameter.marks[0].args[0]]
    if not here:
        pytest.skip("neither pycuda nor cuda-python is here")
    assert host_cuda(refusals.opened, None) == here[0]


def test_missing_libraries_are_both_named(host_cuda: HostCuda) -> None:
    error = host_cuda.outcome(refusals.opened_without_libraries).error
    assert isinstance(error, MissingDependencyError)
    assert "pycuda" in error.seen and "cuda-python" in error.seen
    assert "pip install cuda-bindings" in error.fix


@with_each_library
def test_a_plugin_launches_on_the_stream_of_its_engine(host_cuda: HostCuda, library: str) -> None:
    arrays = [_tensors("float32"), [2 * array for array in _tensors("float32")]]
    found = host_cuda(scenarios.plugin, library, arrays, schedule="late", kernels=[_plan("float32")])
    for result, expected in zip(found, map(_expected, arrays), strict=True):
        assert np.abs(result - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_torchs_operator_launches_through_cuda_core(host_cuda: HostCuda) -> None:
    pytest.importorskip("cuda.core")
    from host_cuda import torch_launcher

    arrays = _tensors("float32")
    found = host_cuda.outcome(torch_launcher.convolve, arrays, schedule="late", kernels=[_plan("float32")])
    assert (found.error, found.violations) == (None, []), found.stderr
    assert np.abs(found.value - _expected(arrays)).max() < 1e-4
    # cuda.core keeps the context and the loaded kernel for as long as the process lives.
    assert set(found.leaks) <= {"the primary context", "module 1"}


@pytest.mark.parametrize("library", libraries()[:1])
def test_a_forgotten_device_does_not_end_the_process_with_an_abort(host_cuda: HostCuda, library: str) -> None:
    # pycuda aborts at exit if a context of its own is still current.
    found = host_cuda.outcome(scenarios.forgotten, library, whole_exit=True)
    assert (found.status, found.error, found.violations) == (0, None, [])
    assert "PyCUDA ERROR" not in found.stderr


@pytest.mark.parametrize("library", libraries()[:1])
def test_every_name_we_use_exists_in_pycuda(host_cuda: HostCuda, library: str) -> None:
    assert host_cuda(scenarios.missing_in_pycuda) == []


def test_errors_we_explain_exist() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    runtime = {"cudaErrorInsufficientDriver"}
    assert set(cuda_errors.ADVICE) <= {*driver.CUresult.__members__, *runtime}
    assert set(cuda_errors.RUNTIME_ERRORS.values()) == runtime


def test_every_function_we_call_exists_in_cuda_python() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    missing = [name for name in cuda_python.CALLS if not callable(getattr(driver, name, None))]
    assert not missing
    # The list is what the file calls, no more and no less.
    source = Path(cuda_python.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"\bcu[A-Z]\w+", source)) == set(cuda_python.CALLS)
