"""Clips of acting figures: who, what, where, and the painting."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.action_motion import ACTIONS, action_motion
from vidgen.data.synthetic.actors import ACTORS
from vidgen.data.synthetic.canvas import Canvas, frame_blocks
from vidgen.data.synthetic.draws import balanced_actor, balanced_label, clip_generator, sign, uniform
from vidgen.data.synthetic.figure import Stage, paint_figure
from vidgen.data.synthetic.scenes import framing, scene
from vidgen.data.synthetic.skeleton import joints

#: y coordinate of the floor under a figure.
_FLOOR = 0.8
_REACH = 0.91
_MIDDLE = -0.01


def action_clip(
    seed: int, index: int, frames: int, size: int, fps: float
) -> tuple[npt.NDArray[np.uint8], int, dict[str, Any]]:
    """Clip ``index`` of ``seed``: frames uint8 [frames, size, size, 3], label, attributes."""
    rng = clip_generator(seed, index)
    label = balanced_label(seed, index, len(ACTIONS))
    actor = ACTORS[balanced_actor(seed, index, label, len(ACTIONS), len(ACTORS))]
    frame = framing(rng)
    floor, place = _FLOOR + uniform(rng, -0.02, 0.02), uniform(rng, -0.07, 0.07)
    times = (np.arange(frames) / fps).astype(np.float32)
    pose, staging, manner = action_motion(ACTIONS[label], rng, times)
    facing = sign(rng) * (staging.facing + uniform(rng, -0.12, 0.12))
    figure = joints(pose, actor.build, facing, floor, staging.anchor)
    for point in figure.points.values():
        point[:, 0] += place
    background = scene(actor.scene, frame, Canvas(1, size, _REACH, _MIDDLE))
    video = np.empty((frames, size, size, 3), np.uint8)
    for block in frame_blocks(frames, size):
        canvas = Canvas(len(times[block]), size, _REACH, _MIDDLE)
        canvas.pixels[:] = background
        paint_figure(Stage(canvas, actor, figure.frames(block), facing, floor))
        video[block] = canvas.to_uint8()
    attributes = {
        "action": ACTIONS[label],
        "actor": actor.name,
        "scene": actor.scene,
        "facing": round(facing, 3),
        "strength": round(manner.strength, 3),
        "speed": round(manner.speed, 3),
    }
    return video, label, attributes
