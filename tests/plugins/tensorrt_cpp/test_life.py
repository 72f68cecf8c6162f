"""The plugin's life as TensorRT leads it: made, asked for shapes, configured, stored, made again, run."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.tensorrt_cpp.conftest import Library

from vidgen.plugins.sepconv_trt.geometry import DType, launch_geometry

BUILD, RUNTIME = 0, 1
INT32, UNKNOWN = 5, 8
#: TensorRT's numbers of the types.
TYPES: dict[DType, int] = {"float32": 0, "float16": 1, "bfloat16": 7}
INT32_TENSOR, BOOL = 3, 4
LINEAR, CHW2 = 0, 1


class Record(ctypes.Structure):
    """What ``fake_cuda.cpp`` wrote down."""

    _fields_ = [
        ("launches", ctypes.c_int32), ("loads", ctypes.c_int32), ("cleared", ctypes.c_int32),
        ("grid", ctypes.c_uint32 * 3), ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint64), ("stream", ctypes.c_uint64),
        ("tensors", ctypes.c_uint64 * 4), ("sizes", ctypes.c_int32 * 3), ("kernel", ctypes.c_char * 128),
    ]  # fmt: skip


@dataclass
class Plugin:
    """One plugin, and the library it came from."""

    library: Library
    address: int | None

    def call(self, name: str, *arguments: object) -> int:
        return int(getattr(self.library, name)(ctypes.c_void_p(self.address), *arguments))

    def derived(self, name: str) -> Plugin:
        return Plugin(self.library, getattr(self.library, name)(ctypes.c_void_p(self.address)))

    def stored(self) -> tuple[str, int, int]:
        name, value = ctypes.create_string_buffer(32), ctypes.c_int32()
        kind = self.call("serialized", name, ctypes.byref(value))
        return name.value.decode(), value.value, kind


@pytest.fixture(autouse=True)
def logger(library: Library) -> Iterator[None]:
    """Messages go to a logger; nothing is left of the last test."""
    library.use_logger(1)
    library.logged()
    library.cuda_fail_with(0)
    yield
    library.use_logger(0)


def make(
    library: Library, phase: int, taps: int | None = None, name: str = "taps", kind: int = INT32, length: int = 1
) -> Plugin:
    address = library.create(phase, name.encode(), taps or 0, kind, length, 0 if taps is None else 1)
    return Plugin(library, address)


def shapes(batch: int, channels: int, height: int, width: int, taps: int) -> list[int]:
    kernels = [batch, taps, height, width]
    return [batch, channels, height + taps - 1, width + taps - 1, *kernels, *kernels, batch, channels, height, width]


def int64s(numbers: list[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def int32s(*numbers: int) -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * len(numbers))(*numbers)


def output_shape(plugin: Plugin, sizes: list[int], count: int = 3, rank: int = 4) -> list[int] | None:
    output = int64s([0] * 4)
    status = plugin.call("output_shape", int64s(sizes), int32s(*[rank] * count), count, output)
    return None if status else list(output)


def run(
    plugin: Plugin, sizes: list[int], kind: int = 0, name: str = "enqueue", formats: tuple[int, ...] = (0,) * 4
) -> int:
    arguments: list[object] = [int64s(sizes), int32s(*[kind] * 4), int32s(*formats)]
    if name == "enqueue":
        arguments.append(ctypes.c_uint64(0x77))
    return plugin.call(name, *arguments)


def record(library: Library) -> Record:
    library.cuda_record.restype = ctypes.POINTER(Record)
    return library.cuda_record().contents


def test_the_creator_says_its_name(library: Library) -> None:
    assert library.creator_text() == b"1 vidgen::SeparableConvolution 1 0"


@given(
    batch=st.integers(1, 9), channels=st.integers(1, 20), height=st.integers(1, 300), width=st.integers(1, 300),
    taps=st.sampled_from([1, 3, 5, 17, 51, 59]), dtype=st.sampled_from(list(TYPES)), dynamic=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_life(
    library: Library, batch: int, channels: int, height: int, width: int, taps: int, dtype: DType, dynamic: bool
) -> None:
    kind = TYPES[dtype]
    sizes = shapes(batch, channels, height, width, taps)
    built = make(library, BUILD)
    assert built.call("output_type", int32s(kind, kind, kind), 3) == kind
    # With an unknown batch, as in an ONNX file, or all known.
    named = [-1 if dynamic and index % 4 == 0 else size for index, size in enumerate(sizes)]
    assert output_shape(built, named[:12]) == [-1 if dynamic else batch, channels, height, width]
    assert all(built.call("supports", place, int32s(*[kind] * 4), int32s(*[LINEAR] * 4)) for place in range(4))
    assert built.call("configure", int64s(named), int64s(sizes), int32s(*[kind] * 4), int32s(*[LINEAR] * 4)) == 0
    assert built.stored() == ("taps", taps, 100 + 10 * INT32 + 1)
    loaded = make(library, RUNTIME, taps).derived("attach").derived("copy")
    before = record(library).launches
    assert run(loaded, sizes, kind, "change_shapes") == 0
    assert record(library).launches == before
    assert run(loaded, sizes, kind) == 0
    launch = launch_geometry("forward", batch, channels, height, width, taps, dtype)
    seen = record(library)
    assert seen.launches == before + 1
    assert seen.kernel.decode() == launch.plan.entry
    assert (*seen.grid, *seen.block) == (*launch.grid, *launch.block)
    assert (seen.shared, seen.stream) == (launch.shared_bytes, 0x77)
    assert list(seen.tensors) == [0x1000, 0x2000, 0x3000, 0x4000]
    assert list(seen.sizes) == [channels, height, width]
    assert library.logged() == b""
    for plugin in (built, loaded):
        plugin.library.destroy(ctypes.c_void_p(plugin.address))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: 3}, "vertical has 2 on axis 0, expected 3"),
        ({2: 13}, "input has 13 on axis 2, expected 12"),
        ({3: 11}, "input has 11 on axis 3, expected 12"),
        ({5: 7, 9: 7}, "input has 12 on axis 2, expected 14"),
        ({9: 7}, "horizontal has 7 on axis 1, expected 5"),
        ({11: 9}, "horizontal has 9 on axis 3, expected 8"),
        ({5: 4, 9: 4, 2: 11, 3: 11}, "4 taps, expected an odd number"),
        ({5: 63, 9: 63, 2: 70, 3: 70}, 'no kernel for 63 taps'),
        ({5: 65, 9: 65, 2: 72, 3: 72}, "65 taps, expected an odd number from 1 to 63"),
        ({5: -1, 9: -1}, "K (axis 1 of vertical) is dynamic"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_refused_when_the_network_is_built(
    library: Library, change: dict[int, int], message: str
) -> None:
    sizes = shapes(2, 3, 8, 8, 5)[:12]
    for place, size in change.items():
        sizes[place] = size
    assert output_shape(make(library, BUILD), sizes) is None
    assert message in library.logged().decode()


def test_wrong_counts_and_ranks_are_refused(library: Library) -> None:
    plugin = make(library, BUILD)
    assert output_shape(plugin, shapes(2, 3, 8, 8, 5)[:8], count=2) is None
    assert "2 inputs and 1 outputs, expected input, vertical" in library.logged().decode()
    assert output_shape(plugin, shapes(2, 3, 8, 8, 5)[:12], rank=3) is None
    assert "input has 3 axes, expected 4" in library.logged().decode()
    assert plugin.call("output_type", int32s(0, 0), 2) < 0


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((0, 0, 1), "horizontal is float16, input is float32, expected one type for all three"),
        ((1, 0, 0), "vertical is float32, input is float16"),
        ((0, BOOL, 0), "vertical is neither float32 nor float16 nor bfloat16"),
        ((INT32_TENSOR,) * 3, "input is neither float32 nor float16 nor bfloat16"),
    ],
)
def test_types_that_differ_or_have_no_kernel_are_refused(
    library: Library, types: tuple[int, ...], message: str
) -> None:
    assert make(library, BUILD).call("output_type", int32s(*types), 3) < 0
    assert message in library.logged().decode()


@pytest.mark.parametrize("place", range(4))
def test_another_layout_or_type_at_any_place_is_not_supported(library: Library, place: int) -> None:
    plugin = make(library, BUILD)
    for types, formats in (([0] * 4, [CHW2 if one == place else LINEAR for one in range(4)]),
                           ([INT32_TENSOR if one == place else 0 for one in range(4)], [LINEAR] * 4)):  # fmt: skip
        answers = [plugin.call("supports", one, int32s(*types), int32s(*formats)) for one in range(place + 1)]
        assert answers == [1] * place + [0]
    assert plugin.call("supports", 4, int32s(*[0] * 4), int32s(*[0] * 4)) == 0


def test_a_profile_that_no_launch_can_hold_is_refused(library: Library) -> None:
    small, large = shapes(1, 3, 8, 8, 5), shapes(2**30, 3, 8, 8, 5)
    plugin = make(library, BUILD)
    assert plugin.call("configure", int64s(small), int64s(large), int32s(*[0] * 4), int32s(*[0] * 4)) != 0
    assert "fewer than 2^31 planes" in library.logged().decode()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "does not say how many taps"),
        ({"taps": 4}, "4 taps, expected an odd number"),
        ({"taps": 63}, "no kernel for 63 taps"),
        ({"taps": 5, "name": "kernel_size"}, "field kernel_size, expected none but taps"),
        ({"taps": 5, "kind": UNKNOWN}, "not one 32-bit integer"),
        ({"taps": 5, "length": 2}, "not one 32-bit integer"),
    ],
)
def test_an_engine_with_wrong_fields_is_refused(library: Library, fields: dict[str, Any], message: str) -> None:
    assert make(library, RUNTIME, **fields).address is None
    assert message in library.logged().decode()


def test_a_plugin_keeps_the_taps_it_was_made_for(library: Library) -> None:
    plugin = make(library, BUILD, 5)
    assert output_shape(plugin, shapes(2, 3, 8, 8, 7)[:12]) is None
    assert "vertical has 7 taps, the plugin was made for 5" in library.logged().decode()
    assert plugin.library.metadata(ctypes.c_void_p(plugin.address)) == b"taps=5"
    loaded = make(library, RUNTIME, 5)
    assert run(loaded, shapes(2, 3, 8, 8, 7)) != 0
    assert "vertical has 7 taps, the engine was built for 5" in library.logged().decode()


def test_a_builder_may_time_a_plugin_before_it_configures_it(library: Library) -> None:
    before = record(library).launches
    assert run(make(library, BUILD), shapes(2, 3, 8, 8, 7)) == 0
    assert record(library).launches == before + 1
    assert run(make(library, BUILD), shapes(2, 3, 8, 8, 63)) != 0
    assert record(library).launches == before + 1


def test_an_empty_tensor_launches_nothing(library: Library) -> None:
    before = record(library).launches
    assert run(make(library, RUNTIME, 5), shapes(0, 3, 8, 8, 5)) == 0
    assert record(library).launches == before


@pytest.mark.parametrize(("sizes", "kind", "formats"), [
    ([*shapes(2, 3, 8, 8, 5)[:15], 9], 0, (0, 0, 0, 0)),
    (shapes(2, 3, 8, 8, 5), INT32_TENSOR, (0, 0, 0, 0)),
    (shapes(2, 3, 8, 8, 5), 0, (0, 0, CHW2, 0)),
])  # fmt: skip
def test_what_a_kernel_cannot_read_is_not_launched(
    library: Library, sizes: list[int], kind: int, formats: tuple[int, ...]
) -> None:
    before = record(library).launches
    assert run(make(library, RUNTIME, 5), sizes, kind, formats=formats) != 0
    assert record(library).launches == before
    assert library.logged().startswith(b"1 vidgen::SeparableConvolution: ")


def test_an_error_of_cuda_is_returned_told_and_cleared(library: Library) -> None:
    library.cuda_fail_with(209)
    cleared = record(library).cleared
    assert run(make(library, RUNTIME, 5), shapes(2, 3, 8, 8, 5)) == 209
    assert b"cannot be launched: a planted error (CUDA error 209)" in library.logged()
    attached = make(library, RUNTIME, 5).derived("attach")
    assert run(attached, shapes(2, 3, 8, 8, 5), name="change_shapes") == 209
    assert b"does not load on this device" in library.logged()
    assert record(library).cleared == cleared + 2


def test_a_kernel_is_loaded_where_there_is_a_device_alone(library: Library) -> None:
    loads = record(library).loads
    plugin = make(library, RUNTIME, 5)
    assert run(plugin, shapes(2, 3, 8, 8, 5), name="change_shapes") == 0
    assert record(library).loads == loads
    assert run(plugin.derived("attach"), shapes(2, 3, 8, 8, 5), name="change_shapes") == 0
    assert record(library).loads == loads + 1


def test_without_a_logger_messages_go_to_standard_error(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    library.use_logger(0)
    assert make(library, RUNTIME, 4).address is None
    assert "vidgen::SeparableConvolution: 4 taps" in capfd.readouterr().err
    assert library.logged() == b""
