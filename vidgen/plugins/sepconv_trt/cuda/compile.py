"""Kernel text to a cubin and PTX for one architecture, by NVRTC or nvcc, with what it costs in registers and spills."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vidgen.errors import BackendError, MissingDependencyError
from vidgen.plugins.sepconv_trt.cuda.nvrtc import Nvrtc
from vidgen.plugins.sepconv_trt.cuda.source import definitions, kernel_text
from vidgen.plugins.sepconv_trt.geometry import Plan

#: What the project promises to compile for: A100, RTX 30, L4 and RTX 40, H100, RTX 50.
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")

Compiler = Literal["nvrtc", "nvcc"]


@dataclass(frozen=True)
class Resources:
    """What a thread and a block of a compiled kernel take.

    Attributes:
        registers: of a thread. shared_bytes: static shared memory of a block. stack_bytes: local memory of a thread.
        spill_bytes: stores and loads of registers that did not fit, together.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel for one architecture. ``plan.entry`` is its name in both images.

    Attributes:
        compiler: e.g. ``"NVRTC 13.0"``.
        cubin: what a driver loads on that architecture (and later ones of the same generation).
        ptx: text that a driver of at least the compiler's version translates for any later architecture.
    """

    plan: Plan
    architecture: str
    compiler: str
    cubin: bytes
    ptx: str
    resources: Resources


def compile_kernel(plan: Plan, architecture: str, *, compiler: Compiler = "nvrtc") -> CompiledKernel:
    """Compile the kernel of a plan. Takes about half a second.

    Args:
        plan: from ``geometry.plan`` or ``launch_geometry(...).plan``.
        architecture: a real one: ``"sm_89"``.

    Raises:
        BackendError: not an architecture, or the compiler does not know it.
        MissingDependencyError: the compiler is not installed.
    """
    if not re.fullmatch(r"sm_\d{2,3}[af]?", architecture):
        raise BackendError(
            f"cannot compile {plan.entry}",
            seen=f"architecture {architecture!r}, expected one like {ARCHITECTURES[0]}",
            cause="a kernel is compiled for a GPU's compute capability",
            fix=f"use one of {', '.join(ARCHITECTURES)}",
        )
    options = ["-std=c++17", *definitions(plan)]
    if compiler == "nvcc":
        version, cubin, ptx, log = _with_nvcc(plan, architecture, options)
    else:
        nvrtc = _nvrtc()
        version = "NVRTC {}.{}".format(*nvrtc.version)
        options += [f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
        made = nvrtc.compile(kernel_text(), f"{plan.entry}.{architecture}.cu", options)
        cubin, ptx, log = made.cubin, made.ptx, made.log
    return CompiledKernel(plan, architecture, version, cubin, ptx, _resources(plan, log))


@cache
def _nvrtc() -> Nvrtc:
    return Nvrtc.load()


def _with_nvcc(plan: Plan, architecture: str, options: list[str]) -> tuple[str, bytes, str, str]:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise MissingDependencyError(
            "cannot find nvcc, asked for to compile CUDA kernels",
            seen="no nvcc on PATH",
            cause="the CUDA toolkit is not installed",
            fix="use compiler='nvrtc', which pip install nvidia-cuda-nvrtc brings",
        )
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+\.\d+)", version)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.cu").write_text(kernel_text(), encoding="utf-8")
        command = [nvcc, *options, f"-arch={architecture}", "-cubin", "-Xptxas", "-v", "--keep", "kernel.cu"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BackendError(
                f"nvcc cannot compile {plan.entry} for {architecture}",
                seen=done.stderr[-2000:].strip(),
                cause="an architecture that this version does not know, or no host compiler it takes",
                fix=f"use another toolkit, or one of {', '.join(ARCHITECTURES)}",
            )
        made = (folder / "kernel.cubin").read_bytes(), (folder / "kernel.ptx").read_text(encoding="utf-8")
    return (f"nvcc {release[1] if release else '?'}", *made, done.stderr)


def _resources(plan: Plan, log: str) -> Resources:
    """Read ptxas' report; both compilers print it, a little differently."""
    used = re.search(r"Used (\d+) registers", log)
    shared = re.search(r"(\d+) bytes smem", log)
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    if not used or not spills:
        raise BackendError(
            f"cannot tell what {plan.entry} costs",
            seen=f"a report without registers and spills: {log[-500:]!r}",
            cause="a compiler whose report reads differently",
            fix="use NVRTC 13.0: pip install nvidia-cuda-nvrtc==13.0.88",
        )
    stack, stores, loads = (int(number) for number in spills.groups())
    return Resources(int(used[1]), int(shared[1]) if shared else 0, stack, stores + loads)
