"""Captured people: motions without end, bodies on the floor, and clips that depend on seed and index alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.data.store import ClipStore
from vidgen.data.synthetic import SyntheticSettings, labels, mocap, render_clip, synthesize
from vidgen.data.synthetic.actors import ACTORS, Actor
from vidgen.data.synthetic.mocap_figure import Placed, Skeleton, body, body_scale
from vidgen.data.synthetic.mocap_motion import JOINTS, MOCAP_ACTIONS, Capture, multiply, read_capture, rotate, slerp
from vidgen.data.synthetic.mocap_stage import Camera, stage
from vidgen.errors import DataError, MissingDependencyError

needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="pybullet is not installed: pip install 'vidgen[mocap]'"
)
ANY_ACTION = st.sampled_from(MOCAP_ACTIONS)


def _capture(action: str) -> Capture:
    return read_capture(mocap.mocap_files() / "data" / "motions" / f"humanoid3d_{action}.txt")


def _skeleton() -> Skeleton:
    return Skeleton(mocap.mocap_files() / "humanoid" / "humanoid.urdf")


def _written(path: Path, rows: list[list[float]], loop: str = "wrap") -> Path:
    path.write_text(json.dumps({"Loop": loop, "Frames": rows}))
    return path


def _row(height: float, angle: float) -> list[float]:
    """A row of a capture in which the root turns about the vertical and one knee bends."""
    still = [1.0, 0.0, 0.0, 0.0]
    root = [float(np.cos(angle / 2)), 0.0, float(np.sin(angle / 2)), 0.0]
    leg = [*still, -angle, *still, *still, 0.0]
    return [0.1, 0.0, height, 0.0, *root, *still, *still, *leg, *leg]


# Without pybullet.


def test_a_missing_package_is_named_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybullet", None)
    monkeypatch.setattr(mocap, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError) as caught:
        synthesize(SyntheticSettings("mocap", tmp_path / "set", clips=2))
    assert caught.value.fix == "pip install 'vidgen[mocap]'"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingDependencyError):
        render_clip("mocap", 0, 0)
    assert len(labels("mocap")) == len(set(labels("mocap"))) == 15


@pytest.mark.parametrize(
    "content",
    [
        "", "no JSON", "[1, 2]", '{"Frames": [[1, 2], [3, 4]], "Loop": "wrap"}', '{"Frames": [], "Loop": "none"}',
        '{"Frames": [[1, 2], [3]], "Loop": "none"}', json.dumps({"Frames": [[0.1] * 44, [0.1] * 44]}),
        json.dumps({"Frames": [[0.0] * 44] * 3, "Loop": "wrap"}),
        json.dumps({"Frames": [[float("nan")] * 44] * 3, "Loop": "wrap"}),
    ],
)  # fmt: skip
def test_a_damaged_capture_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "humanoid3d_walk.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"humanoid3d_walk\.txt") as caught:
        read_capture(path)
    assert "vidgen[mocap]" in caught.value.fix


@pytest.mark.parametrize("content", ["", "<robot/>", "<robot", '<robot><joint name="chest"/></robot>'])
def test_a_damaged_skeleton_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "humanoid.urdf"
    path.write_text(content)
    with pytest.raises(DataError, match=r"humanoid\.urdf"):
        Skeleton(path)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0))
def test_interpolation_turns_evenly_the_short_way(seed: int, share: float) -> None:
    first, second = np.random.default_rng(seed).standard_normal((2, 4))
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    between = slerp(first, second, np.float64(share))
    whole = np.arccos(min(1.0, abs(float(first @ second))))
    assert np.linalg.norm(between) == pytest.approx(1.0)
    assert np.arccos(np.clip(first @ between, -1.0, 1.0)) == pytest.approx(share * whole, abs=1e-6)
    vector = np.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(rotate(multiply(first, second), vector), rotate(first, rotate(second, vector)))


def test_poses_between_captured_ones_are_interpolated(tmp_path: Path) -> None:
    capture = read_capture(_written(tmp_path / "c.txt", [_row(0.9, a) for a in (0.0, 0.4, 0.8, 0.4, 0.0)]))
    moments = capture.at(np.array([0.05, 0.1]))
    knee = moments.turns[:, JOINTS.index("right_knee")]
    np.testing.assert_allclose(knee, [[np.cos(0.1), 0, 0, -np.sin(0.1)], [np.cos(0.2), 0, 0, -np.sin(0.2)]], atol=1e-9)
    np.testing.assert_allclose(moments.turns[:, 0, 2], np.sin([0.1, 0.2]), atol=1e-9)


def test_what_ends_elsewhere_is_played_backwards_and_what_ends_alike_returns(tmp_path: Path) -> None:
    rising = read_capture(_written(tmp_path / "up.txt", [_row(0.1 + 0.2 * k, 0.1 * k) for k in range(5)], "none"))
    assert rising.back_and_forth
    heights = rising.at(np.array([0.0, 0.4, 0.6, 0.7, 1.1, 1.3, 1.4])).root[:, 1]
    np.testing.assert_allclose(heights, [0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1], atol=1e-9)
    level = read_capture(_written(tmp_path / "level.txt", [_row(0.9, 0.3 * k) for k in range(5)], "none"))
    assert not level.back_and_forth
    assert level.length == pytest.approx(0.4 + 0.5)


@settings(max_examples=20, deadline=None)
@given(st.floats(-4.0, 4.0), st.floats(-0.4, 1.2), st.floats(0.5, 1.5))
def test_a_camera_of_any_angle_looks_at_the_actor(yaw: float, pitch: float, zoom: float) -> None:
    camera = Camera(yaw, pitch, zoom)
    np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(np.stack([camera.axes[0], camera.axes[1], -camera.axes[2]])) == pytest.approx(1.0)
    right, _, ahead = camera.axes @ (np.array([0.0, 1.0, 0.0]) - camera.place)
    assert right == pytest.approx(0.0, abs=1e-9)
    assert ahead > 3.0


@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
def test_solids_of_every_actor_are_closed_and_face_outwards(actor: Actor) -> None:
    for part in body(actor):
        solid = part.solid
        np.testing.assert_allclose(np.linalg.norm(solid.normals, axis=1), 1.0)
        edges = np.concatenate([solid.triangles[:, [0, 1]], solid.triangles[:, [1, 2]], solid.triangles[:, [2, 0]]])
        assert Counter(map(tuple, edges.tolist())) == Counter(map(tuple, edges[:, ::-1].tolist()))
        a, b, c = (solid.vertices[solid.triangles[:, corner]] for corner in range(3))
        assert (a * np.cross(b, c)).sum() > 0.0


# With pybullet.


@needs_pybullet
@pytest.mark.parametrize("action", MOCAP_ACTIONS)
def test_a_capture_goes_on_without_a_jump(action: str) -> None:
    capture = _capture(action)
    times = np.arange(0.0, 2.5 * capture.length, 0.01)
    placed = _skeleton().place(capture.at(times), body(ACTORS[0]), 1.0)
    assert np.linalg.norm(np.diff(placed.points, axis=0), axis=-1).max() < 0.16
    # The camera goes along: the actor stays in the picture however long it walks.
    assert np.abs(placed.points[:, :, [0, 2]]).max() < 1.5


@needs_pybullet
@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
def test_nobody_sinks_into_the_floor_or_hovers(actor: Actor) -> None:
    parts, capture = body(actor), _capture("walk")
    placed = _skeleton().place(capture.at(np.arange(0.0, 2.0, 0.05)), parts, body_scale(actor))
    lowest = np.min([placed.ends(part)[:, :, 1].min(axis=1) - part.radius for part in parts if part.radius], axis=0)
    assert lowest.min() > -1e-9
    assert np.median(lowest) < 0.05


@needs_pybullet
def test_the_nearer_side_is_seen_and_the_figure_stands_where_it_is_aimed() -> None:
    parts = body(ACTORS[0])
    capture = _capture("walk")
    placed = _skeleton().place(capture.at(np.zeros(1)), parts, 1.0)
    with stage(parts) as world:
        front = next(iter(world.render(placed, Camera(0.0, 0.1, 1.0), 64)))
        back = next(iter(world.render(placed, Camera(np.pi, 0.1, 1.0), 64)))
    for colours, coverage in (front, back):
        rows, columns = np.nonzero(coverage[..., 0] > 0.5)
        assert 8 < rows.min() < 24
        assert 54 < rows.max() < 63
        assert abs(columns.mean() - 31.5) < 6
        assert 0.0 <= colours.min() < colours.max() <= 1.0
    head = slice(10, 24)
    assert np.abs(front[0][head] - back[0][head, ::-1]).max() > 0.1  # a face in front, hair behind


@needs_pybullet
def test_worlds_are_closed() -> None:
    import pybullet

    with stage(body(ACTORS[0])[:2]) as world:
        client = world._client
        assert pybullet.isConnected(client)
    assert not pybullet.isConnected(client)
    with pytest.raises(RuntimeError, match="stop"), stage(body(ACTORS[0])[:1]) as world:
        client = world._client
        raise RuntimeError("stop")
    assert not pybullet.isConnected(client)


@needs_pybullet
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), index=st.integers(0, 10**6), short=st.integers(1, 4))
def test_a_clip_depends_on_its_arguments_alone(seed: int, index: int, short: int) -> None:
    first = render_clip("mocap", seed, index, frames=5, size=32)
    again = render_clip("mocap", seed, index, frames=short, size=32)
    np.testing.assert_array_equal(again.frames, first.frames[:short])
    assert (first.label, first.attributes) == (again.label, again.attributes)


@needs_pybullet
def test_a_higher_frame_rate_shows_the_same_motion_in_finer_steps() -> None:
    slow = render_clip("mocap", 3, 4, frames=3, size=32, fps=25.0)
    fast = render_clip("mocap", 3, 4, frames=6, size=32, fps=50.0)
    assert np.abs(fast.frames[::2].astype(int) - slow.frames).max() <= 1


@needs_pybullet
@pytest.mark.parametrize("size", [32, 47, 64, 128])
def test_every_size_shows_the_same_picture(size: int) -> None:
    clip = render_clip("mocap", 2, 7, frames=1, size=size)
    assert clip.frames.shape == (1, size, size, 3)
    large = render_clip("mocap", 2, 7, frames=1, size=size * 2).frames.astype(np.float64)
    reduced = large.reshape(1, size, 2, size, 2, 3).mean(axis=(2, 4))
    assert np.abs(reduced - clip.frames).mean() < 4.0


@needs_pybullet
@pytest.mark.parametrize("size", [16, 33, 64, 256])
def test_the_renderer_puts_things_where_the_camera_says(size: int) -> None:
    parts = [part for part in body(ACTORS[0]) if part.radius > 0.0]
    head = parts[-1]
    placed = _skeleton().place(_capture("walk").at(np.zeros(1)), parts, 1.0)
    camera = Camera(0.6, 0.1, 1.0)
    with stage([head]) as world:
        _, coverage = next(iter(world.render(placed, camera, size)))
    across = (np.arange(size) + 0.5) * (2.0 / size) - 1.0
    seen = [(coverage[..., 0].sum(axis=axis) * across).sum() / coverage.sum() for axis in (0, 1)]
    x, y, depth = camera.axes @ (placed.ends(head)[0].mean(axis=0) - camera.place)
    assert seen == pytest.approx([x / depth / camera.half, -y / depth / camera.half], abs=0.3 / size + 0.003)


@needs_pybullet
def test_labels_are_balanced_and_every_action_moves() -> None:
    clips = [render_clip("mocap", 5, i, frames=4, size=32, fps=5.0) for i in range(2 * len(MOCAP_ACTIONS))]
    assert Counter(clip.label for clip in clips) == dict.fromkeys(range(len(MOCAP_ACTIONS)), 2)
    for clip in clips:
        levels = clip.frames.astype(int)
        moved = ((levels.max(axis=0) - levels.min(axis=0)).max(axis=-1) > 25).mean()
        assert moved > 0.03, clip.attributes
        assert clip.attributes["action"] == labels("mocap")[clip.label]
        assert json.loads(json.dumps(clip.attributes)) == clip.attributes
        assert {"actor", "camera", "phase", "speed"} < set(clip.attributes)
    assert len({clip.attributes["actor"] for clip in clips}) > 5
    assert len({clip.frames.tobytes() for clip in clips}) == len(clips)


@needs_pybullet
def test_clips_do_not_depend_on_count_or_workers(tmp_path: Path) -> None:
    stores = [
        ClipStore.open(
            synthesize(SyntheticSettings("mocap", tmp_path / f"{n}", clips=n, frames=2, size=16, workers=workers))
        )
        for n, workers in ((4, 1), (3, 2))
    ]
    assert stores[0].info.labels == labels("mocap")
    assert stores[0].clips[:3] == stores[1].clips
    for index, clip in enumerate(stores[1].clips):
        np.testing.assert_array_equal(stores[0].frames(index), stores[1].frames(index))
        drawn = render_clip("mocap", 0, index, frames=2, size=16)
        np.testing.assert_array_equal(drawn.frames, stores[1].frames(index))
        assert (clip.label, dict(clip.attributes)) == (drawn.label, drawn.attributes)


@needs_pybullet
def test_the_command_prints_nothing_of_pybullets(tmp_path: Path) -> None:
    options = ["--kind", "mocap", "--clips", "1", "--frames", "1", "--size", "16", "--workers", "1", "--json"]
    code = f"import sys; sys.path[:] = {sys.path!r}; from vidgen.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, "data", "synth", str(tmp_path / "set"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["labels"].keys() == set(MOCAP_ACTIONS)
    assert "pybullet" not in done.stderr


def test_a_body_is_placed_by_its_joints() -> None:
    part = body(ACTORS[0])[0]
    turns = np.zeros((1, len(JOINTS), 4))
    turns[..., 0] = 1.0
    placed = Placed(np.full((1, len(JOINTS), 3), 2.0), turns)
    np.testing.assert_allclose(placed.ends(part)[0], part.ends + 2.0)
