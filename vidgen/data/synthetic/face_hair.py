"""Hair and hats of a drawn person."""

from __future__ import annotations

import numpy as np

from vidgen.data.synthetic.canvas import Array, circle, ellipse, mix, per_frame, rounded_box, step
from vidgen.data.synthetic.face_frame import Head
from vidgen.data.synthetic.face_skin import skin_shadow

_LONG = ("long", "long wavy")
_CURTAINS = ("bob", "long", "long wavy")


def paint_back_hair(head: Head) -> None:
    """Hair behind head and neck."""
    identity, canvas, whole = head.identity, head.canvas, head.whole
    style = identity.hair_style
    a, b = identity.half_width, identity.half_height
    # It hangs behind the head, so it moves against a turn.
    x = whole.x + 0.07 * np.sin(head.yaw)
    y = whole.y
    if style in ("bob", "fringe bob"):
        distance = rounded_box(x, y - 0.06, a * 1.2, b * 1.02, 0.3)
    elif style in _LONG:
        wave = 0.035 * np.sin(y * 11.0) if style == "long wavy" else 0.0
        grow = 0.12 * np.clip(y + 0.2, 0.0, 1.2)
        distance = rounded_box(np.abs(x) - grow + wave, y - 0.45, a * 1.16, b * 1.75, 0.4)
    elif style == "ponytail":
        tail = x - identity.part_side * (a * 1.05 + 0.1 * np.sin((y + 0.3) * 2.4)) + 0.05 * np.sin(head.roll) * y
        distance = ellipse(np.asarray(tail, np.float32), y - 0.2, 0.15, 0.5)
    elif style == "bun":
        distance = circle(x, y + b * 1.07 + 0.08 * np.sin(head.pitch), 0.2)
    else:
        return
    light = step(np.sin(x * 42.0), -1.2, 1.4) * 0.5 + step(y, 0.5, -0.8) * 0.5
    cover = canvas.coverage(distance)
    canvas.paint_shaded(whole.region, cover, identity.hair * 0.5, identity.hair * 0.86, light)


def paint_front_hair(head: Head) -> None:
    """Hair on the skull and in front of the face."""
    style = head.identity.hair_style
    if style == "bald":
        return
    if style not in (*_CURTAINS, "fringe bob"):
        head = head.rows(-0.92, 0.3)
    identity, canvas, whole = head.identity, head.canvas, head.whole
    outer = _above_ears(head, _outline(head))
    line = _hair_line(head)
    above = line - whole.v
    # The hair's shadow on the forehead.
    shadow = step(above, -0.09, 0.0) * canvas.coverage(head.outline) * 0.28
    if style != "buzz":
        canvas.paint(whole.region, shadow, skin_shadow(identity.skin))
    soft = 0.035 if style in ("buzz", "receding") else 0.0
    edge = step(above, -soft, soft) if soft else canvas.coverage(-above * 0.8)
    cover = canvas.coverage(outer) * edge
    if style == "buzz":
        cover = cover * 0.78
    light = _shine(head)
    canvas.paint_shaded(whole.region, cover, identity.hair * 0.5, identity.hair * 1.16 + 0.03, light)


def _shine(head: Head) -> Array:
    """How bright the hair is, [T, h, w]: the light, strands and a gloss across them."""
    identity, whole = head.identity, head.whole
    lx, ly, _ = head.setting.light
    base = head.lit
    if identity.hair_style in ("curly", "afro"):
        strands = 0.5 + 0.5 * np.sin(whole.u * 38.0) * np.sin(whole.v * 36.0)
        gloss = np.zeros_like(base)
    else:
        side = identity.part_side if identity.hair_style == "side part" else 0.0
        strands = 0.5 + 0.5 * np.sin((whole.u + side * 0.5 * whole.v) * 46.0)
        band = (whole.v + 0.5 * head.identity.half_height + 0.14 * np.abs(ly)) / 0.1
        gloss = np.exp(-(band * band)) * np.clip(1.0 - np.abs(whole.u - 0.3 * lx) * 2.2, 0.0, 1.0)
    level: Array = 0.1 + 0.85 * base + 0.16 * (strands - 0.5) + 0.35 * gloss
    return np.clip(level, 0.0, 1.25, out=level)


def _outline(head: Head) -> Array:
    """Signed distance to the outer edge of the hair."""
    identity, whole = head.identity, head.whole
    style, a, b = identity.hair_style, identity.half_width, identity.half_height
    x = whole.x + 0.03 * np.sin(head.yaw)
    y = whole.y - 0.06 * np.sin(head.pitch)
    if style == "afro":
        bumps = 0.02 * np.sin(np.arctan2(y + 0.12, x) * 17.0)
        return ellipse(x, y + 0.16, a * 1.42, b * 1.12) + np.asarray(bumps, np.float32)
    cap = ellipse(x, y + 0.02, a * 1.07, b * 1.07)
    if style == "receding":
        return head.outline - np.float32(0.004)
    if style in ("buzz", "bun", "ponytail"):
        return ellipse(x, y, a * 1.035, b * 1.01)
    if style == "curly":
        bumps = 0.035 * np.abs(np.sin(np.arctan2(y + 0.1, x) * 8.0))
        return ellipse(x, y + 0.06, a * 1.14, b * 1.1) - np.asarray(bumps, np.float32)
    if style == "spiky":
        angle = np.arctan2(y, x)
        tooth = np.abs(np.mod(angle * (9.0 / np.pi), 1.0) - 0.5) * 2.0
        height = 0.16 * step(y, -0.28, -0.55)
        return cap - height * tooth + 0.02
    if style == "quiff":
        lean = identity.part_side * 0.12
        return np.minimum(cap, ellipse(x - lean, y + b * 0.88, a * 0.78, 0.23))
    if style in (*_CURTAINS, "fringe bob"):
        length = 0.95 if style in _LONG else b * 0.92
        wave = 0.02 * np.sin(y * 13.0) if style == "long wavy" else 0.0
        side = rounded_box(x, y - 0.5 * length + 0.12, a * 1.13, 0.5 * length + 0.12, 0.2)
        top = ellipse(x, y + 0.02, a * 1.13, b * 1.09)
        return np.asarray(np.minimum(top, side + wave), np.float32)
    return cap


def _above_ears(head: Head, outer: Array) -> Array:
    """Keep short hair on the head beside the face, where a turned head would show it hanging in the air."""
    style, whole = head.identity.hair_style, head.whole
    if style in (*_CURTAINS, "fringe bob"):
        return outer
    end = {"afro": 0.04, "curly": -0.14}.get(style, -0.16)
    slope = 2.2 * np.maximum(end - whole.y + 0.08 * np.sin(head.pitch), 0.0)
    limit: Array = head.outline - 0.018 - slope
    return np.maximum(outer, limit, out=limit)


def _hair_line(head: Head) -> Array:
    """The v coordinate where the hair ends, for every u."""
    identity, whole = head.identity, head.whole
    style, a, line = identity.hair_style, identity.half_width, identity.hair_line
    u = whole.u * np.float32(1.0 / a)
    wide = np.abs(u)
    # Sideburns follow the outline of the head, which is narrower at the temples than at the ears.
    local = np.sqrt(np.clip(1.0 - (whole.v * np.float32(1.0 / identity.half_height)) ** 2, 0.15, 1.0))
    burns = step(wide / local, 0.8, 0.97)
    if style in _CURTAINS:
        part = u - 0.2 * identity.part_side
        curtain = line - 0.12 + 0.44 * part * part
        place = curtain + 1.6 * step(wide, 0.78, 0.98)
    elif style == "fringe bob":
        fringe = line + 0.135 + 0.012 * np.sin(whole.u * 30.0) - 0.05 * (1.0 - u * u)
        place = fringe + 1.5 * step(wide, 0.76, 0.94)
    elif style == "side part":
        sweep = (u * identity.part_side + 0.4) / 1.4
        swoop = np.where(sweep > 0, 0.2 * sweep * sweep, 0.9 * sweep * sweep)
        place = line - 0.07 + swoop + 0.3 * burns
    elif style == "receding":
        place = line - 0.22 + 0.34 * step(wide, 0.5, 0.95) + 0.22 * burns
    elif style in ("curly", "afro"):
        place = line - 0.02 + 0.022 * np.sin(whole.x * 34.0) + 0.32 * burns
    elif style in ("bun", "ponytail"):
        place = line - 0.04 + 0.1 * u * u + 0.12 * burns
    elif style in ("spiky", "quiff"):
        place = line - 0.03 + 0.03 * np.sin(whole.u * 26.0) + 0.3 * burns
    else:
        place = line + 0.04 * u * u + 0.3 * burns
    return np.asarray(place, np.float32)


def paint_hat(head: Head) -> None:
    """Beanie, cap or headband."""
    if head.identity.hat == "none":
        return
    head = head.rows(-0.92, 0.1)
    identity, canvas, whole = head.identity, head.canvas, head.whole
    a, b, line = identity.half_width, identity.half_height, identity.hair_line
    u = whole.u * np.float32(1.0 / a)
    tone = identity.hat_colour
    shade = mix(tone * 0.6, np.minimum(tone * 1.12, 1.0), head.lit)
    outer = ellipse(whole.x, whole.y + 0.04, a * 1.12, b * 1.1)
    edge = line + 0.05 + 0.05 * u * u
    if identity.hat == "headband":
        band = np.maximum(np.abs(whole.v - edge + 0.06) - 0.05, outer)
        canvas.paint(whole.region, canvas.coverage(np.asarray(band, np.float32)), shade)
        return
    crown = np.maximum(whole.v - edge, outer)
    if identity.hat == "beanie":
        ribs = 0.9 + 0.1 * np.sin(whole.u * 60.0)
        canvas.paint(whole.region, canvas.coverage(crown), shade * ribs)
        cuff = np.maximum(np.abs(whole.v - edge + 0.05) - 0.055, ellipse(whole.x, whole.y + 0.04, a * 1.15, b * 1.12))
        canvas.paint(whole.region, canvas.coverage(np.asarray(cuff, np.float32)), shade * 0.8)
        return
    canvas.paint(whole.region, canvas.coverage(crown), shade)
    centre = per_frame(np.full(1, line + 0.06))
    brim = ellipse(whole.u, whole.v - centre, a * 0.92, 0.085)
    canvas.paint(whole.region, canvas.coverage(brim), shade * 0.72)
