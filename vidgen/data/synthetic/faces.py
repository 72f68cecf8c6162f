"""Clips of drawn faces: who, how they move, and the painting order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.canvas import Canvas, frame_blocks
from vidgen.data.synthetic.draws import balanced_label, clip_generator
from vidgen.data.synthetic.face_features import paint_brow, paint_eye, paint_glasses, paint_mouth
from vidgen.data.synthetic.face_frame import head_frame
from vidgen.data.synthetic.face_hair import paint_back_hair, paint_front_hair, paint_hat
from vidgen.data.synthetic.face_identity import CAST, FaceIdentity, FaceSetting, face_identity, face_setting
from vidgen.data.synthetic.face_motion import FACE_MOTIONS, FaceMotion, face_motion
from vidgen.data.synthetic.face_skin import (
    paint_backdrop,
    paint_beard,
    paint_body,
    paint_ears,
    paint_nose,
    paint_skin,
)

# The picture's half width and its middle: a head of about half the width, and the shoulders' upper edge.
_REACH = 0.87
_MIDDLE = 0.02


def face_clip(
    seed: int, index: int, frames: int, size: int, fps: float
) -> tuple[npt.NDArray[np.uint8], int, dict[str, Any]]:
    """Clip ``index`` of ``seed``: frames uint8 [frames, size, size, 3], label, attributes."""
    rng = clip_generator(seed, index)
    label = balanced_label(seed, index, len(FACE_MOTIONS))
    identity = face_identity(seed, int(rng.integers(CAST)))
    setting = face_setting(rng)
    times = (np.arange(frames) / fps).astype(np.float32)
    motion, manner = face_motion(FACE_MOTIONS[label], rng, times)
    video = np.empty((frames, size, size, 3), np.uint8)
    for block in frame_blocks(frames, size):
        video[block] = _paint(identity, setting, motion.frames(block), size)
    attributes = {
        "motion": FACE_MOTIONS[label],
        "identity": f"seed{seed}-person{identity.number:03d}",
        "skin": identity.skin_name,
        "hair": identity.hair_name,
        "hair_style": identity.hair_style,
        "beard": identity.beard,
        "glasses": identity.glasses,
        "hat": identity.hat,
        "strength": round(manner.strength, 3),
        "speed": round(manner.speed, 3),
    }
    return video, label, attributes


def _paint(identity: FaceIdentity, setting: FaceSetting, motion: FaceMotion, size: int) -> npt.NDArray[np.uint8]:
    canvas = Canvas(len(motion.times), size, _REACH, _MIDDLE)
    head = head_frame(canvas, identity, setting, motion)
    paint_backdrop(canvas, *setting.backdrop, setting.light)
    paint_back_hair(head)
    paint_body(head)
    paint_ears(head)
    paint_skin(head)
    paint_beard(head)
    paint_mouth(head)
    for side in (-1.0, 1.0):
        paint_eye(head, side)
    paint_nose(head)
    paint_front_hair(head)
    for side in (-1.0, 1.0):
        paint_brow(head, side)
    paint_glasses(head)
    paint_hat(head)
    return canvas.to_uint8()
