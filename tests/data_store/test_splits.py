"""Held-out clips: the same ones every time, of every action, and none that shows what training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.store_format import Clip, StoreInfo
from vidgen.errors import DataError, SettingsError

LABELS = ("bow", "run", "wave")


def store_of(sources: list[tuple[str, int | None]], attributes: dict[str, Any] | None = None) -> ClipStore:
    """A store that holds these sources and labels and is never read."""
    clips = tuple(Clip(source, 0, 1, 25.0, label, dict(attributes or {})) for source, label in sources)
    info = StoreInfo("t", 25.0, 4, 4, LABELS, "0" * 64, len(clips), 1)
    return ClipStore(Path("store"), info, clips)


@given(st.lists(st.integers(0, 2), min_size=6, max_size=60), st.floats(0.01, 0.9), st.integers(0, 5))
def test_both_sides_have_every_action(labels: list[int], fraction: float, seed: int) -> None:
    labels = [0, 0, 1, 1, 2, 2, *labels]
    store = store_of([(f"clip{number}", label) for number, label in enumerate(labels)])
    train, held_out = split_clips(store, fraction, seed)
    assert sorted(train + held_out) == list(range(len(labels)))
    assert {labels[i] for i in train} == {labels[i] for i in held_out} == {0, 1, 2}
    for label in range(3):
        count = sum(labels[i] == label for i in held_out)
        assert abs(count - fraction * labels.count(label)) <= 1


def test_the_order_of_the_clips_does_not_matter() -> None:
    sources = [(f"clip{number}", number % 3) for number in range(60)]
    shuffled = [sources[i] for i in np.random.default_rng(0).permutation(60)]
    held_out = {sources[i] for i in split_clips(store_of(sources), 0.2)[1]}
    assert {shuffled[i] for i in split_clips(store_of(shuffled), 0.2)[1]} == held_out and len(held_out) == 12


def test_another_seed_holds_out_other_clips() -> None:
    store = store_of([(f"clip{number}", number % 3) for number in range(60)])
    assert split_clips(store, 0.2, 0) == split_clips(store, 0.2, 0) != split_clips(store, 0.2, 1)


def test_windows_of_one_source_stay_together() -> None:
    sources = [(f"video{number // 10}", 0) for number in range(100)]
    train, held_out = split_clips(store_of(sources), 0.3)
    assert len(held_out) == 30
    assert not {sources[i] for i in train} & {sources[i] for i in held_out}


def test_sub_sequences_of_one_sequence_stay_together() -> None:
    store = store_of([(f"clip{number}", 0) for number in range(8)])
    clips = [
        Clip(clip.source, 0, 1, 25.0, 0, {"actor": "a", "action": "bow", "seq": number // 4})
        for number, clip in enumerate(store.clips)
    ]
    train, held_out = split_clips(ClipStore(store.path, store.info, tuple(clips)), 0.1)
    assert {tuple(train), tuple(held_out)} == {(0, 1, 2, 3), (4, 5, 6, 7)}


def test_a_recorded_split_is_kept() -> None:
    store = store_of([(f"clip{number}", 0) for number in range(4)])
    clips = [
        Clip(clip.source, 0, 1, 25.0, 0, {"split": split})
        for clip, split in zip(store.clips, ("test", "train", "train", "test"), strict=True)
    ]
    assert split_clips(ClipStore(store.path, store.info, tuple(clips)), 0.5) == ([1, 2], [0, 3])


def test_a_store_of_one_split_is_divided_itself() -> None:
    store = store_of([(f"clip{number}", number % 2) for number in range(20)], {"split": "train"})
    assert len(split_clips(store, 0.2)[1]) == 4


def test_nothing_is_held_out_on_request() -> None:
    assert split_clips(store_of([("clip", 0)]), 0) == ([0], [])


def test_an_action_with_one_source_is_named() -> None:
    with pytest.raises(DataError, match="run"):
        split_clips(store_of([("a", 0), ("b", 0), ("c", 1)]), 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1, 20, float("nan"), True, "0.1"])
def test_an_impossible_share_is_refused(fraction: Any) -> None:
    with pytest.raises(SettingsError):
        split_clips(store_of([("a", 0), ("b", 0)]), fraction)


def test_drawn_actions_can_be_divided(tmp_path: Path) -> None:
    from vidgen.data.synthetic import SyntheticSettings, synthesize
    from vidgen.data.windows import labels_of

    synthesize(SyntheticSettings("actions", tmp_path / "s", clips=60, frames=1, size=16, workers=1))
    store = ClipStore.open(tmp_path / "s")
    actions, actors, names, actor_names = labels_of(store)
    assert all(clip.attributes["action"] == names[action] for clip, action in zip(store.clips, actions, strict=True))
    assert all(clip.attributes["actor"] == actor_names[actor] for clip, actor in zip(store.clips, actors, strict=True))
    train, held_out = split_clips(store, 0.2, seed=3)
    assert set(actions[train]) == set(actions[held_out]) == set(range(len(names)))
