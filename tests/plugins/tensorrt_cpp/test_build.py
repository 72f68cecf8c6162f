"""The library as users build it: against TensorRT's own headers, by nvcc and CMake, linked to nothing of TensorRT."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.tensorrt_cpp.conftest import HERE, SOURCES

from vidgen.plugins.sepconv_trt.cuda import instances

HEADERS = os.environ.get("TENSORRT_INCLUDE_DIR", "")
NVCC = shutil.which("nvcc")
CUDA_TEXT = Path(instances.__file__).resolve().parent
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)


def cuda_headers() -> Path:
    """The toolkit's, or the stand-in."""
    found = Path(NVCC).resolve().parents[1] / "include" if NVCC else HERE
    candidates = (found, Path("/usr/local/cuda/include"), HERE / "cuda_headers")
    return next(folder for folder in candidates if (folder / "cuda_runtime_api.h").is_file())


@pytest.mark.skipif(not HEADERS, reason="TENSORRT_INCLUDE_DIR does not name the folder of NvInferRuntime.h")
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_plugin_compiles_with_the_real_headers(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    warnings = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", HEADERS, "-isystem", cuda_headers())
    done = run(compiler, *warnings, "-c", SOURCES / "plugin.cpp", "-o", tmp_path / "plugin.o")
    assert done.returncode == 0, done.stderr[-4000:]


@needs_nvcc
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_kernel_compiles_without_a_warning(dtype: instances.DType, tmp_path: Path) -> None:
    made = instances.plans((5,), (dtype,))[-1]
    instances.write(tmp_path, [made])
    options = ("-std=c++17", "-arch=sm_89", "--Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror")
    done = run(NVCC, *options, f"-I{CUDA_TEXT}", "-c", tmp_path / f"{made.entry}.cu", "-o", tmp_path / "kernel.o")
    assert done.returncode == 0, done.stderr[-4000:]
    symbols = run("nm", "--defined-only", tmp_path / "kernel.o").stdout
    assert re.search(rf" T {made.entry}_address$", symbols, flags=re.MULTILINE)


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run("cmake", "-S", SOURCES, "-B", folder, f"-DPython3_EXECUTABLE={sys.executable}", *options)


@needs_cmake
@needs_nvcc
@pytest.mark.slow
def test_cmake_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    done = configure(tmp_path / "one", f"-DTENSORRT_INCLUDE_DIR={tmp_path}")
    assert done.returncode != 0
    assert "cmake -DTENSORRT_INCLUDE_DIR=" in " ".join(done.stderr.split())
    done = configure(tmp_path / "two", f"-DTENSORRT_INCLUDE_DIR={HERE / 'headers'}", "-DSEPCONV_TAPS=5;6")
    assert done.returncode != 0
    assert "6 taps" in done.stderr


@needs_cmake
@needs_nvcc
@pytest.mark.slow
def test_the_architectures_are_the_same_when_cmake_runs_again(tmp_path: Path) -> None:
    headers = f"-DTENSORRT_INCLUDE_DIR={HERE / 'headers'}"
    for options in ((headers,), ()):
        done = configure(tmp_path, *options)
        assert done.returncode == 0, done.stderr[-4000:]
        # Whatever writes the build: make or ninja.
        files = [*tmp_path.rglob("flags.make"), *tmp_path.rglob("build.ninja")]
        flags = "".join(path.read_text(encoding="utf-8") for path in files)
        compiled = set(re.findall(r"sm_(\d+)", flags))
        assert {"80", "86", "89", "90"} <= compiled <= {"80", "86", "89", "90", "120"}
        assert "-O3" in flags


@needs_cmake
@needs_nvcc
@pytest.mark.slow
def test_cmake_builds_a_library_that_needs_nothing_of_tensorrt(tmp_path: Path) -> None:
    headers = f"-DTENSORRT_INCLUDE_DIR={HEADERS or HERE / 'headers'}"
    options = (
        "-DCMAKE_CUDA_ARCHITECTURES=89-real",
        "-DSEPCONV_TAPS=5;7",
        "-DSEPCONV_DTYPES=float32",
        "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON",
    )
    done = configure(tmp_path, headers, *options)
    assert done.returncode == 0, done.stderr[-4000:]
    done = run("cmake", "--build", tmp_path, "--parallel", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    library = tmp_path / "libvidgen_sepconv_tensorrt.so"
    exported = run("nm", "-D", "--defined-only", library).stdout
    assert sorted(re.findall(r" [A-Z] (\w+)", exported)) == ["getCreators", "setLoggerFinder"]
    needed = re.findall(r"NEEDED.*\[(.+)\]", run("readelf", "-d", library).stdout)
    assert not [name for name in needed if "nvinfer" in name or "tensorrt" in name or "cudart" in name]
    kernels = (tmp_path / "kernels" / instances.LIST).read_text(encoding="utf-8")
    image = library.read_bytes()
    assert all(entry.encode() in image for entry in re.findall(r"VIDGEN_KERNEL\((\w+),", kernels))
