"""Writes the CUDA sources of the C++ plugin library: one file a kernel, and the list of kernels with their launches.

``csrc/tensorrt/CMakeLists.txt`` runs it, so that the library's kernels and its table of launches come from the same
``geometry.py`` as everyone else's: ``python -m vidgen.plugins.sepconv_trt.cuda.instances build/kernels --taps 5 51``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from vidgen._files import atomic_file
from vidgen.errors import BackendError, VidgenError
from vidgen.plugins.sepconv_trt.cuda.source import DEVICE_FILES, KERNEL_FILES, source_hash
from vidgen.plugins.sepconv_trt.geometry import DTYPES, DType, Plan, plan

#: The list of kernels: ``VIDGEN_KERNEL(entry, taps, dtype, channels, block_x, block_y, pixels)`` for each.
LIST = "kernels.inc"
_WRITTEN = "// Written by python -m vidgen.plugins.sepconv_trt.cuda.instances; do not edit.\n"


def plans(taps: Sequence[int], dtypes: Sequence[DType]) -> list[Plan]:
    """Every kernel of forward for these numbers of taps and dtypes, and each group of channels a launch may choose.

    Raises:
        BackendError: nothing was asked for, or no kernel is made for a number of taps or a dtype.
    """
    if not taps or not dtypes:
        raise BackendError(
            "the library would hold no kernel",
            seen=f"taps {list(taps)}, dtypes {list(dtypes)}",
            cause="a list is empty",
            fix='cmake -DSEPCONV_TAPS="5" -DSEPCONV_DTYPES="float32;float16"',
        )
    made = []
    for count in sorted(set(taps)):
        for dtype in sorted(set(dtypes)):
            largest = plan("forward", count, dtype)
            made += [plan("forward", count, dtype, group=group) for group in range(1, largest.channels + 1)]
    return made


def kernel_list(kernels: Sequence[Plan]) -> str:
    """The text of ``kernels.inc``: one line a kernel, and the hash of all their sources."""
    hashes = "".join(source_hash(kernel) for kernel in kernels)
    lines = [f'#define VIDGEN_KERNEL_TEXT "{hashlib.sha256(hashes.encode()).hexdigest()[:16]}"']
    for kernel in kernels:
        numbers = (kernel.channels, *kernel.block, kernel.pixels)
        lines.append(
            f"VIDGEN_KERNEL({kernel.entry}, {kernel.taps}, {kernel.dtype}, {', '.join(str(one) for one in numbers)})"
        )
    return _WRITTEN + "\n".join(lines) + "\n"


def kernel_source(kernel: Plan) -> str:
    """The text of one ``.cu``: macros, the kernel text, and a function that gives the kernel's address to the host."""
    macros = "".join(f"#define {name} {value}\n" for name, value in kernel.macros.items())
    includes = "".join(f'#include "{name}"\n' for name in (*DEVICE_FILES, *KERNEL_FILES))
    address = f'extern "C" const void* {kernel.entry}_address()'
    return (
        f"{_WRITTEN}{macros}\n{includes}\n"
        f"{address};\n{address} {{ return reinterpret_cast<const void*>(&{kernel.entry}); }}\n"
    )


def write(folder: Path, kernels: Sequence[Plan]) -> list[Path]:
    """Write the sources into a folder and return their paths; a file that would not change keeps its date.

    Raises:
        StorageError: the folder cannot be written.
    """
    texts = {f"{kernel.entry}.cu": kernel_source(kernel) for kernel in kernels} | {LIST: kernel_list(kernels)}
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_file(path) as partial:
                partial.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def main() -> int:
    """Write the files and print their paths, ``;`` between them as CMake lists are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files go; made if missing")
    parser.add_argument("--taps", type=int, nargs="+", default=[5], metavar="K", help="odd, 1 to 63 (5)")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), metavar="DTYPE", help=" ".join(DTYPES))
    arguments = parser.parse_args()
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        print(";".join(path.as_posix() for path in write(arguments.folder, plans(arguments.taps, arguments.dtypes))))
    except (VidgenError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
