"""Backgrounds of the action clips, indoors and outdoors, painted without outlines in muted colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidgen.data.synthetic.canvas import Array, Canvas, Region, circle, mix, rounded_box, step
from vidgen.data.synthetic.draws import rgb, uniform


@dataclass(frozen=True)
class Framing:
    """What differs between two clips in the same place.

    Attributes:
        horizon: y coordinate where wall or sky meets the floor.
        shift: how far the background lies to the right.
        brightness: multiplies all colours.
    """

    horizon: float
    shift: float
    brightness: float


def framing(rng: np.random.Generator) -> Framing:
    """Framing of a clip."""
    return Framing(uniform(rng, 0.56, 0.62), uniform(rng, -0.12, 0.12), uniform(rng, 0.94, 1.04))


class _Painter:
    """A canvas with the helpers that scenes share."""

    def __init__(self, canvas: Canvas, frame: Framing) -> None:
        self.canvas, self.frame = canvas, frame
        region = canvas.whole()
        self.region: Region = region
        self.x: Array = region.x + 0 * region.y - np.float32(frame.shift)
        self.y: Array = region.y + 0 * region.x - np.float32(frame.horizon)

    def fill(self, distance: Array, colour: str | Array, opacity: float = 1.0) -> None:
        paint = rgb(colour) if isinstance(colour, str) else colour
        self.canvas.paint(self.region, self.canvas.coverage(np.asarray(distance, np.float32)) * opacity, paint)

    def blend(self, share: Array, colour: str) -> None:
        self.canvas.paint(self.region, np.asarray(share, np.float32), rgb(colour))

    def backdrop(self, top: str, bottom: str) -> None:
        self.canvas.pixels[:] = mix(rgb(top), rgb(bottom), step(self.y, -1.6, 0.0))

    def floor(self, far: str, near: str) -> None:
        self.fill(-self.y, mix(rgb(far), rgb(near), step(self.y, 0.0, 0.42)))


def _studio(p: _Painter) -> None:
    p.backdrop("b9c7d6", "dfe6ec")
    glow = np.exp(-(((p.x + 0.2) / 0.7) ** 2) - ((p.y + 0.8) / 0.6) ** 2)
    p.blend(glow * 0.5, "f6f8fa")
    # A rounded cyclorama: wall runs into floor without an edge.
    p.blend(step(p.y, -0.14, 0.12), "c9d1d9")
    p.blend(step(p.y, 0.08, 0.5) * 0.6, "e8ecef")


def _park(p: _Painter) -> None:
    p.backdrop("7fb9e6", "d3eaf5")
    for x, y, r in (
        (-0.62, -1.16, 0.15),
        (-0.44, -1.2, 0.19),
        (-0.24, -1.15, 0.13),
        (0.5, -0.98, 0.12),
        (0.66, -1.0, 0.15),
    ):
        p.blend(step(circle(p.x - x, (p.y - y) * 1.5, r), 0.04, -0.04) * 0.85, "ffffff")
    hills = p.y + 0.16 + 0.09 * np.sin(p.x * 3.1 + 0.6)
    p.fill(-hills, "8fc08a")
    for x, size in ((-0.82, 0.25), (0.78, 0.3), (0.34, 0.15)):
        p.fill(rounded_box(p.x - x, p.y + size * 0.4, 0.028, size * 0.6, 0.01), "7b5a41")
        p.fill(circle(p.x - x, p.y + size * 1.45, size * 0.78), "5b9a5f")
        p.blend(step(circle(p.x - x + 0.06, p.y + size * 1.62, size * 0.4), 0.1, -0.1) * 0.5, "86bd78")
    p.floor("7cb56b", "95c77c")


def _beach(p: _Painter) -> None:
    p.backdrop("8ecdf0", "e3f3f5")
    p.fill(circle(p.x - 0.58, p.y + 1.08, 0.13), "fff3c4")
    p.fill(-(p.y + 0.3), mix(rgb("3f9cc0"), rgb("74c3cf"), step(p.y, -0.3, -0.02)))
    for row in range(3):
        level = p.y + 0.22 - 0.085 * row + 0.012 * np.sin(p.x * 9.0 + 2.1 * row)
        p.blend(np.exp(-((level / 0.014) ** 2)) * (0.3 + 0.15 * row), "ffffff")
    p.floor("e6cf9c", "f1e0b8")


def _brick(p: _Painter) -> None:
    p.backdrop("b8705a", "a9614d")
    height, width = 0.15, 0.36
    row = np.floor(p.y / height)
    across = np.mod(p.x + 0.5 * width * np.mod(row, 2.0), width) - 0.5 * width
    down = np.mod(p.y, height) - 0.5 * height
    tone = np.sin(row * 12.9 + np.floor((p.x + 0.5 * width * np.mod(row, 2.0)) / width) * 78.2)
    brick = p.canvas.coverage(rounded_box(across, down, 0.5 * width - 0.012, 0.5 * height - 0.012, 0.012))
    p.blend((1.0 - brick) * 0.75, "cfa38e")
    p.blend(brick * np.clip(tone, 0.0, 1.0) * 0.3, "8d4a3a")
    p.floor("8b8f96", "a5a9ae")
    p.blend(step(np.abs(p.y - 0.01), 0.03, 0.0) * 0.6, "6c6f75")


def _gym(p: _Painter) -> None:
    p.backdrop("cfe0e4", "dbe7e6")
    p.fill(np.abs(p.y + 0.62) - 0.07, "4f9fb0")
    p.fill(np.abs(p.y + 0.48) - 0.018, "e7a34a")
    p.floor("c99457", "ddb077")
    for k in range(-4, 5):
        # Boards run towards the viewer.
        edge = p.x - 0.34 * k * (1.0 + 0.9 * p.y)
        p.blend(np.exp(-((edge / 0.012) ** 2)) * step(p.y, -0.005, 0.01) * 0.35, "a8763f")
    p.fill(np.abs(p.y + 0.0) - 0.022, "8e6238")


def _street(p: _Painter) -> None:
    p.backdrop("a9c6dd", "e4ebee")
    for x, width, height, tone in (
        (-0.86, 0.24, 1.02, "b98f7b"),
        (-0.36, 0.24, 0.74, "8fa0ad"),
        (0.16, 0.26, 0.94, "c9b28c"),
        (0.72, 0.28, 0.66, "9b8397"),
    ):
        p.fill(rounded_box(p.x - x, p.y + 0.5 * height, width, 0.5 * height, 0.01), tone)
        for column in (-0.11, 0.11):
            for level in range(1, int(height / 0.24) + 1):
                window = rounded_box(p.x - x - column, p.y + 0.24 * level - 0.04, 0.055, 0.065, 0.01)
                p.fill(window, "e9eef0", 0.75)
    p.floor("8d9199", "7b7f87")
    p.fill(np.abs(p.y - 0.03) - 0.035, "b9bcc0")


def _room(p: _Painter) -> None:
    p.backdrop("d9c3a5", "e6d5bb")
    stripe = 0.5 + 0.5 * np.sin(p.x * 22.0)
    p.blend(step(stripe, 0.35, 0.65) * 0.22, "c9ab86")
    p.fill(rounded_box(p.x + 0.56, p.y + 0.88, 0.27, 0.32, 0.02), "f7f3ea")
    p.fill(
        rounded_box(p.x + 0.56, p.y + 0.88, 0.23, 0.28, 0.01), mix(rgb("8fc3e8"), rgb("d6ebf3"), step(p.y, -1.2, -0.6))
    )
    p.fill(
        np.minimum(np.abs(p.x + 0.56) - 0.018, np.abs(p.y + 0.88) - 0.018)
        + 10.0 * np.maximum(rounded_box(p.x + 0.56, p.y + 0.88, 0.24, 0.29, 0.01), 0.0),
        "f7f3ea",
    )
    p.fill(rounded_box(p.x - 0.62, p.y + 0.94, 0.2, 0.16, 0.01), "6f8f7c")
    p.fill(rounded_box(p.x - 0.62, p.y + 0.94, 0.165, 0.125, 0.01), "efe3c8")
    p.floor("8a5f41", "a6764f")
    p.fill(np.abs(p.y + 0.03) - 0.035, "f4eee2")


def _court(p: _Painter) -> None:
    p.backdrop("6fa9dc", "c4e0f0")
    p.fill(-(p.y + 0.42), "5f8f66")
    p.blend(step(np.sin(p.x * 30.0), 0.8, 1.0) * step(-p.y, 0.0, 0.02) * step(p.y, -0.44, -0.4) * 0.5, "3f6d4c")
    p.blend(
        step(np.sin((p.y + 0.42) * 40.0), 0.86, 1.0) * step(-p.y, 0.0, 0.02) * step(p.y, -0.44, -0.4) * 0.4, "3f6d4c"
    )
    p.floor("b5573f", "c9674b")
    p.fill(np.abs(p.y - 0.09) - 0.014, "f4efe6")
    p.fill(np.maximum(np.abs(p.x - 0.25 * (p.y + 1.0)) - 0.016, -(p.y - 0.09)), "f4efe6")


def _sunset(p: _Painter) -> None:
    p.backdrop("5b5f9c", "f7a873")
    p.blend(np.exp(-(((p.y + 0.28) / 0.3) ** 2)) * 0.55, "ffd08a")
    p.fill(circle(p.x - 0.34, p.y + 0.22, 0.2), "ffe2a6")
    p.fill(-(p.y + 0.15 + 0.07 * np.sin(p.x * 2.6 + 1.0) + 0.03 * np.sin(p.x * 7.0)), "7a5a86")
    p.fill(-(p.y + 0.06 + 0.05 * np.sin(p.x * 3.8 + 2.7)), "5d4a78")
    p.floor("8a6a70", "a68076")


def _snow(p: _Painter) -> None:
    p.backdrop("a9bfd9", "e9f0f6")
    for x, height in ((-0.55, 0.62), (0.12, 0.8), (0.75, 0.58)):
        peak = p.y + height - 1.05 * np.abs(p.x - x)
        p.fill(-peak * 0.7, "8ba2bf")
        p.fill(np.maximum(-peak * 0.7, p.y + height - 0.2 - 0.03 * np.sin(p.x * 26.0)), "f6f9fc")
    for x, size in ((-0.86, 0.3), (-0.62, 0.22), (0.86, 0.34)):
        cone = np.maximum(np.abs(p.x - x) - 0.42 * (p.y + size * 1.5) * 0.6, p.y + 0.02)
        p.fill(cone, "4f7a6c")
    p.floor("dfe8f1", "f5f8fb")


SCENES: dict[str, Callable[[_Painter], None]] = {
    "studio": _studio,
    "park": _park,
    "beach": _beach,
    "brick": _brick,
    "gym": _gym,
    "street": _street,
    "room": _room,
    "court": _court,
    "sunset": _sunset,
    "snow": _snow,
}


def scene(name: str, frame: Framing, canvas: Canvas) -> Array:
    """Paint a background on a canvas of one frame; float32 [3, 1, size, size]."""
    SCENES[name](_Painter(canvas, frame))
    canvas.pixels *= np.float32(frame.brightness)
    return np.clip(canvas.pixels, 0.0, 1.0, out=canvas.pixels)
