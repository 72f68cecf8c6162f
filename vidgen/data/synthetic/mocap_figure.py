"""The body of an actor in space: the skeleton of the captures, and coloured solids on its joints."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.actors import Actor
from vidgen.data.synthetic.draws import rgb
from vidgen.data.synthetic.mocap_motion import JOINTS, Array, Moments, multiply, rotate
from vidgen.errors import DataError

#: Metres of a unit in the file of the skeleton.
_UNIT = 0.25
#: Height of an actor of natural scale, in the canvas units of ``Build.height``.
_HEIGHT = 1.43
_SIDES, _CAP = 10, 3
_EYES = "1d1a1c"


@dataclass(frozen=True)
class Solid:
    """A closed surface: float64 [V, 3] vertices in metres and unit normals, and three vertex numbers a triangle."""

    vertices: Array
    normals: Array
    triangles: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """What one colour covers of one joint.

    Attributes:
        joint: index into ``JOINTS``.
        colour: float32 [3], from 0 to 1.
        ends: float64 [2, 3], the ends of a segment inside, in the joint's axes; with ``radius`` for contact and shadow.
        radius: metres; 0 where another part stands for this one.
    """

    joint: int
    colour: npt.NDArray[np.float32]
    solid: Solid
    ends: Array
    radius: float


@dataclass(frozen=True)
class Placed:
    """Where the joints are at T moments: float64 [T, 13, 3] metres and [T, 13, 4] quaternions to the room."""

    points: Array
    turns: Array

    def ends(self, part: Part) -> Array:
        """The ends of a part's segment, [T, 2, 3]."""
        turns = self.turns[:, part.joint, None]
        return self.points[:, part.joint, None] + rotate(turns, part.ends[None])


class Skeleton:
    """The lengths of the captured body, read from pybullet's description of its humanoid.

    Raises:
        DataError: the file is not that description.
    """

    def __init__(self, path: Path) -> None:
        try:
            # The file as shipped ends with a zero byte, which no XML may hold.
            robot = ElementTree.fromstring(path.read_text("utf-8").rstrip("\0\n "))
            tree = {joint.attrib["name"]: joint for joint in robot.findall("joint")}
            self.parents = [JOINTS.index(_child(tree[name], "parent", "link")) for name in JOINTS[1:]]
            texts = [_child(tree[name], "origin", "xyz").split() for name in JOINTS[1:]]
            self.offsets = _UNIT * np.array(texts, np.float64).reshape(len(JOINTS) - 1, 3)
        except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
            raise DataError(
                f"cannot read the skeleton {path}",
                seen=f"{type(error).__name__}: {error}",
                cause="another version of pybullet, or a damaged one",
                fix="pip install --force-reinstall 'vidgen[mocap]'",
            ) from error

    def place(self, moments: Moments, parts: Sequence[Part], scale: float) -> Placed:
        """The joints of a body of ``scale`` times the captured size, lifted where it would sink into the floor."""
        turns, points = [moments.turns[:, 0]], [moments.root * scale]
        for number, (parent, offset) in enumerate(zip(self.parents, self.offsets), start=1):
            points.append(points[parent] + rotate(turns[parent], offset * scale))
            turns.append(multiply(turns[parent], moments.turns[:, number]))
        placed = Placed(np.stack(points, axis=1), np.stack(turns, axis=1))
        lowest = [placed.ends(part)[:, :, 1].min(axis=1) - part.radius for part in parts if part.radius > 0.0]
        placed.points[:, :, 1] += np.maximum(0.0, -np.min(lowest, axis=0))[:, None]
        return placed


def _child(joint: ElementTree.Element, tag: str, key: str) -> str:
    child = joint.find(tag)
    if child is None:
        raise KeyError(f"{joint.attrib['name']} has no {tag}")
    return child.attrib[key]


def body_scale(actor: Actor) -> float:
    """Size of an actor over that of the captured person."""
    return actor.build.height / _HEIGHT


def body(actor: Actor) -> list[Part]:
    """The parts of an actor, in metres."""
    build, scale = actor.build, body_scale(actor)
    thick = 0.68 + 0.32 * build.girth
    wide = 0.6 + 0.4 * build.shoulders / 0.12
    deep = 0.085 + 1.1 * (build.belly - 0.044)
    skin, top, bottom, shoes = (rgb(colour) for colour in (actor.skin, actor.top, actor.bottom, actor.shoes))
    shin = bottom if actor.legs == "trousers" else skin
    upper = top if actor.sleeves > 0.0 else skin
    lower = top if actor.sleeves > 0.9 else skin
    pelvis = (0.115 + 0.3 * (deep - 0.085), 0.11, 0.145 * wide)
    parts = [
        _part("root", bottom, [_ellipsoid((0.0, 0.03, 0.0), pelvis)], ((0.0, 0.03, -0.06), (0.0, 0.03, 0.06)), 0.1),
        _part("chest", top, [_trunk(deep, wide)], ((0.0, -0.05, 0.0), (0.0, 0.17, 0.0)), max(deep, 0.1)),
        _part("neck", skin, [_limb(-0.04, 0.1, 0.055, 0.05)], ((0.0, 0.0, 0.0), (0.0, 0.08, 0.0)), 0.05),
    ]
    for side in ("right", "left"):
        parts += [
            _part(f"{side}_hip", bottom, [_limb(-0.42, 0.0, 0.062 * thick, 0.088 * thick)],
                  ((0.0, 0.0, 0.0), (0.0, -0.42, 0.0)), 0.06),
            _part(f"{side}_knee", shin, [_limb(-0.40, 0.0, 0.044 * thick, 0.060 * thick)],
                  ((0.0, 0.0, 0.0), (0.0, -0.40, 0.0)), 0.045),
            _part(f"{side}_ankle", shoes, [_foot()], ((-0.035, -0.02, 0.0), (0.13, -0.02, 0.0)), 0.03),
            _part(f"{side}_shoulder", upper, [_limb(-0.27, 0.0, 0.043 * thick, 0.058 * thick)],
                  ((0.0, 0.0, 0.0), (0.0, -0.27, 0.0)), 0.045),
            _part(f"{side}_elbow", lower, [_limb(-0.25, 0.0, 0.034 * thick, 0.043 * thick)],
                  ((0.0, 0.0, 0.0), (0.0, -0.25, 0.0)), 0.036),
            _part(f"{side}_elbow", skin, [_ellipsoid((0.0, -0.305, 0.0), (0.045, 0.065, 0.03))],
                  ((0.0, -0.28, 0.0), (0.0, -0.33, 0.0)), 0.03),
        ]  # fmt: skip
    parts += _head(actor, build.head / 0.094)
    return [_scaled(part, scale) for part in parts]


def _head(actor: Actor, size: float) -> list[Part]:
    """Head with nose and eyes, and hair: x is where the face is."""
    hair = rgb(actor.hair)
    middle = 0.17 + 0.02 * size
    half = (0.1 * size, 0.125 * size, 0.085 * size)

    def blob(at: tuple[float, float, float], radii: tuple[float, float, float]) -> Solid:
        """An ellipsoid in units of the head's half height, from its middle."""
        unit = 0.125 * size
        return _ellipsoid((at[0] * unit, middle + at[1] * unit, at[2] * unit), tuple(r * unit for r in radii))

    cap = blob((-0.14, 0.2, 0.0), (0.82, 0.9, 0.76))
    styles = {
        "short": [cap],
        "long": [cap, blob((-0.5, -0.45, 0.0), (0.45, 1.0, 0.72))],
        "bun": [cap, blob((-0.75, 0.75, 0.0), (0.42, 0.42, 0.42))],
        "ponytail": [cap, blob((-1.05, -0.25, 0.0), (0.28, 0.85, 0.26))],
        "afro": [blob((-0.2, 0.38, 0.0), (1.12, 1.05, 1.15))],
        "cap": [blob((-0.08, 0.36, 0.0), (0.88, 0.74, 0.78)), blob((0.8, 0.42, 0.0), (0.5, 0.1, 0.55))],
        "bald": [],
    }
    nose = blob((0.82, -0.15, 0.0), (0.16, 0.2, 0.12))
    eyes = [blob((0.72, 0.12, z), (0.1, 0.12, 0.1)) for z in (-0.27, 0.27)]
    ends = ((0.0, middle - 0.03, 0.0), (0.0, middle + 0.03, 0.0))
    parts = [
        _part("neck", rgb(actor.skin), [_ellipsoid((0.0, middle, 0.0), half), nose], ends, 0.09 * size),
        _part("neck", rgb(_EYES), eyes, ends, 0.0),
    ]
    if styles[actor.hair_style]:
        parts.append(_part("neck", hair, styles[actor.hair_style], ends, 0.0))
    return parts


def _trunk(deep: float, wide: float) -> Solid:
    """From the waist to the shoulders: the belly in front is as deep as the build says."""
    rings = [
        (-0.16, 0.02, 0.02, 0.0), (-0.15, 0.9 * deep, 0.115 * wide, 0.004), (-0.05, 1.05 * deep, 0.125 * wide, 0.008),
        (0.08, 0.085 + 0.35 * deep, 0.148 * wide, 0.004), (0.19, 0.075 + 0.35 * deep, 0.17 * wide, -0.01),
        (0.24, 0.075, 0.152 * wide, -0.018), (0.265, 0.05, 0.085, -0.02), (0.275, 0.02, 0.03, -0.02),
    ]  # fmt: skip
    return _lathe(rings)


def _foot() -> Solid:
    """A shoe along x, from the heel to the toes."""
    along = [
        (-0.055, 0.008, 0.008, -0.03), (-0.045, 0.03, 0.03, -0.02), (0.0, 0.045, 0.036, -0.005),
        (0.07, 0.03, 0.044, -0.02), (0.12, 0.022, 0.042, -0.028), (0.145, 0.008, 0.015, -0.035),
    ]  # fmt: skip
    solid = _lathe(along)
    # x and y change places, which turns the triangles inside out.
    swap = [1, 0, 2]
    return Solid(solid.vertices[:, swap], solid.normals[:, swap], solid.triangles[:, ::-1].copy())


def _limb(low: float, high: float, low_radius: float, high_radius: float) -> Solid:
    """A tapered limb along y with round ends."""
    angles = np.linspace(0.0, 0.5 * np.pi, _CAP + 1)[1:]
    bottom = [(low - low_radius * np.cos(a), low_radius * np.sin(a)) for a in (0.1, *angles)]
    top = [(high + high_radius * np.cos(a), high_radius * np.sin(a)) for a in (*angles[::-1], 0.1)]
    return _lathe([(y, r, r, 0.0) for y, r in (*bottom, *top)])


def _ellipsoid(middle: Sequence[float], radii: Sequence[float]) -> Solid:
    angles = np.linspace(-0.5 * np.pi + 0.1, 0.5 * np.pi - 0.1, 2 * _CAP + 1)
    solid = _lathe([(np.sin(a), np.cos(a), np.cos(a), 0.0) for a in angles])
    normals = solid.normals / np.asarray(radii)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Solid(solid.vertices * radii + middle, normals, solid.triangles)


def _lathe(rings: Sequence[tuple[float, float, float, float]]) -> Solid:
    """A surface through elliptic rings.

    Args:
        rings: from low to high: y, radius along x, radius along z, x of the middle.
    """
    values = np.asarray(rings, np.float64)[:, :, None]
    angle = np.arange(_SIDES) * (2.0 * np.pi / _SIDES)
    flat = np.zeros_like(angle)
    x = values[:, 1] * np.cos(angle) + values[:, 3]
    vertices = np.stack([x, values[:, 0] + flat, values[:, 2] * np.sin(angle)], axis=-1).reshape(-1, 3)
    ring, side = np.meshgrid(np.arange(len(rings) - 1), np.arange(_SIDES), indexing="ij")
    a, b = ring * _SIDES + side, ring * _SIDES + (side + 1) % _SIDES
    c, d = a + _SIDES, b + _SIDES
    triangles = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    bottom = np.stack([np.zeros(_SIDES - 2, np.int64), np.arange(1, _SIDES - 1), np.arange(2, _SIDES)], axis=-1)
    triangles = np.concatenate([triangles, bottom, bottom[:, ::-1] + (len(rings) - 1) * _SIDES])
    return Solid(vertices, _normals(vertices, triangles), triangles)


def _normals(vertices: Array, triangles: npt.NDArray[np.int64]) -> Array:
    """Outward unit normals: those of the triangles around, by area."""
    first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
    faces = np.cross(second - first, third - first)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _part(
    joint: str, colour: npt.NDArray[np.float32], solids: Sequence[Solid], ends: Sequence[Sequence[float]], radius: float
) -> Part:
    firsts = np.cumsum([0, *(len(solid.vertices) for solid in solids[:-1])])
    whole = Solid(
        np.concatenate([solid.vertices for solid in solids]),
        np.concatenate([solid.normals for solid in solids]),
        np.concatenate([solid.triangles + first for solid, first in zip(solids, firsts)]),
    )
    return Part(JOINTS.index(joint), colour, whole, np.asarray(ends, np.float64), radius)


def _scaled(part: Part, scale: float) -> Part:
    solid = Solid(part.solid.vertices * scale, part.solid.normals, part.solid.triangles)
    return Part(part.joint, part.colour, solid, part.ends * scale, part.radius * scale)
