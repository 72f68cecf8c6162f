"""Runs functions under the host CUDA driver; conftest.py beside this file says how to use it."""

from __future__ import annotations

import importlib.util
import os
import pickle
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from host_cuda.build import build_driver, build_kernel, why_not

from vidgen.plugins.sepconv_trt.geometry import Plan

ZYGOTE = Path(__file__).resolve().parent / "zygote.py"


class HostCudaError(AssertionError):
    """Something was done that a GPU would not forgive, or was left open."""


@dataclass
class Outcome:
    """What became of a function.

    Attributes:
        value: its result. error: what it raised.
        violations, leaks: the driver's messages.
        calls: of each entry point, without version: ``"cuMemAlloc"``.
        stderr: all it printed. status: of the process, 0 unless it was ended (3: by a fault on the device).
    """

    value: Any = None
    error: BaseException | None = None
    violations: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    stderr: str = ""
    status: int = 0


class HostCuda:
    """Calls functions under the driver: ``host_cuda(function, *arguments, **options)``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.driver = build_driver(folder)
        search = (str(self.driver), os.environ.get("LD_LIBRARY_PATH", ""))
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, search))}
        paths = [*sys.path, *([str(site)] if (site := pycuda_site()) else [])]
        code = f"import sys, runpy; sys.path[:] = {paths!r}; runpy.run_path({str(ZYGOTE)!r}, run_name='__main__')"
        command = [sys.executable, "-P", "-c", code]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def __call__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The function's result.

        Raises:
            HostCudaError: a violation, a leak, or a process that ended badly.
        """
        found = self.outcome(function, *arguments, **options)
        if found.violations or found.status or (found.leaks and found.error is None):
            bad = "\n".join([*found.violations, *(f"leak: {leak}" for leak in found.leaks)])
            raise HostCudaError(f"{bad}\nstatus {found.status}\n{found.stderr[-4000:]}")
        if found.error is not None:
            raise found.error
        return found.value

    def outcome(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        schedule: str = "now",
        memory: int = 2**30,
        devices: int = 1,
        architecture: str = "sm_89",
        driver: str = "13.0",
        fail: str = "",
        kernels: Sequence[Plan] = (),
        timeout: int = 60,
        whole_exit: bool = False,
    ) -> Outcome:
        """All that became of the function; options as conftest.py says."""
        for plan in kernels:
            build_kernel(self.folder / "kernels", plan)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            major, minor = driver.split(".")
            environment = {
                "HOST_CUDA_SCHEDULE": schedule,
                "HOST_CUDA_MEMORY": str(memory),
                "HOST_CUDA_DEVICES": str(devices),
                "HOST_CUDA_ARCHITECTURE": architecture.removeprefix("sm_"),
                "HOST_CUDA_DRIVER": str(int(major) * 1000 + int(minor) * 10),
                "HOST_CUDA_FAIL": fail,
                "HOST_CUDA_KERNELS": str(self.folder / "kernels"),
                "HOST_CUDA_REPORT": str(folder / "report"),
            }
            module = function.__module__
            status = self._ask(
                {
                    "module": module,
                    "path": str(sys.modules[module].__file__),
                    "function": function.__qualname__,
                    "arguments": arguments,
                    "environment": environment,
                    "timeout": timeout,
                    "whole_exit": whole_exit,
                    "result": str(folder / "result"),
                    "stderr": str(folder / "stderr"),
                }
            )
            return _read(folder, os.waitstatus_to_exitcode(status))

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        content = pickle.dumps(request)
        self._process.stdin.write(struct.pack("<I", len(content)) + content)
        self._process.stdin.flush()
        answer = self._process.stdout.read(4)
        assert answer, "the process that runs functions under the host driver has ended"
        return int(struct.unpack("<i", answer)[0])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


def _read(folder: Path, status: int) -> Outcome:
    found = Outcome(status=status)
    for name in ("result", "report", "stderr"):
        path = folder / name
        if not path.exists():
            continue
        if name == "result":
            result = pickle.loads(path.read_bytes())
            found.value, found.error = result["value"], result["error"]
        elif name == "stderr":
            found.stderr = path.read_text(encoding="utf-8", errors="replace")
        else:
            for line in path.read_text(encoding="utf-8").splitlines():
                kind, text, *count = line.split("\t")
                if kind == "calls":
                    found.calls[text] = int(count[0])
                else:
                    (found.violations if kind == "violation" else found.leaks).append(text)
    return found


def pycuda_site() -> Path | None:
    """Where build_pycuda.py put pycuda: $VIDGEN_PYCUDA, or ``pycuda`` in the virtual environment; None if nowhere."""
    for folder in (os.environ.get("VIDGEN_PYCUDA"), Path(sys.prefix) / "pycuda"):
        if folder and (Path(folder) / "site" / "pycuda").is_dir():
            return Path(folder) / "site"
    return None


def libraries() -> list[Any]:
    """The CUDA libraries for Python, as parameters of a test: what is not installed is skipped."""
    pycuda = pycuda_site() is not None or importlib.util.find_spec("pycuda") is not None
    bindings = importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None
    why_pycuda = "pycuda is not built: python tests/host_cuda/build_pycuda.py FOLDER, and VIDGEN_PYCUDA=FOLDER"
    return [
        pytest.param("pycuda", marks=pytest.mark.skipif(not pycuda, reason=why_pycuda)),
        pytest.param("cuda-python", marks=pytest.mark.skipif(not bindings, reason="cuda-bindings is not installed")),
    ]


@pytest.fixture(scope="session")
def host_cuda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCuda]:
    """One driver, and one process that forks, for all tests of a session."""
    if reason := why_not():
        pytest.skip(reason)
    # Processes of one run share what is compiled.
    folder = tmp_path_factory.getbasetemp()
    runner = HostCuda((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "host_cuda")
    yield runner
    runner.close()
