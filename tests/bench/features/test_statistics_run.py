"""Statistics of clips: the same number from any shards, processes and interruptions."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.extractors import PixelExtractor
from typer.testing import CliRunner

from vidgen.bench.scores.feature_settings import StatsSettings
from vidgen.bench.scores.feature_sources import open_source
from vidgen.bench.scores.feature_statistics import Run, merge, stats
from vidgen.bench.scores.frechet import frechet_distance
from vidgen.bench.scores.protocols import CleanProtocol
from vidgen.bench.scores.ranks import Ranks
from vidgen.bench.scores.statistics_file import read_statistics
from vidgen.bench.scores.stream import collect
from vidgen.cli import app
from vidgen.errors import BackendError, ScoreError, SettingsError, StorageError, VidgenError

PROTOCOLS = ("clean", "g3an")


def _settings(source: Path, out: Path, **more: Any) -> StatsSettings:
    return StatsSettings(source=source, out=out, backend="fake", **more)


def _of(protocol: str, raw: Path, clean: Path) -> Path:
    return raw if protocol == "g3an" else clean


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("n", [150])
def test_shards_merge_to_the_whole(
    protocol: str, n: int, raw_artifact: Path, clean_artifact: Path, tmp_path: Path
) -> None:
    """Under g3an pixels depend on the 64 videos made together, so its shards are whole groups."""
    source = _of(protocol, raw_artifact, clean_artifact)
    whole = tmp_path / "whole.npz"
    stats(_settings(source, whole, protocol=protocol, n=n), extractor=PixelExtractor())
    shards = [tmp_path / f"{number}.npz" for number in range(2)]
    for number, path in enumerate(shards):
        report = stats(_settings(source, path, protocol=protocol, n=n, shard=f"{number}/2"), extractor=PixelExtractor())
        assert report.n + report.missing == n and report.missing > 0
    report = merge(shards, tmp_path / "merged.npz")
    one, two = read_statistics(whole), read_statistics(tmp_path / "merged.npz")
    assert report.missing == 0 and one.n == two.n == n
    assert one.features is not None and two.features is not None
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_allclose(two.gaussian().covariance, one.gaussian().covariance, rtol=1e-9, atol=1e-12)
    assert one.protocol == two.protocol


@pytest.mark.parametrize("features", [True, False])
def test_an_interrupted_run_resumes_to_the_same_bits(clean_artifact: Path, tmp_path: Path, features: bool) -> None:
    settings = _settings(clean_artifact, tmp_path / "a.npz", n=700, features=features)
    with pytest.raises(BackendError):
        stats(settings, extractor=PixelExtractor(fail_after=600))
    kept = tmp_path / "a.unfinished.npz"
    assert kept.exists() and not settings.out.exists()
    again = PixelExtractor()
    stats(dataclasses.replace(settings, resume=True), extractor=again)
    assert again.seen < 200
    stats(dataclasses.replace(settings, out=tmp_path / "b.npz"), extractor=PixelExtractor())
    assert settings.out.read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert not kept.exists()


def test_a_finished_run_is_kept_by_resume(clean_artifact: Path, tmp_path: Path) -> None:
    settings = _settings(clean_artifact, tmp_path / "a.npz", n=40)
    stats(settings, extractor=PixelExtractor())
    before = settings.out.stat().st_mtime_ns
    idle = PixelExtractor()
    assert stats(dataclasses.replace(settings, resume=True), extractor=idle).kept
    assert idle.seen == 0 and settings.out.stat().st_mtime_ns == before
    with pytest.raises(ScoreError, match="seed: 0 and 1"):
        stats(dataclasses.replace(settings, resume=True, seed=1), extractor=idle)
    with pytest.raises(ScoreError, match="cannot go on"):
        stats(dataclasses.replace(settings, resume=True, shard="0/2"), extractor=idle)


def test_resume_refuses_what_another_run_left(clean_artifact: Path, tmp_path: Path) -> None:
    settings = _settings(clean_artifact, tmp_path / "a.npz", n=200)
    with pytest.raises(BackendError):
        stats(settings, extractor=PixelExtractor(fail_after=100))
    with pytest.raises(ScoreError, match=r"cannot go on from .*unfinished") as caught:
        stats(dataclasses.replace(settings, resume=True, seed=9), extractor=PixelExtractor())
    assert caught.value.seen == "data.seed: 0 and 9 (then and now)"
    kept = dict(np.load(tmp_path / "a.unfinished.npz"))
    for positions in (kept["positions"][:-7], kept["positions"] + 1):
        np.savez(tmp_path / "a.unfinished.npz", **{**kept, "positions": positions})
        with pytest.raises(ScoreError, match="not the first of this run"):
            stats(dataclasses.replace(settings, resume=True), extractor=PixelExtractor())
    (tmp_path / "a.unfinished.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(ScoreError, match="damaged"):
        stats(dataclasses.replace(settings, resume=True), extractor=PixelExtractor())
    stats(settings, extractor=PixelExtractor())
    assert settings.out.exists() and not (tmp_path / "a.unfinished.npz").exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(clean_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    (tmp_path / "b-motion.npz").mkdir()
    for name, spaces in (("a", ("features",)), ("b", ("appearance", "motion"))):
        idle = PixelExtractor(spaces=spaces)
        with pytest.raises(StorageError):
            stats(_settings(clean_artifact, tmp_path / f"{name}.npz", n=40), extractor=idle)
        assert idle.seen == 0
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["a.npz", "b-motion.npz"]


def test_merged_statistics_have_a_name_that_can_be_read(clean_artifact: Path, tmp_path: Path) -> None:
    stats(_settings(clean_artifact, tmp_path / "a.npz", n=40, features=False), extractor=PixelExtractor())
    with pytest.raises(SettingsError, match=r"ends with \.npz"):
        merge([tmp_path / "a.npz"], tmp_path / "all.txt")
    assert any("features" in warning for warning in merge([tmp_path / "a.npz"], tmp_path / "all.npz").warnings)


def test_classes_without_numbers_are_refused_at_once(clean_artifact: Path, tmp_path: Path) -> None:
    class Broken(PixelExtractor):
        def logits(self, clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.full((len(clips), 3), np.inf, np.float32)

    protocol = CleanProtocol(frames=16)
    source = open_source(clean_artifact, protocol, _settings(clean_artifact, tmp_path / "a.npz", n=320))
    broken = Broken()
    with pytest.raises(ScoreError, match="not finite"):
        collect(source, protocol, broken, logits=True)
    assert broken.seen < 320


def test_more_processes_than_clips_fail_alike(clean_artifact: Path, tmp_path: Path) -> None:
    settings = _settings(clean_artifact, tmp_path / "a.npz", n=5)
    protocol = CleanProtocol(frames=16)
    source = open_source(clean_artifact, protocol, settings)
    for rank in range(6):
        run = Run(settings, protocol, PixelExtractor(), Ranks(rank, 6))
        with pytest.raises(SettingsError, match="at most 5 shards, or processes"):
            run.take(source, settings.out)


@pytest.mark.parametrize("command", ["stats", "score"])
def test_a_polite_kill_ends_a_run_as_ctrl_c_does(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("vidgen.bench.scores.feature_statistics.stats", killed)
    monkeypatch.setattr("vidgen.bench.scores.score.score", killed)
    options = {"stats": ["store", "-o", "a.npz"], "score": ["--videos", "store", "--reference", "a.npz"]}
    found = CliRunner().invoke(app, [command, *options[command], "--json"])
    assert found.exit_code == 130 and json.loads(found.stdout) == {"interrupted": "terminated"}


SCRIPT = """
import sys
from pathlib import Path
from support.extractors import PixelExtractor
from typer.testing import CliRunner
from vidgen.bench.scores.feature_settings import StatsSettings
from vidgen.bench.scores.feature_statistics import stats
source, out, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
shard = sys.argv[4] if len(sys.argv) > 4 else None
stats(StatsSettings(source=source, out=out, n=n, backend="fake", shard=shard), extractor=PixelExtractor())
"""


def _script(folder: Path) -> Path:
    path = folder / "run.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{SCRIPT}")
    return path


def test_two_processes_give_the_distance_of_one(clean_artifact: Path, store: Path, tmp_path: Path) -> None:
    script = _script(tmp_path)
    n = 400
    runs = [
        subprocess.Popen(
            [sys.executable, str(script), str(clean_artifact), str(tmp_path / f"{i}.npz"), str(n), f"{i}/2"]
        )
        for i in range(2)
    ]
    stats(_settings(clean_artifact, tmp_path / "one.npz", n=n), extractor=PixelExtractor())
    stats(_settings(store, tmp_path / "real.npz"), extractor=PixelExtractor())
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    merge([tmp_path / "0.npz", tmp_path / "1.npz"], tmp_path / "two.npz")
    _same_distance(tmp_path)


@pytest.mark.slow
def test_torchrun_gives_the_distance_of_one_process(clean_artifact: Path, store: Path, tmp_path: Path) -> None:
    script, n = _script(tmp_path), 2000
    words = [str(script), str(clean_artifact), str(tmp_path / "two.npz"), str(n)]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29511"]
    assert subprocess.run([*run, *words], timeout=300, check=False).returncode == 0
    stats(_settings(clean_artifact, tmp_path / "one.npz", n=n), extractor=PixelExtractor())
    stats(_settings(store, tmp_path / "real.npz"), extractor=PixelExtractor())
    _same_distance(tmp_path)


def _same_distance(folder: Path) -> None:
    one, two, real = (read_statistics(folder / f"{name}.npz") for name in ("one", "two", "real"))
    assert one.n == two.n
    reference = real.gaussian()
    first, second = (
        frechet_distance(s.gaussian().mean, s.gaussian().covariance, reference.mean, reference.covariance)
        for s in (one, two)
    )
    assert first > 0.01 and abs(first - second) <= 1e-6 * first


def test_a_kill_leaves_a_state_to_go_on_from(
    clean_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is the last save: it is taken while the run goes on."""
    monkeypatch.setattr("vidgen.bench.scores.stream.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("vidgen.bench.scores.stream.SAVE_SHARE", 0)
    settings = _settings(clean_artifact, tmp_path / "a.npz", n=200)
    seen: list[bool] = []
    state = tmp_path / "a.unfinished.npz"
    stats(settings, lambda done, total, name: seen.append(state.exists()), extractor=PixelExtractor())
    assert any(seen) and not state.exists()


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(clean_artifact: Path, tmp_path: Path) -> None:
    class Interrupted(PixelExtractor):
        def features(self, clips: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
            if self.seen >= 64:
                raise KeyboardInterrupt
            return super().features(clips)

    settings = _settings(clean_artifact, tmp_path / "a.npz", n=200)
    with pytest.raises(KeyboardInterrupt, match=r"64 clips of .* are kept; .*--resume"):
        stats(settings, extractor=Interrupted())
    assert stats(dataclasses.replace(settings, resume=True), extractor=PixelExtractor()).n == 200


@pytest.mark.slow
def test_the_commands_tell_one_story(tmp_path: Path) -> None:
    """Built-in data, two shards, a merge, and a score of the data against itself."""

    def vidgen(*words: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "vidgen", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    vidgen("data", "synth", "faces", "--clips", "12", "--frames", "16", "-q")
    for number in range(2):
        vidgen("stats", "faces", "-o", f"{number}.npz", "--extractor", "random-r3d", "--shard", f"{number}/2")
    assert "12 clips" in vidgen("merge", "0.npz", "1.npz", "-o", "all.npz")
    words = ("--videos", "faces", "--reference", "all.npz", "--replicates", "0", "--json")
    found = json.loads(vidgen("score", *words))["scores"][0]["spaces"]["features"]
    assert found["n"] == found["reference_n"] == 12 and found["frechet"]["value"] < 1e-6


def test_the_file_says_what_it_is(raw_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    stats(_settings(raw_artifact, out, protocol="g3an", n=10, seed=3), extractor=PixelExtractor())
    with np.load(out, allow_pickle=False) as file:
        protocol = json.loads(str(file["protocol"]))
        assert {"mu", "sigma", "n", "sum", "outer", "protocol", "features"} <= set(file.files)
    assert protocol["protocol"] == "g3an" and protocol["frames"] == 16 and protocol["range"] == "batch-minmax"
    assert protocol["batch"] == 64 and "libx264" in protocol["codec"] and "112" in protocol["resize"]
    assert protocol["extractor"] == "pixels" and len(protocol["weight_sha256"]) == 64
    assert protocol["samples"] == 10 and protocol["data"]["seed"] == 3 and len(protocol["data"]["hash"]) == 64


def test_the_reference_program_reads_the_file(clean_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    stats(_settings(clean_artifact, out, n=50), extractor=PixelExtractor())
    found = np.load(out)
    features = read_statistics(out).features
    assert features is not None
    np.testing.assert_allclose(found["mu"][:], features.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["sigma"][:], np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)


def test_every_space_has_its_file(clean_artifact: Path, tmp_path: Path) -> None:
    report = stats(
        _settings(clean_artifact, tmp_path / "a.npz", n=5), extractor=PixelExtractor(spaces=("appearance", "motion"))
    )
    assert report.files == {space: tmp_path / f"a-{space}.npz" for space in ("appearance", "motion")}
    spaces = {read_statistics(path).protocol["space"] for path in report.files.values()}
    assert spaces == {"appearance", "motion"}


def test_memory_does_not_grow_with_the_number_of_clips(clean_artifact: Path, tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for n in (128, 1024):
        tracemalloc.start()
        settings = _settings(clean_artifact, tmp_path / f"{n}.npz", n=n, features=False)
        stats(settings, extractor=PixelExtractor())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more_clips = (1024 - 128) * 16 * 16 * 16 * 3
    assert peaks[1] - peaks[0] < more_clips / 10


MISTAKES: list[dict[str, Any]] = [
    {"protocol": "fvd"},
    {"n": 1},
    {"shard": "2/2"},
    {"shard": "half"},
    {"seed": -1},
    {"frames": 0},
    {"split": "test"},
    {"out": Path("stats.pt")},
]


@pytest.mark.parametrize("more", MISTAKES, ids=str)
def test_settings_out_of_range_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        StatsSettings(**{"source": Path("a.onnx"), **more})


@pytest.mark.parametrize(
    ("more", "message"),
    [({"shard": "5/9", "n": 4}, "nothing to do"), ({"frames": 12, "n": 4}, "12 frames"), ({"labels": ("a",)}, "label")],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    clean_artifact: Path, tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    idle = PixelExtractor()
    with pytest.raises(VidgenError, match=message):
        stats(_settings(clean_artifact, tmp_path / "a.npz", **more), extractor=idle)
    assert idle.seen == 0 and not (tmp_path / "a.npz").exists()


def test_an_8_bit_artifact_cannot_follow_g3an(clean_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(VidgenError, match="float32"):
        stats(_settings(clean_artifact, tmp_path / "a.npz", protocol="g3an", n=4), extractor=PixelExtractor())
