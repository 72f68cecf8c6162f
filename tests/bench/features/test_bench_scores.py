"""A bench puts each artifact's score beside its times, and loses no time it measured to a score that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidgen.bench.latency import bench
from vidgen.bench.scored import score_settings_of
from vidgen.bench.scores.feature_settings import StatsSettings
from vidgen.bench.scores.feature_statistics import stats
from vidgen.bench.settings import BenchSettings, Contender
from vidgen.errors import ScoreError, SettingsError
from vidgen.runtime.backends import Backend, open_backend

QUICK: dict[str, Any] = {"batches": (1,), "seconds": 0.0, "min_runs": 1, "rounds": 1, "warmup_seconds": 0.0}


@pytest.fixture
def reference(store: Path, tmp_path: Path) -> Path:
    out = tmp_path / "real.npz"
    stats(StatsSettings(source=store, out=out, extractor="random-r3d", n=14, threads=1))
    return out


def load(artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Backend:
    return open_backend(artifact, backend, threads=threads, device=device, trust=trust)


def measured(*engines: Path, **options: Any) -> BenchSettings:
    return BenchSettings(engines, ("fake",), **{**QUICK, "threads": 1, **options})


def test_each_artifact_is_scored_as_the_reference_was_made(clean_artifact: Path, reference: Path) -> None:
    report = bench(measured(clean_artifact, score=reference, out=reference.parent / "bench"), load=load)
    assert report.ok and report.scores is not None
    written = json.loads((reference.parent / "bench" / "bench.json").read_text())
    assert written["environment"]["settings"]["score"] == str(reference) and written["scores"]["scores"]
    (score,) = report.scores.scores
    found = score.spaces["features"]
    assert (found.n, found.reference_n) == (14, 14)
    distance = f"{found.frechet.value:.4g}"[:3]
    header, _, row = [line for line in report.markdown().splitlines() if line.startswith("|")][:3]
    assert "FID" in header and distance in row
    assert "extractor random-r3d" in report.table()
    assert report.to_dict()["scores"]["scores"][0]["name"] == str(clean_artifact)


def test_the_size_and_the_extractor_of_the_reference_are_used(
    clean_artifact: Path, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "real.npz"
    stats(StatsSettings(source=store, out=out, extractor="random-r3d@size=32", n=14, threads=1))
    asked = measured(clean_artifact, score=out, extractor="random-r3d@size=32")
    named = score_settings_of(asked, [Contender(clean_artifact, "fake")])
    assert named.extractor == "random-r3d@size=32"
    assert bench(measured(clean_artifact, score=out), load=load).scores is not None


def test_a_reference_without_an_extractor_is_refused_before_the_timing(clean_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "foreign.npz"
    np.savez(out, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(SettingsError, match="without an extractor"):
        bench(measured(clean_artifact, score=out), load=load)


def test_without_a_reference_nothing_is_scored(clean_artifact: Path) -> None:
    report = bench(measured(clean_artifact), load=load)
    assert report.scores is None and "FID" not in report.table()


def test_a_score_that_fails_leaves_the_timings(
    clean_artifact: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidgen.bench.scores import feature_score

    def fails(*arguments: Any) -> None:
        raise ScoreError("no score", seen="a fault", cause="planted", fix="none")

    monkeypatch.setattr(feature_score, "score_features", fails)
    report = bench(measured(clean_artifact, score=reference), load=load)
    assert not report.ok and len(report.rows) == 1
    assert report.failures[0].step == "score" and "a fault" in report.table()


@pytest.mark.parametrize("name", ["missing.npz", "store"])
def test_a_reference_that_cannot_be_used_is_said_before_anything_is_timed(
    clean_artifact: Path, store: Path, tmp_path: Path, name: str
) -> None:
    def never(*arguments: Any) -> Backend:
        raise AssertionError("timed all the same")

    with pytest.raises((ScoreError, SettingsError), match=name):
        bench(measured(clean_artifact, score=tmp_path / name), load=never)


@pytest.mark.parametrize("options", [{"videos": 20}, {"weights": Path("w")}, {"score": Path("s.npz"), "videos": 1}])
def test_options_of_scores_that_make_no_sense_are_refused(clean_artifact: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        measured(clean_artifact, **options)
