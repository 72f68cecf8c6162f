"""Compiles kernel text with g++ and runs it in a child process: what misbehaves is a failed test with a message."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidgen.plugins.sepconv_trt.cuda.source import definitions, kernel_text
from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, SCALARS, Launch, Plan

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE")
#: For kernels: the checks trap (SIGILL) instead of calling a library that may not be installed.
KERNEL_FLAGS = (
    "-Wno-unknown-pragmas", "-ffp-contract=off",
    "-fsanitize=bounds-strict,alignment", "-fsanitize-undefined-trap-on-error",
)  # fmt: skip
RUNNER = ("run_kernel", "fibers", "half_on_cpu")


class EmulationError(AssertionError):
    """The kernel did something that a GPU would not forgive, or not tell."""


@dataclass
class Emulator:
    """Kernels compiled for the CPU, each kept for as long as the folder lives.

    Attributes:
        text: the kernel text, which a test may have altered.
    """

    folder: Path
    text: str = field(default_factory=lambda: kernel_text(device=False))

    def program(self, plan: Plan) -> Path:
        """The executable of one kernel.

        Raises:
            EmulationError: the text does not compile.
        """
        digest = hashlib.sha256("\n".join((self.text, *definitions(plan))).encode()).hexdigest()[:16]
        program = self.folder / f"{plan.entry}-{digest}"
        if not program.exists():
            source = self.folder / f"{digest}.cu"
            source.write_text(self.text, encoding="utf-8")
            macros = [*definitions(plan), f"-DKERNEL_ENTRY={plan.entry}", f'-DKERNEL_TEXT="{source}"']
            _compile([*KERNEL_FLAGS, *macros, str(HERE / "entry.cpp"), *self._runner(), "-o", str(program)])
        return program

    def _runner(self) -> list[str]:
        """Object files of all that is not the kernel, compiled once a folder."""
        objects = [self.folder / f"{name}.o" for name in RUNNER]
        for name, path in zip(RUNNER, objects, strict=True):
            if not path.exists():
                _compile(["-c", str(HERE / f"{name}.cpp"), "-o", str(path)])
        return [str(path) for path in objects]

    def run(
        self,
        launch: Launch,
        inputs: dict[str, np.ndarray],
        scalars: dict[str, int],
        outputs: dict[str, tuple[tuple[int, ...], np.dtype]],
    ) -> dict[str, np.ndarray]:
        """Run one launch in three thread orders.

        Args:
            inputs: by name, of the dtype the kernel reads (16-bit floats as uint16 or float16).
            outputs: shape and dtype by name.

        Raises:
            EmulationError: the child ended badly; the message is the child's.
        """
        tensors, results = ARGUMENTS[launch.plan.kernel]
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            words = [str(number) for number in (*launch.grid, *launch.block)]
            for tensor in tensors:
                (folder / tensor).write_bytes(np.ascontiguousarray(inputs[tensor]).tobytes())
                words.append(f"in:{tensor}:{folder / tensor}")
            words += [f"int:{scalars[scalar]}" for scalar in SCALARS]
            for result in results:
                shape, dtype = outputs[result]
                words.append(f"out:{result}:{folder / result}:{int(np.prod(shape)) * dtype.itemsize}")
            command = [str(self.program(launch.plan)), *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode:
                raise EmulationError(done.stderr.strip() or f"{launch.plan.entry} ended with {done.returncode}")
            return {
                result: np.frombuffer((folder / result).read_bytes(), dtype=outputs[result][1]).reshape(
                    outputs[result][0]
                )
                for result in results
            }


def _compile(arguments: list[str]) -> None:
    done = subprocess.run(["g++", *FLAGS, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"does not compile:\n{done.stderr[-4000:]}")


@functools.cache
def why_not() -> str | None:
    """Why kernels cannot be emulated here; None if they can."""
    return None if shutil.which("g++") else "g++ is not installed"
