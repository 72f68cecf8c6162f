"""Draws a jointed figure: rounded, shaded limbs in the order of their depth, clothes, head and shadow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidgen.data.synthetic.actors import Actor
from vidgen.data.synthetic.canvas import (
    Array,
    Canvas,
    Region,
    capsule,
    circle,
    ellipse,
    mix,
    per_frame,
    rounded_box,
    step,
)
from vidgen.data.synthetic.draws import rgb
from vidgen.data.synthetic.skeleton import Joints

_LIGHT = (-0.45, -0.62, 0.64)
_INK = (0.13, 0.1, 0.1)


@dataclass(frozen=True)
class Stage:
    """All that drawing one block of frames needs.

    Attributes:
        facing: as in ``skeleton.joints``.
        floor: y coordinate of the floor.
    """

    canvas: Canvas
    actor: Actor
    joints: Joints
    facing: float
    floor: float

    def at(self, name: str) -> tuple[Array, Array]:
        """Picture position of a joint, each [T, 1, 1]."""
        place = self.joints.points[name]
        return per_frame(place[:, 0]), per_frame(place[:, 1])

    @property
    def height(self) -> float:
        return self.actor.build.height


def paint_figure(stage: Stage) -> None:
    """Shadow, limbs, trunk and head."""
    _shadow(stage)
    near, far = ("right", "left") if stage.facing > 0 else ("left", "right")
    sideways = abs(stage.facing) > 0.6
    if sideways:
        _arm(stage, far, 0.8)
    _leg(stage, far, 0.84 if sideways else 0.94)
    _leg(stage, near, 1.0)
    _long_hair(stage)
    _trunk(stage)
    _head(stage)
    if not sideways:
        _arm(stage, far, 0.97)
    _arm(stage, near, 1.0)


def _shade(normal_x: Array, normal_y: Array) -> Array:
    """Half-Lambert light on a rounded surface from the picture's part of its normal."""
    depth = np.sqrt(np.maximum(1.0 - normal_x * normal_x - normal_y * normal_y, 0.0))
    level = normal_x * _LIGHT[0] + normal_y * _LIGHT[1] + depth * _LIGHT[2]
    level = level * 0.5 + 0.5
    return np.clip(level * level * 1.25, 0.0, 1.0)


def _tones(code: str, dim: float = 1.0) -> tuple[Array, Array]:
    colour = rgb(code) * np.float32(dim)
    return colour * np.array([0.56, 0.52, 0.58], np.float32), np.minimum(colour * 1.08 + 0.02, 1.0)


def _limb(
    stage: Stage, first: str, last: str, r0: float, r1: float, code: str, dim: float,
    other: str | None = None, share: float = 1.0,
) -> None:  # fmt: skip
    """A capsule between two joints; from ``share`` of its length on it has the ``other`` colour."""
    (x0, y0), (x1, y1) = stage.at(first), stage.at(last)
    r0, r1 = r0 * stage.height, r1 * stage.height
    canvas, margin = stage.canvas, max(r0, r1)
    region = canvas.region(np.minimum(x0, x1), np.maximum(x0, x1), np.minimum(y0, y1), np.maximum(y0, y1), margin)
    if region.empty:
        return
    shape = capsule(region.x, region.y, x0, y0, x1, y1, r0, r1)
    light = _shade(shape.normal_x, shape.normal_y)
    colour = mix(*_tones(code, dim), light)
    if other is not None:
        colour = mix(colour, mix(*_tones(other, dim), light), step(shape.along, share - 0.04, share + 0.04))
    canvas.paint(region, canvas.coverage(shape.distance), colour)


def _arm(stage: Stage, side: str, dim: float) -> None:
    actor, girth = stage.actor, stage.actor.build.girth
    skin, top = actor.skin, actor.top
    upper, lower = 0.031 * girth, 0.025 * girth
    long = actor.sleeves > 0.9
    _limb(stage, f"wrist_{side}", f"hand_{side}", 0.024 * girth, 0.026 * girth, skin, dim)
    _limb(stage, f"elbow_{side}", f"wrist_{side}", lower * 1.06, lower * 0.86, top if long else skin, dim)
    cover = 0.12 if actor.sleeves < 0.1 else 0.68
    below = None if long else skin
    _limb(stage, f"shoulder_{side}", f"elbow_{side}", upper * 1.16, upper * 0.9, top, dim, below, cover)


def _leg(stage: Stage, side: str, dim: float) -> None:
    actor, girth = stage.actor, stage.actor.build.girth
    thigh, knee, ankle = 0.05 * girth, 0.036 * girth, 0.025 * girth
    covered = actor.legs == "trousers"
    _limb(stage, f"ankle_{side}", f"toe_{side}", 0.025, 0.018, actor.shoes, dim)
    _limb(
        stage,
        f"knee_{side}",
        f"ankle_{side}",
        knee,
        ankle * (1.12 if covered else 1.0),
        actor.bottom if covered else actor.skin,
        dim,
    )
    other = None if covered else actor.skin
    _limb(stage, f"hip_{side}", f"knee_{side}", thigh, knee * 1.04, actor.bottom, dim, other, 0.78)


def _trunk(stage: Stage) -> None:
    canvas, actor, build = stage.canvas, stage.actor, stage.actor.build
    (nx, ny), (px, py) = stage.at("neck"), stage.at("pelvis")
    _limb(stage, "neck", "head", 0.026 * build.girth, 0.026 * build.girth, actor.skin, 0.86)
    (lx, _), (rx, _) = stage.at("shoulder_left"), stage.at("shoulder_right")
    (hl, _), (hr, _) = stage.at("hip_left"), stage.at("hip_right")
    thick = build.belly * stage.height
    top = np.sqrt((0.5 * (lx - rx)) ** 2 + (0.82 * thick) ** 2) + 0.012 * stage.height
    low = np.sqrt((0.5 * (hl - hr)) ** 2 + thick**2) + 0.014 * stage.height
    x1, y1 = px + (px - nx) * 0.1, py + (py - ny) * 0.1
    reach = float(np.max(np.maximum(top, low)))
    region = canvas.region(np.minimum(nx, x1), np.maximum(nx, x1), np.minimum(ny, y1), np.maximum(ny, y1), reach)
    dx, dy = x1 - nx, y1 - ny
    length = np.sqrt(dx * dx + dy * dy)
    ux, uy = dx / length, dy / length
    ox, oy = region.x - nx, region.y - ny
    down, across = ox * ux + oy * uy, ox * uy - oy * ux
    share = np.clip(down / length, 0.0, 1.0)
    # Shoulders, a narrower waist, hips.
    waist = 1.0 - 0.13 * np.sin(np.pi * share) * (1.0 if build.belly < 0.08 else -0.8)
    width = (top + (low - top) * share) * waist
    middle = 0.5 * (top + low)
    box = rounded_box(
        across / width * middle, down - 0.5 * length,
        middle, 0.5 * length, np.minimum(middle * 0.8, 0.075 * stage.height),
    )  # fmt: skip
    side = np.clip(across / width, -1.0, 1.0)
    light = _shade(side * uy * 0.9, -side * ux * 0.9)
    cloth = mix(*_tones(actor.top), light)
    belt = step(share, 0.8, 0.86)
    cloth = mix(cloth, mix(*_tones(actor.bottom), light), belt)
    canvas.paint(region, canvas.coverage(box), cloth)
    if actor.legs == "skirt":
        _skirt(stage)


def _skirt(stage: Stage) -> None:
    (px, py), (kl, yl), (kr, yr) = stage.at("pelvis"), stage.at("knee_left"), stage.at("knee_right")
    canvas, build = stage.canvas, stage.actor.build
    x1, y1 = px + 0.66 * (0.5 * (kl + kr) - px), py + 0.66 * (0.5 * (yl + yr) - py)
    (hl, _), (hr, _) = stage.at("hip_left"), stage.at("hip_right")
    waist = np.sqrt((0.5 * (hl - hr)) ** 2 + (0.8 * build.belly * stage.height) ** 2) + 0.02 * stage.height
    # The hem is as wide as the legs are apart.
    spread = 0.33 * np.sqrt((kl - kr) ** 2 + (yl - yr) ** 2)
    hem = np.maximum(waist * 1.12, spread + 0.045 * stage.height)
    dx, dy = x1 - px, y1 - py
    length = np.maximum(np.sqrt(dx * dx + dy * dy), 0.05)
    ux, uy = dx / length, dy / length
    reach = float(np.max(hem)) + 0.02
    region = canvas.region(np.minimum(px, x1), np.maximum(px, x1), np.minimum(py, y1), np.maximum(py, y1), reach)
    ox, oy = region.x - px, region.y - py
    down, across = ox * ux + oy * uy, ox * uy - oy * ux
    share = np.clip(down / length, 0.0, 1.0)
    width = waist + (hem - waist) * share
    box = rounded_box(
        across / width * hem, down - 0.5 * length,
        hem, 0.5 * length + 0.01, 0.02,
    )  # fmt: skip
    side = np.clip(across / width, -1.0, 1.0)
    fold = 0.08 * np.sin(side * 9.0)
    light = np.clip(_shade(side * uy * 0.9, -side * ux * 0.9) + fold, 0.0, 1.0)
    canvas.paint(region, canvas.coverage(box), mix(*_tones(stage.actor.bottom), np.asarray(light, np.float32)))


def _long_hair(stage: Stage) -> None:
    actor, rotation = stage.actor, stage.joints.head_rotation
    if actor.hair_style not in ("long", "ponytail", "bun"):
        return
    size = actor.build.head * stage.height
    x, y = stage.at("head")
    start, end, r0, r1 = {
        "long": ((0.0, -0.1, -0.35), (0.0, 1.35, -0.55), 0.92, 0.66),
        "ponytail": ((0.0, -0.35, -0.95), (0.0, 0.95, -1.5), 0.36, 0.2),
        "bun": ((0.0, -0.85, -0.5), (0.0, -0.95, -0.55), 0.46, 0.46),
    }[actor.hair_style]
    first = rotation @ np.array(start, np.float32) * size
    # Hair hangs down, whatever the head does.
    hang = np.array([0.0, end[1] - start[1], 0.0], np.float32) * size
    back = rotation @ np.array([0.0, 0.0, end[2] - start[2]], np.float32) * size
    last = first + hang + back
    x0, y0 = x + per_frame(first[:, 0]), y + per_frame(first[:, 1])
    x1, y1 = x + per_frame(last[:, 0]), y + per_frame(last[:, 1])
    region = stage.canvas.region(np.minimum(x0, x1), np.maximum(x0, x1), np.minimum(y0, y1), np.maximum(y0, y1), size)
    if region.empty:
        return
    shape = capsule(region.x, region.y, x0, y0, x1, y1, r0 * size, r1 * size)
    colour = mix(*_tones(actor.hair, 0.9), _shade(shape.normal_x, shape.normal_y))
    stage.canvas.paint(region, stage.canvas.coverage(shape.distance), colour)


def _head(stage: Stage) -> None:
    actor, canvas = stage.actor, stage.canvas
    size = actor.build.head * stage.height
    wide = 0.86 * size
    x, y = stage.at("head")
    puff = 1.5 if actor.hair_style == "afro" else 1.08
    region = canvas.region(x, x, y, y, size * puff * 1.1)
    if region.empty:
        return
    rotation = stage.joints.head_rotation
    up_x, up_y = per_frame(rotation[:, 0, 1]), per_frame(rotation[:, 1, 1])
    norm = np.maximum(np.sqrt(up_x * up_x + up_y * up_y), 1e-3)
    ux, uy = up_x / norm, up_y / norm
    ox, oy = region.x - x, region.y - y
    down, across = ox * ux + oy * uy, ox * uy - oy * ux
    outline = ellipse(across, down, wide, size)
    nx, ny = ox / wide, oy / size
    local = _local(rotation, np.asarray(nx, np.float32), np.asarray(ny, np.float32))
    light = _shade(np.asarray(nx, np.float32), np.asarray(ny, np.float32))
    hair = mix(*_tones(actor.hair), light)
    if actor.hair_style == "afro":
        cloud = circle(ox, oy + 0.28 * size * uy, size * 1.32)
        canvas.paint(region, canvas.coverage(cloud), hair)
    canvas.paint(region, canvas.coverage(outline), mix(*_tones(actor.skin), light))
    _face(stage, region, outline, local, size)
    if actor.hair_style == "bald":
        return
    grown = outline - np.float32(0.07 * size)
    cover = canvas.coverage(grown) * step(_hairiness(actor.hair_style, local), -0.06, 0.06)
    canvas.paint(region, cover, hair)
    if actor.hair_style == "cap":
        brim = step(np.abs(local[1] + 0.34), 0.16, 0.06) * step(local[2], 0.3, 0.6)
        canvas.paint(region, canvas.coverage(grown) * brim, mix(*_tones(actor.hair, 0.75), light))


def _local(rotation: Array, nx: Array, ny: Array) -> Array:
    """Directions in the head's own axes of the visible points of a unit sphere, [3, T, h, w]."""
    nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
    columns = [
        per_frame(rotation[:, 0, axis]) * nx
        + per_frame(rotation[:, 1, axis]) * ny
        + per_frame(rotation[:, 2, axis]) * nz
        for axis in range(3)
    ]
    return np.stack(columns).astype(np.float32)


def _hairiness(style: str, local: Array) -> Array:
    """Positive where hair grows."""
    x, y, z = local
    front = -0.5 - y if style == "cap" else -0.42 - y + 0.1 * np.abs(x)
    back = -z * 1.1 - 0.05 - np.maximum(y - 0.15, 0.0) * 1.4
    if style == "long":
        back = np.maximum(back, np.abs(x) * 1.3 - 0.95 - 0.2 * z)
    sides = np.abs(x) * 0.9 - 0.62 - np.maximum(y + 0.05, 0.0) * 2.0 - 0.3 * z
    return np.asarray(np.maximum(np.maximum(front, back), sides), np.float32)


def _face(stage: Stage, region: Region, outline: Array, local: Array, size: float) -> None:
    """Eyes and mouth, on the side of the head that looks at the viewer."""
    canvas = stage.canvas
    inside = canvas.coverage(outline)
    x, y, z = local
    front = step(z, 0.15, 0.45)
    for side in (-1.0, 1.0):
        eye = ellipse((x - 0.36 * side) * size, y * size, 0.12 * size, 0.16 * size)
        canvas.paint(region, canvas.coverage(eye) * inside * front * 0.9, _INK)
    mouth = ellipse(x * size, (y - 0.52 + 0.35 * x * x) * size, 0.26 * size, 0.055 * size)
    lips = rgb(stage.actor.skin) * np.array([0.62, 0.35, 0.35], np.float32)
    canvas.paint(region, canvas.coverage(mouth) * inside * front * 0.75, lips)


def _shadow(stage: Stage) -> None:
    canvas, height = stage.canvas, stage.height
    x, _ = stage.at("pelvis")
    ankles = [stage.at(f"ankle_{side}") for side in ("left", "right")]
    low = np.maximum(ankles[0][1], ankles[1][1])
    lift = np.clip((stage.floor - 0.02 * height - low) / (0.25 * height), 0.0, 1.0)
    region = canvas.region(x - 0.6, x + 0.6, stage.floor - 0.16, stage.floor + 0.16)
    if region.empty:
        return
    body = ellipse(region.x - x - 0.03, region.y - np.float32(stage.floor), 0.2 * height, 0.036 * height)
    soft = step(body, 0.06, -0.05)
    canvas.paint(region, soft * (0.34 - 0.2 * lift), (0.08, 0.08, 0.13))
    for foot_x, foot_y in ankles:
        off = np.clip((stage.floor - 0.02 * height - foot_y) / (0.1 * height), 0.0, 1.0)
        x, y = region.x - foot_x - 0.02, region.y - np.float32(stage.floor + 0.008)
        contact = ellipse(x, y, 0.07 * height, 0.018 * height)
        canvas.paint(region, step(contact, 0.02, -0.02) * (0.42 * (1.0 - off)), (0.06, 0.06, 0.1))
