"""TensorRT in its two libraries, ``tensorrt`` (10.12 to 11) and ``tensorrt_rtx``, and every difference between them."""

from __future__ import annotations

import ctypes
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

from vidgen._imports import require
from vidgen.errors import BackendError, MissingDependencyError, SettingsError, VidgenError

#: Name of a library -> the module that it is in.
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
#: The oldest version of each that works: strongly typed networks with their present API, targets without a GPU.
OLDEST = {"tensorrt": (10, 12), "tensorrt-rtx": (1, 2)}
#: Architectures of GPUs that some TensorRT of these versions builds for; those of TensorRT-RTX are known to it.
ARCHITECTURES = (
    "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121",
)  # fmt: skip
#: The GPU of the machine that builds.
CURRENT = "current"
#: What an engine is built for where nothing is said and there is no GPU: Ampere, Ada and Blackwell cards.
USUAL = ("sm_86", "sm_89", "sm_120")
BUILDERS = ("auto", *MODULES)

#: Options of an engine that TensorRT-RTX does not have -> why, and what to do instead.
_NOT_IN_RTX = {
    "timing_cache": (
        "it times nothing while it builds: kernels are compiled on the GPU that runs them",
        "leave --timing-cache out",
    ),
    "hardware_compatibility_level": (
        "an engine holds kernels for each architecture that is named",
        "leave it out and name them: --gpu sm_86,sm_89,sm_120",
    ),
    "version_compatible": (
        "its engines run in the version that built them, and it has no lean runtime",
        "leave --version-compatible out, and build again after an update",
    ),
}
#: And those that it has only where there is a GPU.
_NEEDS_GPU_IN_RTX = ("strip_plan", "refit")

Listen = Callable[[str, str], None]
Step = Callable[[str, str, int | None, int], bool]


@dataclass(frozen=True)
class TensorRT:
    """One of the two libraries, loaded.

    Attributes:
        module: the Python module. name: ``tensorrt`` or ``tensorrt-rtx``. version: as numbers, e.g. ``(1, 7, 1, 116)``.
    """

    module: Any
    name: str
    version: tuple[int, ...]

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return self.name == "tensorrt-rtx"

    @property
    def version_text(self) -> str:
        """As ``"1.7.1.116"``."""
        return ".".join(map(str, self.version))

    @property
    def targets(self) -> tuple[str, ...]:
        """Architectures that it builds for without a GPU; none for classic TensorRT."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        found = (re.fullmatch(r"SM(\d+)", name) for name in members)
        return tuple(f"sm_{match[1]}" for match in found if match)

    def network_flags(self, *, embed_plugins: bool = False) -> int:
        """Flags of ``Builder.create_network``: types are those of the graph, nothing is left to the builder.

        Args:
            embed_plugins: compile quick-deploy plugins into the engine (classic TensorRT).
        """
        kinds = self.module.NetworkDefinitionCreationFlag
        flags = 1 << int(kinds.STRONGLY_TYPED)
        if embed_plugins:
            flags |= 1 << int(kinds.PREFER_AOT_PYTHON_PLUGINS)
        return flags

    def set_targets(self, config: Any, gpu: Sequence[str]) -> None:
        """Tell a builder configuration the architectures; classic TensorRT builds for the GPU that it finds."""
        if not self.is_rtx:
            return
        kinds = self.module.ComputeCapability
        config.num_compute_capabilities = len(gpu)
        for index, name in enumerate(gpu):
            kind = kinds.CURRENT if name == CURRENT else kinds.__members__[name.replace("sm_", "SM")]
            config.set_compute_capability(kind, index)

    def check_options(self, asked: Mapping[str, object], *, device: str | None) -> None:
        """Raise where an option was asked for that the library lacks.

        Args:
            asked: option of :class:`vidgen.export.engine.EngineSettings` -> its value, empty where it was left out.
            device: architecture of the GPU of this machine, None without one.

        Raises:
            SettingsError: the library does not have an option, or not on this machine.
        """
        if not self.is_rtx:
            return
        for option, value in asked.items():
            if not value:
                continue
            spelled = f"--{option.replace('_', '-')}"
            if option in _NOT_IN_RTX:
                cause, fix = _NOT_IN_RTX[option]
                seen = f"{spelled}, which tensorrt-rtx {self.version_text} does not have"
                raise SettingsError("cannot build the engine with tensorrt-rtx", seen=seen, cause=cause, fix=fix)
            if option in _NEEDS_GPU_IN_RTX and device is None:
                raise SettingsError(
                    "cannot build the engine with tensorrt-rtx",
                    seen=f"{spelled} on a machine without a GPU",
                    cause=f"tensorrt-rtx {self.version_text} compiles engines whose weights change on a GPU",
                    fix=f"leave {spelled} out, or build on a machine with a GPU",
                )

    def logger(self, listen: Listen) -> Any:
        """An ILogger that hands (severity, message) on and prints nothing; severities as ``"ERROR"``.

        It lives as long as the process. Of a ``listen`` that is a method, the object does not: it hears until it is
        gone.
        """
        base = self.module.ILogger
        method = isinstance(listen, MethodType)
        found: Callable[[], Listen | None] = weakref.WeakMethod(listen) if method else lambda: listen

        def log(_: Any, severity: Any, message: str) -> None:
            heard = found()
            if heard is not None:
                heard(severity.name, message)

        logger = _made("Logger", base, {"log": log})
        # TensorRT's registry of plugins goes on logging to the logger of a builder that is gone, so it must never be
        # freed: one reference more than there are owners.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(logger))
        return logger

    def progress_monitor(self, step: Step) -> Any:
        """An IProgressMonitor that calls ``step(event, phase, steps, index)``; False ends the build.

        Args:
            step: called with ("start", phase, number of steps, 0), ("step", phase, None, index) and ("finish", phase,
                None, 0), from whatever thread the builder likes; its answer counts for "step".
        """
        base = self.module.IProgressMonitor

        def phase_start(_: Any, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            step("start", phase_name, num_steps, 0)

        def phase_finish(_: Any, phase_name: str) -> None:
            step("finish", phase_name, None, 0)

        def step_complete(_: Any, phase_name: str, step_index: int) -> bool:
            return step("step", phase_name, None, step_index)

        methods = {"phase_start": phase_start, "phase_finish": phase_finish, "step_complete": step_complete}
        return _made("ProgressMonitor", base, methods)

    def dtype(self, kind: Any) -> str:
        """NumPy's name of a TensorRT type, e.g. ``"float32"``; TensorRT's own in lower case where NumPy has none."""
        known = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
        name = str(kind.name)
        return known.get(name, name.lower())


def _made(name: str, base: Any, methods: dict[str, Any]) -> Any:
    """An object of a class that is made here, since its base is known only when it runs."""

    def start(self: Any) -> None:
        # TensorRT's bases must be started by name; super() leaves them without their C++ half.
        base.__init__(self)

    return type(name, (base,), {"__init__": start, **methods})()


def load_tensorrt(name: str, purpose: str) -> TensorRT:
    """Load a library.

    Args:
        name: ``tensorrt`` or ``tensorrt-rtx``. purpose: what for, as the end of a sentence: ``"build engines"``.

    Raises:
        MissingDependencyError: it is not installed, or does not load.
        BackendError: only its bindings are installed, or it is too old.
    """
    if name not in MODULES:
        raise SettingsError(
            f"cannot {purpose}",
            seen=f"library {name!r}, expected {' or '.join(MODULES)}",
            cause="a typing error",
            fix="use tensorrt or tensorrt-rtx",
        )
    module = require(MODULES[name], purpose)
    text = str(getattr(module, "__version__", ""))
    # Folders called tensorrt, and bindings without the library, import without an error.
    if not hasattr(module, "Builder") or not hasattr(module, "OnnxParser"):
        raise BackendError(
            f"cannot {purpose} with {name}",
            seen=f"module {module.__name__} {text} without a builder",
            cause="its bindings are installed without the library itself",
            fix=f"pip install --force-reinstall {name}",
        )
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:4])
    if version < OLDEST[name]:
        least = ".".join(map(str, OLDEST[name]))
        raise BackendError(
            f"cannot {purpose} with {name}",
            seen=f"version {text or 'unknown'}, expected {least} or later",
            cause="an old installation",
            fix=f"pip install -U '{name}>={least}'",
        )
    return TensorRT(module, name, version)


def device_architecture() -> str | None:
    """The architecture of the first GPU that CUDA shows on this machine, such as ``sm_89``; None without one."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    # CUdevice_attribute 75 and 76: compute capability.
    steps: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),
    )
    if any(step() for step in steps):
        return None
    return f"sm_{major.value}{minor.value}"


def choose_builder(asked: str, gpu: Sequence[str]) -> tuple[str, str]:
    """The library that builds an engine, and why.

    ``auto`` takes classic TensorRT where it is installed whole, there is a GPU, and the engine is for that GPU;
    TensorRT-RTX otherwise.

    Args:
        asked: ``auto``, ``tensorrt`` or ``tensorrt-rtx``. gpu: architectures such as ``sm_89``, or ``current``.

    Raises:
        SettingsError: no builder here builds for these architectures.
        MissingDependencyError: the library is not installed.
        BackendError: it is not installed whole, or is too old.
    """
    if asked not in BUILDERS:
        raise SettingsError(
            "cannot build an engine",
            seen=f"--builder {asked}, expected {', '.join(BUILDERS)}",
            cause="a typing error",
            fix="leave --builder out",
        )
    device = device_architecture()
    if device is None and CURRENT in gpu:
        raise SettingsError(
            "cannot build an engine for the GPU of this machine",
            seen="--gpu current, and CUDA shows no GPU",
            cause="there is none, or its driver is not installed (vidgen doctor)",
            fix=f"name the architectures: --gpu {','.join(USUAL)}",
        )
    if asked == "tensorrt":
        return _classic(gpu, device)
    try:
        if asked == "auto":
            return _classic(gpu, device)
    except VidgenError as error:
        # Only the reason is wanted: the other library is tried next.
        return _rtx(gpu, device, f"not tensorrt: {error.seen}")
    return _rtx(gpu, device, "it was asked for")


def _classic(gpu: Sequence[str], device: str | None) -> tuple[str, str]:
    others = [name for name in gpu if name not in (CURRENT, device)]
    if device is None or others:
        here = f"this machine has {'no GPU' if device is None else f'a GPU of {device}'}"
        raise SettingsError(
            f"cannot build an engine for {', '.join(gpu)} with tensorrt",
            seen=f"it builds for the GPU it runs on, and {here}",
            cause="classic TensorRT times kernels on the GPU itself",
            fix="use --builder tensorrt-rtx" + ("" if device is None else ", or --gpu current"),
        )
    library = load_tensorrt("tensorrt", "build engines")
    return library.name, f"{library.version_text} is installed, and the engine is for the {device} GPU of this machine"


def _rtx(gpu: Sequence[str], device: str | None, reason: str) -> tuple[str, str]:
    wanted = [device if name == CURRENT and device else name for name in gpu]
    try:
        library = load_tensorrt("tensorrt-rtx", "build engines")
    except (MissingDependencyError, BackendError) as error:
        raise type(error)(error.what, seen=error.seen, cause=f"{error.cause}; {reason}", fix=error.fix) from error
    refused = [name for name in wanted if name not in library.targets]
    if refused:
        raise SettingsError(
            f"cannot build an engine for {', '.join(refused)} here",
            seen=f"tensorrt-rtx {library.version_text} builds for {', '.join(library.targets)}; {reason}",
            cause="GPUs of data centres and others are for classic TensorRT, which builds where such a GPU is",
            fix="on a machine with that GPU: pip install 'vidgen[gpu]', and export there with --gpu current",
        )
    return library.name, f"{library.version_text} builds for {', '.join(wanted)} on any machine; {reason}"
