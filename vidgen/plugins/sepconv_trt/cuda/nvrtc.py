"""NVRTC through ctypes: the compiler's shared library alone, from its wheel or an installed toolkit."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import BackendError, MissingDependencyError


@dataclass(frozen=True)
class Compilation:
    """What NVRTC made: a loadable image, the PTX it came from, and what the compiler said."""

    cubin: bytes
    ptx: str
    log: str


class Nvrtc:
    """The library, loaded. Make it with ``Nvrtc.load()``; it may be shared between threads."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    @classmethod
    def load(cls) -> Nvrtc:
        """Find and load NVRTC: the wheel first, then ``CUDA_HOME`` and what the system's loader knows.

        Raises:
            MissingDependencyError: it is nowhere, or does not load.
        """
        seen = "no libnvrtc in the wheels, under CUDA_HOME or on the loader's path"
        for candidate in _candidates():
            try:
                _preload_builtins(candidate)
                return cls(ctypes.CDLL(candidate))
            except OSError as error:
                seen = str(error)
        raise MissingDependencyError(
            "cannot load NVRTC, needed to compile CUDA kernels",
            seen=seen,
            cause="the CUDA run-time compiler is not installed",
            fix="pip install nvidia-cuda-nvrtc",
        )

    def architectures(self) -> list[str]:
        """What it compiles for, as ``sm_80``."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        return [f"sm_{number}" for number in numbers]

    def compile(self, text: str, name: str, options: Sequence[str]) -> Compilation:
        """Compile one program to a cubin.

        Args:
            name: what messages call the text. options: NVRTC's own, with a real architecture (``sm_89``).

        Raises:
            BackendError: the text, or an option, was refused; ``seen`` holds the compiler's last words.
        """
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._library.nvrtcCompileProgram(program, len(options), words)
            log = self._output(program, "ProgramLog").decode(errors="replace").rstrip("\0").strip()
            if status != 0:
                raise BackendError(
                    f"NVRTC {self.version[0]}.{self.version[1]} cannot compile {name}",
                    seen=log[-2000:] or self._reason(status),
                    cause="an architecture that this version does not know, or a kernel it does not take",
                    fix="pip install --upgrade nvidia-cuda-nvrtc",
                )
            ptx = self._output(program, "PTX").rstrip(b"\0").decode()
            return Compilation(self._output(program, "CUBIN"), ptx, log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _output(self, program: ctypes.c_void_p, kind: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{kind}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise BackendError(
                f"NVRTC failed in {function}",
                seen=self._reason(status),
                cause="an incomplete or mismatched installation of NVRTC",
                fix="pip install --force-reinstall nvidia-cuda-nvrtc",
            )

    def _reason(self, status: int) -> str:
        describe = self._library.nvrtcGetErrorString
        describe.restype = ctypes.c_char_p
        return bytes(describe(status)).decode()


def _candidates() -> Iterator[str]:
    """Paths and names to try, in order."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield from _libraries(root, "*/lib/libnvrtc.so*")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if toolkit := os.environ.get(variable):
            yield from _libraries(toolkit, "lib64/libnvrtc.so*")
    known = ctypes.util.find_library("nvrtc")
    if known:
        yield known


def _libraries(root: str, pattern: str) -> list[str]:
    # Newest first where several lie side by side.
    return [str(path) for path in sorted(Path(root).glob(pattern), reverse=True) if path.is_file()]


def _preload_builtins(library: str) -> None:
    """NVRTC opens its companion by bare name, which only finds it in a wheel if it is already loaded."""
    for path in Path(library).parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(path))
