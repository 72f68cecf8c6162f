"""How figures act: joint angles over time, one recipe an action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidgen.data.synthetic.curves import Curve, Manner, cycle, draw_manner, wave
from vidgen.data.synthetic.draws import uniform
from vidgen.data.synthetic.skeleton import Pose

_DEGREE = float(np.pi / 180.0)


@dataclass(frozen=True)
class Staging:
    """How an action is seen.

    Attributes:
        facing: usual angle between the figure's front and the viewer, radians; a clip mirrors it or not.
        anchor: which feet stay in place, as in ``skeleton.joints``.
    """

    facing: float
    anchor: str


def _degrees(pose: Pose, channel: str, curve: Curve | float) -> None:
    pose.add(channel, np.asarray(curve, np.float32) * np.float32(_DEGREE))


def _phase(pose: Pose, manner: Manner, period: float) -> Curve:
    return pose.times * (manner.speed / period) + manner.start


# Angles of hip, knee and ankle over a stride that starts as the heel meets the floor: the standard curves of gait
# analysis, reduced to keyframes.
_WALK_HIP = ((0.0, 28.0), (0.12, 22.0), (0.3, 4.0), (0.5, -14.0), (0.6, -7.0), (0.75, 20.0), (0.87, 31.0))
_WALK_KNEE = ((0.0, 5.0), (0.14, 18.0), (0.38, 5.0), (0.5, 12.0), (0.62, 42.0), (0.72, 62.0), (0.85, 34.0), (0.95, 6.0))
_WALK_ANKLE = ((0.0, 2.0), (0.08, -6.0), (0.42, 12.0), (0.62, -20.0), (0.78, 2.0), (0.9, 3.0))
_RUN_HIP = ((0.0, 36.0), (0.15, 22.0), (0.36, -16.0), (0.48, -10.0), (0.66, 38.0), (0.8, 54.0), (0.92, 44.0))
_RUN_KNEE = ((0.0, 22.0), (0.14, 42.0), (0.34, 18.0), (0.5, 62.0), (0.64, 108.0), (0.78, 84.0), (0.92, 24.0))
_RUN_ANKLE = ((0.0, 4.0), (0.15, 18.0), (0.36, -24.0), (0.55, -8.0), (0.8, 6.0))


def _walk(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 0.88)
    reach = 0.85 + 0.3 * manner.strength
    for name, offset in (("left", 0.0), ("right", 0.5)):
        own = phase + np.float32(offset)
        _degrees(pose, f"hip_{name}", reach * cycle(own, _WALK_HIP))
        _degrees(pose, f"knee_{name}", reach * cycle(own, _WALK_KNEE))
        _degrees(pose, f"ankle_{name}", cycle(own, _WALK_ANKLE))
        swing = -wave(own, 1.0, 0.25)
        _degrees(pose, f"shoulder_{name}", 30.0 * manner.strength * swing)
        _degrees(pose, f"elbow_{name}", 22.0 + 14.0 * swing)
        _degrees(pose, f"raise_{name}", 7.0)
    _degrees(pose, "lean", uniform(rng, 2.0, 6.0))
    _degrees(pose, "pelvis_twist", -7.0 * wave(phase, 1.0, 0.25))
    _degrees(pose, "twist", 7.0 * wave(phase, 1.0, 0.25))


def _run(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 0.62)
    reach = 0.75 + 0.3 * manner.strength
    for name, offset in (("left", 0.0), ("right", 0.5)):
        own = phase + np.float32(offset)
        _degrees(pose, f"hip_{name}", reach * cycle(own, _RUN_HIP))
        _degrees(pose, f"knee_{name}", reach * cycle(own, _RUN_KNEE))
        _degrees(pose, f"ankle_{name}", cycle(own, _RUN_ANKLE))
        swing = -wave(own, 1.0, 0.36)
        _degrees(pose, f"shoulder_{name}", -4.0 + 42.0 * reach * swing)
        _degrees(pose, f"elbow_{name}", 92.0 + 16.0 * swing)
        _degrees(pose, f"raise_{name}", 10.0)
        _degrees(pose, f"turn_{name}", -16.0)
    # Both feet leave the floor between the push of one leg and the landing of the other.
    pose.add("air", 0.075 * manner.strength * np.clip(wave(phase, 2.0, 0.02 + 0.58), 0.0, 1.0))
    _degrees(pose, "lean", uniform(rng, 9.0, 15.0))
    _degrees(pose, "nod", -6.0)
    _degrees(pose, "pelvis_twist", -9.0 * wave(phase, 1.0, 0.36))
    _degrees(pose, "twist", 11.0 * wave(phase, 1.0, 0.36))


def _crouch(pose: Pose, depth: Curve) -> None:
    """Bend hips, knees and ankles together, so that the feet stay under the body; ``depth`` in degrees."""
    for name in ("left", "right"):
        _degrees(pose, f"hip_{name}", depth)
        _degrees(pose, f"knee_{name}", 2.0 * depth)
        _degrees(pose, f"ankle_{name}", depth)


def _jump(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 0.98)
    depth = cycle(
        phase,
        (
            (0.0, 6.0),
            (0.12, 30.0),
            (0.24, 48.0),
            (0.34, 8.0),
            (0.42, 0.0),
            (0.56, 8.0),
            (0.66, 10.0),
            (0.76, 42.0),
            (0.9, 16.0),
        ),
    )
    _crouch(pose, np.clip(depth, 0.0, None) * (0.7 + 0.3 * manner.strength))
    flight = np.clip((np.mod(phase, 1.0) - 0.36) / 0.32, 0.0, 1.0)
    pose.add("air", 0.28 * manner.strength * 4.0 * flight * (1.0 - flight))
    up = np.clip(4.0 * flight * (1.0 - flight), 0.0, 1.0)
    arms = cycle(phase, ((0.0, 0.0), (0.2, -48.0), (0.36, 70.0), (0.5, 138.0), (0.68, 75.0), (0.84, 5.0)))
    for name in ("left", "right"):
        _degrees(pose, f"shoulder_{name}", arms)
        _degrees(pose, f"elbow_{name}", 18.0 + 20.0 * up)
        _degrees(pose, f"raise_{name}", 10.0)
        _degrees(pose, f"ankle_{name}", -34.0 * up)
    _degrees(pose, "lean", 0.62 * np.clip(depth, 0.0, 60.0))


def _jumping_jack(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 0.84)
    out = cycle(phase, ((0.0, 0.0), (0.14, 0.12), (0.4, 1.0), (0.58, 0.98), (0.86, 0.06)))
    moving = np.clip(np.abs(wave(phase, 1.0, 0.0)) * 1.6 - 0.6, 0.0, 1.0)
    for name in ("left", "right"):
        _degrees(pose, f"spread_{name}", 2.0 + 27.0 * (0.7 + 0.3 * manner.strength) * out)
        _degrees(pose, f"raise_{name}", 12.0 + 146.0 * out)
        _degrees(pose, f"elbow_{name}", 10.0 + 16.0 * np.sin(np.pi * np.clip(out, 0.0, 1.0)))
        _degrees(pose, f"turn_{name}", 90.0)
    _crouch(pose, 9.0 * (1.0 - moving))
    pose.add("air", 0.11 * manner.strength * moving)


def _rest_arm(pose: Pose, name: str) -> None:
    _degrees(pose, f"raise_{name}", 9.0)
    _degrees(pose, f"elbow_{name}", 16.0)


def _wave_one(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    beat = wave(pose.times, 1.75 * manner.speed, manner.start)
    name, other = ("left", "right") if manner.side > 0 else ("right", "left")
    _degrees(pose, f"raise_{name}", 108.0 + 8.0 * beat)
    _degrees(pose, f"turn_{name}", 86.0)
    _degrees(pose, f"elbow_{name}", 62.0 - 44.0 * manner.strength * beat)
    _rest_arm(pose, other)
    _degrees(pose, "bend", -manner.side * (4.0 + 1.5 * beat))
    _degrees(pose, "look", 6.0 * manner.side)
    _degrees(pose, "spread_left", 5.0)
    _degrees(pose, "spread_right", 5.0)
    pose.add("shift_x", -0.02 * manner.side * (1.0 + 0.4 * beat))


def _wave_two(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    beat = wave(pose.times, 1.3 * manner.speed, manner.start)
    for name in ("left", "right"):
        _degrees(pose, f"raise_{name}", 112.0 + 40.0 * manner.strength * beat)
        _degrees(pose, f"turn_{name}", 88.0)
        _degrees(pose, f"elbow_{name}", 26.0 - 20.0 * beat)
        _degrees(pose, f"spread_{name}", 7.0)
    _crouch(pose, 3.0 + 3.0 * beat)


def _bend(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 1.42)
    fold = np.clip(
        cycle(phase, ((0.0, 0.0), (0.12, 0.1), (0.36, 0.95), (0.48, 1.0), (0.58, 0.95), (0.86, 0.06))), 0.0, 1.0
    )
    amount = 0.8 + 0.2 * manner.strength
    _degrees(pose, "lean", 104.0 * amount * fold)
    _degrees(pose, "nod", 12.0 * fold)
    for name in ("left", "right"):
        # The arms hang down from the leaning trunk.
        _degrees(pose, f"shoulder_{name}", 100.0 * amount * fold + 2.0)
        _degrees(pose, f"elbow_{name}", 14.0 - 8.0 * fold)
        _degrees(pose, f"raise_{name}", 8.0 - 5.0 * fold)
        _degrees(pose, f"hip_{name}", -6.0 * fold)
        _degrees(pose, f"knee_{name}", 8.0 * fold)
        _degrees(pose, f"ankle_{name}", 14.0 * fold)
        _degrees(pose, f"spread_{name}", 3.0)


def _side_step(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 1.36)
    # One step to the side and one back; a foot that stands does not slide. Places in leg lengths.
    stride = 0.52 + 0.12 * manner.strength
    names = ("left", "right") if manner.side > 0 else ("right", "left")
    spans = (((0.02, 0.22), (0.76, 0.98)), ((0.26, 0.48), (0.52, 0.74)))
    places = [_steps(phase, span) for span in spans]
    centre = 0.5 * (places[0] + places[1])
    for name, place, span, side in zip(names, places, spans, (1.0, -1.0), strict=True):
        offset = side * stride * (place - centre)
        lifted = _hump(phase, *span[0]) + _hump(phase, *span[1])
        pose.add(f"spread_{name}", np.arcsin(np.clip(offset, -0.9, 0.9)))
        for value, joint in ((18.0, "hip"), (40.0, "knee"), (-6.0, "ankle")):
            _degrees(pose, f"{joint}_{name}", value * lifted)
        _degrees(pose, f"raise_{name}", 24.0 + 120.0 * np.abs(offset))
        _degrees(pose, f"elbow_{name}", 40.0)
        _degrees(pose, f"turn_{name}", 40.0)
    pose.add("shift_x", manner.side * stride * (centre - 0.5))


def _steps(phase: Curve, changes: tuple[tuple[float, float], tuple[float, float]]) -> Curve:
    """0, then 1, then 0 again over a cycle, with smooth changes during the two spans."""
    place = np.mod(phase, 1.0)
    (up_start, up_end), (down_start, down_end) = changes
    up = np.clip((place - up_start) / (up_end - up_start), 0.0, 1.0)
    down = np.clip((place - down_start) / (down_end - down_start), 0.0, 1.0)
    return up * up * (3.0 - 2.0 * up) - down * down * (3.0 - 2.0 * down)


def _hump(phase: Curve, start: float, end: float) -> Curve:
    place = np.clip((np.mod(phase, 1.0) - start) / (end - start), 0.0, 1.0)
    return np.sin(np.pi * place) ** 2


def _kick(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 1.02)
    force = 0.75 + 0.25 * manner.strength
    # Stand on the left leg, kick with the right one.
    _degrees(
        pose,
        "hip_right",
        force
        * cycle(phase, ((0.0, 0.0), (0.2, -30.0), (0.32, 20.0), (0.46, 88.0), (0.56, 84.0), (0.74, 34.0), (0.9, 4.0))),
    )
    _degrees(
        pose,
        "knee_right",
        np.clip(
            cycle(phase, ((0.0, 8.0), (0.2, 72.0), (0.32, 82.0), (0.46, 6.0), (0.56, 8.0), (0.72, 58.0), (0.88, 16.0))),
            0.0,
            120.0,
        ),
    )
    _degrees(pose, "ankle_right", -18.0 * _hump(phase, 0.3, 0.7))
    strike = cycle(phase, ((0.0, 0.0), (0.2, -0.25), (0.46, 1.0), (0.58, 0.9), (0.85, 0.0)))
    for value, channel in ((6.0, "hip_left"), (14.0, "knee_left"), (7.0, "ankle_left")):
        _degrees(pose, channel, value * (1.0 + 0.3 * strike))
    _degrees(pose, "lean", 4.0 - 18.0 * strike)
    _degrees(pose, "twist", 16.0 * strike)
    _degrees(pose, "shoulder_left", 20.0 + 46.0 * strike)
    _degrees(pose, "shoulder_right", 14.0 - 52.0 * strike)
    for name in ("left", "right"):
        _degrees(pose, f"elbow_{name}", 58.0 - 22.0 * strike)
        _degrees(pose, f"raise_{name}", 16.0 + 10.0 * strike)
    _degrees(pose, "nod", 6.0)


def _box(pose: Pose, manner: Manner, rng: np.random.Generator) -> None:
    phase = _phase(pose, manner, 0.86)
    # Left leg in front; jab with the left, cross with the right.
    jab = _hump(phase, 0.02, 0.46)
    cross = _hump(phase, 0.5, 0.98)
    for name, hit in (("left", jab), ("right", cross)):
        _degrees(pose, f"shoulder_{name}", 38.0 + 54.0 * hit)
        _degrees(pose, f"elbow_{name}", 122.0 - 116.0 * hit)
        _degrees(pose, f"raise_{name}", 12.0 - 6.0 * hit)
        _degrees(pose, f"turn_{name}", -14.0 * (1.0 - hit))
    bounce = 0.5 + 0.5 * wave(phase, 2.0, 0.1)
    _degrees(pose, "hip_left", 24.0 + 4.0 * bounce)
    _degrees(pose, "knee_left", 30.0 + 8.0 * bounce)
    _degrees(pose, "ankle_left", 6.0)
    _degrees(pose, "hip_right", -8.0 + 4.0 * bounce)
    _degrees(pose, "knee_right", 28.0 + 8.0 * bounce)
    _degrees(pose, "ankle_right", 8.0)
    _degrees(pose, "twist", 30.0 * manner.strength * (cross - jab) - 6.0)
    _degrees(pose, "pelvis_twist", 10.0 * (cross - jab))
    _degrees(pose, "lean", 9.0 + 7.0 * (jab + cross))
    _degrees(pose, "nod", 4.0)
    pose.add("shift_z", 0.05 * (jab + cross))


_SIDE, _THREE_QUARTERS, _FRONT = 1.3, 1.0, 0.12

_RECIPES: dict[str, tuple[Callable[[Pose, Manner, np.random.Generator], None], Staging]] = {
    "walk": (_walk, Staging(_SIDE, "none")),
    "run": (_run, Staging(_SIDE, "none")),
    "jump": (_jump, Staging(_THREE_QUARTERS, "none")),
    "jumping-jack": (_jumping_jack, Staging(_FRONT, "none")),
    "wave-one": (_wave_one, Staging(_FRONT, "none")),
    "wave-two": (_wave_two, Staging(_FRONT, "none")),
    "bend": (_bend, Staging(_SIDE, "both")),
    "side-step": (_side_step, Staging(_FRONT, "none")),
    "kick": (_kick, Staging(_SIDE, "left")),
    "box": (_box, Staging(_SIDE, "none")),
}

ACTIONS: tuple[str, ...] = tuple(_RECIPES)


def action_motion(name: str, rng: np.random.Generator, times: Curve) -> tuple[Pose, Staging, Manner]:
    """The joint angles of an action at the given times, and how it is seen.

    Args:
        name: one of ``ACTIONS``.
        times: seconds, [T]. A pose depends on its own time alone, so a longer clip starts with the shorter one.
    """
    recipe, staging = _RECIPES[name]
    manner = draw_manner(rng)
    # Unlike expressions, actions have no neutral beginning: they may start anywhere in their cycle.
    manner = Manner(manner.strength, manner.speed, uniform(rng, 0.0, 1.0), manner.side)
    pose = Pose(times)
    _breathe(pose, rng)
    recipe(pose, manner, rng)
    return pose, staging, manner


def _breathe(pose: Pose, rng: np.random.Generator) -> None:
    phases = rng.random(3)
    _degrees(pose, "lean", 1.2 * wave(pose.times, 0.4, float(phases[0])))
    _degrees(pose, "look", 4.0 * wave(pose.times, 0.3, float(phases[1])))
    _degrees(pose, "bend", 1.0 * wave(pose.times, 0.35, float(phases[2])))
