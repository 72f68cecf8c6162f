"""Scores over features: what they compare, what they cache, what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.extractors import PixelExtractor
from support.scoring import artifact

from vidgen.bench.scores import feature_score, stream
from vidgen.bench.scores.compare import psnr
from vidgen.bench.scores.feature_score import score_features
from vidgen.bench.scores.feature_settings import FeatureScoreSettings, StatsSettings
from vidgen.bench.scores.feature_statistics import stats
from vidgen.bench.scores.frechet import frechet_distance
from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.score import score, score_settings
from vidgen.bench.scores.tally import Tally
from vidgen.errors import BackendError, ScoreError, SettingsError, StorageError, VidgenError
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.manifest import Manifest, manifest_path
from vidgen.runtime.sinks.npy import NpySink

Make = Callable[..., FeatureScoreSettings]


def _second(path: Path, clean_artifact: Path) -> Path:
    """Another artifact of the same model."""
    from vidgen.runtime.manifest import read_manifest

    return artifact(path, read_manifest(clean_artifact).interface, ())


def test_the_distance_is_that_of_the_features(make: Make, clean_artifact: Path, store: Path, tmp_path: Path) -> None:
    report = score_features(make(), extractor=PixelExtractor())
    sides = []
    for name, source in (("a", clean_artifact), ("b", store)):
        out = tmp_path / f"{name}.npz"
        stats(StatsSettings(source=source, out=out, n=40, backend="fake"), extractor=PixelExtractor())
        sides.append(np.load(out))
    expected = frechet_distance(sides[0]["mu"], sides[0]["sigma"], sides[1]["mu"], sides[1]["sigma"])
    found = report.scores[0].spaces["features"]
    assert found.frechet.value == pytest.approx(expected, rel=1e-9)
    assert (found.n, found.reference_n) == (40, 40)
    assert found.frechet.interval is not None and found.kernel is not None and found.neighbours is not None


def test_real_clips_score_near_0_and_damaged_ones_far(make: Make, store: Path, tmp_path: Path) -> None:
    real, damaged = tmp_path / "real", tmp_path / "damaged"
    from vidgen.data.store import ClipStore

    for number in range(40):
        clip = ClipStore.open(store).frames(number)
        NpySink().write(real / f"{number}.npy", clip, 25)
        NpySink().write(damaged / f"{number}.npy", clip // 2, 25)
    report = score_features(make(engines=(), n=None, videos=(real, damaged)), extractor=PixelExtractor())
    values = [entry.spaces["features"].frechet.value for entry in report.scores]
    assert values[0] < 1e-9 < 0.01 < values[1]
    assert report.scores[0].source["formats"] == ["npy"]


def test_several_artifacts_are_compared_on_the_same_latents(make: Make, clean_artifact: Path, tmp_path: Path) -> None:
    second = _second(tmp_path / "second.onnx", clean_artifact)
    report = score_features(make(engines=(clean_artifact, second), compared=8), extractor=PixelExtractor())
    one, two = (entry.spaces["features"] for entry in report.scores)
    assert not one.to_first
    assert set(two.to_first) == {"frechet", "kernel", "precision", "recall", "density", "coverage"}
    assert all(found.value == 0 and found.interval is not None for found in two.to_first.values())
    assert two.to_first["frechet"].interval == two.to_first["kernel"].interval == Interval(0.0, 0.0, 0.0)
    assert not report.scores[0].answers_to_first
    assert report.scores[1].answers_to_first["inter_entropy"].interval == Interval(0.0, 0.0, 0.0)
    assert report.scores[0].psnr is None and report.scores[1].psnr == np.inf and report.compared == 8
    header, *rows = report.rows()
    assert header[:5] == ["source", "space", "N / reference", "FID", "KID x1000"] and len(rows) == 2
    assert rows[1][2] == "40 / 40" and "±" in rows[0][3] and "±" in rows[0][4]
    assert report.source_rows()[2][-1] == "equal"
    (differences,) = report.difference_rows()
    assert differences[0] == [f"minus {clean_artifact}", "space", str(second)]
    assert [row[0] for row in differences[1:]] == [
        "FID", "KID x1000", "precision", "recall", "density", "coverage", "IS", "H(y)", "H(y|x)"
    ]  # fmt: skip
    assert all("±" in row[2] for row in differences[1:])
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    plain = values["scores"][1]["spaces"]["features"]["to_first"]["frechet"]
    assert plain == {"value": 0.0, "interval": {"low": 0.0, "high": 0.0, "standard_error": 0.0}}
    assert values["scores"][1]["psnr"] == "equal" and values["scores"][1]["spaces"]["features"]["n"] == 40
    assert "40 / 40" in report.table() and "| ---" in report.markdown()


def test_differences_of_many_sources_stay_within_a_line(make: Make, clean_artifact: Path, tmp_path: Path) -> None:
    others = [_second(tmp_path / f"{name}.onnx", clean_artifact) for name in "abcdef"]
    report = score_features(make(engines=(clean_artifact, *others), n=10), extractor=PixelExtractor())
    tables = report.difference_rows()
    assert [len(table[0]) for table in tables] == [6, 4]
    names = [name for table in tables for name in table[0][2:]]
    assert names == [str(path) for path in others]


def test_an_extractor_with_classes_gives_the_score_and_its_entropies(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    report = score_features(make(out=out, replicates=20), extractor=PixelExtractor())
    answers = report.scores[0].answers
    assert answers is not None
    header, row = report.source_rows()
    assert header == ["source", "IS", "H(y)", "H(y|x)", "videos/s"]
    for cell, value in zip(row[1:4], (answers.value, answers.inter_entropy, answers.intra_entropy), strict=True):
        assert float(cell.split(" ± ")[0]) == pytest.approx(value, abs=6e-4) and "±" in cell
    stored = json.loads(out.read_text())["scores"][0]["answers"]
    assert stored["inter_entropy"] == answers.inter_entropy and stored["intra_entropy"] == answers.intra_entropy
    assert set(stored["intervals"]) == {"value", "inter_entropy", "intra_entropy"}
    assert " H(y|x)" in report.table() and "H(y|x), how unsure" in report.table()


def test_no_resampling_leaves_those_intervals_out(make: Make) -> None:
    score = score_features(make(replicates=0), extractor=PixelExtractor()).scores[0]
    assert score.spaces["features"].frechet.interval is None
    assert score.answers is not None and not score.answers.intervals


def test_reference_statistics_are_cached_by_content(make: Make, store: Path, tmp_path: Path) -> None:
    def seen_of(settings: FeatureScoreSettings, dimension: int = 12) -> int:
        extractor = PixelExtractor(dimension)
        score_features(settings, extractor=extractor)
        return extractor.seen

    assert seen_of(make()) == 80
    assert seen_of(make()) == 40
    store.rename(tmp_path / "moved")
    assert seen_of(make(reference=tmp_path / "moved")) == 40
    assert seen_of(make(reference=tmp_path / "moved", frames=None, frame_step=1), dimension=13) == 80
    for path in (tmp_path / "cache" / "stats").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    assert seen_of(make(reference=tmp_path / "moved")) == 80


def test_a_cache_that_cannot_be_written_costs_time_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / "file"))
    assert score_features(make(), extractor=PixelExtractor()).scores[0].spaces["features"].frechet.value > 0


def test_an_interrupted_score_resumes_to_the_same_number(make: Make, tmp_path: Path) -> None:
    settings = make(n=200)
    whole = score_features(settings, extractor=PixelExtractor()).scores[0].spaces["features"].frechet.value
    with pytest.raises(BackendError):
        score_features(settings, extractor=PixelExtractor(fail_after=150))
    assert list((tmp_path / "cache" / "stats").glob("*.unfinished.npz"))
    again = PixelExtractor()
    report = score_features(dataclasses.replace(settings, resume=True), extractor=again)
    assert again.seen < 100 and report.scores[0].spaces["features"].frechet.value == whole
    assert not list((tmp_path / "cache" / "stats").glob("*.unfinished.npz"))


def test_sources_that_are_done_are_not_lost_to_a_later_failure(
    make: Make, clean_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(engines=(clean_artifact, _second(tmp_path / "b.onnx", clean_artifact)), out=tmp_path / "score.json")
    whole = score_features(settings, extractor=PixelExtractor())

    def full(*_: Any) -> None:
        raise StorageError("cannot write", seen="disk full", cause="it is full", fix="free space")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(feature_score, "write_json", full)
        score_features(settings, extractor=PixelExtractor())
    idle = PixelExtractor()
    again = score_features(dataclasses.replace(settings, resume=True), extractor=idle)
    assert idle.seen == 0 and again.rows() == whole.rows()
    assert not list((tmp_path / "cache" / "stats").glob("*.unfinished.npz"))


def test_a_full_cache_ends_no_score(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StorageError("cannot write", seen="disk full", cause="it is full", fix="free space")

    monkeypatch.setattr(stream, "SAVE_SECONDS", 0)
    monkeypatch.setattr(Tally, "save", full)
    monkeypatch.setattr(feature_score, "write_all", full)
    assert score_features(make(), extractor=PixelExtractor()).scores


@pytest.mark.parametrize(
    ("made", "asked", "seen"),
    [
        ({}, {"protocol": "g3an"}, "codec: 'none' and 'H.264"),
        ({"frames": 16}, {"frames": 12}, "frames: 16 and 12"),
    ],
)
def test_another_protocol_than_the_references_is_refused(
    make: Make, store: Path, raw_artifact: Path, tmp_path: Path, made: Any, asked: Any, seen: str
) -> None:
    out = tmp_path / "reference.npz"
    stats(StatsSettings(source=store, out=out, **made), extractor=PixelExtractor(frames=None))
    idle = PixelExtractor(frames=None)
    with pytest.raises(ScoreError, match=seen):
        score_features(make(engines=(raw_artifact,), reference=out, **asked), extractor=idle)
    assert idle.seen == 0


def test_another_extractor_than_the_references_is_refused(make: Make, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "reference.npz"
    stats(StatsSettings(source=store, out=out), extractor=PixelExtractor(12))
    with pytest.raises(ScoreError, match="weight_sha256"):
        score_features(make(reference=out), extractor=PixelExtractor(13))


def test_the_reference_programs_statistics_are_read(make: Make, store: Path, tmp_path: Path) -> None:
    """They hold mu and sigma alone: the distance is there, and what is missing is said."""
    out = tmp_path / "uva.npz"
    stats(StatsSettings(source=store, out=tmp_path / "own.npz"), extractor=PixelExtractor())
    own = np.load(tmp_path / "own.npz")
    np.savez(out, mu=own["mu"], sigma=own["sigma"])
    report = score_features(make(reference=out), extractor=PixelExtractor())
    found = report.scores[0].spaces["features"]
    expected = score_features(make(reference=tmp_path / "own.npz"), extractor=PixelExtractor()).scores[0]
    assert found.frechet.value == pytest.approx(expected.spaces["features"].frechet.value, rel=1e-9)
    assert found.kernel is None and found.reference_n is None and report.rows()[1][2] == "40 / ?"
    assert any("no protocol" in warning for warning in found.warnings)


def test_statistics_without_features_still_give_the_distance(make: Make) -> None:
    found = score_features(make(features=False), extractor=PixelExtractor()).scores[0].spaces["features"]
    assert found.frechet.value > 0 and found.frechet.interval is None and found.kernel is None


def test_a_report_is_written_and_an_impossible_one_refused_first(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "score.json"
    score_features(make(out=out), extractor=PixelExtractor())
    assert json.loads(out.read_text())["protocol"]["features"]["protocol"] == "clean"
    idle = PixelExtractor()
    with pytest.raises(StorageError):
        score_features(make(out=tmp_path), extractor=idle)
    assert idle.seen == 0


def test_g3an_scores_raw_artifacts_through_the_codec(make: Make, raw_artifact: Path) -> None:
    extractor = PixelExtractor()
    report = score_features(make(engines=(raw_artifact,), protocol="g3an"), extractor=extractor)
    assert {shape[1:] for shape in extractor.shapes} == {(16, 112, 112, 3)}
    assert report.protocol["features"]["range"] == "batch-minmax"


def test_what_was_asked_for_and_is_not_there_is_told(make: Make) -> None:
    for more in ({"n": 30}, {"features": False}):
        found = score_features(make(infinity=True, **more), extractor=PixelExtractor()).scores[0].spaces["features"]
        assert found.infinity is None and any("takes 40 clips, with features" in text for text in found.warnings)


def test_options_that_would_do_nothing_are_refused(make: Make, store: Path) -> None:
    idle = PixelExtractor()
    for more in ({"engines": (), "videos": (store,), "labels": ("smile",)}, {"split": "held-out"}):
        with pytest.raises(SettingsError, match="would do nothing"):
            score_features(make(**more), extractor=idle)
    assert idle.seen == 0


def test_a_report_replaces_nothing_that_is_scored(make: Make, clean_artifact: Path, store: Path) -> None:
    for out in (clean_artifact, manifest_path(clean_artifact), store.parent / "." / clean_artifact.name):
        before, idle = out.read_bytes(), PixelExtractor()
        with pytest.raises(StorageError, match="the report would replace it"):
            score_features(make(out=out), extractor=idle)
        assert out.read_bytes() == before and idle.seen == 0
    with pytest.raises(SettingsError, match=r"scores\.json"):
        make(out=store.parent / "real.npz")


def test_a_source_of_one_clip_is_refused_before_the_others_are_worked_on(
    make: Make, store: Path, tmp_path: Path
) -> None:
    one, idle = tmp_path / "one", PixelExtractor()
    one.mkdir()
    np.save(one / "a.npy", np.zeros((16, 16, 16, 3), np.uint8))
    for more in ({"engines": (), "videos": (store, one), "n": None}, {"reference": one}):
        with pytest.raises(ScoreError, match="1 clip, expected at least 2"):
            score_features(make(**more), extractor=idle)
    assert idle.seen == 0


def test_a_folder_holds_one_size_wherever_the_other_one_is(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(34):
        side = 24 if number > 31 else 16
        np.save(folder / f"{number:02d}.NPY", np.full((16, side, side, 3), number, np.uint8))
        (folder / f"{number:02d}.NPY.npy").rename(folder / f"{number:02d}.NPY")
    with pytest.raises(ScoreError, match="16x16 and 24x24"):
        score_features(make(engines=(), videos=(folder,), n=None), extractor=PixelExtractor())


def test_names_that_no_file_can_have_are_told(make: Make) -> None:
    long = Path("x" * 300)
    for more in ({"videos": (long,)}, {"reference": long}, {"reference": long.with_suffix(".npz")}):
        with pytest.raises(VidgenError, match="File name too long"):
            score_features(make(**more), extractor=PixelExtractor())


def test_sets_without_any_variety_are_told(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(12):
        np.save(folder / f"{number}.npy", np.full((16, 16, 16, 3), 77, np.uint8))
    report = score_features(make(engines=(), videos=(folder,), n=None, replicates=10), extractor=PixelExtractor())
    assert any("of the scored set have the same features" in text for text in report.notes())
    json.dumps(report.to_dict(), allow_nan=False)


def test_infinity_is_there_when_asked_for(make: Make) -> None:
    found = score_features(make(infinity=True, n=60), extractor=PixelExtractor(4)).scores[0].spaces["features"]
    assert found.infinity is not None and found.infinity.n == 60


def test_the_protocols_are_found_by_name(make: Make) -> None:
    assert score_settings("clean") is FeatureScoreSettings is score_settings("g3an")
    with pytest.raises(SettingsError):
        score_settings("fvd")
    with pytest.raises(SettingsError, match="without an extractor"):
        score(make())


@pytest.mark.parametrize("more", [{"reference": None}, {"engines": ()}, {"replicates": -1}, {"compared": -1}], ids=str)
def test_what_cannot_be_scored_is_refused(make: Make, more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        make(**more)


def test_psnr_counts_every_pixel() -> None:
    first = np.zeros((2, 3, 4, 4, 3), np.uint8)
    assert psnr(first, first) == np.inf
    assert psnr(first, first + 1) == pytest.approx(10 * np.log10(255**2))


def test_a_failing_artifact_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the backend, on the thread that makes clips, reaches the caller and ends the extractor's thread."""
    import threading

    def load(artifact: Path, manifest: Manifest, **_: Any) -> FakeBackend:
        return FakeBackend(manifest, fail_at=5)

    monkeypatch.setattr(FakeBackend, "load", load)
    with pytest.raises(BackendError, match="failed in run 5"):
        score_features(make(n=100), extractor=PixelExtractor())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("extractor")]
