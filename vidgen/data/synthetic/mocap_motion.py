"""Motion captures of pybullet's humanoid: read, made endless, and looked up at any time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidgen.errors import DataError

Array = npt.NDArray[np.float64]

#: The named captures, in the order of their labels.
MOCAP_ACTIONS = (
    "walk", "run", "jump", "kick", "punch", "spinkick", "spin", "cartwheel", "backflip", "roll", "crawl", "dance_a",
    "dance_b", "getup_facedown", "getup_faceup",
)  # fmt: skip

#: The joints of a capture, with the first column and the kind of each: w, x, y, z or an angle about z.
_COLUMNS = {
    "root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_knee": 20, "right_ankle": 21, "right_shoulder": 25,
    "right_elbow": 29, "left_hip": 30, "left_knee": 34, "left_ankle": 35, "left_shoulder": 39, "left_elbow": 43,
}  # fmt: skip
_HINGES = ("right_knee", "right_elbow", "left_knee", "left_elbow")
JOINTS = tuple(_COLUMNS)
_ROW = 44

#: Share of a cyclic capture whose end is bent so that it meets the beginning.
_BEND = 0.3
#: Seconds to return from the last pose to the first, and to rest at each end of what is played back and forth.
_RETURN, _REST = 0.5, 0.3
#: Ends of a capture whose root differs by more metres in height cannot be joined: a person who got up stands.
_SAME_HEIGHT = 0.2
#: Seconds: the spread of the moments that the camera's place is the average of.
_FOLLOW = 0.35


@dataclass(frozen=True)
class Moments:
    """Poses at T moments.

    Attributes:
        root: float64 [T, 3], metres: x the way the actor starts facing, y up (0 is the floor), z to the right of
            it; x and z relative to where the camera looks.
        turns: float64 [T, 13, 4], unit quaternions w, x, y, z of ``JOINTS`` relative to the parent; the root's to
            the room.
    """

    root: Array
    turns: Array


@dataclass(frozen=True)
class Capture:
    """A motion that never ends.

    Attributes:
        times: float64 [K], seconds from 0, rising.
        root: float64 [K, 3], metres, relative to where the camera looks.
        turns: float64 [K, 13, 4].
        back_and_forth: whether it is played backwards after it was played forwards, with a rest at both ends;
            otherwise the last moment is the first again.
    """

    times: Array
    root: Array
    turns: Array
    back_and_forth: bool

    @property
    def length(self) -> float:
        """Seconds from the first to the last moment."""
        return float(self.times[-1])

    def start(self, share: float, seconds: float) -> float:
        """The moment to begin at, for a share from 0 to 1: anywhere in a cycle, else leaving ``seconds`` if it can."""
        return share * (max(0.0, self.length - seconds) if self.back_and_forth else self.length)

    def at(self, times: Array) -> Moments:
        """The poses at the given seconds, [T], any of them: spherically interpolated between captured ones."""
        if self.back_and_forth:
            leg = self.length + _REST
            along = np.mod(times, 2.0 * leg)
            moments = np.minimum(np.where(along < leg, along, 2.0 * leg - _REST - along).clip(0.0), self.length)
        else:
            moments = np.mod(times, self.length)
        after = np.clip(np.searchsorted(self.times, moments, side="right"), 1, len(self.times) - 1)
        before = after - 1
        share = ((moments - self.times[before]) / (self.times[after] - self.times[before])).clip(0.0, 1.0)
        root = self.root[before] + (self.root[after] - self.root[before]) * share[:, None]
        return Moments(root, slerp(self.turns[before], self.turns[after], share[:, None]))


def read_capture(path: Path) -> Capture:
    """Read a capture as pybullet's package ships it and make it endless.

    A capture that says it wraps is closed by bending its last third onto its first pose. One that does not, but ends
    as high as it began, returns to the first pose in half a second. What ends elsewhere (getting up) is played
    backwards after a rest, and so on.

    Raises:
        DataError: the file is not such a capture.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = np.asarray(content["Frames"], np.float64)
        wraps = content["Loop"] == "wrap"
        usable = rows.ndim == 2 and rows.shape[1] == _ROW and len(rows) > 1 and bool(np.isfinite(rows).all())
        usable = usable and bool((rows[:-1, 0] > 0.0).all())
        seen = f"rows of shape {rows.shape}, expected [2 or more, {_ROW}] finite numbers with rising times"
    except (OSError, ValueError, KeyError, TypeError) as error:
        usable, seen = False, f"{type(error).__name__}: {error}"
    if not usable:
        raise DataError(
            f"cannot read motion capture {path}",
            seen=seen,
            cause="another version of pybullet, or a damaged one",
            fix="pip install --force-reinstall 'vidgen[mocap]'",
        )
    times = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
    capture = Capture(times, rows[:, 1:4], _turns(rows), back_and_forth=False)
    if wraps:
        return _followed(_bent(capture))
    if abs(capture.root[-1, 1] - capture.root[0, 1]) < _SAME_HEIGHT:
        return _followed(_returning(capture))
    return _followed(replace(capture, back_and_forth=True))


def _turns(rows: Array) -> Array:
    """The joints' quaternions, [K, 13, 4], of equal signs from row to row."""
    turns = np.empty((len(rows), len(JOINTS), 4))
    for number, (name, column) in enumerate(_COLUMNS.items()):
        if name in _HINGES:
            half = 0.5 * rows[:, column]
            turns[:, number] = np.stack([np.cos(half), 0.0 * half, 0.0 * half, np.sin(half)], axis=-1)
        else:
            turns[:, number] = rows[:, column : column + 4]
    turns /= np.maximum(np.linalg.norm(turns, axis=-1, keepdims=True), 1e-9)
    steps = np.where((turns[1:] * turns[:-1]).sum(axis=-1) < 0.0, -1.0, 1.0)
    turns[1:] *= np.cumprod(steps, axis=0)[..., None]
    return turns


def _bent(capture: Capture) -> Capture:
    """The capture with its last part turned towards the first pose, reached at the end."""
    share = ease((capture.times / capture.length - (1.0 - _BEND)) / _BEND)
    error = multiply(capture.turns[:1], conjugate(capture.turns[-1:]))
    still = np.zeros_like(error)
    still[..., 0] = 1.0
    turns = multiply(slerp(still, error, share[:, None]), capture.turns)
    root = capture.root.copy()
    root[:, 1] += share * (root[0, 1] - root[-1, 1])
    return replace(capture, turns=turns, root=root)


def _returning(capture: Capture) -> Capture:
    """The capture with a way back from the last pose to the first, standing on the spot."""
    steps = np.linspace(0.0, 1.0, 13)[1:]
    turns = slerp(capture.turns[-1:], capture.turns[:1], ease(steps)[:, None])
    root = np.repeat(capture.root[-1:], len(steps), axis=0)
    root[:, 1] += ease(steps) * (capture.root[0, 1] - capture.root[-1, 1])
    return replace(
        capture,
        times=np.concatenate([capture.times, capture.length + _RETURN * steps]),
        root=np.concatenate([capture.root, root]),
        turns=np.concatenate([capture.turns, turns]),
    )


def _followed(capture: Capture) -> Capture:
    """The capture seen from a camera that goes along smoothly: its path is that of the root, averaged over time."""
    around = np.linspace(-3.0, 3.0, 61) * _FOLLOW
    weights = np.exp(-0.5 * (around / _FOLLOW) ** 2)
    weights /= weights.sum()
    root = capture.root.copy()
    for axis in (0, 2):
        path = capture.root[:, axis]
        camera = np.zeros(len(path))
        for shift, weight in zip(around, weights):
            moments = capture.times + shift
            # Each cycle goes on where the one before ended.
            cycles = np.zeros(len(path)) if capture.back_and_forth else np.floor(moments / capture.length)
            within = moments - cycles * capture.length
            camera += weight * (np.interp(within, capture.times, path) + cycles * (path[-1] - path[0]))
        root[:, axis] = path - camera
    return replace(capture, root=root)


def ease(share: Array) -> Array:
    """Smooth rise from 0 to 1."""
    limited = np.clip(share, 0.0, 1.0)
    return np.asarray(limited * limited * (3.0 - 2.0 * limited))


def multiply(first: Array, second: Array) -> Array:
    """Products of quaternions w, x, y, z, [..., 4]: the turn ``second``, then ``first``."""
    w, x, y, z = np.moveaxis(first, -1, 0)
    a, b, c, d = np.moveaxis(second, -1, 0)
    product = (
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    )
    return np.stack(product, axis=-1)


def conjugate(turns: Array) -> Array:
    """The opposite turns, [..., 4]."""
    return np.asarray(turns * np.array([1.0, -1.0, -1.0, -1.0]))


def rotate(turns: Array, vectors: Array) -> Array:
    """Vectors [..., 3] turned by quaternions [..., 4]; the leading dimensions broadcast."""
    axis = turns[..., 1:]
    across = 2.0 * np.cross(axis, vectors)
    return np.asarray(vectors + turns[..., :1] * across + np.cross(axis, across))


def slerp(first: Array, second: Array, share: Array) -> Array:
    """Spherical interpolation of quaternions [..., 4], the short way; ``share`` broadcasts to [...]."""
    dot = (first * second).sum(axis=-1)
    near = np.where(dot[..., None] < 0.0, -second, second)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    small = angle < 1e-4
    scale = np.where(small, 1.0, np.sin(np.where(small, 1.0, angle)))
    start = np.where(small, 1.0 - share, np.sin((1.0 - share) * angle) / scale)
    end = np.where(small, share + 0.0 * angle, np.sin(share * angle) / scale)
    mixed = start[..., None] * first + end[..., None] * near
    return np.asarray(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))
