"""Eyes, brows and mouth of a drawn person, the parts that an expression moves."""

from __future__ import annotations

import numpy as np

from vidgen.data.synthetic.canvas import Array, circle, mix, rounded_box, step, stroke
from vidgen.data.synthetic.face_frame import Head, Patch
from vidgen.data.synthetic.face_skin import skin_light, skin_shadow

_WHITE = np.array([0.97, 0.965, 0.95], np.float32)
_INK = np.array([0.11, 0.08, 0.08], np.float32)


def paint_eye(head: Head, side: float) -> None:
    """One eye with lids; ``side`` is -1 for the viewer's left, 1 for the right."""
    identity, canvas = head.identity, head.canvas
    centre_u, centre_v = side * identity.eye_distance, identity.eye_line
    patch = head.patch(centre_u, centre_v, identity.eye_width * 1.5, identity.eye_height * 2.4)
    lids = head.channel("lids_left" if side < 0 else "lids_right")
    squint = head.channel("squint") + head.channel("cheek_left" if side < 0 else "cheek_right")
    u = patch.u - np.float32(centre_u)
    v = patch.v - np.float32(centre_v)
    across = u * np.float32(1.0 / identity.eye_width)
    arc = 1.0 - across * across
    slant = -identity.eye_shape * identity.eye_height * 0.5 * side * across
    height = identity.eye_height
    lower = slant + arc * height * (0.72 - 0.3 * np.clip(squint, 0.0, 1.0))
    upper = slant + arc * height * (0.62 - 1.68 * lids)
    upper = np.minimum(upper, lower)
    # Vertical distances become perpendicular ones where the lids run steeply to the corners.
    steep = np.sqrt(1.0 + (2.0 * height / identity.eye_width * across) ** 2).astype(np.float32)
    opening = np.maximum(upper - v, v - lower) / steep
    inside = canvas.coverage(np.asarray(opening, np.float32)) * canvas.coverage(np.abs(u) - identity.eye_width)
    lid_shadow = step(v - upper, 0.05, 0.0) * 0.3
    canvas.paint(patch.region, inside, mix(_WHITE, _WHITE * 0.6, lid_shadow))
    _paint_iris(head, patch, u, v, side, inside)
    inner = np.abs(u) - identity.eye_width * 1.04
    edge = canvas.coverage(np.asarray(inner, np.float32))
    closed = step(lids, 0.35, 0.0)
    lash = stroke((v - upper) / steep, 0.028 + 0.016 * identity.lashes + 0.004 * closed, canvas.pixel)
    canvas.paint(patch.region, lash * edge * (0.75 + 0.25 * closed), _INK + 0.12 * identity.hair)
    crease = stroke((v - upper + 0.045) / steep, 0.02, canvas.pixel)
    canvas.paint(patch.region, crease * edge * 0.32, skin_shadow(identity.skin) * 0.8)
    under = stroke((v - lower - 0.008) / steep, 0.016, canvas.pixel)
    canvas.paint(patch.region, under * edge * 0.4, skin_shadow(identity.skin) * 0.8)


def _paint_iris(head: Head, patch: Patch, u: Array, v: Array, side: float, inside: Array) -> None:
    identity, canvas = head.identity, head.canvas
    # Eyes keep looking at the viewer for a part of a head turn.
    gaze_u = 0.035 * head.channel("gaze_x") - 0.05 * np.sin(head.yaw)
    gaze_v = 0.03 * head.channel("gaze_y") - 0.03 * np.sin(head.pitch)
    x, y = u - gaze_u, v - gaze_v
    radius = identity.eye_height * 0.84
    disc = circle(x, y, radius)
    glow = step(y, -radius, radius)
    canvas.paint(patch.region, canvas.coverage(disc) * inside, mix(identity.iris * 0.55, identity.iris * 1.35, glow))
    canvas.paint(patch.region, canvas.coverage(circle(x, y, radius * 0.5)) * inside, _INK * 0.5)
    lx = head.setting.light[0]
    shine = circle(x - 0.022 * (1.0 if lx > 0 else -1.0), y + 0.026, radius * 0.33)
    canvas.paint(patch.region, canvas.coverage(shine) * inside, (1.0, 1.0, 1.0))


def paint_brow(head: Head, side: float) -> None:
    """One eyebrow."""
    identity, canvas = head.identity, head.canvas
    raised, furrow = head.channel("brows"), head.channel("furrow")
    patch = head.patch(side * identity.eye_distance, identity.eye_line - identity.brow_height - 0.03, 0.22, 0.2)
    half = identity.eye_width * 1.22
    u = side * patch.u - np.float32(identity.eye_distance + 0.008)
    u = u + 0.03 * furrow
    across = u / half
    arch = -identity.brow_arch * (1.0 - across * across) + 0.014 * across
    # A frown pulls the inner ends down, surprise lifts the whole brow and rounds it.
    middle = identity.eye_line - identity.brow_height + arch - 0.1 * raised * (1.0 - 0.25 * across * across)
    middle = middle + furrow * (0.035 - 0.065 * across)
    thickness = identity.brow_thickness * np.clip(1.0 - 0.42 * across, 0.3, 1.3)
    line = stroke(patch.v - middle, np.asarray(thickness, np.float32), canvas.pixel)
    ends = canvas.coverage(np.abs(u) - half)
    canvas.paint(patch.region, line * ends * 0.92, identity.hair * 0.72 + 0.02)


def paint_mouth(head: Head) -> None:
    """Lips, teeth and tongue."""
    identity, canvas = head.identity, head.canvas
    smile, openness, pucker = (head.channel(name) for name in ("smile", "mouth_open", "pucker"))
    half = identity.mouth_width * (1.0 + 0.42 * np.maximum(smile, 0.0) + 0.1 * np.minimum(smile, 0.0) - 0.34 * pucker)
    patch = head.patch(0.0, identity.mouth_line + 0.02, 0.36, 0.3)
    u = patch.u - 0.05 * np.sin(head.yaw) - 0.03 * head.channel("skew")
    v = patch.v - np.float32(identity.mouth_line) - 0.03 * np.sin(head.pitch)
    across = u / half
    square = across * across
    arc = np.maximum(1.0 - square, 0.0)
    lift = (smile + 0.16) * (1.0 + 0.6 * head.channel("skew") * across)
    middle = 0.02 * lift - 0.088 * lift * square
    gap = 0.012 + 0.2 * np.maximum(openness, 0.0)
    top = middle - 0.22 * gap * arc
    bottom = middle + 0.78 * gap * np.sqrt(arc)
    full = identity.lip_fullness * (1.0 + 0.35 * pucker)
    # The upper lip dips in the middle (Cupid's bow).
    bow = 1.0 - 0.3 * np.exp(-square * np.float32(40.0))
    upper_edge = top - full * 0.85 * bow * np.sqrt(arc)
    lower_edge = bottom + full * 1.15 * np.sqrt(arc)
    ends = canvas.coverage(np.abs(u) - half)
    lips = canvas.coverage(np.maximum(upper_edge - v, v - lower_edge)) * ends
    below = step(v - lower_edge - 0.035, 0.04, -0.02) * arc * (1.0 - 0.5 * lips)
    below *= step(v - lower_edge, -0.02, 0.02)
    canvas.paint(patch.region, below * 0.3, skin_shadow(identity.skin))
    shade = step(v - middle, -0.04, 0.06)
    canvas.paint(patch.region, lips, mix(identity.lip * 0.8, np.minimum(identity.lip * 1.12 + 0.02, 1.0), shade))
    _paint_mouth_inside(head, patch, v, top, bottom, arc, ends)
    dimple = _corners(head, patch, u, v, half, smile)
    canvas.paint(patch.region, dimple * 0.4, skin_shadow(identity.skin))
    shine = np.exp(-((u / (half * 0.4)) ** 2) - ((v - bottom - full * 0.5) / 0.016) ** 2).astype(np.float32)
    canvas.paint(patch.region, shine * 0.3 * lips, skin_light(identity.lip))


def _paint_mouth_inside(head: Head, patch: Patch, v: Array, top: Array, bottom: Array, arc: Array, ends: Array) -> None:
    canvas, openness = head.canvas, np.maximum(head.channel("mouth_open"), 0.0)
    inside = np.minimum(canvas.coverage(top - v), canvas.coverage(v - bottom)) * ends
    canvas.paint(patch.region, inside, (0.23, 0.06, 0.07))
    wide = step(openness, 0.05, 0.3)
    tongue = step(v - bottom + 0.3 * (bottom - top), -0.02, 0.03)
    canvas.paint(patch.region, inside * tongue * wide, (0.78, 0.33, 0.34))
    teeth = step(v - top - 0.055 * np.minimum(openness * 3.0, 1.0), 0.012, -0.012)
    round_mouth = 1.0 - 0.75 * np.clip(head.channel("pucker"), 0.0, 1.0)
    canvas.paint(patch.region, inside * teeth * wide * round_mouth, (0.97, 0.96, 0.93))


def _corners(head: Head, patch: Patch, u: Array, v: Array, half: Array, smile: Array) -> Array:
    """Shadows at the corners of the mouth, and the folds that a smile makes beside it."""
    corner = np.abs(u) - half
    height = -0.068 * (smile + 0.16)
    spot = np.exp(-((corner / 0.022) ** 2) - ((v - height) / 0.028) ** 2)
    fold = np.exp(-(((np.abs(u) - half - 0.045 - 0.25 * np.abs(v - height + 0.06)) / 0.02) ** 2))
    fold = fold * np.exp(-(((v - height + 0.03) / 0.08) ** 2)) * np.clip(smile, 0.0, 1.0)
    return np.maximum(spot, fold * 0.8)


def paint_glasses(head: Head) -> None:
    """Frames in front of the eyes, which stand out from the face."""
    identity, canvas = head.identity, head.canvas
    if identity.glasses == "none":
        return
    patch = head.patch(0.0, identity.eye_line, 0.56, 0.24)
    u = patch.u - 0.05 * np.sin(head.yaw)
    v = patch.v - 0.03 * np.sin(head.pitch) - np.float32(identity.eye_line + 0.012)
    offset = np.abs(u) - np.float32(identity.eye_distance + 0.006)
    square = identity.glasses == "square"
    rim = rounded_box(offset, v, 0.155, 0.118, 0.045) if square else circle(offset, v, 0.148)
    canvas.paint(patch.region, canvas.coverage(rim) * 0.1, (0.85, 0.93, 1.0))
    frame = stroke(rim, 0.03, canvas.pixel)
    bridge = stroke(v + np.float32(0.025), 0.026, canvas.pixel) * canvas.coverage(
        np.abs(u) - np.float32(identity.eye_distance - 0.14)
    )
    temple = stroke(v + np.float32(0.03), 0.026, canvas.pixel) * step(offset, 0.14, 0.16)
    temple *= step(np.abs(u), identity.half_width * 1.02, identity.half_width * 0.98)
    canvas.paint(patch.region, np.maximum(np.maximum(frame, bridge), temple), identity.glasses_colour)
