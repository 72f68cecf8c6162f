"""One clip of the built-in data, from its kind, seed and index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.action_motion import ACTIONS
from vidgen.data.synthetic.actions import action_clip
from vidgen.data.synthetic.face_motion import FACE_MOTIONS
from vidgen.data.synthetic.faces import face_clip
from vidgen.data.synthetic.mocap import mocap_clip
from vidgen.data.synthetic.mocap_motion import MOCAP_ACTIONS
from vidgen.data.synthetic.settings import KINDS, check_clip
from vidgen.errors import SettingsError


@dataclass(frozen=True)
class SyntheticClip:
    """A drawn clip.

    Attributes:
        frames: uint8 [T, size, size, 3], RGB.
        label: index into ``labels(kind)``.
        attributes: text and numbers by name; ``identity`` for faces, ``actor`` for actions and mocap.
    """

    frames: npt.NDArray[np.uint8]
    label: int
    attributes: dict[str, Any]


def labels(kind: str) -> tuple[str, ...]:
    """Names of the classes: motions of ``faces``, actions of ``actions`` and ``mocap``.

    Raises:
        SettingsError: unknown kind.
    """
    if kind not in KINDS:
        raise SettingsError(
            f"unknown kind of built-in data {kind!r}",
            seen=f"{kind!r}, expected one of {', '.join(KINDS)}",
            cause="a typing error",
            fix=f"use one of {', '.join(KINDS)}",
        )
    return {"faces": FACE_MOTIONS, "actions": ACTIONS, "mocap": MOCAP_ACTIONS}[kind]


def render_clip(
    kind: str, seed: int, index: int, *, frames: int = 32, size: int = 64, fps: float = 25.0
) -> SyntheticClip:
    """Draw clip ``index`` of ``seed``, which depends on the arguments alone.

    Any consecutive ``len(labels(kind))`` clips that start at a multiple of it show every label once. Clips of
    different ``frames``, ``size`` or ``fps`` show the same person doing the same.

    Raises:
        SettingsError: an argument is not acceptable.
        MissingDependencyError: ``mocap`` without pybullet.
        DataError: ``mocap`` with files of pybullet that are not those expected.
    """
    check_clip(kind, seed, index, frames, size, fps)
    draw = {"faces": face_clip, "actions": action_clip, "mocap": mocap_clip}[kind]
    video, label, attributes = draw(seed, index, frames, size, float(fps))
    return SyntheticClip(video, label, attributes)
