"""How many blocks of a kernel a multiprocessor holds, by CUDA's documented rules; and the GPUs of the reports."""

from __future__ import annotations

from dataclasses import dataclass

from vidgen.errors import BackendError

WARP = 32
#: A kernel whose thread wants more registers does not compile.
MOST_REGISTERS = 255


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor of a compute capability holds (CUDA Programming Guide, "Compute Capabilities").

    Attributes:
        warps, blocks: resident at once. shared_bytes: shared memory of all resident blocks.
        registers: 32-bit. register_unit: they are given to a warp in multiples of it.
        shared_unit: shared memory is given to a block in multiples of it. shared_reserved: what the system keeps of
            each block's. partitions: parts of a multiprocessor with registers of their own.
    """

    warps: int
    blocks: int
    shared_bytes: int
    registers: int = 65536
    register_unit: int = 256
    shared_unit: int = 128
    shared_reserved: int = 1024
    partitions: int = 4


LIMITS: dict[str, Limits] = {
    "sm_80": Limits(warps=64, blocks=32, shared_bytes=164 * 1024),
    "sm_86": Limits(warps=48, blocks=16, shared_bytes=100 * 1024),
    "sm_89": Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
    "sm_90": Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    "sm_120": Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
}


@dataclass(frozen=True)
class Occupancy:
    """Blocks of one kernel that are resident on a multiprocessor.

    Attributes:
        warps: of these blocks. share: of the warps that the multiprocessor can hold, 0 to 1.
        limit: what allows no further block: ``registers``, ``shared memory``, ``warps`` or ``blocks``.
    """

    blocks: int
    warps: int
    share: float
    limit: str


def occupancy(architecture: str, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """The rules of CUDA's occupancy calculator.

    Registers are given to warps in units, from the partition the warp runs on, and a block wants all its warps at once;
    shared memory is given to blocks in units, with 1 KiB more for the system.

    Args:
        threads: of a block. registers: of a thread. shared_bytes: of a block, static and dynamic together.

    Raises:
        BackendError: an architecture that is not in ``LIMITS``, or a block that no multiprocessor holds.
    """
    limits = LIMITS.get(architecture)
    if limits is None:
        raise _refused(f"architecture {architecture}, expected one of {', '.join(LIMITS)}")
    if not 1 <= threads <= 1024 or not 1 <= registers <= MOST_REGISTERS or shared_bytes < 0:
        raise _refused(f"{threads} threads, {registers} registers, {shared_bytes} bytes of shared memory")
    warps = -(-threads // WARP)
    of_warp = _round_up(registers * WARP, limits.register_unit)
    warps_by_registers = limits.registers // limits.partitions // of_warp * limits.partitions
    allowed = {
        "registers": warps_by_registers // warps,
        "shared memory": limits.shared_bytes // _round_up(shared_bytes + limits.shared_reserved, limits.shared_unit),
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
    }
    limit = min(allowed, key=lambda name: allowed[name])
    blocks = allowed[limit]
    if blocks == 0:
        raise _refused(
            f"{threads} threads, {registers} registers, {shared_bytes} bytes: no {limit} left on {architecture}"
        )
    return Occupancy(blocks, blocks * warps, blocks * warps / limits.warps, limit)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _refused(seen: str) -> BackendError:
    return BackendError(
        "cannot tell the occupancy of a block",
        seen=seen,
        cause="a block within what CUDA grants, on an architecture whose limits are known, was expected",
        fix="see LIMITS in vidgen/plugins/sepconv_trt/cuda/occupancy.py",
    )


@dataclass(frozen=True)
class Gpu:
    """One GPU, as its maker's data sheet has it.

    Attributes:
        multiprocessors, lanes: float32 multiply-adds a clock are ``multiprocessors * lanes``.
        clock: boost, GHz. bandwidth: of its memory, GB/s. source: the document.
    """

    name: str
    title: str
    architecture: str
    multiprocessors: int
    lanes: int
    clock: float
    bandwidth: float
    source: str

    @property
    def flops(self) -> float:
        """Float32 operations a second; a multiply-add is two."""
        return 2e9 * self.multiprocessors * self.lanes * self.clock

    @property
    def shared_words(self) -> float:
        """32-bit words a second that all multiprocessors read or write in shared memory: 32 banks each, one a clock."""
        return 1e9 * self.multiprocessors * WARP * self.clock


GPUS: tuple[Gpu, ...] = (
    Gpu(
        "rtx4090", "RTX 4090", "sm_89", 128, 128, 2.52, 1008, "NVIDIA Ada GPU Architecture white paper v2.1, appendix A"
    ),
    Gpu("l4", "L4", "sm_89", 58, 128, 2.04, 300, "NVIDIA L4 Tensor Core GPU data sheet"),
    Gpu("a100", "A100 80GB SXM", "sm_80", 108, 64, 1.41, 2039, "NVIDIA A100 Tensor Core GPU data sheet"),
    Gpu("h100", "H100 SXM", "sm_90", 132, 128, 1.98, 3350, "NVIDIA H100 Tensor Core GPU data sheet"),
)
