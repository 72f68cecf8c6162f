"""The roofline report as a page that anyone can check: GPUs, formulas, kernels, floors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vidgen.plugins.sepconv_trt.cuda.occupancy import LIMITS
from vidgen.plugins.sepconv_trt.cuda.roofline import RooflineReport, Row, chosen

_HEAD = """# Roofline of the separable convolution

Counted and compiled, not measured: no GPU took part. Times are microseconds.

## The formulas

For an output [N, C, H, W] and K taps, elements of `item` bytes (4, or 2 in half):

- bytes = item * (N C (H+K-1) (W+K-1) + 2 N K H W + N C H W): every tensor once. What a layer before left in the GPU's
  cache comes faster than this: tensors of a few megabytes may.
- FLOP = 2 N C H W K (K + 1): for each of K rows K multiply-adds, and one to weigh the row. All of it is float32, in
  half too: only storage is narrower.
- memory = bytes / bandwidth; arithmetic = FLOP / (2 * multiprocessors * lanes * clock); floor = the larger. No
  implementation is faster while its tensors come from memory and it sums row by row.
- kernel: what ours takes at least. The largest of memory, its own multiply-adds (with pixels, channels and rows
  computed in vain) and its words of shared memory (32 a clock and multiprocessor), the last two on as many
  multiprocessors as there are blocks for. A launch costs a few microseconds beside all this.
- blocks a multiprocessor: by CUDA's rules. Registers of a warp are rounded up to {register_unit}, and come from one of
  {partitions} partitions; shared memory of a block, with {shared_reserved} bytes for the system, to {shared_unit}.
- waves = blocks of the launch / (blocks a multiprocessor * multiprocessors).

Data sheets name the highest rates. Kernels sustain about 80 % of the rate of multiply-adds: arithmetic / 0.8 is a fair
expectation where a row is bound by it.
"""


def page(report: RooflineReport) -> str:
    """The Markdown text."""
    one = LIMITS["sm_80"]
    head = _HEAD.format(
        register_unit=one.register_unit,
        partitions=one.partitions,
        shared_reserved=one.shared_reserved,
        shared_unit=one.shared_unit,
    )
    parts = [
        head,
        "## The GPUs\n",
        _gpus(report),
        _kernels_head(report),
        _kernels(report),
        "## The floors\n",
        _rows(report),
    ]
    return "\n".join(parts)


def _gpus(report: RooflineReport) -> str:
    cells = [
        (
            gpu.title, gpu.architecture, str(gpu.multiprocessors), str(gpu.lanes), f"{gpu.clock:g}",
            f"{gpu.flops / 1e12:.1f}", f"{gpu.bandwidth:g}", str(LIMITS[gpu.architecture].warps),
            str(LIMITS[gpu.architecture].blocks), str(LIMITS[gpu.architecture].registers),
            str(LIMITS[gpu.architecture].shared_bytes // 1024), gpu.source,
        )
        for gpu in chosen(report.settings)
    ]  # fmt: skip
    titles = ("GPU", "architecture", "multiprocessors", "lanes", "boost GHz", "TFLOP/s", "GB/s", "warps each",
              "blocks each", "registers each", "shared KiB each", "source")  # fmt: skip
    return _table(titles, cells, left=(0, 1, 11))


def _kernels_head(report: RooflineReport) -> str:
    if report.missing:
        return (
            "## The kernels\n\nColumns that only a compiler knows are left out (registers, spills, blocks a "
            f"multiprocessor, occupancy, waves) - {report.missing}\n"
        )
    return f"## The kernels\n\nCompiled by {report.compiler}.\n"


def _kernels(report: RooflineReport) -> str:
    seen: dict[tuple[str, str], Row] = {}
    for row in report.rows:
        seen.setdefault((row.entry, row.gpu.architecture), row)
    cells = []
    for (entry, architecture), row in sorted(seen.items()):
        resources, resident = row.resources, row.resident
        compiled = ("", "") if resources is None else (str(resources.registers), str(resources.spill_bytes))
        held = (
            ("", "", "")
            if resident is None
            else (str(resident.blocks), f"{100 * resident.share:.0f} %", resident.limit)
        )
        cells.append((entry, architecture, str(row.threads), *compiled, str(row.shared_bytes), *held))
    titles = ("kernel", "architecture", "threads", "registers", "spills", "shared bytes", "blocks a multiprocessor",
              "occupancy", "limited by")  # fmt: skip
    return _table(titles, cells, left=(0, 1, 8))


def _rows(report: RooflineReport) -> str:
    cells = []
    for row in report.rows:
        work = row.work
        cells.append(
            (
                row.gpu.title,
                row.name,
                row.dtype,
                f"{work.bytes / 1e6:.2f}",
                f"{work.flops / 1e6:.1f}",
                f"{work.flops / work.bytes:.1f}",
                _time(row.memory),
                _time(row.arithmetic),
                _time(row.floor),
                row.bound,
                _time(row.kernel),
                str(row.blocks),
                "" if row.waves is None else f"{row.waves:.2f}",
            )
        )
    titles = ("GPU", "output", "dtype", "MB", "MFLOP", "FLOP/byte", "memory", "arithmetic", "floor", "bound by",
              "kernel at least", "blocks", "waves")  # fmt: skip
    return _table(titles, cells, left=(0, 1, 2, 9))


def _time(microseconds: float) -> str:
    return f"{microseconds:.2f}" if microseconds < 100 else f"{microseconds:.0f}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int]) -> str:
    rule = "|".join("---" if index in left else "---:" for index in range(len(titles)))
    lines = [f"| {' | '.join(titles)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"
