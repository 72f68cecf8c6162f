"""The settings of ``vidgen data prepare``, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vidgen.data.layouts import LAYOUTS
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS
from vidgen.data.transform import Crop, parse_crop
from vidgen.errors import SettingsError


@dataclass(frozen=True)
class PrepareSettings:
    """How to make a clip store.

    Args:
        source: a folder, or one file.
        out: folder of the store.
        layout: ``auto``, ``videos`` (files that PyAV reads, in folders of any depth), ``frames`` (one folder of
            images a clip, sorted by name as text), ``strips`` (one image a clip), ``voxceleb`` (videos or frame
            folders in a folder a speaker), ``weizmann``, ``mug``, ``mug2``, ``synaction`` (TwoStreamVAN's arrays,
            see ``reference_layouts``), or ``module:class``.
        size: pixels of a side of the square frames. For TwoStreamVAN's arrays with crop ``auto``: of the frames
            that will be trained on.
        crop: ``center`` (the largest square), ``none`` (both sides are resized, as G3AN does), or a box
            ``x,y,w,h`` in pixels of the source. ``auto`` is ``center``, but for TwoStreamVAN's arrays: these are
            stored at their own size with the data set's crop rule, which training applies anew each time.
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
        video_length: frames of a training clip (T), by which TwoStreamVAN's data sets leave out short videos. This
            and what follows is for their arrays alone.
        every_nth: step of their actions that have no step of their own; None for the reference's (2, MUG 1).
        split: ``all`` (each clip says which it belongs to), ``train`` or ``test``.
        miniclip: cut each training video of Weizmann into 20 windows.
        lists: text lists of the clips to take, instead of the data set's rule; their names say the split.
        write_lists: folder to write the lists of the clips taken to.

    Raises:
        SettingsError: a value, or a combination of them, is not acceptable.
    """

    source: Path
    out: Path
    layout: str = "auto"
    size: int = 64
    crop: str = "auto"
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
    video_length: int = 10
    every_nth: int | None = None
    split: str = "all"
    miniclip: bool = False
    lists: tuple[Path, ...] = ()
    write_lists: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", Path(self.source))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "lists", tuple(Path(path) for path in self.lists))
        if self.write_lists is not None:
            object.__setattr__(self, "write_lists", Path(self.write_lists))
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
        self._check_layout()
        source, out = self.source.resolve(), self.out.resolve()
        if out == source or out in source.parents:
            raise SettingsError(
                f"cannot write a clip store to {self.out}",
                seen=f"the source {self.source} lies there",
                cause="the store would replace its own source",
                fix="choose another output path",
            )

    @property
    def media_crop(self) -> Crop:
        """What is cut out of frames that are stored at ``size``."""
        return parse_crop("center" if self.crop == "auto" else self.crop)

    def _check_layout(self) -> None:
        """Refuse an unknown layout, and options that are for another kind of layout than this one."""
        assert self.media_crop
        known = ("auto", *LAYOUTS, *REFERENCE_LAYOUTS)
        if self.layout not in known and ":" not in self.layout:
            raise _unacceptable("layout", self.layout, f"one of {', '.join(known)}")
        reference = self.layout in REFERENCE_LAYOUTS
        for key in _MEDIA_ONLY if reference else _REFERENCE_ONLY:
            value = getattr(self, key)
            if value != type(self).__dataclass_fields__[key].default:
                fitting = "videos, frames, strips or voxceleb" if reference else ", ".join(REFERENCE_LAYOUTS)
                raise _unacceptable(key, value, f"unset, as it is for the layouts {fitting}, not {self.layout}")
        if self.miniclip and (self.layout != "weizmann" or self.lists):
            raise _unacceptable("miniclip", True, "unset without --layout weizmann, and beside --list")


_MEDIA_ONLY = ("window", "window_stride", "frame_step", "resample", "strip_size", "labels", "min_frames")
_REFERENCE_ONLY = ("video_length", "every_nth", "split", "miniclip", "lists", "write_lists")
_OPTIONAL = ("window", "window_stride", "strip_size", "every_nth")
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
    "video_length": 1,
    "every_nth": 1,
}
_CHOICES = {"resample": ("auto", "never"), "labels": ("none", "folder"), "split": ("all", "train", "test")}


def _unacceptable(key: str, value: object, expected: str) -> SettingsError:
    option = "--list" if key == "lists" else "--" + key.replace("_", "-")
    return SettingsError(
        f"{option} is not acceptable",
        seen=f"it is {value!r}, expected {expected}",
        cause="a mistyped value",
        fix=f"correct {option}",
    )
