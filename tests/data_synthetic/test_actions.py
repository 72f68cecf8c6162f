"""Acting figures move visibly, keep their feet on the floor, and differ between actors."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from vidgen.data.synthetic import SyntheticClip, labels, render_clip
from vidgen.data.synthetic.action_motion import ACTIONS, action_motion
from vidgen.data.synthetic.actors import ACTORS
from vidgen.data.synthetic.scenes import SCENES
from vidgen.data.synthetic.skeleton import Joints, Pose, joints

TIMES = (np.arange(75) / 25.0).astype(np.float32)
FLOOR = 0.8


def _perform(action: str, seed: int = 0, actor: int = 0, facing: float = 0.0) -> tuple[Pose, Joints]:
    pose, staging, _ = action_motion(action, np.random.default_rng(seed), TIMES)
    return pose, joints(pose, ACTORS[actor].build, facing, FLOOR, staging.anchor)


def _moving(frames: np.ndarray) -> float:
    levels = frames.astype(int)
    return float(((levels.max(axis=0) - levels.min(axis=0)).max(axis=-1) > 25).mean())


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("window", [10, 16])
def test_every_window_shows_the_action(action: str, window: int, clips_of: dict[str, list[SyntheticClip]]) -> None:
    clips = [clip for clip in clips_of["actions"] if labels("actions")[clip.label] == action]
    assert len(clips) == 6
    floor = 0.03 if window == 10 else 0.05
    for clip in clips:
        assert min(_moving(clip.frames[start : start + window]) for start in range(0, 33 - window, 2)) > floor


def test_there_are_ten_actors_in_ten_places_who_do_everything() -> None:
    assert len({actor.name for actor in ACTORS}) == len(ACTORS) >= 8
    assert {actor.scene for actor in ACTORS} == set(SCENES)
    assert len({actor.build for actor in ACTORS}) == len(ACTORS)
    done = defaultdict(set)
    for index in range(len(ACTORS) * len(ACTIONS)):
        clip = render_clip("actions", 4, index, frames=1, size=16)
        done[clip.attributes["actor"]].add(clip.label)
    assert dict(done) == {actor.name: set(range(len(ACTIONS))) for actor in ACTORS}


def test_actors_look_alike_in_all_their_clips_and_unlike_each_other(
    clips_of: dict[str, list[SyntheticClip]],
) -> None:
    looks = defaultdict(list)
    for clip in clips_of["actions"]:
        looks[clip.attributes["actor"]].append(np.median(clip.frames.astype(float), axis=0))
    averages = {actor: np.mean(frames, axis=0) for actor, frames in looks.items()}
    for actor, frames in looks.items():
        for frame in frames:
            nearest = min(averages, key=lambda name: float(np.abs(averages[name] - frame).mean()))
            assert nearest == actor


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("actor", [0, 1, 5])
def test_feet_neither_sink_nor_float(action: str, actor: int) -> None:
    pose, figure = _perform(action, seed=actor, actor=actor)
    height = ACTORS[actor].build.height
    # Without the drop by depth, the lower foot stands on the floor but for the height of a jump.
    soles = np.stack(
        [
            figure.points[f"{part}_{side}"][:, 1] - 0.13 * figure.points[f"{part}_{side}"][:, 2] + thick * height
            for part, thick in (("ankle", 0.02), ("toe", 0.011))
            for side in ("left", "right")
        ]
    ).max(axis=0)
    ground = FLOOR - pose["air"] * ACTORS[actor].build.legs * height
    assert np.abs(soles - ground).max() < 0.045 * height


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length_and_joints_bend_the_right_way(action: str) -> None:
    pose, figure = _perform(action, seed=3)
    points = {name: place - [0, 1, 0] * (0.13 * place[:, 2:]) for name, place in figure.points.items()}
    for first, last in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
        for side in ("left", "right"):
            length = np.linalg.norm(points[f"{first}_{side}"] - points[f"{last}_{side}"], axis=1)
            assert np.ptp(length) < 1e-4
    for side in ("left", "right"):
        assert pose[f"knee_{side}"].min() > np.radians(-6)
        assert pose[f"elbow_{side}"].min() > np.radians(-6)
        assert pose[f"elbow_{side}"].max() < np.radians(150)


def test_who_stands_on_a_foot_does_not_slide() -> None:
    for action, side in (("kick", "left"), ("bend", "left"), ("bend", "right")):
        _, figure = _perform(action, seed=2)
        assert np.ptp(figure.points[f"ankle_{side}"][:, 0]) < 0.03
        assert np.ptp(figure.points[f"ankle_{side}"][:, 2]) < 0.03
    _, figure = _perform("side-step", seed=2)
    for side in ("left", "right"):
        ankle = figure.points[f"ankle_{side}"]
        standing = (ankle[:, 1] - 0.13 * ankle[:, 2]) > (ankle[:, 1] - 0.13 * ankle[:, 2]).max() - 0.01
        both = standing[1:] & standing[:-1]
        assert np.abs(np.diff(ankle[:, 0])[both]).max() < 0.05
        assert np.ptp(ankle[:, 0]) > 0.25


def test_walkers_and_runners_swing_arm_and_leg_in_opposition() -> None:
    for action in ("walk", "run"):
        pose, _ = _perform(action, seed=1)
        for side in ("left", "right"):
            assert np.corrcoef(pose[f"hip_{side}"], pose[f"shoulder_{side}"])[0, 1] < -0.5
        assert np.corrcoef(pose["hip_left"], pose["hip_right"])[0, 1] < -0.5


def test_only_jumpers_and_runners_leave_the_floor() -> None:
    flying = {action for action in ACTIONS if _perform(action)[0]["air"].max() > 0.02}
    assert flying == {"run", "jump", "jumping-jack"}


def test_figures_stay_in_the_picture() -> None:
    for action in ACTIONS:
        for actor in range(len(ACTORS)):
            _, figure = _perform(action, seed=actor, actor=actor)
            for name in ("head", "pelvis", "ankle_left", "ankle_right"):
                place = figure.points[name]
                assert np.abs(place[:, 0]).max() < 0.8
                assert place[:, 1].min() > -0.95
                assert place[:, 1].max() < 0.9


def test_both_directions_occur(clips_of: dict[str, list[SyntheticClip]]) -> None:
    signs = [np.sign(clip.attributes["facing"]) for clip in clips_of["actions"]]
    assert 0.25 < np.mean(np.array(signs) > 0) < 0.75
