"""Settings of the built-in data, checked before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vidgen.errors import SettingsError

#: Kinds that this package draws itself, and all kinds: ``mocap`` needs the extra of that name.
DRAWN_KINDS = ("faces", "actions")
KINDS = (*DRAWN_KINDS, "mocap")

#: Lowest and highest value of each setting that is a whole number.
LIMITS = {
    "clips": (1, 1_000_000),
    "frames": (1, 10_000),
    "size": (16, 512),
    "seed": (0, 2**63 - 1),
    "workers": (0, 256),
    "index": (0, 2**63 - 1),
}
_FPS = (1.0, 240.0)


@dataclass(frozen=True)
class SyntheticSettings:
    """Which clips to draw, and where to put them.

    The clips of two seeds have nothing in common but the style (and the actors of ``actions`` and ``mocap``, whose
    motions are the same captures), so a held-out set is the same command with another seed.

    Args:
        kind: ``faces``, ``actions``, or ``mocap`` (captured people, which needs pybullet).
        out: folder of the clip store.
        clips: number of clips; the first ones of a larger set are the smaller set.
        frames: frames of a clip; the first ones of a longer clip are the shorter clip.
        size: pixels of a side, 16 to 512.
        seed: 0 to 2**63 - 1.
        fps: frames a second of the drawn time, 1 to 240: a higher rate shows the same motion in finer steps.
        overwrite: replace a clip store that is there.
        workers: drawing processes; None or 0 for one a core. The clips do not depend on it.

    Raises:
        SettingsError: a value is not acceptable.
    """

    kind: str
    out: Path
    clips: int = 512
    frames: int = 32
    size: int = 64
    seed: int = 0
    fps: float = 25.0
    overwrite: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if str(self.out) in ("", "."):
            raise _refusal("out", self.out, "a folder to make", "name a folder, e.g. vidgen data synth faces")
        object.__setattr__(self, "out", Path(self.out))
        check_clip(self.kind, self.seed, 0, self.frames, self.size, self.fps)
        check_whole("clips", self.clips)
        if self.workers is not None:
            check_whole("workers", self.workers)


def check_clip(kind: str, seed: int, index: int, frames: int, size: int, fps: float) -> None:
    """Refuse what no clip can be drawn from.

    Raises:
        SettingsError: a value is not acceptable.
    """
    if kind not in KINDS:
        raise _refusal("kind", kind, f"one of {', '.join(KINDS)}", f"pass --kind {', --kind '.join(KINDS)}")
    for name, value in (("seed", seed), ("index", index), ("frames", frames), ("size", size)):
        check_whole(name, value)
    real = isinstance(fps, int | float) and not isinstance(fps, bool) and math.isfinite(fps)
    if not real or not _FPS[0] <= fps <= _FPS[1]:
        raise _refusal("fps", fps, f"a number from {_FPS[0]:g} to {_FPS[1]:g}", "pass for example --fps 25")


def check_whole(name: str, value: object) -> None:
    """Refuse what is not a whole number within the limits of ``name``.

    Raises:
        SettingsError: it is not.
    """
    low, high = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        fix = f"pass --{name} with such a number" if name != "index" else "pass such an index"
        raise _refusal(name, value, f"a whole number from {low} to {high}", fix)


def _refusal(name: str, value: object, expected: str, fix: str) -> SettingsError:
    return SettingsError(
        f"cannot draw clips with {name} {value}",
        seen=f"{value!r}, expected {expected}",
        cause="a typing error, or a value of another tool",
        fix=fix,
    )
