"""The classifier's metrics: reference vectors, their bounds, and sums that merge."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.vectors import load

from vidgen.bench.scores.classifier_metrics import (
    CLIPS_FOR_INTERVAL,
    ClassifierMetrics,
    ClassifierStatistics,
    classifier_metrics,
    clip_weights,
)
from vidgen.errors import ScoreError


def metrics_of(
    p: np.ndarray, requested: np.ndarray, n_actions: int, *, parts: int = 1, replicates: int = 0, seed: int = 0
) -> ClassifierMetrics:
    total = ClassifierStatistics.empty(p.shape[1], n_actions, replicates)
    for rows in np.array_split(np.arange(len(p)), parts):
        total = total.with_clips(p[rows], requested[rows].tolist(), rows.tolist(), seed)
    return classifier_metrics(total)


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Probabilities with zeros and certainties among them, requests, and the number of actions."""
    n_actions, actors = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n = draw(st.integers(1, 24))
    raw = draw(npst.arrays(np.float64, (n, n_actions * actors), elements=st.sampled_from([0, 1e-12, 0.1, 1, 50])))
    raw[raw.sum(axis=1) == 0, 0] = 1
    requested = draw(npst.arrays(np.int64, n, elements=st.integers(0, n_actions - 1)))
    return raw / raw.sum(axis=1, keepdims=True), requested, n_actions


@pytest.mark.parametrize(("case", "n_actions"), [("tsv_metrics_200x10", 10), ("tsv_metrics_120x30_actor", 10)])
@pytest.mark.parametrize("parts", [1, 7])
def test_metrics_match_the_reference(case: str, n_actions: int, parts: int) -> None:
    stored = load(case)
    p = stored["in_pred"]
    found = metrics_of(p, np.zeros(len(p), np.int64), n_actions, parts=parts)
    scores = [found.inception_score, found.intra_entropy, found.inter_entropy]
    np.testing.assert_allclose(scores, stored["out_scores"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.per_class_intra_entropy, stored["out_per_class"], rtol=0, atol=1e-9)


@given(answers())
def test_metrics_match_their_definition(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    p, requested, n_actions = case
    found = metrics_of(p, requested, n_actions)
    marginal = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(p > 0, p * np.log(p / marginal), 0).sum(axis=1).mean()
    assert found.inception_score == pytest.approx(np.exp(divergence), abs=1e-9)
    predicted = p.argmax(axis=1) % n_actions
    assert found.accuracy == pytest.approx(100 * (predicted == requested).mean())
    assert found.clips == len(p) and np.sum(found.confusion) == len(p)
    for action in range(n_actions):
        assert np.isnan(found.per_class_intra_entropy[action]) == (action not in predicted)
        assert np.isnan(found.per_class_accuracy[action]) == (action not in requested)


@given(answers())
def test_metrics_stay_in_their_ranges(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    p, requested, n_actions = case
    found = metrics_of(p, requested, n_actions)
    assert 1 <= found.inception_score <= p.shape[1] * (1 + 1e-9)
    assert 0 <= found.accuracy <= 100
    assert -1e-12 <= found.intra_entropy <= found.inter_entropy + 1e-12 <= np.log(p.shape[1]) + 1e-9


@given(answers(), st.integers(0, 2**32 - 1))
def test_order_and_batches_change_nothing(case: tuple[np.ndarray, np.ndarray, int], shuffle: int) -> None:
    p, requested, n_actions = case
    order = np.random.default_rng(shuffle).permutation(len(p))
    whole = metrics_of(p, requested, n_actions)
    shuffled = metrics_of(p[order], requested[order], n_actions, parts=min(3, len(p)))
    assert shuffled.confusion == whole.confusion
    assert shuffled.inception_score == pytest.approx(whole.inception_score, abs=1e-12)
    assert shuffled.intra_entropy == pytest.approx(whole.intra_entropy, abs=1e-12)
    np.testing.assert_allclose(shuffled.per_class_intra_entropy, whole.per_class_intra_entropy, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(answers(), st.integers(0, 2**32 - 1))
def test_merged_shards_are_the_whole_with_its_intervals(case: tuple[np.ndarray, np.ndarray, int], seed: int) -> None:
    p, requested, n_actions = (np.tile(case[0], (12, 1)), np.tile(case[1], 12), case[2])
    empty = ClassifierStatistics.empty(p.shape[1], n_actions, 20)
    rows = np.arange(len(p))
    shards = [rows[rows % 3 == 0], rows[rows % 3 == 1][::-1], rows[rows % 3 == 2]]
    parts = [empty.with_clips(p[some], requested[some].tolist(), some.tolist(), seed) for some in shards]
    merged = classifier_metrics(parts[2].merged(parts[0]).merged(parts[1]))
    whole = classifier_metrics(empty.with_clips(p, requested.tolist(), rows.tolist(), seed))
    assert merged.confusion == whole.confusion
    assert whole.intervals.keys() == merged.intervals.keys() and whole.intervals
    for name, interval in whole.intervals.items():
        np.testing.assert_allclose(vars(merged.intervals[name])["low"], interval.low, atol=1e-9)
        assert interval.low - 1e-9 <= getattr(whole, name) <= interval.high + 1e-9


@pytest.mark.parametrize("actors", [1, 3])
def test_a_perfect_predictor_gets_the_best_scores(actors: int) -> None:
    requested = np.arange(40) % 4
    p = np.eye(4 * actors)[requested + 4 * (np.arange(40) // 4 % actors)]
    found = metrics_of(p, requested, 4, replicates=50)
    assert found.accuracy == 100 and found.intra_entropy == 0
    assert found.per_class_accuracy == (100,) * 4 and found.per_class_intra_entropy == (0,) * 4
    assert found.intervals["accuracy"].low == found.intervals["accuracy"].high == 100
    if actors == 1:
        assert found.inception_score == pytest.approx(4) and found.inter_entropy == pytest.approx(np.log(4))
        # The protocol fixes the number of clips of each class, and so does the resampling.
        assert found.intervals["inception_score"].standard_error == pytest.approx(0, abs=1e-12)


def test_a_blind_predictor_gets_the_worst_scores() -> None:
    found = metrics_of(np.full((20, 5), 0.2), np.arange(20) % 5, 5)
    assert found.inception_score == pytest.approx(1) and found.accuracy == 20
    assert found.intra_entropy == pytest.approx(np.log(5)) == found.inter_entropy


def test_standard_errors_are_those_of_the_binomial() -> None:
    rng = np.random.default_rng(3)
    hit = rng.random(3000) < 0.7
    requested = np.arange(3000) % 3
    p = np.eye(3)[np.where(hit, requested, (requested + 1) % 3)]
    found = metrics_of(p, requested, 3, replicates=1000, seed=5)
    assert found.intervals["accuracy"].standard_error == pytest.approx(100 * np.sqrt(0.7 * 0.3 / 3000), rel=0.1)


def test_intervals_wait_for_enough_clips_of_every_class() -> None:
    requested = np.array([0] * 50 + [1] * (CLIPS_FOR_INTERVAL - 1))
    p = np.full((len(requested), 2), 0.5)
    assert metrics_of(p, requested, 2, replicates=10).intervals == {}
    requested = np.append(requested, 1)
    assert metrics_of(np.full((len(requested), 2), 0.5), requested, 2, replicates=10).intervals
    assert metrics_of(np.full((len(requested), 2), 0.5), requested, 2, replicates=0).intervals == {}


def test_weights_depend_on_seed_and_clip_alone() -> None:
    together = clip_weights(7, [3, 900, 2**31], 30)
    np.testing.assert_array_equal(clip_weights(7, [900], 30), together[:, 1:2])
    assert (together[0] == 1).all() and not np.array_equal(together, clip_weights(8, [3, 900, 2**31], 30))
    assert clip_weights(0, range(300), 300)[1:].mean() == pytest.approx(1, abs=0.02)


def test_metrics_are_valid_json_where_a_class_is_never_predicted() -> None:
    found = metrics_of(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]), 2, replicates=4)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["per_class_intra_entropy"][1] is None and values["per_class_accuracy"] == [100.0, None]
    assert values["confusion"] == [[2, 0], [0, 0]]


@pytest.mark.parametrize(
    "wrong",
    [
        np.full((2, 3), np.nan),
        np.full((2, 3), np.inf),
        np.array([[1.5, -0.5, 0.0], [1, 0, 0]]),
        np.full((2, 3), 0.5),
        np.full((2, 4), 0.25),
        np.full(6, 1.0),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ScoreError, match="classifier's answers"):
        ClassifierStatistics.empty(3, 3, 2).with_clips(wrong, [0, 1], [0, 1])


def test_an_empty_set_has_no_score() -> None:
    with pytest.raises(ScoreError, match="empty set"):
        classifier_metrics(ClassifierStatistics.empty(4, 2))
    with pytest.raises(ValueError):
        ClassifierStatistics.empty(5, 2)
    with pytest.raises(ValueError):
        ClassifierStatistics.empty(2, 2, 0).with_clips(np.eye(2), [0, 2], [0, 1])
