"""A classifier's checkpoint gives the answers of its network, and nothing else passes for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.scoring import LABELS, artifact, painted_store

from vidgen.bench.scores.classifier import TorchClassifier, classifier_info
from vidgen.bench.scores.score import score
from vidgen.bench.scores.twostreamvan import TwoStreamVANScoreSettings
from vidgen.errors import BackendError, CheckpointError, ScoreError
from vidgen.models.checkpoint import CheckpointInfo, DataDescription, save_checkpoint
from vidgen.models.config import ClassifierConfig, G3ANConfig
from vidgen.models.registry import build_network


def saved(path: Path, config: ClassifierConfig, labels: tuple[str, ...] = LABELS) -> torch.nn.Module:
    torch.manual_seed(3)
    network = build_network(config).eval()
    data = DataDescription("toy", 10, labels, "ab" * 32) if labels else None
    save_checkpoint(path, network.state_dict(), CheckpointInfo("classifier", config, 5, data))
    return network


@pytest.mark.parametrize("n_class", [3, 6])
def test_answers_are_the_softmax_of_the_networks_logits(tmp_path: Path, n_class: int) -> None:
    path = tmp_path / "c.safetensors"
    network = saved(path, ClassifierConfig(n_class=n_class, ndf=2, n_actions=3))
    clips = np.random.default_rng(0).integers(0, 256, (3, 10, 64, 64, 3), np.uint8)
    given = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.inference_mode():
        expected = torch.softmax(network(given).double(), 1).numpy()
    threads = torch.get_num_threads()
    with TorchClassifier.load(path, threads=1) as judge:
        assert judge.info.n_class == n_class and judge.info.n_actions == 3 and judge.info.labels == LABELS
        answers = judge.probabilities(clips)
        as_floats = judge.probabilities((clips.astype(np.float32) / 255 - 0.5) / 0.5)
    assert torch.get_num_threads() == threads
    assert answers.dtype == np.float64 and answers.shape == (3, n_class)
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    np.testing.assert_allclose(as_floats, answers, atol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-12)


def test_a_real_score_from_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved(path, ClassifierConfig(n_class=3, ndf=2))
    options = {"engines": (artifact(tmp_path / "waves.onnx"),), "videos": (painted_store(tmp_path / "store"),)}
    report = score(TwoStreamVANScoreSettings(path, **options, n=2, backend="fake", batch=4))
    assert report.classifier["sha256"] == classifier_info(path).sha256 and report.classifier["data"]["name"] == "toy"
    assert [list(entry.sets) for entry in report.scores] == [["class-conditional"], ["real"]]
    assert all(1 <= metrics.inception_score <= 3 for entry in report.scores for metrics in entry.sets.values())
    assert str(path) in report.table() and "toy" in report.table()


def test_weights_that_are_not_finite_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    network = saved(path, ClassifierConfig(n_class=3, ndf=2))
    tensors = {
        name: tensor * float("nan") if "weight" in name else tensor for name, tensor in network.state_dict().items()
    }
    save_checkpoint(path, tensors, CheckpointInfo("classifier", ClassifierConfig(n_class=3, ndf=2)))
    with pytest.raises(ScoreError, match="classifier's answers"):
        score(TwoStreamVANScoreSettings(path, videos=(painted_store(tmp_path / "store"),)))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    config = G3ANConfig(c_a=4, c_m=2, ch=2)
    save_checkpoint(path, build_network(config).state_dict(), CheckpointInfo("g3an", config))
    with pytest.raises(CheckpointError, match="a g3an checkpoint, expected a classifier"):
        TorchClassifier.load(path)
    (tmp_path / "text.safetensors").write_text("text")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(CheckpointError):
            TorchClassifier.load(tmp_path / name)


def test_labels_that_do_not_fit_the_outputs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved(path, ClassifierConfig(n_class=6, ndf=2, n_actions=2))
    with pytest.raises(CheckpointError, match=r"3 labels for 2 actions \(6 outputs\)"):
        TorchClassifier.load(path)


def test_tensors_of_other_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    network = saved(path, ClassifierConfig(n_class=3, ndf=2))
    save_checkpoint(path, network.state_dict(), CheckpointInfo("classifier", ClassifierConfig(n_class=3, ndf=4)))
    with pytest.raises(CheckpointError, match="expected"):
        TorchClassifier.load(path)


def test_clips_that_the_network_cannot_take_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved(path, ClassifierConfig(n_class=3, ndf=2))
    with TorchClassifier.load(path) as judge, pytest.raises(BackendError, match="cannot classify 1 clips"):
        judge.probabilities(np.zeros((1, 3, 64, 64, 3), np.uint8))
