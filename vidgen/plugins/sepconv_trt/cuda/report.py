"""Writes docs/sepconv_cuda.md: what each kernel costs on each architecture, as the compiler reports it."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from vidgen._files import atomic_file
from vidgen.plugins.sepconv_trt.cuda.compile import ARCHITECTURES, CompiledKernel, compile_kernel
from vidgen.plugins.sepconv_trt.cuda.source import source_hash
from vidgen.plugins.sepconv_trt.geometry import DTYPES, KERNELS, DType, Kernel, plan

TAPS = (3, 5, 7, 13, 51)
COMMAND = "python -m vidgen.plugins.sepconv_trt.cuda.report docs/sepconv_cuda.md"

_HEAD = """# CUDA kernels of the separable convolution: what they cost

Written by `{command}`; do not edit. Compiled by {compiler} from kernel
text `{digest}`. **Nobody has run these kernels on a GPU yet**: their numbers were checked by running the same text on
a CPU (`tests/plugins/cuda`), which says nothing about speed.

A kernel is compiled for one number of taps K, one dtype and one group of channels (the largest one is shown).
Registers are of a thread, one column an architecture; shared memory is of a block; spills are bytes stored and loaded
because registers ran out, summed over the architectures.

| kernel | K | dtype | channels | threads | shared bytes | {columns} | spills |
|---|---:|---|---:|---:|---:|{rule}---:|
"""


def text_digest() -> str:
    """Names the kernel text, and the plans, a table was made from."""
    hashes = "".join(source_hash(plan(*one)) for one in _plans())
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


def _plans() -> list[tuple[Kernel, int, DType]]:
    return [(kernel, taps, dtype) for kernel in KERNELS for taps in TAPS for dtype in DTYPES]


def row(kernel: Kernel, taps: int, dtype: DType) -> str:
    """One line of the table: the kernel compiled for every architecture."""
    made = [compile_kernel(plan(kernel, taps, dtype), architecture) for architecture in ARCHITECTURES]
    return _line(made)


def table() -> str:
    """The whole page. Takes a few minutes: 225 compilations.

    Raises:
        MissingDependencyError: NVRTC is not installed.
    """
    lines = [row(*one) for one in _plans()]
    compiler = compile_kernel(plan("forward", 3, "float32"), ARCHITECTURES[0]).compiler
    head = _HEAD.format(
        command=COMMAND,
        compiler=compiler,
        digest=text_digest(),
        columns=" | ".join(ARCHITECTURES),
        rule="---:|" * len(ARCHITECTURES),
    )
    return head + "\n".join(lines) + "\n"


def _line(made: list[CompiledKernel]) -> str:
    first = made[0].plan
    shared = {kernel.resources.shared_bytes for kernel in made}
    cells = [
        first.kernel,
        str(first.taps),
        first.dtype,
        str(first.channels),
        "x".join(str(threads) for threads in first.block),
        "/".join(str(number) for number in sorted(shared)),
        *(str(kernel.resources.registers) for kernel in made),
        str(sum(kernel.resources.spill_bytes for kernel in made)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page to the path on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the file to write, docs/sepconv_cuda.md")
    path = parser.parse_args().path
    page = table()
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
