"""What the separable convolution costs at least on known GPUs, and what its kernels take of one: no GPU is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vidgen.errors import SettingsError, VidgenError
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, Resources, compile_kernel
from vidgen.plugins.sepconv_trt.cuda.occupancy import GPUS, Gpu, Occupancy, occupancy
from vidgen.plugins.sepconv_trt.geometry import DTYPES, LARGEST_TAPS, DType, Launch, Plan, launch_geometry

#: Bytes of an element.
ITEM: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
Compile = Callable[[Plan, str], CompiledKernel]


def _require(good: bool, name: str, value: object, expected: str, fix: str) -> None:
    if not good:
        raise SettingsError(
            "cannot make the roofline report",
            seen=f"{name} = {value}, expected {expected}",
            cause="a value out of range",
            fix=fix,
        )


@dataclass(frozen=True)
class Shape:
    """Output [N, C, H, W] of the operator, with K taps.

    Attributes:
        batch: N; None takes the one of the settings.
    """

    channels: int
    height: int
    width: int
    taps: int
    batch: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.channels, self.height, self.width, 1 if self.batch is None else self.batch)
        _require(min(sizes) >= 1, "shape", self, "sizes of at least 1", "use Shape(3, 64, 64, taps=5)")
        odd = self.taps % 2 == 1 and 1 <= self.taps <= LARGEST_TAPS
        _require(odd, "taps", self.taps, f"an odd number from 1 to {LARGEST_TAPS}", "use 5")


#: The four fusions of TwoStreamVAN, and what frame interpolation asks for: K = 51 on one frame of 1280x720.
SHAPES = (
    Shape(16, 8, 8, 5), Shape(128, 16, 16, 5), Shape(32, 32, 32, 5), Shape(3, 64, 64, 5), Shape(3, 720, 1280, 51, 1),
)  # fmt: skip


@dataclass(frozen=True)
class RooflineSettings:
    """What to report.

    Attributes:
        batch: N of the shapes that do not say their own. dtypes: of all tensors. devices: names in ``GPUS``.
    """

    batch: int = 16
    dtypes: tuple[DType, ...] = ("float32", "float16")
    devices: tuple[str, ...] = tuple(gpu.name for gpu in GPUS)
    shapes: tuple[Shape, ...] = SHAPES

    def __post_init__(self) -> None:
        known = tuple(gpu.name for gpu in GPUS)
        _require(self.batch >= 1, "batch", self.batch, "at least 1", "use --batch 16")
        for name, chosen, allowed in (("dtypes", self.dtypes, DTYPES), ("devices", self.devices, known)):
            good = bool(chosen) and set(chosen) <= set(allowed)
            _require(good, name, ", ".join(chosen) or "none", f"some of {', '.join(allowed)}", f"use {allowed[0]}")
        _require(bool(self.shapes), "shapes", "none", "at least one", "leave them out")


@dataclass(frozen=True)
class Work:
    """What a shape asks for, whoever computes it, and what our kernel does for it.

    Attributes:
        bytes: each tensor once. flops: of the definition, summed row by row; a multiply-add is two.
        kernel_flops: the same with what a launch computes in vain: pixels and channels outside, rows above and below.
        shared_words: 32-bit words that all blocks write to and read from shared memory.
    """

    bytes: int
    flops: int
    kernel_flops: int
    shared_words: int


def count(launch: Launch, sizes: Sequence[int], dtype: DType) -> Work:
    """The counts of one launch of forward; ``sizes`` are N, C, H, W of its output. The formulas are on the page."""
    batch, channels, height, width = sizes
    made, taps = launch.plan, launch.plan.taps
    halo = taps - 1
    image = batch * channels * (height + halo) * (width + halo)
    pixels = batch * height * width
    elements = image + 2 * taps * pixels + channels * pixels
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    threads = blocks * made.block[0] * made.block[1]
    chunks = -(-taps // made.chunk)
    # A thread goes down its rows once for each chunk of horizontal taps; two pixels share a row of the tile.
    row_reads = taps * (taps + chunks * (made.pixels - 1)) * made.channels
    weighings = taps * chunks * made.channels * made.pixels
    tile = made.channels * (made.block[1] * made.pixels + made.chunk - 1) * (made.block[0] + made.chunk - 1)
    return Work(
        bytes=elements * ITEM[dtype],
        flops=2 * channels * pixels * taps * (taps + 1),
        kernel_flops=2 * threads * (row_reads * made.pixels + weighings),
        shared_words=threads * row_reads + blocks * chunks * chunks * tile,
    )


@dataclass(frozen=True)
class Row:
    """One shape, dtype and GPU. Times are microseconds.

    Attributes:
        memory, arithmetic: what ``bytes`` and ``flops`` take at the full rates of the GPU. floor: the larger of them,
            which no implementation beats while its tensors come from memory. bound: which of the two it is.
        kernel: what our kernel takes at least: the same with its own arithmetic and shared memory, on as many
            multiprocessors as there are blocks for. blocks: of the launch.
        resources, resident: None where the kernel could not be compiled.
        waves: the launch's blocks over those that the whole GPU holds at once.
    """

    gpu: Gpu
    shape: Shape
    batch: int
    dtype: DType
    entry: str
    shared_bytes: int
    threads: int
    work: Work
    memory: float
    arithmetic: float
    kernel: float
    blocks: int
    resources: Resources | None
    resident: Occupancy | None

    @property
    def floor(self) -> float:
        """Microseconds."""
        return max(self.memory, self.arithmetic)

    @property
    def bound(self) -> str:
        """``memory`` or ``arithmetic``."""
        return "memory" if self.memory >= self.arithmetic else "arithmetic"

    @property
    def waves(self) -> float | None:
        """See ``Row``."""
        return None if self.resident is None else self.blocks / (self.resident.blocks * self.gpu.multiprocessors)

    @property
    def name(self) -> str:
        """As ``16x128x16x16 K=5``."""
        shape = self.shape
        return f"{self.batch}x{shape.channels}x{shape.height}x{shape.width} K={shape.taps}"


@dataclass(frozen=True)
class RooflineReport:
    """The rows, GPU by GPU.

    Attributes:
        compiler: e.g. ``"NVRTC 13.0"``; empty without one. missing: why columns are empty; empty if none is.
    """

    settings: RooflineSettings
    rows: tuple[Row, ...]
    compiler: str
    missing: str

    def table(self) -> str:
        """The whole page, as Markdown."""
        from vidgen.plugins.sepconv_trt.cuda.roofline_page import page

        return page(self)

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON: plain numbers, strings, lists and dictionaries."""
        return {
            "compiler": self.compiler,
            "missing": self.missing,
            "devices": [{**dataclasses.asdict(gpu), "flops": gpu.flops} for gpu in chosen(self.settings)],
            "rows": [_row_dict(row) for row in self.rows],
        }


def _row_dict(row: Row) -> dict[str, Any]:
    return {
        "device": row.gpu.name,
        "shape": [row.batch, row.shape.channels, row.shape.height, row.shape.width],
        "taps": row.shape.taps,
        "dtype": row.dtype,
        "kernel": row.entry,
        "threads": row.threads,
        "shared_bytes": row.shared_bytes,
        **dataclasses.asdict(row.work),
        "memory_us": row.memory,
        "arithmetic_us": row.arithmetic,
        "floor_us": row.floor,
        "bound": row.bound,
        "kernel_at_least_us": row.kernel,
        "blocks": row.blocks,
        "waves": row.waves,
        "resources": None if row.resources is None else dataclasses.asdict(row.resources),
        "occupancy": None if row.resident is None else dataclasses.asdict(row.resident),
    }


def chosen(settings: RooflineSettings) -> list[Gpu]:
    """The GPUs of the settings, in the order of ``GPUS``."""
    return [gpu for gpu in GPUS if gpu.name in settings.devices]


def roofline(settings: RooflineSettings | None = None, compiler: Compile = compile_kernel) -> RooflineReport:
    """Count, compile (half a second a kernel and architecture) and compare.

    Args:
        compiler: makes a kernel for an architecture; where it fails, what a compiler alone knows is left out and
            ``missing`` says why.

    Raises:
        BackendError: no launch holds a shape.
    """
    asked = settings or RooflineSettings()
    compiled: dict[tuple[str, str], CompiledKernel | VidgenError] = {}
    rows = []
    for gpu in chosen(asked):
        for shape in asked.shapes:
            for dtype in asked.dtypes:
                batch = asked.batch if shape.batch is None else shape.batch
                sizes = (batch, shape.channels, shape.height, shape.width)
                launch = launch_geometry("forward", *sizes, shape.taps, dtype)
                key = (launch.plan.entry, gpu.architecture)
                if key not in compiled:
                    compiled[key] = _compile(compiler, launch.plan, gpu.architecture)
                rows.append(_row(gpu, shape, dtype, sizes, launch, compiled[key]))
    failures = [one for one in compiled.values() if isinstance(one, VidgenError)]
    made = [one for one in compiled.values() if isinstance(one, CompiledKernel)]
    missing = f"{failures[0].what}: {failures[0].seen} - {failures[0].fix}" if failures else ""
    return RooflineReport(asked, tuple(rows), made[0].compiler if made else "", missing)


def _compile(compiler: Compile, made: Plan, architecture: str) -> CompiledKernel | VidgenError:
    try:
        return compiler(made, architecture)
    except VidgenError as error:
        return error


def _row(
    gpu: Gpu,
    shape: Shape,
    dtype: DType,
    sizes: Sequence[int],
    launch: Launch,
    compiled: CompiledKernel | VidgenError,
) -> Row:
    work = count(launch, sizes, dtype)
    made = launch.plan
    threads = made.block[0] * made.block[1]
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    resources = compiled.resources if isinstance(compiled, CompiledKernel) else None
    resident = None
    if resources is not None:
        resident = occupancy(gpu.architecture, threads, resources.registers, resources.shared_bytes)
    memory = work.bytes / gpu.bandwidth / 1e3
    # One block runs on one multiprocessor: a grid smaller than the GPU leaves the others idle.
    used = min(blocks, gpu.multiprocessors) / gpu.multiprocessors
    of_blocks = max(work.kernel_flops / gpu.flops, work.shared_words / gpu.shared_words) / used
    return Row(
        gpu=gpu,
        shape=shape,
        batch=sizes[0],
        dtype=dtype,
        entry=made.entry,
        shared_bytes=made.shared_bytes,
        threads=threads,
        work=work,
        memory=memory,
        arithmetic=work.flops / gpu.flops * 1e6,
        kernel=max(memory, of_blocks * 1e6),
        blocks=blocks,
        resources=resources,
        resident=resident,
    )
