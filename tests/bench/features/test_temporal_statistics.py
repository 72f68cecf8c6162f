"""Temporal consistency in one pass with the features: the pure function's numbers, from any shards, after any kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from support.extractors import PixelExtractor
from support.frames import ColourExtractor, Colours

from vidgen.bench.scores.feature_report import FeatureReport
from vidgen.bench.scores.feature_score import score_features
from vidgen.bench.scores.feature_settings import FeatureScoreSettings, StatsSettings
from vidgen.bench.scores.feature_statistics import merge, stats
from vidgen.bench.scores.moments import Moments
from vidgen.bench.scores.statistics_file import Statistics, read_statistics, write_statistics
from vidgen.bench.scores.temporal_consistency import TemporalConsistency, frame_changes, temporal_consistency
from vidgen.bench.scores.temporal_statistics import temporal_of
from vidgen.data.store import ClipStore
from vidgen.errors import BackendError, ScoreError
from vidgen.runtime.sinks.npy import NpySink

FIGURES = ("value", "order", "motion")


def _stats(source: Path, out: Path, extractor: Any = None, **more: Any) -> Path:
    settings = StatsSettings(source=source, out=out, backend="fake", **more)
    stats(settings, extractor=extractor or ColourExtractor())
    return out.with_name(f"{out.stem}-appearance.npz")


def _figures(found: TemporalConsistency | None) -> tuple[float, ...]:
    assert found is not None
    return tuple(getattr(found, name) for name in FIGURES)


def _set(rng: np.random.Generator, n: int, frames: int, d: int = 4) -> np.ndarray[Any, Any]:
    walk = np.cumsum(rng.standard_normal((n, frames, d)), axis=1)
    return (3 * rng.standard_normal((n, 1, d)) + walk + 5).astype(np.float32)


def _kept(videos: np.ndarray[Any, Any], indices: np.ndarray[Any, Any], features: bool = True) -> Statistics:
    """What one pass keeps of features of frames."""
    wide = videos.astype(np.float64)
    means = wide.mean(axis=1).astype(np.float32)
    changes = np.stack([frame_changes(video) for video in wide])
    protocol = {"frames": videos.shape[1], "samples": len(indices)}
    return Statistics(Moments.of(means), protocol, means if features else None, indices, changes)


@given(st.integers(0, 999), st.integers(2, 40), st.integers(3, 12))
@limits(max_examples=20, deadline=None)
def test_what_is_kept_gives_what_all_frames_give(seed: int, n: int, frames: int) -> None:
    videos, order = _set(np.random.default_rng(seed), n, frames), np.random.default_rng(seed).permutation(n)
    whole = temporal_consistency(videos, replicates=7, seed=seed)
    found = temporal_of(_kept(videos[order], order), replicates=7, seed=seed)
    assert found is not None and (found.n, found.frames) == (n, frames)
    assert _figures(found) == pytest.approx(_figures(whole), rel=1e-5, abs=1e-6)
    assert set(found.intervals) == set(whole.intervals) and bool(found.intervals) == (n >= 10)
    for name, interval in whole.intervals.items():
        assert found.intervals[name].standard_error == pytest.approx(interval.standard_error, rel=1e-3, abs=1e-7)
    without = temporal_of(_kept(videos, np.arange(n), features=False))
    assert without is not None and not without.intervals
    assert _figures(without) == pytest.approx(_figures(found), rel=1e-6, abs=1e-9)


def test_blocks_of_videos_do_not_move_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _kept(_set(np.random.default_rng(0), 90, 5), np.arange(90))
    whole = temporal_of(kept, replicates=20)
    monkeypatch.setattr("vidgen.bench.scores.temporal_consistency._BLOCK", 7)
    parts = temporal_of(kept, replicates=20)
    assert whole is not None and parts is not None and _figures(parts) == pytest.approx(_figures(whole), rel=1e-12)
    for name in FIGURES:
        assert parts.intervals[name].standard_error == pytest.approx(whole.intervals[name].standard_error, rel=1e-9)


def test_a_change_of_one_level_is_no_rounding() -> None:
    clip = np.full((1, 16, 16, 16, 3), 200, np.uint8)
    clip[0, 8:, 0, 0, 0] += 1
    found = ColourExtractor().describe(clip).changes["appearance"][0]
    frames = Colours().run(clip[0])["features"].astype(np.float64)
    square = float(np.square(frames[8] - frames[7]).sum())
    assert 0 < square < 1e-9 and found[0] == pytest.approx(square / 15, rel=1e-12)
    assert found[1] == pytest.approx(square * 2 * 64 / (16 * 15), rel=1e-9)
    assert not ColourExtractor().describe(np.repeat(clip[:, :1], 16, axis=1)).changes["appearance"][0, 0]


def test_a_store_has_the_figures_of_its_frames(store: Path, tmp_path: Path) -> None:
    extractor = ColourExtractor()
    path = _stats(store, tmp_path / "a.npz", extractor)
    clips = np.stack([ClipStore.open(store).frames(number)[1:17] for number in range(40)])
    frames = Colours().run(clips.reshape(-1, *clips.shape[2:]))["features"].reshape(40, 16, -1)
    assert _figures(temporal_of(read_statistics(path))) == pytest.approx(
        _figures(temporal_consistency(frames)), rel=1e-5
    )
    assert sum(extractor.network.runs) == 40 * 16  # one pass
    assert read_statistics(tmp_path / "a-motion.npz").changes is None


@pytest.mark.parametrize("features", [True, False])
def test_shards_and_interruptions_give_the_same_file(clean_artifact: Path, tmp_path: Path, features: bool) -> None:
    whole = _stats(clean_artifact, tmp_path / "whole.npz", n=40, features=features)
    shards = [_stats(clean_artifact, tmp_path / f"{i}.npz", n=40, features=features, shard=f"{i}/2") for i in range(2)]
    report = merge(shards, tmp_path / "merged.npz")
    one, merged = read_statistics(whole), read_statistics(tmp_path / "merged.npz")
    np.testing.assert_array_equal(one.changes, merged.changes)
    first, second = temporal_of(one), temporal_of(merged)
    assert first is not None and second is not None
    assert (first == second) if features else (_figures(first) == pytest.approx(_figures(second), rel=1e-9))
    assert _figures(report.temporal) == pytest.approx(_figures(first)) and "order" in report.text()
    with pytest.raises(BackendError):
        _stats(clean_artifact, tmp_path / "again.npz", ColourExtractor(35), n=40, features=features)
    again = _stats(clean_artifact, tmp_path / "again.npz", n=40, features=features, resume=True)
    assert again.read_bytes() == whole.read_bytes()


def test_damaged_changes_are_refused(clean_artifact: Path, tmp_path: Path) -> None:
    found = read_statistics(_stats(clean_artifact, tmp_path / "a.npz", n=12))
    assert found.changes is not None
    for wrong in (-found.changes, found.changes * np.nan, found.changes[:5], found.changes.astype(np.float32)):
        with pytest.raises(ScoreError):
            dataclasses.replace(found, changes=wrong)


def _table(report: FeatureReport) -> list[list[str]]:
    return next((rows for rows in report.more_rows() if "consistency" in rows[0]), [])


def _score(store: Path, **more: Any) -> FeatureScoreSettings:
    return FeatureScoreSettings(**{"reference": store, "n": 40, "backend": "fake", "replicates": 2, **more})


def test_frozen_shuffled_and_flickering_videos_are_told(store: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    damages = {
        "real": lambda clip: clip,
        "frozen": lambda clip: np.repeat(clip[8:9], len(clip), axis=0),
        "shuffled": lambda clip: clip[rng.permutation(len(clip))],
        "flicker": lambda clip: np.stack([frame // (1 + at % 2) for at, frame in enumerate(clip)]),
    }
    clips = [ClipStore.open(store).frames(number) for number in range(12)]
    for name, damage in damages.items():
        for number, clip in enumerate(clips):
            NpySink().write(tmp_path / name / f"{number}.npy", damage(clip), 25)
    for number, clip in enumerate(clips):
        NpySink().write(tmp_path / "reference" / f"{number}.npy", clip, 25)
    folders = tuple(tmp_path / name for name in damages)
    report = score_features(_score(tmp_path / "reference", videos=folders, n=None), extractor=ColourExtractor())
    real, frozen, shuffled, flicker = (_figures(score.temporal) for score in report.scores)
    assert real == pytest.approx(_figures(report.reference_temporal), rel=1e-9)
    assert frozen[0] == 1 and frozen[2] == 0 and np.isnan(frozen[1])
    assert real[1] > 0.9 and abs(shuffled[1]) < 0.2 and flicker[1] < -0.3
    assert shuffled[0] < real[0] and shuffled[2] == pytest.approx(real[2], rel=0.2)
    header, *rows = _table(report)
    assert header == ["source", "N", "frames", "consistency", "order", "motion"] and len(rows) == 5
    assert rows[0][3].startswith("0.9") and "±" in rows[0][4] and rows[1][4] == "-" and rows[4][0].startswith("ref")
    assert "12 of 12 videos do not move at all" in report.table() and "flicker" in report.markdown()
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["scores"][1]["temporal_consistency"]["order"] is None
    assert values["reference"]["temporal_consistency"]["value"] == pytest.approx(real[0])


def test_whole_clips_have_none(store: Path, clean_artifact: Path) -> None:
    report = score_features(_score(store, engines=(clean_artifact,)), extractor=PixelExtractor())
    assert report.scores[0].temporal is None and report.reference_temporal is None and not _table(report)
    assert "flicker" not in report.table() and report.to_dict()["scores"][0]["temporal_consistency"] is None


@pytest.mark.parametrize("kind", ["earlier", "other program"])
def test_files_without_changes_are_read(store: Path, clean_artifact: Path, tmp_path: Path, kind: str) -> None:
    path, out = _stats(store, tmp_path / "a.npz"), tmp_path / "b-appearance.npz"
    if kind == "earlier":
        write_statistics(out, dataclasses.replace(read_statistics(path), changes=None))
    else:
        found = np.load(path)
        np.savez(out, mu=found["mu"], sigma=found["sigma"])
    report = score_features(_score(out, engines=(clean_artifact,)), extractor=ColourExtractor())
    assert report.scores[0].temporal is not None and report.reference_temporal is None
    assert "says nothing of single frames" in report.table() and len(_table(report)) == 2


def test_a_cache_without_changes_is_taken_again(store: Path, clean_artifact: Path, tmp_path: Path) -> None:
    settings = _score(store, engines=(clean_artifact,))
    first = score_features(settings, extractor=ColourExtractor())
    for path in (tmp_path / "cache" / "stats").glob("*.npz"):
        write_statistics(path, dataclasses.replace(read_statistics(path), changes=None))
    second = score_features(settings, extractor=ColourExtractor())
    third = score_features(settings, extractor=ColourExtractor())
    assert [report.reference["cached"] for report in (first, second, third)] == [False, False, True]
    assert first.reference_temporal == second.reference_temporal == third.reference_temporal is not None


@pytest.mark.parametrize("more", [{"frames": 2}, {"features": False}, {"replicates": 0}], ids=str)
def test_too_few_frames_give_none_and_no_features_no_interval(
    store: Path, clean_artifact: Path, more: dict[str, Any]
) -> None:
    score = score_features(_score(store, engines=(clean_artifact,), **more), extractor=ColourExtractor()).scores[0]
    assert (score.temporal is None) == ("frames" in more)
    assert score.temporal is None or not score.temporal.intervals
