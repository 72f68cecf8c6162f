"""The plugin library for tests: the real sources, stand-ins for TensorRT's and CUDA's headers, built once a run."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vidgen.plugins.sepconv_trt.cuda import instances
from vidgen.plugins.sepconv_trt.geometry import DTYPES, LARGEST_TAPS

HERE = Path(__file__).resolve().parent
SOURCES = Path(instances.__file__).resolve().parents[1] / "csrc" / "tensorrt"
#: Numbers of taps in the library: all that have kernels, but two.
TAPS = tuple(range(1, LARGEST_TAPS - 3, 2))
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")


def gpp(*arguments: object) -> None:
    """Run g++ with all warnings as errors."""
    done = subprocess.run(
        ["g++", *WARNINGS, *(str(one) for one in arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@dataclass(frozen=True)
class Library:
    """The file, and its functions."""

    path: Path
    functions: ctypes.CDLL

    def __getattr__(self, name: str) -> Any:
        return getattr(self.functions, name)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The plugin with kernels that are names; ``drive.cpp`` has the functions."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("plugin")
    instances.write(folder, instances.plans(TAPS, DTYPES))
    system = [f"-isystem{HERE / name}" for name in ("headers", "cuda_headers")]
    flags = ["-fPIC", "-fvisibility=hidden", f"-I{SOURCES}", f"-I{folder}", *system]
    # The driver and the fake are not the project's code: only the plugin meets all warnings.
    compiled = [folder / name for name in ("plugin.o", "kernels.o")]
    for path in compiled:
        gpp(*flags, "-c", SOURCES / f"{path.stem}.cpp", "-o", path)
    path = folder / "libplugin.so"
    command = ["g++", "-std=c++17", *flags, "-shared", "-Wl,-z,defs", HERE / "drive.cpp", HERE / "fake_cuda.cpp"]
    done = subprocess.run([*command, *compiled, "-o", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    functions = ctypes.CDLL(str(path))
    for name in ("create", "copy", "attach"):
        getattr(functions, name).restype = ctypes.c_void_p
    for name in ("logged", "creator_text", "metadata"):
        getattr(functions, name).restype = ctypes.c_char_p
    return Library(path, functions)
