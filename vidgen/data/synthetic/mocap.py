"""Clips of captured people: who does what, seen from where, rendered before a painted place."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen._imports import require
from vidgen.data.synthetic.actors import ACTORS
from vidgen.data.synthetic.canvas import Canvas
from vidgen.data.synthetic.draws import balanced_actor, balanced_label, clip_generator, uniform
from vidgen.data.synthetic.mocap_figure import Skeleton, body, body_scale
from vidgen.data.synthetic.mocap_motion import MOCAP_ACTIONS, Array, read_capture
from vidgen.data.synthetic.mocap_stage import PURPOSE, Camera, Shadow, stage
from vidgen.data.synthetic.scenes import framing, scene

#: The painted place: half the picture in its units, and its middle.
_REACH, _MIDDLE = 0.91, -0.01
#: What starts lying ends standing: so many seconds of it are left after the first frame, if it has them.
_LEFT = 1.6
_YAW, _PITCH = (-0.45, 1.85), (0.04, 0.22)
_SPEED, _ZOOM = (0.85, 1.15), (0.96, 1.06)


def mocap_files() -> Path:
    """The folder of the data that pybullet's package carries.

    Raises:
        MissingDependencyError: pybullet is not installed.
    """
    # Finding it does not run it: it greets on standard error when it is imported.
    spec = find_spec("pybullet_data") if find_spec("pybullet") else None
    if spec is None or not spec.submodule_search_locations:
        module = require("pybullet", PURPOSE), require("pybullet_data", PURPOSE)
        return Path(str(module[1].__file__)).parent
    return Path(spec.submodule_search_locations[0])


def mocap_clip(
    seed: int, index: int, frames: int, size: int, fps: float
) -> tuple[npt.NDArray[np.uint8], int, dict[str, Any]]:
    """Clip ``index`` of ``seed``: frames uint8 [frames, size, size, 3], label, attributes.

    Raises:
        MissingDependencyError: pybullet is not installed.
        DataError: its files are not those that are expected.
    """
    folder = mocap_files()
    rng = clip_generator(seed, index)
    label = balanced_label(seed, index, len(MOCAP_ACTIONS))
    actor = ACTORS[balanced_actor(seed, index, label, len(MOCAP_ACTIONS), len(ACTORS))]
    frame = framing(rng)
    camera = Camera(uniform(rng, *_YAW), uniform(rng, *_PITCH), uniform(rng, *_ZOOM))
    mirrored, phase, speed = bool(rng.random() < 0.5), uniform(rng, 0.0, 1.0), uniform(rng, *_SPEED)
    capture = read_capture(folder / "data" / "motions" / f"humanoid3d_{MOCAP_ACTIONS[label]}.txt")
    start = capture.start(phase, _LEFT)
    moments = capture.at(start + (speed / fps) * np.arange(frames, dtype=np.float64))
    parts = body(actor)
    placed = Skeleton(folder / "humanoid" / "humanoid.urdf").place(moments, parts, body_scale(actor))
    ends = np.stack([placed.ends(part) for part in parts], axis=1)
    canvas = Canvas(1, size, _REACH, _MIDDLE)
    background = scene(actor.scene, frame, canvas)[:, 0].transpose(1, 2, 0).astype(np.float64)
    shadow = Shadow(camera, size)
    video = np.empty((frames, size, size, 3), np.uint8)
    with stage(parts) as world:
        for number, (colours, coverage) in enumerate(world.render(placed, camera, size)):
            picture = background[:, ::-1].copy() if mirrored else background.copy()
            shadow.darken(picture, parts, ends[number])
            picture = picture * (1.0 - coverage) + colours
            video[number] = _levels(picture[:, ::-1] if mirrored else picture)
    attributes = {
        "action": MOCAP_ACTIONS[label],
        "actor": actor.name,
        "scene": actor.scene,
        "camera": round(float(np.degrees(camera.yaw)), 1),
        "pitch": round(float(np.degrees(camera.pitch)), 1),
        "mirrored": mirrored,
        "phase": round(start / capture.length, 3),
        "speed": round(speed, 3),
    }
    return video, label, attributes


def _levels(picture: Array) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(picture, 0.0, 1.0) * 255.0), np.uint8)
