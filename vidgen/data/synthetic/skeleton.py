"""A jointed figure in space: forward kinematics from joint angles, feet on the floor, and the view of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.curves import Curve, Curves

#: [T, 3] points or [T, 3, 3] rotations. Axes of the figure: x to its left, y down, z forwards.
Points: TypeAlias = npt.NDArray[np.floating[Any]]

#: How far a point that is one unit nearer to the viewer appears lower: the camera looks down a little.
_DEPTH_DROP = 0.13


class Pose(Curves):
    """Joint angles in radians and shifts in leg lengths, each float32 [T].

    Channels, with ``left`` and ``right`` of the figure itself:
        ``hip_*``, ``shoulder_*``: flexion, 0 hangs down, positive forwards.
        ``spread_*``, ``raise_*``: leg and arm away from the body's side.
        ``knee_*``, ``elbow_*``: flexion, 0 is straight.
        ``turn_*``: the upper arm about its own axis: 0 bends the elbow forwards, pi/2 upwards when raised.
        ``ankle_*``: toes up.
        ``lean``, ``bend``, ``twist``: the trunk forwards, to its left, and the shoulders to its left.
        ``pelvis_twist``, ``nod``, ``look``: pelvis about the vertical, head down and to its left.
        ``shift_x``, ``shift_z``: of the root; ``air``: height above the floor of the lowest foot.
    """


@dataclass(frozen=True)
class Build:
    """Proportions of a figure; lengths as shares of its height.

    Attributes:
        height: in canvas units.
        shoulders, hips: half widths.
        girth: multiplies the thickness of limbs.
        belly: half thickness of the trunk at the waist, seen from the side.
        head: half height of the head.
        legs: length of a leg.
    """

    height: float
    shoulders: float
    hips: float
    girth: float
    belly: float
    head: float
    legs: float


@dataclass(frozen=True)
class Joints:
    """Positions in the picture: x, y and depth towards the viewer in canvas units, each [T, 3].

    Attributes:
        points: by name: pelvis, waist, neck, head, and with ``_left`` / ``_right`` of the figure: hip, knee,
            ankle, toe, shoulder, elbow, wrist, hand.
        head_rotation: [T, 3, 3], from the head's own axes to the picture's.
    """

    points: dict[str, Points]
    head_rotation: Points

    def frames(self, block: slice) -> Joints:
        """The joints of some of the frames."""
        points = {name: place[block] for name, place in self.points.items()}
        return Joints(points, self.head_rotation[block])


def _rotation(axis: int, angle: Curve | float, like: Curve) -> Points:
    """About x: down turns forwards; about y: forwards turns left; about z: down turns left."""
    cos = np.cos(np.broadcast_to(np.asarray(angle, np.float32), like.shape))
    sin = np.sin(np.broadcast_to(np.asarray(angle, np.float32), like.shape))
    matrix = np.zeros((*like.shape, 3, 3), np.float32)
    first, second = {0: (1, 2), 1: (2, 0), 2: (1, 0)}[axis]
    matrix[:, axis, axis] = 1.0
    matrix[:, first, first] = cos
    matrix[:, second, first] = sin
    matrix[:, first, second] = -sin
    matrix[:, second, second] = cos
    return matrix


def _along(rotation: Points, x: float, y: float, z: float) -> Points:
    return rotation @ np.array([x, y, z], np.float32)


def joints(pose: Pose, build: Build, facing: float, floor: float, anchor: str) -> Joints:
    """Place every joint in the picture.

    Args:
        facing: direction that the figure faces, 0 to the viewer, positive to the viewer's right.
        floor: y coordinate of the floor under the figure.
        anchor: what does not slide: ``none``, ``left``, ``right`` or ``both`` (feet).
    """
    height = build.height
    points, head_rotation = _figure(pose, build)
    points = {name: place * height for name, place in points.items()}
    _stand(points, pose, build, anchor)
    view = _rotation(1, facing, pose.times)
    placed = {}
    for name, place in points.items():
        turned = np.einsum("tij,tj->ti", view, place)
        turned[:, 1] += floor + _DEPTH_DROP * turned[:, 2]
        placed[name] = np.asarray(turned, np.float32)
    return Joints(placed, view @ head_rotation)


def _figure(pose: Pose, build: Build) -> tuple[dict[str, Points], Points]:
    times = pose.times
    pelvis = _rotation(1, pose["pelvis_twist"], times) @ _rotation(0, -0.35 * pose["lean"], times)
    pelvis = pelvis @ _rotation(2, -0.3 * pose["bend"], times)
    trunk = pelvis @ _rotation(1, pose["twist"] - pose["pelvis_twist"], times)
    trunk = trunk @ _rotation(2, -0.7 * pose["bend"], times) @ _rotation(0, -0.65 * pose["lean"], times)
    head = trunk @ _rotation(1, pose["look"], times) @ _rotation(0, -pose["nod"], times)
    spine = 1.0 - build.legs - 2.0 * build.head - 0.035
    root = np.zeros((*times.shape, 3), np.float32)
    points = {"pelvis": root, "waist": root + _along(pelvis, 0, -0.3 * spine, 0)}
    points["neck"] = points["waist"] + _along(trunk, 0, -0.7 * spine, 0)
    points["head"] = points["neck"] + _along(head, 0, -0.035 - build.head, 0.012)
    for name, side in (("left", 1.0), ("right", -1.0)):
        _leg(points, pose, build, pelvis, name, side)
        _arm(points, pose, build, trunk, name, side)
    return points, head


def _leg(points: dict[str, Points], pose: Pose, build: Build, pelvis: Points, name: str, side: float) -> None:
    times, half = pose.times, 0.5 * (build.legs - 0.035)
    # Legs hang from the pelvis but are not carried along by its tilt.
    upright = _rotation(1, 0.6 * pose["pelvis_twist"], times)
    upper = upright @ _rotation(2, side * pose[f"spread_{name}"], times) @ _rotation(0, pose[f"hip_{name}"], times)
    lower = upper @ _rotation(0, -pose[f"knee_{name}"], times)
    foot = lower @ _rotation(0, pose[f"ankle_{name}"], times)
    points[f"hip_{name}"] = points["pelvis"] + _along(pelvis, side * build.hips, 0.01, 0)
    points[f"knee_{name}"] = points[f"hip_{name}"] + _along(upper, 0, half, 0)
    points[f"ankle_{name}"] = points[f"knee_{name}"] + _along(lower, 0, half, 0)
    points[f"toe_{name}"] = points[f"ankle_{name}"] + _along(foot, side * 0.012, 0.018, 0.085)


def _arm(points: dict[str, Points], pose: Pose, build: Build, trunk: Points, name: str, side: float) -> None:
    times = pose.times
    upper = trunk @ _rotation(2, side * pose[f"raise_{name}"], times)
    upper = upper @ _rotation(0, pose[f"shoulder_{name}"], times)
    upper = upper @ _rotation(1, side * pose[f"turn_{name}"], times)
    lower = upper @ _rotation(0, pose[f"elbow_{name}"], times)
    # A raised arm lifts its shoulder.
    lift = 0.03 * np.clip(pose[f"raise_{name}"] / np.pi, 0.0, 1.0)[:, None]
    shoulder = points["neck"] + _along(trunk, side * build.shoulders, 0.035, 0) - _along(trunk, 0, 1, 0) * lift
    points[f"shoulder_{name}"] = np.asarray(shoulder, np.float32)
    points[f"elbow_{name}"] = points[f"shoulder_{name}"] + _along(upper, 0, 0.165, 0)
    points[f"wrist_{name}"] = points[f"elbow_{name}"] + _along(lower, 0, 0.135, 0)
    points[f"hand_{name}"] = points[f"wrist_{name}"] + _along(lower, 0, 0.035, 0)


def _stand(points: dict[str, Points], pose: Pose, build: Build, anchor: str) -> None:
    """Put the lowest foot on the floor (y = 0) and keep the anchored feet where they are at rest."""
    sole = 0.02 * build.height
    feet = np.stack([points[f"{part}_{side}"][:, 1] for part in ("ankle", "toe") for side in ("left", "right")])
    feet[:2] += sole
    feet[2:] += 0.55 * sole
    # A soft maximum: the weight passes from foot to foot without a jolt.
    sharp = 40.0 / build.height
    top = feet.max(axis=0)
    lowest = top + np.log(np.exp((feet - top) * sharp).mean(axis=0)) / sharp
    unit = build.legs * build.height
    shift = np.zeros_like(points["pelvis"])
    shift[:, 0] = pose["shift_x"] * unit
    shift[:, 1] = -lowest - pose["air"] * unit
    shift[:, 2] = pose["shift_z"] * unit
    sides = {"none": (), "both": ("left", "right")}.get(anchor, (anchor,))
    for side in sides:
        rest = build.hips * build.height * (1.0 if side == "left" else -1.0)
        shift[:, 0] -= (points[f"ankle_{side}"][:, 0] - rest) / len(sides)
        shift[:, 2] -= points[f"ankle_{side}"][:, 2] / len(sides)
    for name in points:
        points[name] = points[name] + shift
