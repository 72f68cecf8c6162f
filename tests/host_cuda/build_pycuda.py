"""Builds pycuda from its source package on a machine with no CUDA toolkit and no driver, for tests to import.

    python tests/host_cuda/build_pycuda.py FOLDER

installs into FOLDER/site, which goes on PYTHONPATH. Takes about three minutes of one core; a second call finds the work
done. Needs g++. NVIDIA's headers come from wheels, and the library that an installed driver would bring is an
empty one to link against: who imports pycuda brings the real ``libcuda.so.1``, or that of tests/host_cuda.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

PYCUDA = "2026.1"
HEADERS = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-crt==13.0.*", "nvidia-cuda-profiler-api==13.0.*")
#: Without random numbers of CUDA's (another library) and OpenGL; Boost is the one that the source carries.
SETTINGS = """
USE_SHIPPED_BOOST = True
CUDA_ENABLE_GL = False
CUDA_ENABLE_CURAND = False
CUDA_ROOT = {root!r}
CUDA_INC_DIR = [{include!r}]
CUDADRV_LIB_DIR = [{libraries!r}]
CUDADRV_LIBNAME = ["cuda"]
CXXFLAGS = ["-O1", "-g0", "-w"]
LDFLAGS = []
"""
#: The driver's library is needed although nothing in its stand-in is.
ENVIRONMENT = {"LDFLAGS": "-Wl,--no-as-needed", "PIP_ROOT_USER_ACTION": "ignore"}


def stamp_text() -> str:
    """What a finished folder was built of."""
    return f"pycuda {PYCUDA} for {sysconfig.get_config_var('SOABI')}\n"


def build(folder: Path) -> Path:
    """Build into ``folder`` unless that was done; the folder to put on PYTHONPATH."""
    site = folder / "site"
    stamp = site / "built.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == stamp_text():
        return site
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        made = work / "site"
        _pip("install", "--target", str(work / "headers"), "--no-deps", *HEADERS)
        source = _source(work)
        include = next((work / "headers").glob("nvidia/*/include/cuda.h")).parent
        settings = SETTINGS.format(
            root=str(include.parent), include=str(include), libraries=str(_stand_in(work / "stand_in"))
        )
        (source / "siteconf.py").write_text(settings, encoding="utf-8")
        _pip("install", "--target", str(made), "mako", "platformdirs", "pytools")
        _pip("install", "--target", str(made), "--no-deps", "--upgrade", str(source))
        (made / "built.txt").write_text(stamp_text(), encoding="utf-8")
        # A site that is there is whole: what was cut off before is replaced.
        shutil.rmtree(site, ignore_errors=True)
        made.rename(site)
    return site


def _source(work: Path) -> Path:
    _pip("download", "--no-deps", "--no-binary", "pycuda", "--dest", str(work), f"pycuda=={PYCUDA}")
    with tarfile.open(next(work.glob("pycuda-*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    return work / f"pycuda-{PYCUDA}"


def _stand_in(folder: Path) -> Path:
    """A folder with a ``libcuda.so`` to link against, which asks for the driver's name when it is loaded."""
    folder.mkdir()
    source = folder / "empty.c"
    source.write_text("", encoding="utf-8")
    command = ["g++", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", str(source)]
    subprocess.run([*command, "-o", str(folder / "libcuda.so")], check=True)
    return folder


def _pip(*arguments: str) -> None:
    # What --target receives stands beside this environment, whose packages it cannot break.
    quiet = ("--quiet", "--disable-pip-version-check", *(["--no-warn-conflicts"] if arguments[0] == "install" else []))
    command = [sys.executable, "-m", "pip", *arguments, *quiet]
    subprocess.run(command, check=True, env={**os.environ, **ENVIRONMENT})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/host_cuda/build_pycuda.py FOLDER")
    print(build(Path(sys.argv[1])))
