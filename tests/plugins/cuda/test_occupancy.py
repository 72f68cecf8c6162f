"""Blocks of a multiprocessor, against cases worked out by hand from CUDA's documented rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import BackendError
from vidgen.plugins.sepconv_trt.cuda.compile import ARCHITECTURES
from vidgen.plugins.sepconv_trt.cuda.occupancy import GPUS, LIMITS, occupancy


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks", "limit"),
    [
        # CUDA Best Practices Guide, "Effects of Register Usage": 75 % and 63 % of 64 warps.
        ("sm_80", 128, 37, 0, 12, "registers"),
        ("sm_80", 320, 37, 0, 4, "registers"),
        # 80 * 32 = 2560 of a partition's 16384: 6 warps, 24 in all, 3 blocks of 8.
        ("sm_89", 256, 80, 0, 3, "registers"),
        # 33 * 32 = 1056, given as 1280: 12 warps of a partition, 48 in all.
        ("sm_86", 64, 33, 0, 16, "blocks"),
        ("sm_86", 192, 33, 0, 8, "registers"),
        # 48 KiB and 1 KiB of the system's: 2 of 100 KiB, 3 of 164 KiB, 4 of 228 KiB.
        ("sm_89", 128, 32, 49152, 2, "shared memory"),
        ("sm_80", 128, 32, 49152, 3, "shared memory"),
        ("sm_90", 128, 32, 49152, 4, "shared memory"),
        # 1 byte is given as 128, beside the 1024: 88 of 100 KiB would fit, 24 blocks may.
        ("sm_120", 32, 16, 1, 24, "blocks"),
        ("sm_120", 1024, 32, 0, 1, "warps"),
        ("sm_90", 1024, 32, 0, 2, "registers"),
        ("sm_89", 256, 24, 0, 6, "warps"),
    ],
)
def test_cases_worked_out_by_hand(
    architecture: str, threads: int, registers: int, shared: int, blocks: int, limit: str
) -> None:
    found = occupancy(architecture, threads, registers, shared)
    assert (found.blocks, found.limit) == (blocks, limit)
    assert found.warps == blocks * -(-threads // 32)
    assert found.share == found.warps / LIMITS[architecture].warps


RESOURCES = {
    "architecture": st.sampled_from(sorted(LIMITS)), "threads": st.integers(1, 512),
    "registers": st.integers(1, 120), "shared": st.integers(0, 48 * 1024),
}  # fmt: skip


@given(**RESOURCES)
def test_what_is_resident_fits_and_one_more_would_not(
    architecture: str, threads: int, registers: int, shared: int
) -> None:
    limits = LIMITS[architecture]
    found = occupancy(architecture, threads, registers, shared)

    def fits(blocks: int) -> bool:
        warps = blocks * -(-threads // 32)
        # Warps are spread over the partitions as evenly as they can be.
        fullest = -(-warps // limits.partitions)
        of_warp = -(-registers * 32 // 256) * 256
        of_block = -(-(shared + 1024) // 128) * 128
        return (
            fullest * of_warp <= limits.registers // limits.partitions
            and blocks * of_block <= limits.shared_bytes
            and warps <= limits.warps
            and blocks <= limits.blocks
        )

    assert fits(found.blocks)
    assert not fits(found.blocks + 1)


@given(**RESOURCES, more=st.sampled_from(["threads", "registers", "shared"]))
def test_a_hungrier_block_is_never_resident_more_often(
    architecture: str, threads: int, registers: int, shared: int, more: str
) -> None:
    wanted = {"threads": threads, "registers": registers, "shared_bytes": shared}
    before = occupancy(architecture, **wanted).blocks
    wanted["shared_bytes" if more == "shared" else more] += 1
    try:
        after = occupancy(architecture, **wanted).blocks
    except BackendError:
        after = 0  # not even one
    assert after <= before


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("sm_35", 128, 32, 0), "sm_35"), (("sm_89", 1025, 32, 0), "1025 threads"), (("sm_89", 0, 32, 0), "0 threads"),
        (("sm_89", 128, 256, 0), "256 registers"), (("sm_89", 128, 32, 100 * 1024), "no shared memory"),
        (("sm_89", 1024, 128, 0), "no registers"),
    ],
)  # fmt: skip
def test_a_block_that_nothing_holds_is_refused(arguments: tuple[str, int, int, int], seen: str) -> None:
    with pytest.raises(BackendError, match=seen):
        occupancy(*arguments)


@pytest.mark.parametrize(("name", "tflops"), [("rtx4090", 82.6), ("l4", 30.3), ("a100", 19.5), ("h100", 66.9)])
def test_rates_are_those_of_the_data_sheets(name: str, tflops: float) -> None:
    gpu = next(gpu for gpu in GPUS if gpu.name == name)
    assert gpu.flops / 1e12 == pytest.approx(tflops, rel=0.005)
    assert gpu.source


def test_limits_are_known_for_all_that_is_compiled_for() -> None:
    assert set(ARCHITECTURES) <= set(LIMITS)
    assert {gpu.architecture for gpu in GPUS} <= set(LIMITS)
