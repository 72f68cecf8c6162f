"""Inception Score from logits: reference vectors, bounds, splits and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.vectors import load

from vidgen.bench.scores.classifier_metrics import ClassifierStatistics, classifier_metrics
from vidgen.bench.scores.inception_score import inception_score, probabilities_of
from vidgen.errors import ScoreError, SettingsError


def draw(seed: int, n: int, classes: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, classes)) * 3


@pytest.mark.parametrize("case", ["tsv_metrics_200x10", "tsv_metrics_120x30_actor"])
def test_score_of_all_clips_matches_the_reference(case: str) -> None:
    stored = load(case)
    found = inception_score(np.log(np.maximum(stored["in_pred"], 1e-300)), replicates=0)
    assert found.value == pytest.approx(stored["out_scores"][0], abs=1e-9)
    assert found.n == len(stored["in_pred"]) and found.interval is None
    assert found.value == pytest.approx(np.exp(found.inter_entropy - found.intra_entropy), abs=1e-12)
    sums = ClassifierStatistics.empty(stored["in_pred"].shape[1], 1, 0)
    answers = classifier_metrics(sums.with_clips(stored["in_pred"], [0] * found.n, range(found.n)))
    assert (found.inter_entropy, found.intra_entropy) == pytest.approx((answers.inter_entropy, answers.intra_entropy))


@given(npst.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 6)), elements=st.floats(-900, 900)))
@limits(max_examples=40)
def test_score_stays_in_its_range_whatever_the_logits(logits: np.ndarray) -> None:
    found = inception_score(logits, replicates=0)
    assert 1 <= found.value <= logits.shape[1] + 1e-9
    assert 1 <= found.split_mean <= logits.shape[1] + 1e-9 and found.splits == min(10, len(logits))


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 12))
@limits(max_examples=25)
def test_splits_are_scored_by_themselves(seed: int, n: int, splits: int) -> None:
    logits = draw(seed, n)
    found = inception_score(logits, splits=splits, replicates=0)
    parts = [inception_score(part, replicates=0).value for part in np.array_split(logits, min(splits, n))]
    assert found.split_mean == pytest.approx(np.mean(parts)) and found.split_deviation == pytest.approx(np.std(parts))


def test_sure_and_varied_answers_score_the_number_of_classes() -> None:
    sure = 100 * np.eye(4)[np.arange(400) % 4]
    assert inception_score(sure).value == pytest.approx(4)
    assert inception_score(sure * 0).value == pytest.approx(1)
    assert inception_score(100 * np.eye(4)[np.zeros(400, int)]).value == pytest.approx(1)


def test_adding_a_number_to_all_logits_changes_nothing() -> None:
    logits = draw(0, 20)
    np.testing.assert_allclose(probabilities_of(logits + 1e4), probabilities_of(logits), rtol=1e-9)
    assert probabilities_of(logits.astype(np.float32)).dtype == np.float64


def test_interval_is_as_wide_as_scores_of_other_clips_spread() -> None:
    found = [inception_score(draw(seed, 300), replicates=50) for seed in range(30)]
    told = np.mean([one.interval.standard_error for one in found if one.interval])
    assert 0.7 < told / np.std([one.value for one in found]) < 1.4


def test_intervals_are_those_of_the_classifiers_metrics() -> None:
    logits = draw(0, 60)
    sums = ClassifierStatistics.empty(5, 1, 40).with_clips(probabilities_of(logits), [0] * 60, range(60), 3)
    expected = classifier_metrics(sums).intervals
    found = inception_score(logits, replicates=40, seed=3).intervals
    for name, other in (("value", "inception_score"), *((name, name) for name in ("inter_entropy", "intra_entropy"))):
        assert found[name].standard_error == pytest.approx(expected[other].standard_error, rel=1e-9)


def test_differences_are_those_of_pairs() -> None:
    logits = draw(0, 200)
    first, second = (inception_score(one, replicates=60) for one in (logits, logits + 0.1 * draw(1, 200)))
    found = second.minus(first)
    assert set(found) == {"value", "inter_entropy", "intra_entropy"}
    assert found["value"].value == second.value - first.value
    assert found["value"].interval is not None and first.interval is not None
    assert found["value"].interval.standard_error < first.interval.standard_error / 3
    assert second.minus(inception_score(logits, replicates=0))["value"].interval is None


def test_interval_does_not_depend_on_the_order() -> None:
    logits, order = draw(0, 30), np.random.default_rng(0).permutation(30)
    found = inception_score(logits, replicates=20).interval
    moved = inception_score(logits[order], replicates=20, indices=order.tolist()).interval
    assert found is not None and moved is not None
    assert moved.standard_error == pytest.approx(found.standard_error, rel=1e-9)


def test_few_clips_are_warned_of_and_bad_ones_refused() -> None:
    assert "20 clips for 5 classes" in inception_score(draw(0, 20)).warnings[0]
    assert not inception_score(draw(0, 50)).warnings
    plain = inception_score(draw(0, 20)).to_dict()
    assert plain["classes"] == 5 and set(plain["intervals"]) == {"value", "inter_entropy", "intra_entropy"}
    assert "replicates" not in plain
    with pytest.raises(ScoreError, match="clip 1 is not finite"):
        inception_score(np.array([[0.0, 1], [np.inf, 0]]))
    with pytest.raises(ScoreError, match="0 clips"):
        inception_score(np.zeros((0, 3)))
    with pytest.raises(SettingsError, match="at least 1"):
        inception_score(draw(0, 20), splits=0)
