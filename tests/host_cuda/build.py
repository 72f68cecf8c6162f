"""Compiles the host CUDA driver, and kernels for it, once a session."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from plugins.cuda.emulation import emulator

from vidgen.plugins.sepconv_trt.cuda.source import definitions, kernel_text
from vidgen.plugins.sepconv_trt.geometry import Plan

DRIVER = Path(__file__).resolve().parent / "driver"
EMULATION = emulator.HERE
SHARED = ("-shared", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wl,-Bsymbolic")


@functools.cache
def why_not() -> str | None:
    """Why the driver cannot be built here; None if it can."""
    return None if shutil.which("g++") else "g++ is not installed"


def build_driver(folder: Path) -> Path:
    """The folder that holds ``libcuda.so.1``, compiled unless it is there."""
    made = folder / "driver" / "libcuda.so.1"
    name = ("-Wl,-soname,libcuda.so.1", str(DRIVER / "host_cuda.cpp"), "-ldl")
    _compile(made, ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *SHARED, *name])
    return made.parent


def build_kernel(folder: Path, plan: Plan) -> None:
    """``ENTRY.so`` in the folder: the package's kernel of a plan, emulated."""
    made = folder / f"{plan.entry}.so"
    if made.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{plan.entry}-{os.getpid()}.cu"
    source.write_text(kernel_text(device=False), encoding="utf-8")
    macros = (f"-DKERNEL_ENTRY={plan.entry}", f'-DKERNEL_TEXT="{source}"', '-DKERNEL_SOURCE="entry.cpp"')
    files = (DRIVER / "kernel_object.cpp", EMULATION / "fibers.cpp", EMULATION / "half_on_cpu.cpp")
    options = (*emulator.FLAGS, *emulator.KERNEL_FLAGS, *SHARED, f"-I{EMULATION}", *definitions(plan), *macros)
    _compile(made, [*options, *map(str, files)])


def _compile(made: Path, arguments: list[str]) -> None:
    """Compile to a name of this process' own first: several may do so at once."""
    if made.exists():
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    own = made.with_suffix(f".{os.getpid()}")
    done = subprocess.run(["g++", *arguments, "-o", str(own)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"does not compile:\n{done.stderr[-4000:]}"
    own.replace(made)
