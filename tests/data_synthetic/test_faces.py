"""Drawn faces move visibly, are aligned, and differ between people."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.data.synthetic import SyntheticClip, labels, render_clip
from vidgen.data.synthetic.canvas import Canvas
from vidgen.data.synthetic.curves import Manner
from vidgen.data.synthetic.face_frame import head_frame
from vidgen.data.synthetic.face_identity import CAST, HAIR_STYLES, face_identity, face_setting
from vidgen.data.synthetic.face_motion import FACE_MOTIONS, face_motion

TIMES = (np.arange(64) / 25.0).astype(np.float32)


def _moving(frames: np.ndarray) -> float:
    """Share of the pixels that change by more than a tenth of the range."""
    levels = frames.astype(int)
    return float(((levels.max(axis=0) - levels.min(axis=0)).max(axis=-1) > 25).mean())


@pytest.mark.parametrize("motion", FACE_MOTIONS)
def test_every_motion_is_seen(motion: str, clips_of: dict[str, list[SyntheticClip]]) -> None:
    clips = [clip for clip in clips_of["faces"] if labels("faces")[clip.label] == motion]
    assert len(clips) == 6
    floor = 0.2 if motion in ("nod", "shake", "tilt", "laugh") else 0.1 if motion != "blink" else 0.035
    for clip in clips:
        assert _moving(clip.frames) > floor
        # Also in 16 frames from anywhere in the clip.
        assert min(_moving(clip.frames[start : start + 16]) for start in (0, 8, 16)) > 0.005


def test_nobody_jumps_between_frames(clips_of: dict[str, list[SyntheticClip]]) -> None:
    for clip in clips_of["faces"]:
        steps = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
        assert steps.max() < 14.0
        assert steps.min() > 0.0


def test_faces_are_centred(clips_of: dict[str, list[SyntheticClip]]) -> None:
    distances = []
    for clip in clips_of["faces"]:
        person = int(clip.attributes["identity"].rsplit("person", 1)[1])
        skin = face_identity(21, person).skin
        # The middle of the head shows skin, or what sits on a face, but not the background.
        middle = np.median(clip.frames[:, 12:20, 12:20].reshape(-1, 3), axis=0)
        distances.append(np.abs(middle / middle.sum() - skin / skin.sum()).max())
    assert np.median(distances) < 0.05
    assert max(distances) < 0.12


@pytest.mark.parametrize("motion", FACE_MOTIONS)
def test_heads_stay_near_the_middle(motion: str) -> None:
    for seed in range(6):
        curves, _ = face_motion(motion, np.random.default_rng(seed), TIMES)
        rng = np.random.default_rng(seed)
        head = head_frame(Canvas(len(TIMES), 16), face_identity(0, seed), face_setting(rng), curves)
        assert np.abs(head.centre_x).max() < 0.2
        assert np.abs(head.centre_y).max() < 0.12
        assert np.abs(np.median(head.centre_x)) < 0.1


def test_the_average_face_is_a_sharp_symmetric_face(clips_of: dict[str, list[SyntheticClip]]) -> None:
    average = np.mean([clip.frames[0].mean(axis=-1) for clip in clips_of["faces"]], axis=0)
    mirrored = average[:, ::-1]
    assert np.corrcoef(average.ravel(), mirrored.ravel())[0, 1] > 0.9
    # Eyes stay visible in the average only if they are always in about the same place.
    eyes = np.minimum(average[12:18, 9:13], average[12:18, 19:23][:, ::-1])
    assert average[18:21, 14:18].mean() - eyes.min() > 12.0


def test_people_look_different_and_the_same_person_looks_the_same() -> None:
    people = [face_identity(0, person) for person in range(CAST)]
    assert len({person.skin.tobytes() for person in people}) == CAST
    assert {person.hair_style for person in people} == set(HAIR_STYLES)
    assert face_identity(0, 3).skin.tobytes() == people[3].skin.tobytes()
    assert face_identity(1, 3).skin.tobytes() != people[3].skin.tobytes()
    assert {person.glasses for person in people} == {"none", "round", "square"}
    assert {person.beard for person in people} == {"none", "stubble", "full", "goatee", "moustache"}
    assert {person.hat for person in people} == {"none", "beanie", "headband", "cap"}


def test_clips_of_two_people_differ_more_than_frames_of_one() -> None:
    first = [render_clip("faces", 0, i, size=32, frames=8).frames.astype(float) for i in range(12)]
    within = np.mean([np.abs(frames - frames.mean(axis=0)).mean() for frames in first])
    between = np.mean([np.abs(a.mean(axis=0) - b.mean(axis=0)).mean() for a in first for b in first if a is not b])
    assert between > 3 * within


@pytest.mark.parametrize("motion", FACE_MOTIONS)
def test_a_motion_moves_its_own_part_of_the_face(motion: str) -> None:
    curves, manner = face_motion(motion, np.random.default_rng(1), TIMES)
    assert isinstance(manner, Manner)
    own = {
        "smile": "smile", "laugh": "mouth_open", "frown": "furrow", "surprise": "brows", "talk": "mouth_open",
        "blink": "lids_left", "wink": "lids_right" if manner.side > 0 else "lids_left", "nod": "pitch",
        "shake": "yaw", "tilt": "roll",
    }[motion]  # fmt: skip
    assert np.ptp(curves[own]) > 0.25
    assert all(np.isfinite(curve).all() and curve.dtype == np.float32 for curve in curves.channels.values())


def test_eyes_close_in_a_blink_and_one_stays_open_in_a_wink() -> None:
    for seed in range(8):
        blink, _ = face_motion("blink", np.random.default_rng(seed), TIMES)
        assert max(blink["lids_left"].min(), blink["lids_right"].min()) < 0.25
        wink, _ = face_motion("wink", np.random.default_rng(seed), TIMES)
        closed = sorted([wink["lids_left"].min(), wink["lids_right"].min()])
        assert closed[0] < 0.1
        assert closed[1] > 0.9
