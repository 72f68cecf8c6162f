"""How a drawn face moves: head pose and expression as curves over time, one recipe a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from vidgen.data.synthetic.curves import Curve, Curves, Manner, draw_manner, pulse, wave
from vidgen.data.synthetic.draws import choose, uniform


class FaceMotion(Curves):
    """Pose and expression, each float32 [T].

    Angles are in radians (yaw to the viewer's right, pitch downwards, roll clockwise), shifts in canvas units.
    ``lids`` is 1 for open eyes, 0 for closed ones, above 1 for wide ones; ``smile`` goes from -1 (corners down)
    to 1; the other expressions go from 0 (neutral) to 1. Left and right are the viewer's.
    """

    rest: ClassVar[Mapping[str, float]] = {"lids_left": 1.0, "lids_right": 1.0}


def _smile(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    period = 1.32 / manner.speed
    gesture = pulse(motion.times, period, (0.12 - manner.start) * period, 0.30 * period, 0.26 * period, 0.3 * period)
    motion.add("smile", 1.15 * manner.strength * gesture)
    motion.add("mouth_open", uniform(rng, 0.1, 0.3) * manner.strength * gesture)
    motion.add("squint", 0.55 * gesture)
    motion.add("brows", 0.2 * gesture)
    motion.add("pitch", -0.05 * gesture)
    motion.add("roll", 0.05 * manner.side * gesture)


def _laugh(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    shake = wave(motion.times, 4.2 * manner.speed, manner.start)
    swell = 0.75 + 0.25 * wave(motion.times, 0.9 * manner.speed, manner.start)
    motion.add("smile", 0.95 * swell)
    motion.add("mouth_open", (0.55 + 0.22 * shake) * swell * manner.strength)
    motion.add("squint", 0.6 * swell)
    motion.add("lids_left", -0.45 * swell)
    motion.add("lids_right", -0.45 * swell)
    motion.add("dy", 0.03 * manner.strength * shake)
    motion.add("pitch", -0.12 + 0.06 * shake)
    motion.add("roll", 0.08 * wave(motion.times, 0.8 * manner.speed, uniform(rng, 0.0, 1.0)))


def _frown(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    period = 1.36 / manner.speed
    gesture = pulse(motion.times, period, (0.12 - manner.start) * period, 0.28 * period, 0.3 * period, 0.28 * period)
    motion.add("furrow", 1.1 * manner.strength * gesture)
    motion.add("smile", -1.0 * manner.strength * gesture)
    motion.add("lids_left", -0.25 * gesture)
    motion.add("lids_right", -0.25 * gesture)
    motion.add("pitch", 0.14 * manner.strength * gesture)
    motion.add("roll", 0.04 * manner.side * gesture)


def _surprise(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    period = 1.3 / manner.speed
    gesture = pulse(motion.times, period, (0.16 - manner.start) * period, 0.15 * period, 0.38 * period, 0.3 * period)
    motion.add("brows", 1.15 * manner.strength * gesture)
    motion.add("lids_left", 0.38 * gesture)
    motion.add("lids_right", 0.38 * gesture)
    motion.add("mouth_open", 0.95 * manner.strength * gesture)
    motion.add("pucker", 0.75 * gesture)
    motion.add("pitch", -0.13 * manner.strength * gesture)
    motion.add("dy", -0.025 * gesture)


def _talk(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    # Syllables of uneven size: a carrier at syllable rate under two slower, unrelated rhythms.
    rate = uniform(rng, 3.0, 3.8) * manner.speed
    phases = rng.random(6)
    carrier = 0.5 + 0.5 * wave(motion.times, rate, float(phases[0]))
    stress = 0.68 + 0.32 * wave(motion.times, rate * 0.381, float(phases[1]))
    motion.add("mouth_open", 0.72 * manner.strength * carrier * stress)
    motion.add("pucker", np.clip(0.75 * wave(motion.times, rate * 0.45, float(phases[2])), -0.25, 0.7))
    motion.add("smile", 0.12 + 0.12 * wave(motion.times, rate * 0.29, float(phases[3])))
    motion.add("pitch", 0.05 * wave(motion.times, rate * 0.31, float(phases[4])))
    motion.add("yaw", 0.07 * wave(motion.times, rate * 0.17, float(phases[5])))
    motion.add("brows", 0.3 * np.clip(stress - 0.7, 0.0, 1.0) / 0.3)


def _blink(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    period = 0.72 / manner.speed
    gesture = pulse(motion.times, period, (0.2 - manner.start) * period, 0.12, 0.06, 0.17)
    motion.add("lids_left", -1.0 * gesture)
    motion.add("lids_right", -1.0 * gesture)
    motion.add("brows", -0.25 * manner.strength * gesture)
    motion.add("squint", 0.3 * manner.strength * gesture)


def _wink(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    period = 0.95 / manner.speed
    gesture = pulse(motion.times, period, (0.2 - manner.start) * period, 0.14, 0.16, 0.22)
    near, far = ("right", "left") if manner.side > 0 else ("left", "right")
    motion.add(f"lids_{near}", -1.0 * gesture)
    motion.add(f"lids_{far}", 0.08 * gesture)
    motion.add(f"cheek_{near}", gesture)
    motion.add("smile", 0.55 * manner.strength * gesture + 0.1)
    motion.add("skew", 0.9 * manner.side * gesture)
    motion.add("roll", 0.11 * manner.side * manner.strength * gesture)


def _nod(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    swing = wave(motion.times, 1.55 * manner.speed, manner.start)
    motion.add("pitch", 0.06 + 0.31 * manner.strength * swing)
    motion.add("dy", 0.02 + 0.05 * manner.strength * swing)
    motion.add("smile", choose(rng, (0.0, 0.15, 0.35)))


def _shake(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    swing = wave(motion.times, 1.35 * manner.speed, manner.start)
    motion.add("yaw", 0.46 * manner.strength * swing)
    motion.add("dx", 0.035 * manner.strength * swing)
    motion.add("furrow", choose(rng, (0.0, 0.2, 0.45)))
    motion.add("smile", choose(rng, (-0.3, 0.0, 0.2)))


def _tilt(motion: FaceMotion, manner: Manner, rng: np.random.Generator) -> None:
    swing = wave(motion.times, 0.85 * manner.speed, manner.start)
    motion.add("roll", 0.2 * manner.strength * swing)
    motion.add("yaw", 0.08 * manner.strength * swing)
    motion.add("smile", choose(rng, (0.0, 0.2, 0.4)))


_RECIPES: dict[str, Callable[[FaceMotion, Manner, np.random.Generator], None]] = {
    "smile": _smile,
    "laugh": _laugh,
    "frown": _frown,
    "surprise": _surprise,
    "talk": _talk,
    "blink": _blink,
    "wink": _wink,
    "nod": _nod,
    "shake": _shake,
    "tilt": _tilt,
}

FACE_MOTIONS: tuple[str, ...] = tuple(_RECIPES)


def face_motion(name: str, rng: np.random.Generator, times: Curve) -> tuple[FaceMotion, Manner]:
    """The curves of a motion at the given times.

    Args:
        name: one of ``FACE_MOTIONS``.
        times: seconds, [T]. A value depends on its own time alone, so a longer clip starts with the shorter one.
    """
    manner = draw_manner(rng)
    motion = FaceMotion(times)
    _idle(motion, rng)
    _RECIPES[name](motion, manner, rng)
    return motion, manner


def _idle(motion: FaceMotion, rng: np.random.Generator) -> None:
    # Nobody holds perfectly still: breathing and a slow sway of about a pixel.
    phases = rng.random(4)
    motion.add("dx", uniform(rng, -0.015, 0.015) + 0.008 * wave(motion.times, 0.41, float(phases[0])))
    motion.add("dy", 0.006 * wave(motion.times, 0.33, float(phases[1])))
    motion.add("roll", 0.015 * wave(motion.times, 0.37, float(phases[2])))
    motion.add("yaw", uniform(rng, -0.06, 0.06) + 0.02 * wave(motion.times, 0.29, float(phases[3])))
