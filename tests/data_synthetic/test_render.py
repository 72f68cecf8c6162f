"""What holds for clips of every kind."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.data.synthetic import DRAWN_KINDS, SyntheticClip, labels, render_clip
from vidgen.errors import SettingsError

ANY_KIND = st.sampled_from(DRAWN_KINDS)
INDICES = st.integers(0, 10**6)


@settings(max_examples=12, deadline=None)
@given(kind=ANY_KIND, seed=st.integers(0, 2**63 - 1), index=INDICES)
def test_a_clip_depends_on_its_arguments_alone(kind: str, seed: int, index: int) -> None:
    first = render_clip(kind, seed, index, frames=4, size=32)
    render_clip(kind, seed, index + 1, frames=3, size=16)
    again = render_clip(kind, seed, index, frames=4, size=32)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.label, first.attributes) == (again.label, again.attributes)


@settings(max_examples=12, deadline=None)
@given(kind=ANY_KIND, index=INDICES, short=st.integers(1, 39))
def test_a_shorter_clip_is_the_beginning_of_the_longer_one(kind: str, index: int, short: int) -> None:
    longer = render_clip(kind, 5, index, frames=40, size=48)
    shorter = render_clip(kind, 5, index, frames=short, size=48)
    np.testing.assert_array_equal(shorter.frames, longer.frames[:short])
    assert (shorter.label, shorter.attributes) == (longer.label, longer.attributes)


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_a_higher_frame_rate_shows_the_same_motion_in_finer_steps(kind: str) -> None:
    slow = render_clip(kind, 3, 4, frames=8, size=32, fps=25.0)
    fast = render_clip(kind, 3, 4, frames=16, size=32, fps=50.0)
    assert np.abs(fast.frames[::2].astype(int) - slow.frames).max() <= 1


@pytest.mark.parametrize("kind", DRAWN_KINDS)
@pytest.mark.parametrize("size", [32, 48, 64, 96, 128, 256])
def test_every_size_shows_the_same_picture(kind: str, size: int) -> None:
    clip = render_clip(kind, 2, 7, frames=2, size=size)
    assert clip.frames.shape == (2, size, size, 3)
    assert clip.frames.dtype == np.uint8
    large = render_clip(kind, 2, 7, frames=2, size=size * 2).frames.astype(np.float64)
    reduced = large.reshape(2, size, 2, size, 2, 3).mean(axis=(2, 4))
    assert np.abs(reduced - clip.frames).mean() < 4.0
    assert (clip.label, clip.attributes["strength"]) == (
        render_clip(kind, 2, 7, frames=1).label,
        clip.attributes["strength"],
    )


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_labels_are_drawn_evenly(kind: str, clips_of: dict[str, list[SyntheticClip]]) -> None:
    counts = Counter(clip.label for clip in clips_of[kind])
    assert counts == dict.fromkeys(range(len(labels(kind))), 6)
    assert len(labels(kind)) >= 8
    assert len(set(labels(kind))) == len(labels(kind))


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_attributes_survive_json_and_name_the_label(kind: str, clips_of: dict[str, list[SyntheticClip]]) -> None:
    name = {"faces": "motion", "actions": "action"}[kind]
    for clip in clips_of[kind]:
        assert json.loads(json.dumps(clip.attributes)) == clip.attributes
        assert clip.attributes[name] == labels(kind)[clip.label]


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_seeds_have_no_clip_in_common(kind: str) -> None:
    drawn = [render_clip(kind, seed, i, frames=1, size=32).frames for seed in (0, 1) for i in range(10)]
    assert len({frames.tobytes() for frames in drawn}) == len(drawn)


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_labels_can_be_told_from_the_motion_alone(kind: str, clips_of: dict[str, list[SyntheticClip]]) -> None:
    # Where a clip moves, without colours: the nearest other clip should mostly do the same.
    grey = np.stack([clip.frames.mean(axis=-1) for clip in clips_of[kind]])
    energy = grey.std(axis=1).reshape(len(grey), 16, 2, 16, 2).mean(axis=(2, 4)).reshape(len(grey), -1)
    energy /= np.linalg.norm(energy, axis=1, keepdims=True)
    likeness = energy @ energy.T
    np.fill_diagonal(likeness, -1.0)
    truth = np.array([clip.label for clip in clips_of[kind]])
    assert (truth[likeness.argmax(axis=1)] == truth).mean() > 0.5


# Mean and spread of red, green and blue, frozen when the pictures were last looked at.
_FROZEN = {
    "faces": ((169.92, 151.19, 139.17), (64.13, 62.23, 67.53)),
    "actions": ((170.71, 170.53, 169.5), (46.07, 50.37, 60.98)),
}


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_pictures_are_the_ones_that_were_looked_at(kind: str) -> None:
    frames = np.concatenate([render_clip(kind, 0, i, frames=8).frames for i in range(10)])
    mean, spread = _FROZEN[kind]
    np.testing.assert_allclose(frames.mean(axis=(0, 1, 2)), mean, atol=0.5)
    np.testing.assert_allclose(frames.std(axis=(0, 1, 2)), spread, atol=0.5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "cats"}, "faces, actions"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"index": -1}, "index"),
        ({"frames": 0}, "frames"),
        ({"size": 8}, "size"),
        ({"size": 4096}, "size"),
        ({"size": True}, "size"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], word: str) -> None:
    arguments: dict[str, Any] = {"kind": "faces", "seed": 0, "index": 0, "frames": 4, "size": 32, "fps": 25.0} | change
    with pytest.raises(SettingsError, match=word):
        render_clip(arguments.pop("kind"), arguments.pop("seed"), arguments.pop("index"), **arguments)


def test_labels_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(SettingsError, match="faces, actions"):
        labels("cats")
