"""How an engine is built, by TensorRT's own names; checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from vidgen.errors import SettingsError
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import EngineProfile
from vidgen.runtime.tensorrt_library import ARCHITECTURES, BUILDERS, CURRENT, USUAL, device_architecture

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
OPTIMIZATION_LEVELS = tuple(range(6))
#: Less than this serves no kernel of any network here.
LEAST_WORKSPACE = 2**20
#: More than any GPU has.
LARGEST_WORKSPACE = 2**40
_UNITS = {"": 1, "b": 1, **{unit: 1000**i for i, unit in enumerate(("kb", "mb", "gb", "tb"), 1)}}
_UNITS |= {unit: 1024**i for i, unit in enumerate(("kib", "mib", "gib", "tib"), 1)}


@dataclass(frozen=True)
class EngineSettings:
    """How one engine is built.

    Attributes:
        gpu: architectures that it is for, such as ``("sm_86", "sm_89")``, or ``("current",)``: the GPU of this machine.
        builder: ``auto``, ``tensorrt`` or ``tensorrt-rtx``.
        profiles: ranges of batch and of the motion latent's length that it runs; at least one to build.
        workspace: bytes of device memory that its kernels may use beside weights and tensors; no limit when None.
        builder_optimization_level: 0 (builds fast) to 5 (searches long); TensorRT's own, 3, when None.
        timing_cache: file that timings of kernels are kept in from build to build.
        version_compatible: the engine runs in later versions of TensorRT too.
        hardware_compatibility_level: ``ampere_plus`` or ``same_compute_capability``: it runs on other GPUs too.
        weight_streaming: weights may be kept in host memory while it runs.
        strip_plan: weights are left out of the file, and refitted from the ONNX file.
        refit: weights may be replaced afterwards.
        tf32: float32 convolutions and products may be computed with 10-bit mantissas, on GPUs that have it.
        plugin_library: file of the separable convolution's plugin in C++, where the engine uses that form.

    Raises:
        SettingsError: a value is out of range, or two do not go together.
    """

    gpu: tuple[str, ...] = (CURRENT,)
    builder: str = "auto"
    profiles: tuple[EngineProfile, ...] = ()
    workspace: int | None = None
    builder_optimization_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility_level: str | None = None
    weight_streaming: bool = False
    strip_plan: bool = False
    refit: bool = False
    tf32: bool = False
    plugin_library: Path | None = None

    def __post_init__(self) -> None:
        _check_gpu(self.gpu)
        object.__setattr__(self, "gpu", tuple(self.gpu))
        object.__setattr__(self, "profiles", tuple(self.profiles))
        for name in ("timing_cache", "plugin_library"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        if self.builder not in BUILDERS:
            raise _bad("builder", self.builder, " or ".join(BUILDERS))
        level = self.builder_optimization_level
        if level is not None and (isinstance(level, bool) or level not in OPTIMIZATION_LEVELS):
            raise _bad("builder-optimization-level", level, "a whole number from 0 to 5")
        if self.workspace is not None and not LEAST_WORKSPACE <= self.workspace <= LARGEST_WORKSPACE:
            raise _bad("workspace", self.workspace, "1MiB to 1TiB, such as 2GiB")
        self._settle_compatibility()
        for profile in self.profiles:
            _check_profile(profile)
        if len(set(self.profiles)) < len(self.profiles):
            raise _bad("batch", "the same range twice", "each profile once")

    def _settle_compatibility(self) -> None:
        level = self.hardware_compatibility_level
        if level is None:
            return
        level = level.lower().replace("-", "_")
        if level not in HARDWARE_COMPATIBILITY:
            raise _bad("hardware-compatibility-level", level, " or ".join(HARDWARE_COMPATIBILITY))
        object.__setattr__(self, "hardware_compatibility_level", None if level == "none" else level)

    def optional(self) -> Mapping[str, object]:
        """Options that not every library has, and their values."""
        names = ("timing_cache", "version_compatible", "hardware_compatibility_level", "strip_plan", "refit")
        return {name: getattr(self, name) for name in names}

    def check_profiles(self, interface: ModelInterface) -> None:
        """Raise unless the profiles can be of a model.

        Raises:
            SettingsError: there is none, or one is for motion latents too short to make a frame.
        """
        if not self.profiles:
            raise _bad("batch", "no profile", "MIN:OPT:MAX, such as 1:16:64")
        for profile in self.profiles:
            if profile.length[0] < interface.frames.shortest:
                least = interface.frames.frames(interface.frames.shortest)
                frames = interface.frames.frames(profile.length[0])
                raise _bad("frames", frames, f"at least {least}: a shorter motion latent makes no frame")


def parse_gpu(text: str | None) -> tuple[str, ...]:
    """``"sm_86,sm_89"`` as architectures; None is the GPU of this machine, and where there is none the usual ones.

    Raises:
        SettingsError: an architecture is unknown, or named twice.
    """
    if text is None:
        return USUAL if device_architecture() is None else (CURRENT,)
    names = tuple(name.strip().lower() for name in text.split(","))
    _check_gpu(names)
    return names


def parse_workspace(text: str) -> int:
    """``"2GiB"``, ``"512MB"`` or a number of bytes, as bytes.

    Raises:
        SettingsError: not a size, or less than 1 MiB.
    """
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise _bad("workspace", text, "a size, such as 2GiB, 512MiB or 1.5GB")
    size = int(Decimal(match[1]) * _UNITS[match[2]])
    if not LEAST_WORKSPACE <= size <= LARGEST_WORKSPACE:
        raise _bad("workspace", text, "1MiB to 1TiB, such as 2GiB")
    return size


def _check_gpu(names: tuple[str, ...]) -> None:
    known = (*ARCHITECTURES, CURRENT)
    for name in names:
        if name not in known:
            raise _bad("gpu", name or "an empty name", ", ".join(known))
    if not names:
        raise _bad("gpu", "nothing", ", ".join(known))
    if len(set(names)) < len(names):
        raise _bad("gpu", ",".join(names), "each architecture once")
    if CURRENT in names and len(names) > 1:
        raise _bad("gpu", ",".join(names), f"{CURRENT} alone, or architectures by name")


def _check_profile(profile: EngineProfile) -> None:
    for option, sizes in (("batch", profile.batch), ("frames", profile.length)):
        whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
        if len(sizes) != 3 or not whole or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            shown = ":".join(map(str, sizes))
            raise _bad(option, shown, "MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX")


def _bad(option: str, value: object, expected: str) -> SettingsError:
    return SettingsError(
        "cannot build an engine",
        seen=f"--{option} {value}, expected {expected}",
        cause="a typing error, or a value that TensorRT does not have",
        fix=f"use --{option} with {expected}",
    )
