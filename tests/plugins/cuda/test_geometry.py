"""Launch geometry: every element has exactly one thread, blocks fit any device, and sizes may be symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import BackendError
from vidgen.plugins.sepconv_trt.geometry import (
    DTYPES,
    KERNELS,
    LARGEST_CHUNK,
    LARGEST_TAPS,
    SHARED_LIMIT,
    Kernel,
    launch_geometry,
    plan,
)

ODD_TAPS = st.integers(0, (LARGEST_TAPS - 1) // 2).map(lambda half: 2 * half + 1)
SIZES = st.integers(1, 3000)


@given(
    kernel=st.sampled_from(KERNELS), taps=ODD_TAPS, batch=SIZES, channels=SIZES, height=SIZES, width=SIZES,
    dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_blocks_cover_the_result_and_no_block_is_idle(
    kernel: Kernel, taps: int, batch: int, channels: int, height: int, width: int, dtype: Any
) -> None:
    launch = launch_geometry(kernel, batch, channels, height, width, taps, dtype)
    made = launch.plan
    halo = taps - 1 if kernel == "backward_input" else 0
    for blocks, size, covered in (
        (launch.grid[1], height + halo, made.block[1] * made.pixels),
        (launch.grid[2], width + halo, made.block[0]),
    ):
        assert (blocks - 1) * covered < size <= blocks * covered
    groups, rest = divmod(launch.grid[0], batch)
    assert rest == 0
    if kernel == "backward_kernels":
        assert groups == 1  # a block goes through all channels
    else:
        assert (groups - 1) * made.channels < channels <= groups * made.channels


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("taps", range(1, LARGEST_TAPS + 1, 2))
def test_a_block_fits_any_device(kernel: Kernel, taps: int) -> None:
    made = plan(kernel, taps, "float32")
    assert made.shared_bytes <= SHARED_LIMIT
    threads = made.block[0] * made.block[1]
    assert threads % 32 == 0
    assert threads <= 256
    assert threads * made.blocks <= 1024  # what a multiprocessor of any supported device holds
    assert made.chunk <= LARGEST_CHUNK


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("taps", range(1, LARGEST_TAPS + 1, 2))
def test_a_warp_reads_32_banks(kernel: Kernel, taps: int) -> None:
    made = plan(kernel, taps, "float32")
    lanes = [(lane // made.block[0], lane % made.block[0]) for lane in range(32)]
    banks = {(row * made.pixels * made.pitch + column) % 32 for row, column in lanes}
    assert len(banks) == 32


@given(kernel=st.sampled_from(KERNELS), channels=st.integers(1, 1000))
def test_groups_waste_less_than_one_channel_each(kernel: Kernel, channels: int) -> None:
    group = plan(kernel, 5, "float32", channels=channels).channels
    groups = -(-channels // group)
    assert groups * group - channels < groups


@dataclass(frozen=True)
class Symbol:
    """A size known only when an engine runs: it records what is done to it."""

    text: str

    def __add__(self, other: int) -> Symbol:
        return Symbol(f"({self.text} + {other})")

    def __floordiv__(self, other: int) -> Symbol:
        return Symbol(f"({self.text} // {other})")

    def __mul__(self, other: Any) -> Symbol:
        return Symbol(f"({self.text} * {getattr(other, 'text', other)})")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [3, 10, "C"])
def test_symbolic_sizes_give_the_launch_of_their_values(kernel: Kernel, channels: Any) -> None:
    values = {"N": 3, "C": 10, "H": 33, "W": 70}
    count = Symbol(channels) if isinstance(channels, str) else channels
    symbolic = launch_geometry(kernel, Symbol("N"), count, Symbol("H"), Symbol("W"), 5, "float16")
    known = launch_geometry(
        kernel, 3, values.get(channels, channels), 33, 70, 5, "float16", group=symbolic.plan.channels
    )
    assert tuple(eval(axis.text, dict(values)) for axis in symbolic.grid) == known.grid
    assert symbolic.plan == known.plan


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"taps": 4}, "4 taps"), ({"taps": 65}, "65 taps"), ({"taps": -1}, "-1 taps"),
        ({"dtype": "float64"}, "float64"),
        ({"kernel": "sideways"}, "sideways"), ({"batch": 0}, "sizes"), ({"group": 9}, "groups of 9"),
        ({"group": 0}, "groups"),
        ({"height": 65535 * 16 + 1}, "sizes"), ({"width": 65535 * 16 - 3}, "sizes"), ({"batch": 2**30}, "sizes"),
    ],
)  # fmt: skip
def test_what_no_kernel_is_made_for_is_refused(change: dict[str, Any], seen: str) -> None:
    sizes: dict[str, Any] = {
        "kernel": "forward", "batch": 1, "channels": 3, "height": 8, "width": 8, "taps": 5, "dtype": "float32",
    }  # fmt: skip
    launch_geometry(**sizes)
    with pytest.raises(BackendError, match=seen):
        launch_geometry(**{**sizes, **change})


def test_entry_names_tell_kernels_apart() -> None:
    plans = [
        plan(kernel, taps, dtype, group=group)
        for kernel in KERNELS for taps in (3, 5) for dtype in DTYPES for group in (1, 4)
    ]  # fmt: skip
    assert len({made.entry for made in plans}) == len(plans)
    assert all(made.entry.isidentifier() for made in plans)
