"""How the CUDA kernels of the separable convolution are specialised and launched: the one source of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vidgen.errors import BackendError

Kernel = Literal["forward", "backward_input", "backward_kernels"]
DType = Literal["float32", "float16", "bfloat16"]

#: Names of a kernel's tensors, in the order of its arguments: inputs, then the three sizes, then outputs.
ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "forward": (("input", "vertical", "horizontal"), ("output",)),
    "backward_input": (("grad", "vertical", "horizontal"), ("grad_input",)),
    "backward_kernels": (("grad", "input", "vertical", "horizontal"), ("grad_vertical", "grad_horizontal")),
}
#: 32-bit integers that stand between input and output pointers; height and width are those of the output of forward.
SCALARS: tuple[str, ...] = ("channels", "height", "width")
KERNELS: tuple[Kernel, ...] = ("forward", "backward_input", "backward_kernels")
DTYPES: tuple[DType, ...] = ("float32", "float16", "bfloat16")

#: The gradient of vertical taps keeps one sum a tap and thread in shared memory, which bounds the number of taps.
LARGEST_TAPS = 63
#: A thread keeps at most so many taps of a row in registers.
LARGEST_CHUNK = 17
#: What every device since sm_50 grants a block without being asked for more.
SHARED_LIMIT = 48 * 1024


@dataclass(frozen=True)
class Plan:
    """What is fixed when a kernel is compiled.

    Attributes:
        taps: K. dtype: of all tensors; sums are float32.
        channels: how many channels a block works on at once. Any number of channels of a tensor may follow: the
            last group is guarded.
        block: threads in x and y. pixels: of a thread, one below the other. chunk: taps worked on at once.
        pitch: floats from one row of the tile in shared memory to the next.
        blocks: how many a multiprocessor is to hold at once; bounds the registers of a thread without spilling.
    """

    kernel: Kernel
    taps: int
    dtype: DType
    channels: int
    block: tuple[int, int]
    pixels: int
    chunk: int
    pitch: int
    blocks: int

    @property
    def entry(self) -> str:
        """The kernel's name in PTX and cubin (``extern "C"``)."""
        return f"vidgen_sepconv_{self.kernel}_k{self.taps}_{self.dtype}_c{self.channels}"

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block, which the compiled kernel declares itself."""
        rows = self.block[1] * self.pixels + self.chunk - 1
        sums = self.taps * self.block[0] * self.block[1] if self.kernel == "backward_kernels" else 0
        return 4 * (self.channels * rows * self.pitch + sums)

    @property
    def macros(self) -> dict[str, str]:
        """Preprocessor definitions the kernel text is compiled with."""
        return {
            "SEPCONV_KERNEL": f"SEPCONV_{self.kernel.upper()}",
            "SEPCONV_ENTRY": self.entry,
            "SEPCONV_DTYPE": f"SEPCONV_{self.dtype.upper()}",
            "SEPCONV_TAPS": str(self.taps),
            "SEPCONV_CHUNK": str(self.chunk),
            "SEPCONV_CHANNELS": str(self.channels),
            "SEPCONV_PIXELS": str(self.pixels),
            "SEPCONV_BLOCK_X": str(self.block[0]),
            "SEPCONV_BLOCK_Y": str(self.block[1]),
            "SEPCONV_PITCH": str(self.pitch),
            "SEPCONV_BLOCKS": str(self.blocks),
        }


@dataclass(frozen=True)
class Launch:
    """How a compiled kernel is launched.

    Attributes:
        grid: blocks in x, y, z; symbolic where the sizes were. block: threads in x, y, z.
        shared_bytes: dynamic shared memory to ask for: none, since the kernel declares what it uses
            (``plan.shared_bytes``, never above 48 KiB).
    """

    plan: Plan
    grid: tuple[Any, Any, Any]
    block: tuple[int, int, int]
    shared_bytes: int = 0


def launch_geometry(
    kernel: Kernel,
    batch: Any,
    channels: Any,
    height: Any,
    width: Any,
    taps: int,
    dtype: DType,
    *,
    group: int | None = None,
) -> Launch:
    """The launch of one kernel, and the plan it must have been compiled with.

    The first grid axis runs over groups of channels first and samples second, so that blocks which read the same taps
    run together. Sizes may be symbolic (TensorRT's dimension expressions): only ``+ int``, ``- int``, ``//`` and
    ``*`` are applied to them.

    Args:
        batch, channels, height, width: N, C, H, W of the output of forward (also for the gradients).
        taps: K, odd, 1 to 63.
        group: channels a block works on; None takes the best number for ``channels`` (4 or 8 if it is symbolic).

    Raises:
        BackendError: no kernel is made for these numbers.
    """
    made = plan(kernel, taps, dtype, channels=channels, group=group)
    _check_sizes(batch, channels, height, width, made)
    rows, columns = (height, width) if kernel != "backward_input" else (height + (taps - 1), width + (taps - 1))
    groups = 1 if kernel == "backward_kernels" else _ceil_div(channels, made.channels)
    grid = (batch * groups, _ceil_div(rows, made.block[1] * made.pixels), _ceil_div(columns, made.block[0]))
    return Launch(made, grid, (*made.block, 1))


def plan(kernel: Kernel, taps: int, dtype: DType, *, channels: Any = None, group: int | None = None) -> Plan:
    """What ``kernel`` is compiled with. Arguments and errors as in ``launch_geometry``."""
    if kernel not in KERNELS or dtype not in DTYPES:
        raise _refused(f"kernel {kernel!r} for {dtype!r}", f"one of {', '.join(KERNELS)} for {', '.join(DTYPES)}")
    if taps % 2 == 0 or not 1 <= taps <= LARGEST_TAPS:
        raise _refused(f"{taps} taps", f"an odd number from 1 to {LARGEST_TAPS}")
    small = taps <= LARGEST_CHUNK
    chunk = _ceil_div(taps, _ceil_div(taps, LARGEST_CHUNK))
    pixels = 2 if kernel == "forward" else 1
    # One wide row of a warp suits large kernels, whose halo it makes smaller; feature maps of 8x8 fill half a block.
    block = (16, 8) if small else (32, 4 if kernel == "backward_kernels" else 8)
    most = 8 if kernel == "backward_kernels" and taps <= 7 else 4
    return Plan(
        kernel=kernel,
        taps=taps,
        dtype=dtype,
        channels=_group(channels, most, group),
        block=block,
        pixels=pixels,
        chunk=chunk,
        pitch=_pitch(block[0] + chunk - 1, block[0], pixels),
        # 80 registers a thread, or 102, or 128: about the fewest that spill nothing (docs/sepconv_cuda.md).
        blocks=(768 if kernel == "forward" else 640 if small else 512) // (block[0] * block[1]),
    )


def _group(channels: Any, most: int, asked: int | None) -> int:
    """Channels a block works on: groups of nearly equal size, so that little of the last one is wasted."""
    if asked is not None:
        if not 1 <= asked <= most:
            raise _refused(f"groups of {asked} channels", f"1 to {most}")
        return asked
    if not isinstance(channels, int) or channels < 1:
        return most
    groups = -(-channels // most)
    return -(-channels // groups)


def _pitch(columns: int, block_x: int, pixels: int) -> int:
    """The shortest row of the tile for which a warp reads 32 different banks.

    A warp that is 16 wide reads two rows, ``pixels`` rows apart: they must lie 16 banks apart.
    """
    pitch = columns
    while block_x == 16 and pixels * pitch % 32 != 16:
        pitch += 1
    return pitch


def _ceil_div(value: Any, divisor: int) -> Any:
    return (value + (divisor - 1)) // divisor


def _check_sizes(batch: Any, channels: Any, height: Any, width: Any, made: Plan) -> None:
    """Refuse what the grid or 32-bit sizes cannot hold; symbolic sizes are the caller's to bound."""
    sizes = (batch, channels, height, width)
    if not all(isinstance(size, int) for size in sizes):
        return
    if min(sizes) < 1:
        raise _refused(f"sizes {sizes}", "at least 1 each; an empty tensor needs no launch")
    halo = made.taps - 1
    # 65535 blocks in y and z, 2^31 - 1 in x, planes counted in 32 bits.
    fits = (
        height + halo <= 65535 * made.block[1] * made.pixels
        and width + halo <= 65535 * made.block[0]
        and batch * max(channels, made.taps) < 2**31
    )
    if not fits:
        raise _refused(f"sizes {sizes}", "rows and columns that 65535 blocks cover, and fewer than 2^31 planes")


def _refused(seen: str, expected: str) -> BackendError:
    return BackendError(
        "no CUDA kernel of the separable convolution for these numbers",
        seen=f"{seen}, expected {expected}",
        cause="kernels are compiled for each number of taps and dtype, within what a block can hold",
        fix="use vidgen.plugins.sepconv_trt.portable, or other sizes",
    )
