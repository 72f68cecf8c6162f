"""Labels and actors are spread evenly, and depend on seed and index alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen.data.synthetic.curves import cycle, pulse
from vidgen.data.synthetic.draws import balanced_actor, balanced_label, choose, clip_generator

SEEDS = st.integers(0, 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, block=st.integers(0, 10**6), count=st.integers(1, 30))
def test_every_block_of_clips_holds_every_label_once(seed: int, block: int, count: int) -> None:
    drawn = [balanced_label(seed, block * count + i, count) for i in range(count)]
    assert sorted(drawn) == list(range(count))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, labels=st.integers(1, 8), actors=st.integers(1, 8))
def test_every_actor_performs_every_action_equally_often(seed: int, labels: int, actors: int) -> None:
    pairs = set()
    for index in range(labels * actors):
        label = balanced_label(seed, index, labels)
        pairs.add((label, balanced_actor(seed, index, label, labels, actors)))
    assert len(pairs) == labels * actors


def test_label_orders_differ_between_blocks_and_seeds() -> None:
    orders = {tuple(balanced_label(seed, 10 * block + i, 10) for i in range(10)) for seed in (0, 1) for block in (0, 1)}
    assert len(orders) == 4


@given(seed=SEEDS, index=st.integers(0, 2**40))
def test_neighbouring_clips_have_unrelated_numbers(seed: int, index: int) -> None:
    assert clip_generator(seed, index).random() == clip_generator(seed, index).random()
    assert clip_generator(seed, index).random() != clip_generator(seed, index + 1).random()


def test_choices_follow_their_weights() -> None:
    rng = np.random.default_rng(0)
    drawn = [choose(rng, "abc", (1.0, 0.0, 3.0)) for _ in range(2000)]
    assert "b" not in drawn
    assert drawn.count("c") / len(drawn) == pytest.approx(0.75, abs=0.04)


def test_a_cycle_goes_through_its_keys_and_closes() -> None:
    keys = ((0.1, 1.0), (0.4, -2.0), (0.8, 3.0))
    np.testing.assert_allclose(cycle(np.array([0.1, 0.4, 0.8, 1.1, -0.2]), keys), [1, -2, 3, 1, 3], atol=1e-5)
    fine = cycle(np.arange(0.0, 3.0, 0.002), keys)
    assert np.abs(np.diff(fine)).max() < 0.06


def test_a_pulse_rises_holds_and_falls() -> None:
    times = np.array([0.0, 0.1, 0.3, 0.45, 0.65, 1.0, 1.1, 1.3], np.float32)
    np.testing.assert_allclose(pulse(times, 1.0, 0.1, 0.2, 0.15, 0.2), [0, 0, 1, 1, 0, 0, 0, 1], atol=1e-4)
