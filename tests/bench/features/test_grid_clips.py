"""Disentanglement by score: known generators have known ratios, and the grid is that of sample."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.extractors import PixelExtractor
from support.frames import ColourExtractor
from support.scoring import LABELS, artifact, interface

from vidgen.bench.scores.clip_sources import EngineClips
from vidgen.bench.scores.feature_score import score_features
from vidgen.bench.scores.feature_settings import FeatureScoreSettings
from vidgen.bench.scores.feature_sources import open_source
from vidgen.bench.scores.grid_clips import GridClips
from vidgen.bench.scores.protocols import make_protocol
from vidgen.errors import BackendError, SettingsError
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.manifest import Manifest, read_manifest
from vidgen.runtime.sampler import Sampler

Make = Callable[..., FeatureScoreSettings]


class KnownGenerator(FakeBackend):
    """One latent decides the colour of a video, the other how fast a bright spot goes to and fro."""

    swapped = False

    def run(self, inputs: Any, output: np.ndarray[Any, Any], extras: Any = None) -> None:
        count, frames, _, width = output.shape[:4]
        for row in range(count):
            still, moving = inputs["za"][row, :3], inputs["zm"][row, :3, 0]
            colour, speed = (moving, still[0]) if self.swapped else (still, moving[0])
            # An odd number of periods in 16 frames is the same places in another order: nothing of it is in their mean.
            turns = 1 + 2 * int(2 * (np.tanh(speed) + 1))
            place = 0.5 + 0.4 * np.sin(2 * np.pi * turns * np.arange(frames) / 16)
            spot = np.exp(-8 * np.square(np.arange(width)[None] / width - place[:, None]))
            spot -= spot.mean(axis=1, keepdims=True)
            levels = 128 + np.rint(60 * np.tanh(colour))[None, None, None, :] + 40 * spot[:, None, :, None]
            output[row] = np.broadcast_to(levels.clip(0, 255).astype(np.uint8), output[row].shape)


@pytest.fixture
def make(clean_artifact: Path, store: Path) -> Make:
    def settings(**more: Any) -> FeatureScoreSettings:
        given: dict[str, Any] = {"engines": (clean_artifact,), "reference": store, "n": 20, "backend": "fake"}
        return FeatureScoreSettings(**{**given, "replicates": 2, "disentanglement": "8x6", **more})

    return settings


@pytest.mark.parametrize("swapped", [False, True])
def test_known_generators_have_known_ratios(make: Make, monkeypatch: pytest.MonkeyPatch, swapped: bool) -> None:
    def load(path: Path, manifest: Manifest, **_: Any) -> FakeBackend:
        backend = KnownGenerator(manifest)
        backend.swapped = swapped
        return backend

    monkeypatch.setattr(FakeBackend, "load", load)
    extractor = ColourExtractor()
    report = score_features(make(), extractor=extractor)
    found = report.scores[0].disentangled
    assert found is not None and found.grid == (8, 6) and not found.warnings
    ratios = (found.value, found.appearance, found.motion, found.appearance_share, found.motion_share)
    assert ratios == pytest.approx([float(not swapped)] * 5, abs=0.05)
    assert set(found.intervals) == {"value", "appearance", "motion", "appearance_share", "motion_share"}
    assert max(shape[0] for shape in extractor.shapes) <= 32  # never all videos at once
    (header, row) = report.more_rows()[-1]
    assert header[:3] == ["source", "za x zm", "disentanglement"] and row[1] == "8x6" and "±" in row[2]
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))["scores"][0]["disentanglement"]
    assert values["value"] == found.value and values["grid"] == [8, 6]
    assert "0: swapped" in report.table() and "za of appearance" in report.markdown()


def _grid(settings: FeatureScoreSettings, path: Path, rows: int, columns: int) -> GridClips:
    protocol = dataclasses.replace(make_protocol(settings.protocol, settings.frames), frames=8)
    engine = open_source(path, protocol, settings)
    assert isinstance(engine, EngineClips)
    return GridClips(engine, rows, columns, protocol)


@pytest.mark.parametrize("labels", [None, (), ("wave",)])
def test_the_grid_is_that_of_sample(make: Make, clean_artifact: Path, tmp_path: Path, labels: Any) -> None:
    """A row has one appearance, a column one motion and class; cell (i, i) is video i."""
    path = clean_artifact if labels is None else artifact(tmp_path / "classes.onnx", interface(16))
    settings = make(engines=(path,), seed=3, labels=labels or ())
    clips = _grid(settings, path, 3, 4)
    found = [clip for part in clips.read([range(5), range(5, 12)]) for clip in part]
    classes = [LABELS.index(label) for label in labels] if labels else None
    with Sampler(FakeBackend(read_manifest(path))) as sampler:
        appearance, motion = np.divmod(np.arange(12), 4)
        expected = sampler.render(appearance.tolist(), motion=motion.tolist(), seed=3, labels=classes)
        single = sampler.render([0, 1, 2], seed=3, labels=classes)
    np.testing.assert_array_equal(np.stack(found), expected)
    np.testing.assert_array_equal(np.stack(found)[[0, 5, 10]], single)
    assert bool(clips.warnings) == (labels == ())
    assert clips.identity["grid"] == [3, 4] and clips.clips == 12


def test_it_is_skipped_for_videos_and_where_nobody_asked(make: Make, store: Path) -> None:
    report = score_features(make(videos=(store,), disentanglement="2x2"), extractor=ColourExtractor())
    engine, videos = report.scores
    assert engine.disentangled is not None and not engine.disentangled.intervals and videos.disentangled is None
    assert "--disentanglement was skipped" in videos.warnings[-1] and len(report.more_rows()[-1]) == 2
    assert score_features(make(disentanglement=None), extractor=ColourExtractor()).scores[0].disentangled is None


def test_an_extractor_of_whole_clips_is_refused_first(make: Make) -> None:
    idle = PixelExtractor()
    with pytest.raises(SettingsError) as error:
        score_features(make(), extractor=idle)
    assert "efficientnet-lite0" in error.value.fix and idle.seen == 0


def test_an_artifact_without_an_appearance_latent_is_refused_first(make: Make, tmp_path: Path) -> None:
    path = artifact(tmp_path / "conditional.onnx", interface(16, conditional=True))
    extractor = ColourExtractor()
    with pytest.raises(SettingsError, match="beside z_motion"):
        score_features(make(engines=(path,), frames=8), extractor=extractor)
    assert not extractor.shapes


def test_an_interrupted_grid_goes_on_to_the_same_numbers(make: Make) -> None:
    whole, broken = (score_features(make(), extractor=ColourExtractor()) for _ in range(2))
    assert whole.scores[0].disentangled == broken.scores[0].disentangled
    with pytest.raises(BackendError):  # 20 clips of the artifact, then 32 of 48 of the grid
        score_features(make(), extractor=ColourExtractor(fail_after=60))
    again = ColourExtractor()
    found = score_features(make(resume=True), extractor=again).scores[0].disentangled
    assert found == whole.scores[0].disentangled and sum(shape[0] for shape in again.shapes) == 16


def test_g3an_says_that_groups_are_stretched_together(make: Make, raw_artifact: Path) -> None:
    engine = {"engines": (raw_artifact,), "reference": raw_artifact, "n": 4}
    settings = make(**engine, protocol="g3an", disentanglement="3x3", replicates=0)
    score = score_features(settings, extractor=ColourExtractor()).scores[0]
    assert score.disentangled is not None and not score.disentangled.intervals
    assert any("stretched together" in warning for warning in score.warnings)


@pytest.mark.parametrize("text", ["16", "1x16", "16x", "0x0", "300x2", "-2x3", "2x2x2", "a x b", ""])
def test_grids_that_are_none_are_refused(make: Make, text: str) -> None:
    with pytest.raises(SettingsError, match=r"AxM.*16x16"):
        make(disentanglement=text)
    assert make(disentanglement="2X256").grid == (2, 256)


def test_another_protocol_has_no_use_for_it() -> None:
    words = ["score", "--protocol", "twostreamvan", "--classifier", "c.safetensors", "--disentanglement", "4x4"]
    found = subprocess.run([sys.executable, "-m", "vidgen", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 2 and "cannot use --disentanglement with --protocol twostreamvan" in found.stderr


SCRIPT = """
import sys
from pathlib import Path
from support.frames import ColourExtractor
from vidgen.bench.scores.feature_score import score_features
from vidgen.bench.scores.feature_settings import FeatureScoreSettings
engine, store, out, grid = sys.argv[1:]
settings = FeatureScoreSettings(engines=(engine,), reference=Path(store), out=Path(out), n=90, backend="fake",
                                replicates=2, disentanglement=grid)
score_features(settings, extractor=ColourExtractor())
"""


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["5x7"])
def test_processes_give_what_one_gives(clean_artifact: Path, store: Path, tmp_path: Path, grid: str) -> None:
    script = tmp_path / "run.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{SCRIPT}")
    found = []
    for name, run in (
        ("one", []),
        ("two", ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"]),
    ):
        out = tmp_path / f"{name}.json"
        words = [sys.executable, *run, str(script), str(clean_artifact), str(store), str(out), grid]
        assert subprocess.run(words, timeout=300, check=False).returncode == 0
        found.append(json.loads(out.read_text())["scores"][0])
    for part in ("disentanglement", "temporal_consistency"):
        assert found[0][part] == found[1][part] is not None
