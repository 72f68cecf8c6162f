"""Floors: counts against counting one by one, the numbers that were worked out before, and what must grow with what."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.errors import MissingDependencyError, SettingsError
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, Resources
from vidgen.plugins.sepconv_trt.cuda.nvrtc import Nvrtc
from vidgen.plugins.sepconv_trt.cuda.roofline import (
    ITEM,
    SHAPES,
    RooflineReport,
    RooflineSettings,
    Row,
    Shape,
    count,
    roofline,
)
from vidgen.plugins.sepconv_trt.geometry import DTYPES, DType, Launch, Plan, launch_geometry


def pretended(plan: Plan, architecture: str) -> CompiledKernel:
    """A compiler that takes no time."""
    return CompiledKernel(plan, architecture, "pretended 1.0", b"", "", Resources(80, plan.shared_bytes, 0, 0))


def row_of(report: RooflineReport, device: str, shape: Shape, dtype: DType = "float32") -> Row:
    return next(row for row in report.rows if (row.gpu.name, row.shape, row.dtype) == (device, shape, dtype))


def counted(batch: int, channels: int, height: int, width: int, taps: int) -> tuple[int, int]:
    """Elements touched and operations done, one by one, as the definition has it."""
    touched, operations = set(), 0
    for n, c, y, x in itertools.product(range(batch), range(channels), range(height), range(width)):
        touched.add(("output", n, c, y, x))
        for j in range(taps):
            touched.add(("vertical", n, j, y, x))
            for i in range(taps):
                touched |= {("horizontal", n, i, y, x), ("input", n, c, y + j, x + i)}
                operations += 2  # times horizontal, onto the row
            operations += 2  # times vertical, onto the sum
    return len(touched), operations


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (1, 3, 4, 5, 3), (2, 2, 3, 1, 5), (1, 1, 6, 7, 7)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_and_flops_are_those_counted_one_by_one(sizes: tuple[int, ...], dtype: DType) -> None:
    batch, channels, height, width, taps = sizes
    launch = launch_geometry("forward", batch, channels, height, width, taps, dtype)
    work = count(launch, sizes[:4], dtype)
    elements, operations = counted(*sizes)
    assert (work.bytes, work.flops) == (elements * ITEM[dtype], operations)


def walked(launch: Launch) -> tuple[int, int]:
    """Operations and words of shared memory of one thread of one block, loop by loop as forward.cuh has them."""
    made = launch.plan
    operations = words = staged = 0
    starts = range(0, made.taps, made.chunk)
    for first in starts:
        columns = min(made.chunk, made.taps - first)
        for row in starts:
            rows = min(made.chunk, made.taps - row)
            tile_rows, tile_columns = made.block[1] * made.pixels + made.chunk - 1, made.block[0] + made.chunk - 1
            staged += tile_rows * tile_columns * made.channels
            for step in range(rows + made.pixels - 1):
                for _ in range(made.channels):
                    words += columns
                    operations += 2 * columns * made.pixels
                    operations += 2 * sum(0 <= step - pixel < rows for pixel in range(made.pixels))
    return operations, words * made.block[0] * made.block[1] + staged


@pytest.mark.parametrize("taps", [1, 3, 5, 17, 19, 51, 63])
@pytest.mark.parametrize("channels", [1, 3, 10])
def test_the_work_of_the_kernel_is_that_of_its_loops(taps: int, channels: int) -> None:
    launch = launch_geometry("forward", 2, channels, 20, 37, taps, "float32")
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    operations, words = walked(launch)
    work = count(launch, (2, channels, 20, 37), "float32")
    assert work.kernel_flops == blocks * launch.block[0] * launch.block[1] * operations
    assert work.shared_words == blocks * words
    assert work.kernel_flops >= work.flops


def test_floors_are_those_worked_out_before() -> None:
    report = roofline(compiler=pretended)
    small = [row_of(report, "rtx4090", shape).floor for shape in SHAPES[:4]]
    assert (min(small), max(small)) == pytest.approx((0.25, 5.5), abs=0.02)
    frame = SHAPES[4]
    assert row_of(report, "rtx4090", frame).floor == pytest.approx(396, abs=1)
    assert row_of(report, "rtx4090", frame).bound == "memory"
    # 274 us were worked out at 80 % of the H100's rate of multiply-adds.
    assert row_of(report, "h100", frame).floor / 0.8 == pytest.approx(274, abs=1)
    assert row_of(report, "h100", frame).bound == "arithmetic"


SIZES = {
    "channels": st.integers(1, 40), "height": st.integers(1, 200), "width": st.integers(1, 200),
    "taps": st.integers(0, 30).map(lambda half: 2 * half + 1), "batch": st.integers(1, 20),
}  # fmt: skip


@given(shape=st.builds(Shape, **SIZES), more=st.sampled_from(sorted(SIZES)), dtype=st.sampled_from(DTYPES))
@settings(deadline=None)
def test_more_of_anything_never_takes_less(shape: Shape, more: str, dtype: DType) -> None:
    larger = replace(shape, **{more: getattr(shape, more) + (2 if more == "taps" else 1)})
    asked = RooflineSettings(dtypes=(dtype,), shapes=(shape, larger))
    report = roofline(asked, compiler=pretended)
    for gpu in asked.devices:
        one, other = row_of(report, gpu, shape, dtype), row_of(report, gpu, larger, dtype)
        assert one.floor <= other.floor
        assert one.kernel >= one.floor
        assert one.memory < other.memory
        assert one.arithmetic < other.arithmetic


@given(shape=st.builds(Shape, **SIZES))
@settings(deadline=None)
def test_half_moves_half_the_bytes_and_computes_as_much(shape: Shape) -> None:
    report = roofline(RooflineSettings(shapes=(shape,)), compiler=pretended)
    for gpu in report.settings.devices:
        single, half = row_of(report, gpu, shape), row_of(report, gpu, shape, "float16")
        assert single.work.bytes == 2 * half.work.bytes
        assert single.work.flops == half.work.flops


def test_settings_choose_the_rows() -> None:
    asked = RooflineSettings(batch=2, dtypes=("bfloat16",), devices=("l4",), shapes=(Shape(3, 8, 8, 5),))
    (row,) = roofline(asked, compiler=pretended).rows
    assert (row.gpu.name, row.name, row.dtype) == ("l4", "2x3x8x8 K=5", "bfloat16")
    assert row.resident is not None
    assert row.waves == row.blocks / (58 * row.resident.blocks)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"batch": 0}, "batch = 0"), ({"dtypes": ()}, "dtypes = none"), ({"dtypes": ("float64",)}, "float64"),
        ({"devices": ("h200",)}, "h200"), ({"shapes": ()}, "shapes = none"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(change: dict[str, Any], seen: str) -> None:
    with pytest.raises(SettingsError, match=seen):
        RooflineSettings(**change)


@pytest.mark.parametrize("sizes", [(0, 8, 8, 5), (3, 8, 8, 4), (3, 8, 8, 65), (3, 8, 8, 5, 0)])
def test_wrong_shapes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError):
        Shape(*sizes)


def test_without_a_compiler_the_page_says_what_is_missing() -> None:
    def absent(plan: Plan, architecture: str) -> CompiledKernel:
        raise MissingDependencyError("no NVRTC", seen="nothing", cause="not installed", fix="pip install nvrtc")

    report = roofline(RooflineSettings(devices=("l4",)), compiler=absent)
    assert "pip install nvrtc" in report.missing
    page = report.table()
    assert "registers, spills, blocks a multiprocessor, occupancy, waves" in page
    assert "pip install nvrtc" in page
    assert all(row.resident is None and row.waves is None and row.floor > 0 for row in report.rows)
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["occupancy"] is None


def test_the_page_shows_every_row_and_the_numbers_of_the_dictionary() -> None:
    report = roofline(compiler=pretended)
    rows = json.loads(json.dumps(report.to_dict()))["rows"]
    assert len(rows) == len(report.rows) == 4 * 5 * 2
    lines = [line.split(" | ") for line in report.table().splitlines() if " K=" in line]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows):
        assert float(line[8]) == pytest.approx(row["floor_us"], rel=0.01, abs=0.006)
        assert line[9] == row["bound"]
    # Every table is one: as many cells in each of its lines.
    for block in re.split(r"\n\n", report.table()):
        table = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) <= 1


def test_registers_are_the_compilers() -> None:
    try:
        Nvrtc.load()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    report = roofline(RooflineSettings(dtypes=("float32",), devices=("l4",), shapes=(Shape(3, 64, 64, 5),)))
    (row,) = report.rows
    assert row.resources is not None
    assert 16 <= row.resources.registers <= 102
    assert row.resources.shared_bytes == row.shared_bytes
    assert row.resident is not None
    assert row.resident.blocks >= 6  # what the kernel asks the compiler for: __launch_bounds__
    assert report.compiler.startswith("NVRTC")
