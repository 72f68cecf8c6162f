"""Frames, spans and crops are the reference's, and classes are numbered by their names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.store import ClipStore, StoreWriter
from vidgen.data.windows import (
    MUG_CROP,
    SYNACTION_CROP,
    WEIZMANN_CROP,
    Crop,
    crop_and_resize,
    labels_of,
    miniclip_spans,
    pick_frames,
    weizmann_test_span,
    weizmann_train_span,
)
from vidgen.errors import DataError, SettingsError, VidgenError

RULES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data/vectors/tsv_rules.json").read_text())


@pytest.mark.parametrize("rule", RULES["frame_picks"], ids=lambda rule: f"{rule['n']}-{rule['every_nth']}")
def test_test_picks_are_those_of_the_reference(rule: dict[str, Any]) -> None:
    if rule["test_indices"] is None:
        with pytest.raises(DataError, match=f"it has {rule['n']}"):
            pick_frames(rule["n"], rule["T"], rule["every_nth"], test=True)
    else:
        assert pick_frames(rule["n"], rule["T"], rule["every_nth"], test=True) == rule["test_indices"]


@pytest.mark.parametrize("rule", RULES["weizmann"], ids=lambda rule: f"{rule['total']}-{rule['step']}")
def test_weizmann_spans_are_those_of_the_reference(rule: dict[str, Any]) -> None:
    total, frames, step = rule["total"], rule["T"], rule["step"]
    train = weizmann_train_span(total, frames, step)
    assert train is not None and [list(train)] == rule["train"]
    assert [list(span) for span in miniclip_spans(train, frames, step)] == rule["mini"]
    assert list(weizmann_test_span(total, frames, step) or ()) == rule["test"]


def test_videos_too_short_for_a_span_are_left_out() -> None:
    assert weizmann_train_span(17, 10, 1) is None and weizmann_train_span(18, 10, 1) == (0, 11)
    assert weizmann_test_span(10, 10, 1) is None and weizmann_test_span(11, 10, 1) == (0, 10)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**32))
def test_drawn_picks_lie_in_the_clip_and_are_evenly_spaced(length: int, frames: int, step: int, seed: int) -> None:
    if length < frames:
        with pytest.raises(DataError):
            pick_frames(length, frames, step, test=False, draw=np.random.default_rng(seed))
        return
    picked = pick_frames(length, frames, step, test=False, draw=np.random.default_rng(seed))
    assert len(picked) == frames and picked[0] >= 0 and picked[-1] < length
    wanted = step if length > frames * step else 1
    assert all(later - earlier == wanted for earlier, later in itertools.pairwise(picked))


def test_every_start_that_fits_is_drawn() -> None:
    starts = {pick_frames(25, 10, 2, test=False, draw=lambda count, at=at: at % count)[0] for at in range(100)}
    assert starts == set(range(25 - 18))


def test_a_training_pick_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="generator"):
        pick_frames(25, 10, 2, test=False)


@pytest.mark.parametrize(
    ("crop", "height", "width", "size", "places", "test"),
    [
        (WEIZMANN_CROP, 85, 70, (80, 65), (5, 5), (2, 2)),
        (MUG_CROP, 64, 100, (57, 90), (7, 10), (3, 5)),
        (SYNACTION_CROP, 71, 71, (64, 64), (7, 7), (4, 4)),
        (Crop(), 12, 9, (12, 9), (1, 1), (0, 0)),
        (Crop("square", 9), 12, 9, (9, 9), (3, 1), (1, 0)),
    ],
)
def test_boxes_have_the_size_and_the_places_of_the_reference(
    crop: Crop, height: int, width: int, size: tuple[int, int], places: tuple[int, int], test: tuple[int, int]
) -> None:
    assert crop.box(height, width, test=True) == (*test, *size)
    rng = np.random.default_rng(0)
    boxes = [crop.box(height, width, test=False, generator=rng) for _ in range(400)]
    assert {box[2:] for box in boxes} == {size}
    assert {box[0] for box in boxes} == set(range(places[0])) and {box[1] for box in boxes} == set(range(places[1]))


@given(st.sampled_from([WEIZMANN_CROP, MUG_CROP, SYNACTION_CROP, Crop()]), st.integers(1, 90), st.integers(1, 90))
def test_a_box_lies_inside_or_is_refused(crop: Crop, height: int, width: int) -> None:
    for test in (True, False):
        try:
            top, left, high, wide = crop.box(height, width, test=test, generator=np.random.default_rng(0))
        except DataError:
            continue
        assert min(top, left) >= 0 and min(high, wide) >= 1 and top + high <= height and left + wide <= width


@pytest.mark.parametrize(
    "values",
    [("zoom", 1), ("none", 1), ("margin", 0), ("margin", 2.5), ("fraction", 0), ("fraction", 1.1), ("square", True),
     ("square", float("nan")), ("square", "9"), ("square", 9, -1), ("square", 9, True)],
)  # fmt: skip
def test_a_wrong_crop_rule_is_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(SettingsError):
        Crop(*values)


@pytest.mark.parametrize("crop", [WEIZMANN_CROP, MUG_CROP, SYNACTION_CROP, Crop()])
def test_a_crop_rule_survives_json(crop: Crop) -> None:
    assert Crop.from_dict(json.loads(json.dumps(crop.to_dict()))) == crop


def _bilinear(frame: np.ndarray, size: int) -> np.ndarray:
    """The definition, a pixel at a time."""
    high, wide = frame.shape[:2]
    out = np.empty((size, size, 3))
    for row in range(size):
        y = min(max((row + 0.5) * high / size - 0.5, 0), high - 1)
        for column in range(size):
            x = min(max((column + 0.5) * wide / size - 0.5, 0), wide - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, high - 1), min(left + 1, wide - 1)
            upper = frame[top, left] * (1 - x + left) + frame[top, right] * (x - left)
            lower = frame[bottom, left] * (1 - x + left) + frame[bottom, right] * (x - left)
            out[row, column] = upper * (1 - y + top) + lower * (y - top)
    return out


@pytest.mark.parametrize(("height", "width", "size"), [(20, 13, 8), (5, 7, 16), (9, 9, 9), (1, 1, 4), (40, 6, 1)])
def test_resizing_is_bilinear_between_pixel_centres(height: int, width: int, size: int) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, height + 3, width + 4, 3), dtype=np.uint8)
    resized = crop_and_resize(frames, (1, 2, height, width), size)
    assert resized.dtype == np.uint8 and resized.shape == (2, size, size, 3)
    expected = np.stack([_bilinear(frame, size) for frame in frames[:, 1 : 1 + height, 2 : 2 + width].astype(float)])
    assert np.abs(resized - expected).max() <= 0.5 + 1e-3


def test_a_box_outside_the_frames_is_refused() -> None:
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    for box in ((0, 0, 9, 8), (1, 0, 8, 8), (-1, 0, 4, 4), (0, 0, 0, 4)):
        with pytest.raises(ValueError, match="box"):
            crop_and_resize(frames, box, 4)


def _store(path: Path, records: list[tuple[str | None, dict[str, Any]]], **more: Any) -> ClipStore:
    labels = sorted({label for label, _ in records if label is not None}, reverse=True)
    with StoreWriter(path, name="t", height=4, width=4, labels=labels, **more) as writer:
        for number, (label, attributes) in enumerate(records):
            frames = np.full((2, 4, 4, 3), number, np.uint8)
            index = None if label is None else labels.index(label)
            writer.add(frames, source=f"clip{number}", fps=25, label=index, attributes=attributes)
    return ClipStore.open(path)


def test_actions_follow_the_labels_and_actors_the_alphabet(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", [("run", {"actor": "b"}), ("jump", {"actor": "a"}), ("run", {})])
    actions, actors, names, actor_names = labels_of(store)
    assert names == ("run", "jump") and actor_names == ("a", "b")
    assert actions.tolist() == [0, 1, 0] and actors.tolist() == [1, 0, -1]


def test_the_order_of_actors_is_the_stores_own_where_it_has_one(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", [("run", {"actor": "b"})], actors=("c", "b", "a"))
    assert labels_of(store)[1].tolist() == [1] and labels_of(store)[3] == ("c", "b", "a")


def test_actions_may_be_attributes_alone(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", [(None, {"action": "walk"}), (None, {"action": "bow"})])
    assert labels_of(store)[0].tolist() == [1, 0] and labels_of(store)[2] == ("bow", "walk")


def test_a_clip_without_an_action_is_named(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", [("run", {}), (None, {"actor": "a"})])
    with pytest.raises(VidgenError, match="clip 1"):
        labels_of(store)


def test_a_crop_rule_and_actors_are_kept_and_hashed(tmp_path: Path) -> None:
    plain = _store(tmp_path / "a", [("run", {})])
    ruled = _store(tmp_path / "b", [("run", {})], crop=MUG_CROP, actors=("z", "y"))
    assert plain.info.crop == Crop() and plain.info.actors == ()
    assert ruled.info.crop == MUG_CROP and ruled.info.actors == ("z", "y")
    assert ruled.info.content_hash != plain.info.content_hash
    ruled.verify()
    assert "crop" not in (tmp_path / "a/index.json").read_text()


@pytest.mark.parametrize(
    "damage", [('"kind": "fraction"', '"kind": "zoom"'), ('"amount": 0.9', '"amount": "x"'), ('"kind"', '"sort"')]
)
def test_a_damaged_crop_rule_is_refused(tmp_path: Path, damage: tuple[str, str]) -> None:
    _store(tmp_path / "s", [("run", {})], crop=MUG_CROP)
    index = tmp_path / "s/index.json"
    index.write_text(index.read_text().replace(*damage))
    with pytest.raises(DataError, match="crop"):
        ClipStore.open(tmp_path / "s")
