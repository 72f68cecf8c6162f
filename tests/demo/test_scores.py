"""What the demo's page says of scores."""

from __future__ import annotations

import importlib.util
import math
import re
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.bench.scores.compare import Comparison
from vidgen.bench.scores.feature_report import FeatureReport, FeatureScore
from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.moments import Moments
from vidgen.bench.scores.statistics_file import Statistics
from vidgen.demo.scores import extractor, plus_minus, table

CLIPS, FEATURES = 12, 4


def statistics(shift: float) -> Statistics:
    features = (np.random.default_rng(0).standard_normal((CLIPS, FEATURES)) + shift).astype(np.float32)
    return Statistics(Moments.of(features), {}, features, np.arange(CLIPS))


def report(*spaces: str, extractor: str = "efficientnet-lite0", untrained: float = 5.0) -> FeatureReport:
    """float32, half precision, untrained and real clips, as far from the reference as their shifts."""
    reference = statistics(0)
    scores: list[FeatureScore] = []
    for name, shift in (("float32", 2.0), ("half", 2.01), ("untrained", untrained), ("real", 0.1)):
        found = {}
        for space in spaces:
            first = scores[0].spaces[space] if scores else None
            found[space] = Comparison().space(statistics(shift), reference, reference.side(), first, (name, "faces"))
        scores.append(FeatureScore(name, {"kind": "engine", "step": 80}, found, None, None, 2.0, ()))
    protocol = {space: {"protocol": "clean", "extractor": extractor, "space": space} for space in spaces}
    return FeatureReport(protocol, {"path": "faces"}, tuple(scores), 0, {}, 1.0)


def test_the_table_lies_between_its_anchors_and_pairs_the_precisions() -> None:
    found = table(report("appearance", "motion"))
    headings = [row[0] for row in found.rows if len(row) == 1]
    assert headings == ["appearance (efficientnet-lite0)", "motion (efficientnet-lite0)"]
    rows = found.rows[1 : len(found.rows) // 2]
    assert [row[0] for row in rows] == [
        "other real clips",
        "trained, float32",
        "trained, half precision",
        "half precision − float32",
        "not trained (one step)",
    ]
    assert all(len(row) == len(found.header) for row in found.rows if len(row) > 1)
    real, float32, half, difference, untrained = (float(row[1].split(" ±")[0]) for row in rows)
    assert real < float32 < half < untrained
    assert difference == pytest.approx(half - float32, abs=0.1) and rows[3][1].startswith("+")
    assert [row[3] for row in rows] == ["6.0", "6.0", "6.0", "", "6.0"]
    assert f"features of {CLIPS} videos" in " ".join(found.notes) and "paper" in " ".join(found.notes)


@pytest.mark.parametrize(("shift", "said"), [(5.0, "nearer to"), (0.5, "further from"), (2.0, "as far from")])
def test_the_page_says_whether_training_helped(shift: float, said: str) -> None:
    notes = table(report("appearance", "motion", untrained=shift)).notes
    assert any(f"After 80 steps of training the generator is in appearance and motion {said}" in note for note in notes)
    assert any("no surprise" in note for note in notes) == (said == "further from")


def test_random_features_are_called_a_smoke_test() -> None:
    notes = table(report("features", extractor="random-r3d")).notes
    assert "smoke test" in notes[0] and "vidgen[scores]" in notes[0]
    assert any("the generator is nearer to the faces" in note for note in notes)
    assert not any("smoke test" in note for note in table(report("appearance")).notes)


@pytest.mark.parametrize(("spec", "name"), [(ModuleSpec("it", None), "efficientnet-lite0"), (None, "random-r3d")])
def test_features_are_those_of_imagenet_where_the_weights_are(
    monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None, name: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: spec)
    assert extractor() == name


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_a_number_is_printed_no_further_than_its_error(value: float, error: float, sign: bool) -> None:
    text = plus_minus(value, Interval(value - error, value + error, error / 1.96), sign=sign)
    match = re.fullmatch(r"([−+]?)([0-9]+(?:\.[0-9]+)?) ±\xa0([0-9]+(?:\.[0-9]+)?)", text)
    assert match is not None
    shown = float(match[2]) * (-1 if match[1] == "−" else 1)
    step = 10 ** (math.floor(math.log10(error)) - 1) if error < 10 else 1
    assert abs(shown - value) <= 0.51 * step and abs(float(match[3]) - error) <= 0.51 * step
    assert (match[1] == "−") == (shown < 0)


def test_a_number_without_an_error_has_four_digits_that_count() -> None:
    assert [plus_minus(value, None) for value in (0.0, 4229.93, -0.01234)] == ["0", "4230", "−0.01234"]
