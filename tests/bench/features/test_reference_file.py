"""The files that a reference may lie in: which belong together, and what their labels may ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.extractors import PixelExtractor

from vidgen.bench.scores.feature_score import score_features
from vidgen.bench.scores.feature_settings import FeatureScoreSettings, StatsSettings
from vidgen.bench.scores.feature_statistics import stats
from vidgen.bench.scores.reference_file import extractor_of
from vidgen.errors import ScoreError

Make = Callable[..., FeatureScoreSettings]


def test_every_space_is_scored_and_found_by_its_file(make: Make, store: Path, tmp_path: Path) -> None:
    spaces = ("appearance", "motion")
    stats(StatsSettings(source=store, out=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    both = score_features(make(reference=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    assert list(both.scores[0].spaces) == list(spaces) and len(both.rows()) == 3
    one = score_features(make(reference=tmp_path / "ref-motion.npz"), extractor=PixelExtractor(spaces=spaces))
    assert list(one.scores[0].spaces) == ["motion"]


def test_files_of_a_longer_name_are_those_of_another_set(make: Make, store: Path, tmp_path: Path) -> None:
    spaces = ("appearance", "motion")
    taken = {"ref": 40, "ref-v2": 20}
    for name, n in taken.items():
        stats(StatsSettings(source=store, out=tmp_path / f"{name}.npz", n=n), extractor=PixelExtractor(spaces=spaces))
    stats(StatsSettings(source=store, out=tmp_path / "ref-other.npz"), extractor=PixelExtractor(7))
    both = score_features(make(reference=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces)).scores[0]
    assert [both.spaces[space].reference_n for space in spaces] == [40, 40]
    (tmp_path / "ref-v2-motion.npz").replace(tmp_path / "ref-motion.npz")
    with pytest.raises(ScoreError, match=r"differ in .*samples: 40 and 20"):
        score_features(make(reference=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))


def test_a_file_that_hides_those_of_the_spaces_is_told(make: Make, store: Path, tmp_path: Path) -> None:
    spaces = ("appearance", "motion")
    stats(StatsSettings(source=store, out=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    stats(StatsSettings(source=store, out=tmp_path / "ref.npz"), extractor=PixelExtractor())
    with pytest.raises(ScoreError) as caught:
        score_features(make(reference=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    assert "ref-appearance.npz" in caught.value.fix and "hides" in caught.value.fix


def test_spaces_of_any_name_have_files(make: Make, store: Path, tmp_path: Path) -> None:
    spaces = ("/pool/Flatten:0", "../../up", "a b", "a:b")
    report = stats(StatsSettings(source=store, out=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    assert len(set(report.files.values())) == 4 and {path.parent for path in report.files.values()} == {tmp_path}
    both = score_features(make(reference=tmp_path / "ref.npz"), extractor=PixelExtractor(spaces=spaces))
    assert set(both.scores[0].spaces) == set(spaces)


def test_statistics_name_the_extractor_with_its_size(store: Path, tmp_path: Path) -> None:
    label = {"extractor": "random-r3d", "extractor_settings": {"size": [32, 32]}}
    assert extractor_of(label, None) == "random-r3d@size=32"
    assert extractor_of({**label, "extractor_settings": {"size": [64, 64]}}, None) == "random-r3d"
    classifier = {"extractor": "classifier", "extractor_settings": {"size": [64, 64]}, "weight_sha256": "07fc64b9" * 8}
    assert extractor_of(classifier, Path("classifier.safetensors")) == "classifier"
    with pytest.raises(ScoreError, match="add --weights") as caught:
        extractor_of(classifier, None)
    assert "07fc64b9" in caught.value.seen
    assert extractor_of({}, None) is extractor_of({"extractor": {"name": "x"}}, None) is None
    with pytest.raises(ScoreError, match=r"PATH/own\.onnx"):
        extractor_of({"extractor": "own.onnx"}, None)


def test_statistics_give_no_consent_to_what_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.pt2").write_bytes(b"pickle")
    with pytest.raises(ScoreError, match="without options"):
        extractor_of({"extractor": "trap.pt2@trust=yes"}, None)
