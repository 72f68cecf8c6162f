"""Latents depend on (seed, index) and the model's sizes alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import SamplingError, SettingsError
from vidgen.models.config import G3ANConfig, TensorSpec
from vidgen.runtime.latents import label_indices, latents, video_labels
from vidgen.runtime.manifest import Manifest

SMALL = G3ANConfig(c_a=3, c_m=2, ch=2).interface()
VECTOR = Path(__file__).parents[1] / "data" / "runtime" / "g3an_minmax_grid.npz"
words = st.integers(0, 2**32 - 1)
# Of seed 12, video 34; to 7 digits.
FROZEN_ZA = [0.4914788, -0.65567, -0.3921506]
FROZEN_ZM = [0.4842373, -0.8849238]


def test_shapes_and_types_follow_the_interface(labelled: Manifest) -> None:
    arrays = latents(labelled.interface, 0, [4, 9], frames=6)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "z_content": ((2, 5), "float32"),
        "z_motion": ((2, 7, 3), "float32"),
        "label": ((2,), "int64"),
    }
    assert all(array.flags.c_contiguous for array in arrays.values())


def test_the_stream_is_the_documented_one() -> None:
    arrays = latents(SMALL, 7, [11], frames=24)
    for number, name in enumerate(["za", "zm"]):
        draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, 11, number])))
        expected = draws.standard_normal(3 if name == "za" else (3, 2)).astype(np.float32)
        assert np.array_equal(arrays[name][0], expected if name == "za" else expected.T)


def test_values_never_change_between_versions() -> None:
    arrays = latents(SMALL, 12, [34])
    assert np.allclose(arrays["za"][0], FROZEN_ZA, atol=1e-7)
    assert np.allclose(arrays["zm"][0, :, 0], FROZEN_ZM, atol=1e-7)


@given(seed=words, indices=st.lists(words, min_size=1, max_size=6), data=st.data())
def test_latents_do_not_depend_on_the_batch(seed: int, indices: list[int], data: st.DataObject) -> None:
    together = latents(SMALL, seed, indices)
    row = data.draw(st.integers(0, len(indices) - 1))
    alone = latents(SMALL, seed, [indices[row]])
    for name, array in together.items():
        assert np.array_equal(array[row], alone[name][0])


@given(seed=words, index=words, short=st.integers(1, 6), more=st.integers(0, 6))
def test_a_longer_motion_begins_with_the_shorter_one(seed: int, index: int, short: int, more: int) -> None:
    rule = SMALL.frames
    one = latents(SMALL, seed, [index], frames=rule.frames(short))
    other = latents(SMALL, seed, [index], frames=rule.frames(short + more))
    assert np.array_equal(one["zm"], other["zm"][:, :, :short])
    assert np.array_equal(one["za"], other["za"])


def test_a_longer_motion_extends_it_where_time_comes_first(labelled: Manifest) -> None:
    one, other = (latents(labelled.interface, 1, [2, 3], frames=frames) for frames in (4, 9))
    assert np.array_equal(one["z_motion"], other["z_motion"][:, :5])
    assert np.array_equal(one["label"], other["label"])


def test_adding_an_input_changes_no_other() -> None:
    label = TensorSpec("label", "int64", ("batch",), "label", (0, 9))
    more = dataclasses.replace(SMALL, inputs=(*SMALL.inputs, label))
    one, other = latents(SMALL, 3, [5]), latents(more, 3, [5])
    assert all(np.array_equal(one[name], other[name]) for name in one)


@given(first=st.tuples(words, words), second=st.tuples(words, words))
def test_different_videos_have_different_noise(first: tuple[int, int], second: tuple[int, int]) -> None:
    one, other = latents(SMALL, first[0], [first[1]]), latents(SMALL, second[0], [second[1]])
    assert np.array_equal(one["za"], other["za"]) == (first == second)
    assert not np.array_equal(one["za"][0, :2], one["zm"][0, :, 0])


def test_noise_is_standard_normal() -> None:
    noise = latents(G3ANConfig().interface(), 0, range(400))["za"]
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_a_grid_repeats_appearances_and_tiles_motions() -> None:
    vector = np.load(VECTOR, allow_pickle=False)
    n, m = len(vector["in_za"]), len(vector["in_zm"])
    rows, columns = [i for i in range(n) for _ in range(m)], list(range(m)) * n
    # The vector's own layout, by value.
    assert np.array_equal(vector["in_za"][rows], vector["out_za_grid"])
    assert np.array_equal(vector["in_zm"][columns], vector["out_zm_grid"])
    grid = latents(SMALL, 1, rows, motion=columns)
    plain = latents(SMALL, 1, range(max(n, m)))
    assert np.array_equal(grid["za"], plain["za"][rows])
    assert np.array_equal(grid["zm"], plain["zm"][columns])


def test_labels_are_drawn_from_seed_and_index(labelled: Manifest) -> None:
    drawn = video_labels(labelled.interface, 4, range(300))
    assert drawn is not None
    assert set(drawn) == {0, 1, 2}
    assert drawn[250:] == video_labels(labelled.interface, 4, range(250, 300))
    assert drawn == latents(labelled.interface, 4, range(300))["label"].tolist()


def test_given_labels_cycle_by_index_not_by_row(labelled: Manifest) -> None:
    rows = latents(labelled.interface, 0, [3, 4, 5, 10], labels=[2, 0])["label"]
    assert rows.tolist() == [0, 2, 0, 2]


def test_in_a_grid_the_label_goes_with_the_motion(labelled: Manifest) -> None:
    grid = latents(labelled.interface, 0, [0, 0, 1, 1], motion=[0, 1, 0, 1], labels=[2, 1])
    assert grid["label"].tolist() == [2, 1, 2, 1]


def test_label_names_and_numbers_are_understood(labelled: Manifest) -> None:
    assert label_indices(labelled.interface, labelled.labels, ["jump", "0", 1]) == (2, 0, 1)


@pytest.mark.parametrize("wanted", [["run"], ["3"], ["-1"], [3], ["²"]])
def test_unknown_labels_are_named(labelled: Manifest, wanted: list[str | int]) -> None:
    with pytest.raises(SamplingError) as caught:
        label_indices(labelled.interface, labelled.labels, wanted)
    assert str(wanted[0]) in caught.value.seen


def test_labels_for_a_model_without_labels_are_refused() -> None:
    for wanted in (["walk"], ["1"]):
        with pytest.raises(SamplingError, match="without labels"):
            label_indices(SMALL, (), wanted)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (2**32, 0), (0, -1), (0, 2**32)])
def test_seeds_and_indices_out_of_range_are_refused(seed: int, index: int) -> None:
    with pytest.raises(SettingsError, match="expected 0 to 4294967295"):
        latents(SMALL, seed, [index])


def test_impossible_lengths_name_possible_ones() -> None:
    with pytest.raises(SamplingError, match="--frames 16"):
        latents(SMALL, 0, [0], frames=17)


def test_rows_and_motions_must_match() -> None:
    with pytest.raises(SettingsError, match="same length"):
        latents(SMALL, 0, [0, 1], motion=[0])
    with pytest.raises(SettingsError, match="at least one"):
        latents(SMALL, 0, [])
