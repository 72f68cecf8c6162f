"""The protocol from artifact, folder or store to report: the same clips give the same scores."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scoring import (
    LABELS,
    LevelClassifier,
    SoftClassifier,
    artifact,
    interface,
    painted,
    painted_store,
)

from vidgen.bench.scores.report import ScoreReport
from vidgen.bench.scores.score import score, score_settings
from vidgen.bench.scores.twostreamvan import TwoStreamVANScoreSettings, score_twostreamvan
from vidgen.errors import ArtifactError, DataError, ScoreError, SettingsError, StorageError, VidgenError
from vidgen.runtime import backends
from vidgen.runtime.jobs import sample
from vidgen.runtime.settings import SampleSettings


@pytest.fixture(autouse=True)
def painting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends ``painting`` and ``steps`` that run .onnx files."""
    monkeypatch.setitem(backends.BACKENDS, "painting", ("support.scoring", "PaintingBackend"))
    monkeypatch.setitem(backends.BACKENDS, "steps", ("support.scoring", "SteppingBackend"))
    monkeypatch.setitem(backends.RUNS, ".onnx", (*backends.RUNS[".onnx"], "painting", "steps"))


def scored(classifier: Any, **options: Any) -> ScoreReport:
    options = {"classifier": Path("unused"), "backend": "painting", "replicates": 20, **options}
    return score_twostreamvan(TwoStreamVANScoreSettings(**options), classifier=classifier)


def first_set(report: ScoreReport, kind: str = "class-conditional") -> Any:
    return report.scores[0].sets[kind]


def test_every_class_is_asked_for_alike(tmp_path: Path) -> None:
    judge = LevelClassifier()
    report = scored(judge, engines=[artifact(tmp_path / "paint.onnx")], n=11, batch=8)
    found = first_set(report)
    assert found.clips == 33 and found.confusion == ((11, 0, 0), (0, 11, 0), (0, 0, 11))
    assert found.accuracy == 100 and found.inception_score == pytest.approx(3)
    assert [shape[0] for shape in judge.seen] == [8, 8, 8, 8, 1] and set(judge.seen[0][1:]) == {10, 64, 3}


def test_the_number_for_each_class_is_the_references_unless_told(tmp_path: Path) -> None:
    report = scored(LevelClassifier(), engines=[artifact(tmp_path / "paint.onnx")], replicates=0, batch=300)
    assert first_set(report).confusion[1][1] == 900


def test_classes_are_matched_by_name_and_not_by_number(tmp_path: Path) -> None:
    judge = LevelClassifier(labels=("jump", "walk", "wave"))
    found = first_set(scored(judge, engines=[artifact(tmp_path / "paint.onnx")], n=2))
    # Class k of the artifact is painted as k; the classifier calls that level another name.
    assert found.accuracy == 0 and found.confusion == ((0, 0, 2), (2, 0, 0), (0, 2, 0))


def test_an_actor_classifier_is_right_whoever_acts(tmp_path: Path) -> None:
    found = first_set(scored(LevelClassifier(actors=2), engines=[artifact(tmp_path / "paint.onnx")], n=12))
    assert found.accuracy == 100 and found.inception_score == pytest.approx(6)


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_scores_do_not_depend_on_the_batch_size(tmp_path: Path, batch: int) -> None:
    engines = [artifact(tmp_path / "waves.onnx")]
    whole = scored(SoftClassifier(), engines=engines, n=10, backend="fake", batch=30, seed=3)
    other = scored(SoftClassifier(), engines=engines, n=10, backend="fake", batch=batch, seed=3)
    assert first_set(other).confusion == first_set(whole).confusion
    for name in ("inception_score", "inter_entropy"):
        assert getattr(first_set(other), name) == pytest.approx(getattr(first_set(whole), name), abs=1e-12)
        low = first_set(other).intervals[name].low
        assert low == pytest.approx(first_set(whole).intervals[name].low, abs=1e-12)


@pytest.mark.parametrize("format", ["npy", "png"])
def test_sampled_files_score_as_the_artifact_does(tmp_path: Path, format: str) -> None:
    """`vidgen sample` with all labels makes exactly the videos that are scored."""
    engine = artifact(tmp_path / "waves.onnx")
    direct = scored(SoftClassifier(), engines=[engine], n=10, backend="fake", seed=4)
    out = tmp_path / "samples"
    made = SampleSettings(engine, out, n=30, seed=4, labels=LABELS, format=format, backend="fake", sheet=False)
    sample(made)
    from_files = scored(SoftClassifier(), videos=[out])
    assert first_set(from_files).confusion == first_set(direct).confusion
    assert first_set(from_files).inception_score == pytest.approx(first_set(direct).inception_score, abs=1e-12)
    assert from_files.scores[0].source["sampled"]["artifact"] == direct.scores[0].source["sha256"]


@pytest.mark.parametrize("fps", [10.0, 29.97])
@pytest.mark.parametrize("format", ["mp4", "webp", "gif"])
def test_compressed_samples_are_scored_too(tmp_path: Path, format: str, fps: float) -> None:
    """Frames 0-2, 3-6 and 7-9 are equal: animated images keep such frames once, and must not look too short."""

    class Checking(LevelClassifier):
        def probabilities(self, clips: np.ndarray) -> np.ndarray:
            levels = clips.mean(axis=(2, 3, 4))
            expected = np.repeat([0, 30, 60], [3, 4, 3])
            assert np.abs(levels - levels[:, :1] - expected).max() < 12
            return super().probabilities(clips)

    out = tmp_path / "samples"
    engine = artifact(tmp_path / "steps.onnx")
    made = SampleSettings(engine, out, n=6, labels=("wave", "jump", "walk"), format=format, backend="steps", fps=fps)
    sample(made)
    report = scored(Checking(), videos=[out])
    assert first_set(report).accuracy == 100 and report.scores[0].source["formats"] == [format]


def test_shards_in_one_folder_are_one_set_and_a_missing_file_is_told(tmp_path: Path) -> None:
    engine, out = artifact(tmp_path / "paint.onnx"), tmp_path / "samples"
    for shard in ("0/2", "1/2"):
        sample(SampleSettings(engine, out, n=9, labels=LABELS, format="npy", backend="painting", shard=shard))
    assert first_set(scored(LevelClassifier(), videos=[out])).confusion == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    (out / "4.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 9 videos are not there, e\.g\. video 4 .* --resume"):
        scored(LevelClassifier(), videos=[out])


def test_the_references_folder_is_two_sets(tmp_path: Path) -> None:
    """Floats, time first, channels second; only the class-conditional set is clipped."""
    judge = SoftClassifier()
    folder = tmp_path / "5000"
    folder.mkdir()
    (folder / "results.txt").write_text("old")
    (folder / "imgs").mkdir()
    rng = np.random.default_rng(1)
    clips: dict[str, list[np.ndarray]] = {"none": [], "daria": []}
    for actor, found in clips.items():
        for label in sorted(LABELS):
            video = rng.uniform(-1.4, 1.4, (10, 3, 64, 64)).astype(np.float32)
            np.save(folder / f"{actor}_{label}_0_017.npy", video)
            found.append(video.clip(-1, 1) if actor == "none" else video)
    report = scored(judge, videos=[folder])
    for kind, actor in (("class-conditional", "none"), ("first-frame", "daria")):
        expected = judge.probabilities(np.stack(clips[actor]).transpose(0, 1, 3, 4, 2))
        requested = np.array([LABELS.index(label) for label in sorted(LABELS)])
        found = report.scores[0].sets[kind]
        assert found.clips == 3 and found.accuracy == pytest.approx(100 * (expected.argmax(1) == requested).mean())
        entropies = -(expected * np.log(expected)).sum(axis=1)
        assert found.intra_entropy == pytest.approx(entropies.mean(), abs=1e-9)


def test_real_clips_are_the_held_out_ones(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", counts=(6, 4, 8))
    assert first_set(scored(LevelClassifier(), videos=[store]), "real").confusion == ((3, 0, 0), (0, 2, 0), (0, 0, 4))
    trained = first_set(scored(LevelClassifier(), videos=[store], split="train"), "real")
    assert trained.accuracy == 0 and trained.clips == 9
    assert first_set(scored(LevelClassifier(), videos=[store], split="all", n=3), "real").clips == 9


@pytest.mark.parametrize(("step", "accuracy"), [(1, 0), (2, 100)])
def test_frames_of_real_clips_are_picked_at_the_step(tmp_path: Path, step: int, accuracy: int) -> None:
    from vidgen.data.store import StoreWriter

    class LastFrame(LevelClassifier):
        def probabilities(self, clips: np.ndarray) -> np.ndarray:
            return super().probabilities(clips[:, ::-1])

    with StoreWriter(tmp_path / "store", name="turn", height=80, width=72, labels=LABELS) as writer:
        for label in range(3):
            clip = np.concatenate([np.zeros((10, 80, 72, 3), np.uint8), painted(label, 11, 80)[:, :, :72]])
            writer.add(clip, source=str(label), fps=10, label=label)
    found = first_set(scored(LastFrame(), videos=[tmp_path / "store"], split="all", frame_step=step), "real")
    assert found.clips == 3 and (found.accuracy == 100) == (accuracy == 100)


def test_real_clips_are_shown_as_fast_as_the_classifiers(tmp_path: Path) -> None:
    from dataclasses import replace

    from vidgen.bench.scores.real_clips import Selection, StoreClips
    from vidgen.data.store import StoreWriter

    with StoreWriter(tmp_path / "store", name="turn", height=64, width=64, labels=(*LABELS, "other")) as writer:
        for label in range(4):
            writer.add(painted(label, 30, 64), source=str(label), fps=24, label=label)
    chosen = Selection(split="all", fps=12.0)
    clips = StoreClips(tmp_path / "store", LABELS, 3, chosen, None)
    assert clips.step == 2
    assert StoreClips(tmp_path / "store", LABELS, 3, replace(chosen, frame_step=1), None).step == 1
    assert sorted(clips.actions) == [0, 1, 2]  # the store's fourth class is not the classifier's


def test_an_artifact_goes_on_from_real_first_frames(tmp_path: Path) -> None:
    """The painting backend checks that frame and label belong together, though both orders of classes differ."""
    store = painted_store(tmp_path / "store", counts=(4, 6, 4))
    engine = artifact(tmp_path / "next.onnx", interface(conditional=True), ("jump", "walk", "wave"))
    report = scored(LevelClassifier(), engines=[engine], first_frames=store, passes=5, batch=4)
    found = first_set(report, "first-frame")
    assert found.confusion == ((10, 0, 0), (0, 15, 0), (0, 0, 10))
    assert report.scores[0].source["first_frames"]["data_hash"]
    with pytest.raises(ScoreError, match="--first-frames STORE"):
        scored(LevelClassifier(), engines=[engine])


def test_raw_output_is_scored_as_the_8_bits_it_stands_for(tmp_path: Path) -> None:
    raw = artifact(tmp_path / "raw.onnx", interface(output="float32"))
    assert first_set(scored(LevelClassifier(), engines=[raw], n=3)).accuracy == 100


def test_models_of_longer_videos_are_scored_on_their_first_frames(tmp_path: Path) -> None:
    longer = interface()
    rule = dataclasses.replace(longer.frames, scale=4, offset=12, default=32)
    engine = artifact(tmp_path / "long.onnx", dataclasses.replace(longer, frames=rule))
    report = scored(LevelClassifier(), engines=[engine], n=2)
    assert first_set(report).accuracy == 100 and report.scores[0].source["frames_made"] == 16


def test_the_report_says_all_that_the_numbers_hang_on(tmp_path: Path) -> None:
    engine = artifact(tmp_path / "paint.onnx")
    store = painted_store(tmp_path / "store")
    out = tmp_path / "deep" / "report.json"
    judge = LevelClassifier(certainty=0.7)
    steps: list[tuple[int, int, str]] = []
    report = score_twostreamvan(
        TwoStreamVANScoreSettings(
            Path("x"), (engine,), (store,), n=2, seed=9, backend="painting", out=out, replicates=5
        ),
        lambda *step: steps.append(step),
        classifier=judge,
    )
    values = json.loads(out.read_text())
    assert values == json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["protocol"]["name"] == "twostreamvan" and values["protocol"]["seed"] == 9
    assert values["protocol"]["n_per_class"] == 2 and values["classifier"]["labels"] == list(LABELS)
    sources = [entry["source"] for entry in values["scores"]]
    assert sources[0]["kind"] == "engine" and len(sources[0]["sha256"]) == 64
    assert sources[1]["kind"] == "store" and len(sources[1]["data_hash"]) == 64
    assert steps[0] == (0, 12, str(engine)) and steps[-1] == (12, 12, str(store))
    rows = report.rows()
    assert [row[1] for row in rows] == ["set", "class-conditional", "real"]
    text = report.table()
    assert "chance is 33.3 %" in text and "wave" in text and "real" in text
    assert report.markdown().count("|") > 20


def test_artifacts_get_the_same_latents(tmp_path: Path) -> None:
    engines = [artifact(tmp_path / "one.onnx"), artifact(tmp_path / "two.onnx")]
    report = scored(SoftClassifier(), engines=engines, n=10, backend="fake")
    one, two = (entry.sets["class-conditional"] for entry in report.scores)
    assert one == two and report.scores[0].source["sha256"] != report.scores[1].source["sha256"]


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path) -> None:
    engines = [artifact(tmp_path / "paint.onnx")]
    peaks = []
    for n in (8, 80):
        tracemalloc.start()
        scored(LevelClassifier(), engines=engines, n=n, batch=8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 216 more videos of 10 frames would be 25 MiB.
    assert peaks[1] < peaks[0] + 2**20


def test_everything_is_checked_before_anything_is_made(tmp_path: Path) -> None:
    judge = LevelClassifier()
    with pytest.raises(DataError):
        scored(judge, engines=[artifact(tmp_path / "paint.onnx")], videos=[tmp_path / "nowhere"])
    assert judge.seen == []


def test_a_report_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    judge = LevelClassifier()
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "report.json"):
        with pytest.raises(StorageError, match="cannot write"):
            scored(judge, engines=[artifact(tmp_path / "paint.onnx")], n=1, out=out)
    assert judge.seen == []


@pytest.mark.parametrize(
    ("labels", "made", "match"),
    [
        (("walk", "wave", "sit"), interface(), r"walk, wave, sit; the classifier has walk, wave, jump \(jump, sit"),
        ((), interface(classes=4), "4 classes; the classifier has 3"),
        (("a", "b"), interface(classes=2), "a, b; the classifier has"),
        (LABELS, interface(size=32), "frames of 32x32, expected 64x64"),
    ],
)
def test_an_artifact_that_does_not_suit_the_classifier_is_refused(
    tmp_path: Path, labels: tuple[str, ...], made: Any, match: str
) -> None:
    with pytest.raises(ScoreError, match=match):
        scored(LevelClassifier(), engines=[artifact(tmp_path / "other.onnx", made, labels)], n=1)


def test_a_model_without_labels_is_refused(tmp_path: Path) -> None:
    from vidgen.models.config import G3ANConfig

    engine = artifact(tmp_path / "g3an.onnx", G3ANConfig(c_a=4, c_m=2, ch=2).interface(), ())
    with pytest.raises(ScoreError, match="artifact without labels"):
        scored(LevelClassifier(), engines=[engine])
    out = tmp_path / "samples"
    sample(SampleSettings(engine, out, n=2, format="npy", backend="fake"))
    with pytest.raises(DataError, match="names no labels"):
        scored(LevelClassifier(), videos=[out])


def test_an_altered_artifact_is_refused(tmp_path: Path) -> None:
    engine = artifact(tmp_path / "paint.onnx")
    engine.write_bytes(b"else")
    with pytest.raises(ArtifactError, match="SHA-256"):
        scored(LevelClassifier(), engines=[engine])


def test_too_few_clips_are_told_with_what_there_is(tmp_path: Path) -> None:
    store = painted_store(tmp_path / "store", counts=(6, 4, 8))
    with pytest.raises(ScoreError, match=r"held-out clips of .* 2 clips of wave, expected at least 3 .* use -n 2"):
        scored(LevelClassifier(), videos=[store], n=3)
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "none_walk_000.npy", painted(0))
    with pytest.raises(ScoreError, match="0 clips of wave, expected at least 1"):
        scored(LevelClassifier(), videos=[folder])


def test_short_clips_of_a_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it has 9, at least 10 are needed"):
        scored(LevelClassifier(), videos=[painted_store(tmp_path / "store", frames=9)])


def test_class_names_may_be_given_where_the_classifier_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, label in enumerate(LABELS):
        np.save(folder / f"none_{label}_000.npy", painted(number))
    nameless = LevelClassifier(labels=())
    with pytest.raises(DataError, match="does not name its classes"):
        scored(nameless, videos=[folder])
    assert first_set(scored(nameless, videos=[folder], labels=LABELS)).accuracy == 100
    engine = artifact(tmp_path / "paint.onnx")
    assert first_set(scored(nameless, engines=[engine], n=2)).accuracy == 100
    for judge, labels in ((nameless, ("a", "b")), (LevelClassifier(), ("jump", "walk", "wave"))):
        with pytest.raises(ScoreError, match="cannot name"):
            scored(judge, videos=[folder], labels=labels)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"batch": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"split": "test"},
        {"held_out": 0.0},
        {"held_out": float("nan")},
        {"frame_step": 0},
        {"passes": 0},
        {"replicates": -1},
        {"labels": ("a", "a")},
        {"engines": ()},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        TwoStreamVANScoreSettings(**{"classifier": Path("c"), "engines": (Path("e"),), **options})


def test_a_protocol_that_does_not_exist_is_a_typing_error() -> None:
    assert score_settings("twostreamvan") is TwoStreamVANScoreSettings
    with pytest.raises(SettingsError, match="typing error"):
        score_settings("fid")
    with pytest.raises(VidgenError):
        score(object())


def test_score_runs_the_protocol_of_its_settings(tmp_path: Path) -> None:
    with pytest.raises(VidgenError, match="no such file"):
        score(TwoStreamVANScoreSettings(tmp_path / "no.safetensors", (tmp_path / "no.onnx",)))
