"""The plugin's decisions in C++ are those of geometry.py, whatever the sizes."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.tensorrt_cpp.conftest import TAPS, Library

from vidgen.errors import BackendError
from vidgen.plugins.sepconv_trt.cuda import instances
from vidgen.plugins.sepconv_trt.geometry import DTYPES, KERNELS, LARGEST_TAPS, DType, launch_geometry, plan

#: Up to all that a launch can hold, and over.
ANY_SIZE = st.one_of(
    st.integers(-1, 70), st.integers(1, 4000), st.integers(2**20 - 60, 2**20 + 60), st.integers(0, 2**40)
)
ANY_TAPS = st.one_of(st.sampled_from(TAPS), st.integers(-3, LARGEST_TAPS + 3))


def found(library: Library, sizes: tuple[int, ...], dtype: DType) -> tuple[str, tuple[int, ...]] | str:
    """Entry, then grid and block; or the message."""
    numbers = (ctypes.c_uint32 * 6)()
    entry, message = ctypes.create_string_buffer(128), ctypes.create_string_buffer(640)
    given_sizes = (ctypes.c_int64 * 5)(*sizes)
    if library.find_launch(given_sizes, DTYPES.index(dtype), numbers, entry, message):
        assert message.value == b""
        return entry.value.decode(), tuple(numbers)
    assert message.value
    return message.value.decode()


@given(batch=ANY_SIZE, channels=ANY_SIZE, height=ANY_SIZE, width=ANY_SIZE, taps=ANY_TAPS, dtype=st.sampled_from(DTYPES))
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_launch_is_that_of_geometry(
    library: Library, batch: int, channels: int, height: int, width: int, taps: int, dtype: DType
) -> None:
    seen = found(library, (batch, channels, height, width, taps), dtype)
    try:
        launch = launch_geometry("forward", batch, channels, height, width, taps, dtype)
    except BackendError:
        assert isinstance(seen, str)
        return
    if taps not in TAPS:
        assert isinstance(seen, str)
        assert f'-DSEPCONV_TAPS="{taps}"' in seen
        return
    assert seen == (launch.plan.entry, (*launch.grid, *launch.block))


@pytest.mark.parametrize("taps", [5, 51])
@pytest.mark.parametrize(("axis", "unit"), [("height", 16), ("width", 1)])
def test_the_last_size_that_fits_is_the_same(library: Library, taps: int, axis: str, unit: int) -> None:
    made = plan("forward", taps, "float32")
    unit = made.block[1] * made.pixels if axis == "height" else made.block[0]
    last = 65535 * unit - (taps - 1)
    for size, fits in ((last, True), (last + 1, False)):
        sizes = {"height": 1, "width": 1, axis: size}
        seen = found(library, (1, 1, sizes["height"], sizes["width"], taps), "float32")
        assert isinstance(seen, tuple) == fits


@pytest.mark.parametrize(
    ("taps", "dtype", "message"),
    [(4, "float32", "odd number"), (0, "float32", "odd number"), (63, "float16", "for 63 taps, only for 1, 3"),
     (-1, "float32", "dynamic")],
)  # fmt: skip
def test_a_refusal_says_what_was_seen(library: Library, taps: int, dtype: DType, message: str) -> None:
    seen = found(library, (1, 3, 8, 8, taps), dtype)
    assert isinstance(seen, str)
    assert message in seen


def test_the_list_has_every_kernel_that_a_launch_may_choose() -> None:
    made = instances.plans((5, 51), DTYPES)
    assert len({one.entry for one in made}) == len(made)
    for channels in range(1, 200):
        for taps in (5, 51):
            assert launch_geometry("forward", 1, channels, 8, 8, taps, "float16").plan in made


def test_the_list_is_compiled_from_the_macros_of_the_plan() -> None:
    made = plan("forward", 7, "float16", group=3)
    text = instances.kernel_source(made)
    found_macros = dict(re.findall(r"#define (SEPCONV_\w+) (\w+)", text))
    assert found_macros == made.macros
    assert f"&{made.entry}" in text


@pytest.mark.parametrize(("taps", "dtypes"), [([], ["float32"]), ([5], []), ([4], ["float32"]), ([5], ["float64"])])
def test_what_has_no_kernel_is_refused(taps: list[int], dtypes: list[DType]) -> None:
    with pytest.raises(BackendError, match="kernel"):
        instances.plans(taps, dtypes)


def test_sources_that_would_not_change_keep_their_date(tmp_path: Path) -> None:
    made = instances.plans((5,), ("float32",))
    paths = instances.write(tmp_path, made)
    dates = [path.stat().st_mtime_ns for path in paths]
    assert instances.write(tmp_path, made) == paths
    assert [path.stat().st_mtime_ns for path in paths] == dates
    assert sorted(path.suffix for path in paths) == [".cu"] * len(made) + [".inc"]


def test_only_forward_is_compiled() -> None:
    assert "forward" in KERNELS
    assert {one.kernel for one in instances.plans((5,), DTYPES)} == {"forward"}
