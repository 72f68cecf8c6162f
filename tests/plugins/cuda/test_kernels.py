"""The kernel text, run on a CPU, computes the sums of its definition in every thread order and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.cuda.emulation.cases import Case, assert_right, run
from plugins.cuda.emulation.emulator import Emulator
from support import vectors
from support.combinations import chequered

from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, DTYPES, KERNELS, DType, Kernel

#: Batch, channels, height, width: one pixel; groups that divide and that do not; odd sizes over several blocks.
SIZES = ((1, 1, 1, 1), (2, 5, 9, 19), (3, 4, 17, 16), (1, 9, 18, 33))
LARGE_SIZES = ((2, 3, 5, 7), (1, 5, 17, 3), (3, 1, 1, 33))


def _check(emulator: Emulator, case: Case, seed: int = 0) -> None:
    inputs = case.inputs(seed)
    assert_right(case, inputs, run(emulator, case, inputs))


@pytest.mark.parametrize(("kernel", "taps", "dtype"), chequered(KERNELS, (3, 5, 7, 13), DTYPES))
def test_results_equal_float64(emulator: Emulator, kernel: Kernel, taps: int, dtype: DType) -> None:
    for seed, sizes in enumerate(SIZES):
        _check(emulator, Case(kernel, dtype, taps, *sizes), seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", [19, 51])
@pytest.mark.parametrize("kernel", KERNELS)
def test_results_equal_float64_where_taps_come_in_chunks(
    emulator: Emulator, kernel: Kernel, taps: int, dtype: DType
) -> None:
    for seed, sizes in enumerate(LARGE_SIZES[: 3 if dtype == "float32" else 2]):
        _check(emulator, Case(kernel, dtype, taps, *sizes), seed)


@pytest.mark.slow
@pytest.mark.parametrize("taps", range(1, 64, 2))
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_number_of_taps(emulator: Emulator, kernel: Kernel, taps: int) -> None:
    for seed, sizes in enumerate(((1, 1, 1, 1), (2, 5, 18, 34), (3, 3, 8, 8))):
        _check(emulator, Case(kernel, "float32", taps, *sizes), seed)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    height=st.integers(1, 34),
    width=st.integers(1, 34),
    seed=st.integers(0, 1000),
)
def test_any_size_works(
    emulator: Emulator, kernel: Kernel, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    _check(emulator, Case(kernel, "float32", 5, batch, channels, height, width), seed)


@pytest.mark.parametrize("group", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_compiled_kernel_serves_any_number_of_channels(emulator: Emulator, kernel: Kernel, group: int) -> None:
    for channels in (1, 3, 4, 6):
        _check(emulator, Case(kernel, "float32", 3, 2, channels, 6, 18, group), channels)


@pytest.mark.parametrize("taps", [5, 19])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_infinity_reaches_only_what_depends_on_it(emulator: Emulator, kernel: Kernel, taps: int) -> None:
    case = Case(kernel, "float32", taps, 2, 3, 18, 21)
    names = [name for name in ARGUMENTS[kernel][0] if name in ("input", "grad")]
    for name in names:
        for place in ((0, 1, 0, 0), (1, 0, 9, 10), (1, 2, 17, 20), (0, 0, 16, 3)):
            inputs = case.inputs(3)
            inputs[name][place] = np.inf
            assert_right(case, inputs, run(emulator, case, inputs))


def test_large_halves_overflow_to_infinity_and_tiny_ones_stay(emulator: Emulator) -> None:
    case = Case("forward", "float16", 1, 1, 1, 2, 2)
    inputs = {name: np.ones(case.shapes[name], np.float16) for name in ("input", "vertical", "horizontal")}
    inputs["input"][...] = np.array([[60000, -60000], [6e-8, 0]], np.float16)
    inputs["vertical"][...] = np.array([[2, 2], [1, 1]], np.float16)
    found = run(emulator, case, inputs)["output"]
    assert found.tolist() == [[[[np.inf, -np.inf], [float(np.float16(6e-8)), 0.0]]]]


@pytest.mark.parametrize("case", ["tsv_sepconv_k5", "tsv_sepconv_k51"])
def test_reference_vectors_match(emulator: Emulator, case: str) -> None:
    try:
        known = case in vectors.cases("tsv_sepconv_*")
    except LookupError:
        known = False
    if not known:
        pytest.skip(f"vector {case} is neither in tests/data nor beside the project")
    stored = vectors.load(case)
    batch, taps, height, width = stored["in_vertical"].shape
    inputs = {name: stored[f"in_{name}"] for name in ("input", "vertical", "horizontal")}
    inputs["grad"] = stored["in_grad_output"]
    for kernel in KERNELS:
        sizes = Case(kernel, "float32", taps, batch, stored["in_input"].shape[1], height, width)
        for name, value in run(emulator, sizes, inputs).items():
            wanted = stored[f"out_{name}"]
            np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
