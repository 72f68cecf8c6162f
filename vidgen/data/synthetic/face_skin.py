"""Skin, ears, nose, beard, neck and clothes of a drawn person."""

from __future__ import annotations

import numpy as np

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
    stroke,
)
from vidgen.data.synthetic.face_frame import Head
from vidgen.data.synthetic.face_identity import Colour

_SHADOW = np.array([0.64, 0.5, 0.47], np.float32)


def skin_shadow(skin: Colour) -> Colour:
    """Colour of the skin that the light does not reach: darker and redder."""
    return skin * _SHADOW


def skin_light(skin: Colour) -> Colour:
    """Colour of the skin that faces the light."""
    return np.clip(skin * 1.03 + 0.05 * (1.0 - skin), 0.0, 1.0).astype(np.float32)


def paint_backdrop(canvas: Canvas, edge: Colour, centre: Colour, light: tuple[float, float, float]) -> None:
    """A soft gradient, brightest behind the head on the light's side."""
    region = canvas.whole()
    distance = np.sqrt((region.x - 0.5 * light[0]) ** 2 + (region.y + 0.35) ** 2)
    colour = mix(centre, edge, step(distance, 0.1, 1.45))
    colour *= 1.0 - 0.1 * step(region.y, -0.2, 1.2)
    canvas.pixels[:] = colour


def paint_body(head: Head) -> None:
    """Neck and clothes; the shoulders stay almost still, the neck follows the head."""
    canvas, identity = head.canvas, head.identity
    region = canvas.region(-np.inf, np.inf, 0.5, np.inf)
    x = region.x - 0.35 * head.channel("dx") - head.setting.shift_x
    y = region.y - 0.25 * head.channel("dy")
    wide = np.abs(x)
    # The trapezius runs up to the neck, the deltoid falls off.
    shoulder = 0.69 + 0.1 * wide + 0.9 * np.maximum(wide - 0.6, 0.0) ** 2 - 0.035 * np.exp(-((wide / 0.28) ** 4))
    above = shoulder - y
    light = head.setting.light[0]
    side = np.clip(0.66 + 0.42 * light * x - 0.3 * np.maximum(wide - 0.45, 0.0), 0.0, 1.0).astype(np.float32)
    chin = y - head.centre_y - head.half_height
    shadow = step(chin, 0.28, 0.02) * step(wide, 0.5, 0.2)
    bare = side * (1.0 - 0.8 * shadow)
    skin = mix(skin_shadow(identity.skin) * 0.94, skin_light(identity.skin), bare)
    canvas.paint(region, canvas.coverage(above) * canvas.coverage(wide - 0.4), skin)
    _paint_neck(head)
    opening = _opening(identity.collar, x, y, identity.half_width)
    cloth = mix(identity.clothes * 0.6, np.minimum(identity.clothes * 1.06, 1.0), side * (1.0 - 0.3 * shadow))
    if identity.collar == "stripes":
        band = step(np.sin((y - 0.07 * wide) * np.float32(52.0)).astype(np.float32), -0.3, 0.3)
        stripe = mix(identity.collar_colour * 0.6, np.minimum(identity.collar_colour * 1.06, 1.0), side)
        cloth = mix(cloth, stripe, band)
    canvas.paint(region, canvas.coverage(np.maximum(above - 0.012, -opening)), cloth)
    _paint_collar(head, region, opening, above, side)


def _paint_neck(head: Head) -> None:
    canvas, identity = head.canvas, head.identity
    half = identity.half_width * 0.5
    top_x = head.centre_x - 0.3 * np.sin(head.roll)
    top_y = head.centre_y + 0.3
    region = canvas.region(top_x - 0.4, top_x + 0.4, top_y, 0.95)
    neck = capsule(region.x, region.y, top_x, top_y, head.setting.shift_x, 0.74, half, half * 1.08)
    lit = np.clip(0.5 + 0.45 * head.setting.light[0] * neck.normal_x, 0.0, 1.0)
    # The chin's shadow falls on the neck.
    chin = region.y - head.centre_y - head.half_height
    lit = lit * (1.0 - 0.8 * step(chin, 0.2, 0.0))
    colour = mix(skin_shadow(identity.skin) * 0.94, skin_light(identity.skin), np.asarray(lit, np.float32))
    canvas.paint(region, canvas.coverage(neck.distance), colour)


def _paint_collar(head: Head, region: Region, opening: Array, above: Array, side: Array) -> None:
    canvas, identity = head.canvas, head.identity
    if identity.collar == "shirt":
        tone = mix(identity.collar_colour * 0.7, identity.collar_colour, side)
        flap = np.maximum(np.abs(opening - 0.055) - 0.05, above - 0.05)
        canvas.paint(region, canvas.coverage(np.asarray(flap, np.float32)), tone)
        return
    rim = {"crew": 0.045, "v-neck": 0.045, "hoodie": 0.1, "stripes": 0.045}[identity.collar]
    edge = stroke(opening - 0.4 * rim, rim, canvas.pixel)
    edge *= canvas.coverage(above - (0.06 if identity.collar == "hoodie" else 0.03))
    tone = identity.clothes * 0.74 if identity.collar in ("crew", "v-neck") else identity.collar_colour
    canvas.paint(region, edge, mix(tone * 0.7, tone, side))


def _opening(collar: str, x: Array, y: Array, half_width: float) -> Array:
    """Signed distance to the neck opening of the clothes, negative inside."""
    if collar in ("v-neck", "shirt"):
        return (np.abs(x) * 0.85 + (y - 0.89) * 0.8) * 0.86
    return ellipse(x, y - 0.62, half_width * 0.62, 0.15)


def paint_ears(head: Head) -> None:
    """Ears, which slide behind the head as it turns."""
    identity, canvas = head.identity, head.canvas
    for side in (-1.0, 1.0):
        patch = head.patch(side * identity.half_width, 0.06, 0.26, 0.26)
        # The ear sits a little behind the middle of the head, so it moves against the face.
        ear_x = side * identity.half_width * 0.99 * np.cos(head.yaw) - 0.07 * np.sin(head.yaw)
        x = patch.x - ear_x
        y = patch.y - 0.04 + 0.05 * np.sin(head.pitch)
        distance = ellipse(x + 0.075 * side * y, y, identity.ear_size * 0.62, identity.ear_size)
        lit = per_frame([0.45 + 0.4 * side * head.setting.light[0]])
        canvas.paint(
            patch.region, canvas.coverage(distance), mix(skin_shadow(identity.skin), skin_light(identity.skin), lit)
        )
        inner = ellipse(x + 0.01 * side, y, identity.ear_size * 0.3, identity.ear_size * 0.6)
        canvas.paint(patch.region, step(inner, 0.02, -0.03) * 0.6, skin_shadow(identity.skin))
        if identity.earrings:
            ring = circle(x - 0.01 * side, y - identity.ear_size * 1.05, 0.03)
            canvas.paint(patch.region, canvas.coverage(ring), (0.95, 0.8, 0.4))


def paint_skin(head: Head) -> None:
    """The face without features: shaded skin, cheeks, eye sockets, freckles."""
    identity, canvas = head.identity, head.canvas
    front = head.rows(-0.72, 0.76)
    shade = step(front.lit, 0.05, 0.82)
    cover = canvas.coverage(front.outline)
    canvas.paint_shaded(front.whole.region, cover, skin_shadow(identity.skin), skin_light(identity.skin), shade)
    blush = identity.skin * np.array([1.0, 0.66, 0.62], np.float32)
    raised = head.channel("squint")
    for side, name in ((-1.0, "left"), (1.0, "right")):
        cheek = raised + head.channel(f"cheek_{name}")
        patch = head.patch(side * 0.24, 0.16, 0.22, 0.2)
        spot = ellipse(patch.u - side * 0.24, patch.v - 0.17 + 0.04 * cheek, 0.13, 0.1)
        canvas.paint(patch.region, step(spot, 0.03, -0.09) * (identity.blush + 0.3 * cheek), blush)
        patch = head.patch(side * identity.eye_distance, identity.eye_line, 0.24, 0.2)
        socket = ellipse(
            patch.u - side * identity.eye_distance, patch.v - identity.eye_line + 0.03,
            identity.eye_width * 1.3, identity.eye_height * 1.7,
        )  # fmt: skip
        canvas.paint(patch.region, step(socket, 0.05, -0.06) * 0.24, skin_shadow(identity.skin))
    if identity.freckles:
        _paint_freckles(head)


def _paint_freckles(head: Head) -> None:
    identity = head.identity
    patch = head.patch(0.0, 0.13, 0.36, 0.14)
    dots = np.full(patch.u.shape, 1.0, np.float32)
    for i in range(12):
        side = -1.0 if i % 2 else 1.0
        u = side * (0.14 + 0.16 * ((i * 0.618) % 1.0))
        v = 0.09 + 0.1 * ((i * 0.414) % 1.0)
        dots = np.minimum(dots, circle(patch.u - u, patch.v - v, 0.008))
    head.canvas.paint(patch.region, head.canvas.coverage(dots) * 0.45, skin_shadow(identity.skin))


def paint_nose(head: Head) -> None:
    """Nose: a lit bridge, a shadow away from the light and the nostrils' line."""
    identity, canvas = head.identity, head.canvas
    patch = head.patch(0.0, 0.1, 0.3, 0.28)
    tip_v = identity.eye_line + identity.nose_length + 0.03
    # The nose stands out, so it moves further than the face behind it.
    u = patch.u - 0.09 * np.sin(head.yaw)
    v = patch.v - 0.05 * np.sin(head.pitch)
    light = head.setting.light[0]
    away = -1.0 if light > 0 else 1.0
    width = identity.nose_width
    bridge = rounded_box(
        u - away * width * 0.55, v - 0.5 * (tip_v + identity.eye_line), 0.02, identity.nose_length * 0.4, 0.02
    )
    canvas.paint(patch.region, step(bridge, 0.04, -0.03) * (0.3 + 0.35 * abs(light)), skin_shadow(identity.skin))
    under = ellipse(u, v - tip_v - 0.016, width, 0.036)
    canvas.paint(patch.region, step(under, 0.03, -0.02) * 0.72, skin_shadow(identity.skin) * 0.92)
    ball = ellipse(u, v - tip_v + 0.012, width * 0.84, 0.046)
    canvas.paint(patch.region, step(ball, 0.016, -0.02), identity.skin)
    shine = ellipse(u + away * width * 0.3, v - tip_v + 0.03, width * 0.45, 0.034)
    canvas.paint(patch.region, step(shine, 0.02, -0.03) * 0.75, np.minimum(skin_light(identity.skin) * 1.08, 1.0))
    ridge = rounded_box(
        u + away * width * 0.2, v - 0.5 * (tip_v + identity.eye_line) - 0.01, 0.012, identity.nose_length * 0.42, 0.012
    )
    canvas.paint(patch.region, step(ridge, 0.03, -0.02) * 0.4, np.minimum(skin_light(identity.skin) * 1.05, 1.0))
    for side in (-1.0, 1.0):
        nostril = ellipse(u - side * width * 0.46, v - tip_v - 0.03, width * 0.22, 0.013)
        canvas.paint(patch.region, canvas.coverage(nostril) * 0.75, skin_shadow(identity.skin) * 0.55)


def paint_beard(head: Head) -> None:
    """Stubble, beard, goatee or moustache, under the mouth."""
    if head.identity.beard == "none":
        return
    head = head.rows(-0.1, 0.76)
    identity, canvas, whole, kind = head.identity, head.canvas, head.whole, head.identity.beard
    v = whole.v
    # The chin stands out, so it moves further than the cheeks.
    u = whole.u - 0.14 * np.sin(head.yaw) * np.clip(v * 2.0, 0.0, 1.0)
    mouth = identity.mouth_line
    drop = 0.05 * head.channel("mouth_open")
    above = 0.5 * (identity.eye_line + identity.nose_length) + 0.5 * mouth
    lip_band = step(v - above + 0.02 - 0.5 * u * u, -0.015, 0.025) * step(np.abs(u), 0.25, 0.18)
    lip_band *= step(v - mouth + 0.2 * np.abs(u), 0.02, -0.02)
    chin = step(ellipse(u, v - mouth - 0.16 - drop, 0.155, 0.17), 0.03, -0.03)
    jaw = step(np.asarray(v - 0.2 - 0.28 * (1.0 - (u / identity.half_width) ** 2)), -0.03, 0.06)
    jaw = np.maximum(jaw, step(np.abs(u), 0.33, 0.42) * step(v, -0.02, 0.1))
    cover = {
        "moustache": lip_band,
        "goatee": np.maximum(lip_band, chin),
        "full": np.maximum(np.maximum(jaw, chin), lip_band),
        "stubble": np.maximum(np.maximum(jaw, chin), lip_band) * 0.38,
    }[kind]
    cover = cover * canvas.coverage(head.outline - (0.02 if kind == "full" else 0.0))
    light = np.minimum(identity.hair * 1.05 + 0.02, 1.0)
    canvas.paint_shaded(whole.region, cover * 0.93, identity.hair * 0.62, light, head.lit)
