"""ResNeXt-3D computes what the reference network computes, and its official checkpoint imports as a pure rename."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from support import vectors
from support.fill import fill_module, make_input

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import load_tensors, read_info
from vidgen.models.config import ResNeXt3DConfig, config_from
from vidgen.models.official import import_checkpoint, infer_config, plain_name
from vidgen.models.official_shapes import expected_shapes
from vidgen.models.registry import build_network

TABLE: dict[str, list[int]] = json.loads((vectors.TESTS / "data/models/resnext3d_state_dict.json").read_text())
CASES = {"resnext_small_type_B_b1": ((1, 1, 1, 1), 1), "resnext101_type_B_b2": ((3, 4, 23, 3), 2)}
SMALL = ResNeXt3DConfig((1, 2, 1, 1), cardinality=1, n_class=3)


@pytest.mark.parametrize("case", CASES)
def test_vectors_of_the_reference_match(case: str) -> None:
    layers, batch = CASES[case]
    network = fill_module(build_network(ResNeXt3DConfig(layers))).eval()
    stored = vectors.load(case)
    pixel = torch.from_numpy(make_input(f"{case}/pixel", (batch, 3, 16, 112, 112), "pixel"))
    clip = (pixel - torch.tensor([114.7748, 107.7354, 99.4750]).view(1, 3, 1, 1, 1)) / 16
    stages: dict[str, Any] = {}

    def keep(name: str) -> None:
        network.get_submodule(name).register_forward_hook(lambda *call: stages.update({name: call[2].numpy()}))

    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        keep(name)
    with torch.inference_mode():
        features = network(clip).numpy()
    assert features.shape == (batch, 2048)
    vectors.assert_matches(features, stored, "out_features", 1e-3 * float(stored["out_features"].std()))
    for name, found in stages.items():
        stage = f"out_stage_{name}"
        vectors.assert_matches(found, stored, stage, 1e-3 * float(stored[f"{stage}__stats"][1]))


def test_names_and_sizes_are_those_of_the_official_file() -> None:
    shapes = {plain_name(name): tuple(shape) for name, shape in TABLE.items()}
    config = infer_config(shapes)
    assert config == ResNeXt3DConfig()
    assert list(expected_shapes(config).items()) == list(shapes.items())


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_both_shortcuts_are_inferred_and_take_other_clips(shortcut: Any) -> None:
    config = ResNeXt3DConfig((1, 1, 2, 1), 2, shortcut, 5)
    assert infer_config(expected_shapes(config)) == config
    network = build_network(config).eval()
    with torch.inference_mode():
        assert network(torch.ones(2, 3, 24, 112, 136)).shape == (2, 2048)


def test_type_a_keeps_what_it_does_not_pad() -> None:
    from vidgen.models.resnext3d import ZeroPadShortcut

    x = torch.randn(1, 2, 4, 5, 6)
    y = ZeroPadShortcut(5, 2)(x)
    assert y.shape == (1, 5, 2, 3, 3)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2, ::2])
    assert not y[:, 2:].any()


def official_file(path: Path, state: dict[str, Any]) -> Path:
    torch.save({"epoch": 139, "arch": "resnext-101", "state_dict": OrderedDict(state), "optimizer": None}, path)
    return path


@pytest.mark.parametrize("counters", [True, False])
def test_an_official_file_imports_as_a_pure_rename(tmp_path: Path, counters: bool) -> None:
    state = fill_module(build_network(SMALL)).state_dict()
    saved = {f"module.{k}": v for k, v in state.items() if counters or not k.endswith("num_batches_tracked")}
    target = tmp_path / "r.safetensors"
    report = import_checkpoint(official_file(tmp_path / "r.pth", saved), target)
    assert (report.model, report.config, report.entry) == ("resnext3d", SMALL, ("state_dict",))
    assert len(report.filled) == (0 if counters else sum(k.endswith("num_batches_tracked") for k in state))
    assert read_info(target).config == SMALL
    tensors = load_tensors(target)
    assert list(tensors) and all(torch.equal(tensors[name], value) for name, value in state.items())


def test_what_no_tensor_tells_can_be_set(tmp_path: Path) -> None:
    source = official_file(tmp_path / "r.pth", dict(fill_module(build_network(SMALL)).state_dict()))
    report = import_checkpoint(source, tmp_path / "r.safetensors", settings={"sample_duration": "32"})
    assert isinstance(report.config, ResNeXt3DConfig) and report.config.sample_duration == 32
    assert report.assumed == {"sample_size": 112}


@pytest.mark.parametrize("missing", ["layer1.0.conv2.weight", "fc.weight", "layer3.0.bn2.running_var"])
def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path, missing: str) -> None:
    state = dict(build_network(SMALL).state_dict())
    del state[missing]
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        import_checkpoint(official_file(tmp_path / "r.pth", state), tmp_path / "r.safetensors")
    assert not (tmp_path / "r.safetensors").exists()


@pytest.mark.parametrize(
    "values", [{"layers": [1, 1, 1]}, {"layers": [1, 0, 1, 1]}, {"shortcut": "C"}, {"cardinality": 0}]
)
def test_impossible_sizes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        config_from("resnext3d", values)


def test_it_is_no_generator() -> None:
    with pytest.raises(SettingsError, match="expected a generator"):
        SMALL.interface()
