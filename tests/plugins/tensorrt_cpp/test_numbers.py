"""From the plugin's enqueue to the numbers: the kernel it launches, run on a CPU, against float64."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from plugins.cuda.emulation.cases import STORED, Case, assert_right
from plugins.tensorrt_cpp.conftest import HERE, SOURCES

from vidgen.plugins.sepconv_trt.cuda import instances
from vidgen.plugins.sepconv_trt.cuda.source import definitions, kernel_text
from vidgen.plugins.sepconv_trt.geometry import launch_geometry

EMULATION = HERE.parent / "cuda" / "emulation"
#: TensorRT's numbers of the types.
TYPES = {"float32": 0, "float16": 1, "bfloat16": 7}


def build(case: Case, folder: Path) -> Path:
    """A program with the plugin, and the one kernel that the case is to choose."""
    made = launch_geometry("forward", case.batch, case.channels, case.height, case.width, case.taps, case.dtype).plan
    instances.write(folder, instances.plans((case.taps,), (case.dtype,)))
    (folder / "kernel.cu").write_text(kernel_text(device=False), encoding="utf-8")
    kernel = [*definitions(made), f"-DKERNEL_ENTRY={made.entry}", f'-DKERNEL_TEXT="{folder / "kernel.cu"}"']
    ours = [EMULATION / f"{name}.cpp" for name in ("entry", "fibers", "half_on_cpu")]
    theirs = [SOURCES / "plugin.cpp", SOURCES / "kernels.cpp", HERE / "run_plugin.cpp", HERE / "emulated_cuda.cpp"]
    folders = [f"-I{one}" for one in (HERE / "headers", HERE / "cuda_headers", SOURCES, folder, EMULATION)]
    program = folder / "run_plugin"
    flags = ["-std=c++17", "-O1", "-w", "-ffp-contract=off", *folders, *kernel]
    command = ["g++", *flags, *ours, *theirs, HERE / "emulate.cpp", "-o", program]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return program


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.parametrize(
    "case",
    [
        Case("forward", "float16", 19, 2, 10, 19, 33),
        pytest.param(Case("forward", "float32", 5, 2, 3, 19, 33), marks=pytest.mark.slow),
        pytest.param(Case("forward", "bfloat16", 1, 1, 1, 3, 2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_enqueue_computes_the_operator(case: Case, tmp_path: Path) -> None:
    program = build(case, tmp_path)
    inputs = case.inputs()
    given = b"".join(np.ascontiguousarray(inputs[name]).tobytes() for name in ("input", "vertical", "horizontal"))
    stored = STORED[case.dtype]
    sizes = (case.batch, case.channels, case.height, case.width, case.taps, TYPES[case.dtype], stored.itemsize)
    done = subprocess.run(
        [str(program), *(str(one) for one in sizes)], input=given, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode(errors="replace"))
    output = np.frombuffer(done.stdout, dtype=stored).reshape(case.shapes["output"])
    assert_right(case, inputs, {"output": output})
