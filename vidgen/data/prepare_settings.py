"""The settings of ``vidgen data prepare``, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vidgen.data.layouts import LAYOUTS
from vidgen.data.transform import parse_crop
from vidgen.errors import SettingsError


@dataclass(frozen=True)
class PrepareSettings:
    """How to make a clip store.

    Args:
        source: a folder, or one file.
        out: folder of the store.
        layout: ``auto``, ``videos`` (files that PyAV reads, in folders of any depth), ``frames`` (one folder of
            images a clip, sorted by name as text), ``strips`` (one image a clip), or ``module:class``.
        size: pixels of a side of the square frames.
        crop: ``center`` (the largest square), ``none`` (both sides are resized, as G3AN does), or a box
            ``x,y,w,h`` in pixels of the source.
        window: frames of a clip; None to keep each source whole.
        window_stride: frames from one window to the next; None for ``window``.
        frame_step: take each n-th frame.
        fps: frames a second, before ``frame_step``. Videos are resampled to it by their timestamps; to images,
            which have none, it is attached (default 25).
        resample: ``auto``: also resample videos of varying rate to an even one; ``never``: take frames as they
            come, ``fps`` only says what the rate is.
        strip_size: pixels of a frame in an image strip; None to infer it.
        labels: ``none``, or ``folder``: the first folder below ``source`` names the class.
        name: name of the data set; None for that of ``source``.
        strict: end at the first source that cannot be used, instead of skipping it.
        overwrite: replace a clip store at ``out``.
        min_frames: shorter sources are skipped; with ``window``, those shorter than a window.
        max_frames: longer sources are skipped.
        max_pixels: sources with larger frames are skipped.
        workers: decoding processes; 0 for one a processor.
        timeout: seconds without a frame after which a decoder is given up.
        memory_mib: address space of a decoding process in MiB.

    Raises:
        SettingsError: a value, or a combination of them, is not acceptable.
    """

    source: Path
    out: Path
    layout: str = "auto"
    size: int = 64
    crop: str = "center"
    window: int | None = None
    window_stride: int | None = None
    frame_step: int = 1
    fps: float | None = None
    resample: str = "auto"
    strip_size: int | None = None
    labels: str = "none"
    name: str | None = None
    strict: bool = False
    overwrite: bool = False
    min_frames: int = 16
    max_frames: int = 100_000
    max_pixels: int = 1 << 25
    workers: int = 0
    timeout: float = 60.0
    memory_mib: int = 4096

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", Path(self.source))
        object.__setattr__(self, "out", Path(self.out))
        for key, least in _LEAST.items():
            value = getattr(self, key)
            if value is None and key in _OPTIONAL:
                continue
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole or key == "timeout") or not value >= least:
                raise _unacceptable(key, value, f"a whole number of {least} or more")
        if not math.isfinite(self.timeout):
            raise _unacceptable("timeout", self.timeout, "finite")
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise _unacceptable(key, getattr(self, key), " or ".join(choices))
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise _unacceptable("fps", self.fps, "above 0")
        if self.window_stride is not None and self.window is None:
            raise _unacceptable("window_stride", self.window_stride, "unset without --window")
        parse_crop(self.crop)
        if self.layout not in ("auto", *LAYOUTS) and ":" not in self.layout:
            raise _unacceptable("layout", self.layout, f"one of auto, {', '.join(LAYOUTS)}")
        source, out = self.source.resolve(), self.out.resolve()
        if out == source or out in source.parents:
            raise SettingsError(
                f"cannot write a clip store to {self.out}",
                seen=f"the source {self.source} lies there",
                cause="the store would replace its own source",
                fix="choose another output path",
            )


_OPTIONAL = ("window", "window_stride", "strip_size")
_LEAST = {
    "size": 1,
    "window": 1,
    "window_stride": 1,
    "frame_step": 1,
    "strip_size": 1,
    "min_frames": 1,
    "max_frames": 1,
    "max_pixels": 1,
    "workers": 0,
    "timeout": 1,
    "memory_mib": 512,
}
_CHOICES = {"resample": ("auto", "never"), "labels": ("none", "folder")}


def _unacceptable(key: str, value: object, expected: str) -> SettingsError:
    option = "--" + key.replace("_", "-")
    return SettingsError(
        f"{option} is not acceptable",
        seen=f"it is {value!r}, expected {expected}",
        cause="a mistyped value",
        fix=f"correct {option}",
    )
