"""Official checkpoints import as a pure rename, whatever form torch.save gave them."""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import load_generator, load_tensors, read_info
from vidgen.models.config import G3ANConfig, G3ANDiscriminatorConfig, ModelConfig
from vidgen.models.official import import_checkpoint, infer_config, infer_g3an_config, plain_name
from vidgen.models.official_shapes import expected_shapes
from vidgen.models.registry import build_network

TESTS = Path(__file__).parents[1]
TABLES: dict[str, dict[str, list[int]]] = json.loads((TESTS / "data/models/g3an_state_dicts.json").read_text())
SMALL = G3ANConfig(c_a=6, c_m=3, ch=2)


def _fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", TESTS / "support/fill.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes_of(table: str) -> dict[str, tuple[int, ...]]:
    return {plain_name(name): tuple(shape) for name, shape in TABLES[table].items()}


def filled(config: ModelConfig) -> nn.Module:
    network: nn.Module = _fill().fill_module(build_network(config))
    return network.eval()


def official(network: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """A state dict as the reference program saves it: from DataParallel, with its version notes."""
    state: OrderedDict[str, torch.Tensor] = nn.DataParallel(network).state_dict()
    return state


def assert_same(imported: Path, network: nn.Module) -> None:
    tensors, expected = load_tensors(imported), network.state_dict()
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value), name


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("g3an_G_dataparallel_checkpoint", G3ANConfig()),
        ("g3an_generator_ch64_attention_1p2d", G3ANConfig()),
        ("g3an_generator_ch64_noattention_1p2d", G3ANConfig(use_attention=False)),
        ("g3an_generator_ch64_noattention_2p1d", G3ANConfig(mode="2p1d", use_attention=False)),
        ("g3an_generator_ch64_noattention_3d", G3ANConfig(mode="3d", use_attention=False)),
        ("g3an_generator_ch8_attention_1p2d", G3ANConfig(ch=8)),
        ("g3an_VD_dataparallel_checkpoint", G3ANDiscriminatorConfig("video", 64)),
        ("g3an_video_discriminator_ch64", G3ANDiscriminatorConfig("video", 64)),
        ("g3an_ID_dataparallel_checkpoint", G3ANDiscriminatorConfig("image", 64)),
        ("g3an_image_discriminator_ch64", G3ANDiscriminatorConfig("image", 64)),
    ],
)
def test_sizes_are_inferred_from_the_reference_tables(table: str, expected: ModelConfig) -> None:
    shapes = shapes_of(table)
    config = infer_config(shapes)
    assert config == expected
    assert expected_shapes(config) == shapes


@settings(max_examples=25, deadline=None)
@given(
    c_a=st.integers(1, 300),
    c_m=st.integers(1, 300),
    half_ch=st.integers(1, 40),
    mode=st.sampled_from(["1p2d", "2p1d", "3d"]),
    attention=st.booleans(),
)
def test_inference_inverts_construction(c_a: int, c_m: int, half_ch: int, mode: Any, attention: bool) -> None:
    config = G3ANConfig(c_a, c_m, 2 * half_ch, mode, attention)
    assert infer_g3an_config(expected_shapes(config)) == config


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_format_and_protocol_gives_the_same_tensors(tmp_path: Path, zipped: bool, protocol: int) -> None:
    network = filled(SMALL)
    source = tmp_path / "G_4900.pth"
    torch.save(official(network), source, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    report = import_checkpoint(source, tmp_path / "g.safetensors")
    assert_same(tmp_path / "g.safetensors", network)
    assert report.config == read_info(tmp_path / "g.safetensors").config == SMALL
    assert report.renamed == report.tensors == len(network.state_dict())
    assert json.loads(json.dumps(report.to_dict()))["model"] == "g3an"


def test_reader_agrees_with_torch(tmp_path: Path) -> None:
    network = filled(SMALL)
    source = tmp_path / "G.pth"
    torch.save(official(network), source)
    import_checkpoint(source, tmp_path / "g.safetensors")
    theirs = torch.load(source, weights_only=True)
    ours = load_tensors(tmp_path / "g.safetensors")
    assert all(torch.equal(ours[name.removeprefix("module.")], value) for name, value in theirs.items())


def test_imported_generator_computes_what_the_original_computes(tmp_path: Path) -> None:
    config = G3ANConfig(ch=8)
    network = filled(config)
    torch.save(official(network), tmp_path / "G.pth")
    import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    imported, info = load_generator(tmp_path / "g.safetensors")
    assert info.config == config
    make_input = _fill().make_input
    za = torch.from_numpy(make_input("import/za", (2, 128, 1, 1, 1)))
    zm = torch.from_numpy(make_input("import/zm", (2, 10, 1, 1, 1)))
    with torch.inference_mode():
        assert torch.equal(imported(za, zm), network(za, zm))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_discriminators_are_kept_and_refused_as_generators(tmp_path: Path, kind: Any) -> None:
    config = G3ANDiscriminatorConfig(kind, 3)
    network = filled(config)
    torch.save(official(network), tmp_path / "D.pth")
    report = import_checkpoint(tmp_path / "D.pth", tmp_path / "d.safetensors")
    assert (report.model, report.config) == ("g3an_discriminator", config)
    assert_same(tmp_path / "d.safetensors", network)
    with pytest.raises(SettingsError, match="discriminator"):
        load_generator(tmp_path / "d.safetensors")


def test_missing_batch_counters_are_filled_with_zero(tmp_path: Path) -> None:
    network = filled(SMALL)
    state = {name: value for name, value in official(network).items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "G.pth")
    report = import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    assert len(report.filled) == len(network.state_dict()) - len(state) > 0
    assert_same(tmp_path / "g.safetensors", network)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    network = filled(SMALL)
    state = {name: v.to(dtype) if v.is_floating_point() else v for name, v in official(network).items()}
    torch.save(state, tmp_path / "G.pth")
    report = import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    tensors = load_tensors(tmp_path / "g.safetensors")
    for name, value in state.items():
        expected = value.float() if value.is_floating_point() else value
        assert torch.equal(tensors[name.removeprefix("module.")], expected)
    assert report.converted == {str(dtype).removeprefix("torch."): sum(v.is_floating_point() for v in state.values())}


@pytest.mark.parametrize(
    "entry", [("state_dict",), ("model",), ("generator",), ("networks", "G")], ids=lambda entry: "/".join(entry)
)
def test_wrapped_state_dicts_are_found(tmp_path: Path, entry: tuple[str, ...]) -> None:
    import argparse

    network = filled(SMALL)
    saved: dict[str, Any] = {entry[-1]: official(network)}
    for name in reversed(entry[:-1]):
        saved = {name: saved}
    optimiser = torch.optim.Adam(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    network = filled(SMALL)
    saved |= {"epoch": 12, "args": argparse.Namespace(ch_g=2), "optimizer": optimiser.state_dict()}
    torch.save(saved, tmp_path / "run.pth")
    report = import_checkpoint(tmp_path / "run.pth", tmp_path / "g.safetensors")
    assert report.entry == entry


def test_parameters_and_non_contiguous_tensors_are_read(tmp_path: Path) -> None:
    network = filled(SMALL)
    state: dict[str, torch.Tensor] = {}
    for name, value in network.state_dict().items():
        # A transposed copy transposed back: the same numbers under other strides.
        moved = value.transpose(0, -1).contiguous().transpose(0, -1) if value.dim() > 1 else value
        state[name] = nn.Parameter(moved) if value.is_floating_point() else moved
    torch.save(state, tmp_path / "G.pth")
    report = import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    assert report.renamed == 0
    assert_same(tmp_path / "g.safetensors", network)


def test_newer_spectral_norm_names_are_mapped(tmp_path: Path) -> None:
    """The newer form of the same layer gives names that map onto the classic ones, with the same meaning."""
    plain = nn.utils.parametrizations.spectral_norm(nn.ConvTranspose3d(4, 6, (1, 4, 4)))
    names = {plain_name(f"module.block1.conv_s.0.{name}"): v.shape for name, v in plain.state_dict().items()}
    assert names == {
        "block1.conv_s.0.bias": (6,),
        "block1.conv_s.0.weight_orig": (4, 6, 1, 4, 4),
        "block1.conv_s.0.weight_u": (6,),
        "block1.conv_s.0.weight_v": (64,),
    }
    network = filled(SMALL)
    newer = {
        ".weight_orig": ".parametrizations.weight.original",
        ".weight_u": ".parametrizations.weight.0._u",
        ".weight_v": ".parametrizations.weight.0._v",
    }
    state = {}
    for name, value in official(network).items():
        stem, ending = name.rpartition(".")[0], "." + name.rpartition(".")[2]
        state[stem + newer.get(ending, ending)] = value
    torch.save(state, tmp_path / "G.pth")
    import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    assert_same(tmp_path / "g.safetensors", network)


def test_one_network_of_a_training_state_is_chosen_by_model(tmp_path: Path) -> None:
    networks = [filled(c) for c in (SMALL, G3ANDiscriminatorConfig("video", 2), G3ANDiscriminatorConfig("image", 2))]
    torch.save(dict(zip(("G", "VD", "ID"), map(official, networks))), tmp_path / "all.pth")
    report = import_checkpoint(tmp_path / "all.pth", tmp_path / "x.safetensors")
    assert report.entry == ("G",)
    assert report.others == {"VD": "g3an_video_discriminator", "ID": "g3an_image_discriminator"}
    assert "VD (g3an_video_discriminator), ID (g3an_image_discriminator); --model" in str(report)
    names = ("g3an", "g3an_video_discriminator", "g3an_image_discriminator")
    for name, network in zip(names, networks):
        import_checkpoint(tmp_path / "all.pth", tmp_path / "x.safetensors", model=name)
        assert_same(tmp_path / "x.safetensors", network)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    state = {name: v.double() if v.is_floating_point() else v for name, v in official(filled(SMALL)).items()}
    state["module.block3.conv_t.0.bias"][1] = value
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=r"block3\.conv_t\.0\.bias has 1 values"):
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")


def test_weights_that_give_no_finite_video_are_refused(tmp_path: Path) -> None:
    state = official(filled(SMALL))
    state["module.block1.conv_s.0.weight_u"] = torch.zeros_like(state["module.block1.conv_s.0.weight_u"])
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("block4.conv_v.0.bias"), "block4.conv_v.0.bias is missing"),
        (lambda s: s.update({"block6.conv_v.0.bias": torch.zeros(2)}), "block6.conv_v.0.bias' is unknown"),
        (lambda s: s.update({"to_rgb.0.bias": torch.zeros(4)}), r"to_rgb.0.bias is \[4\], expected \[3\]"),
        (lambda s: s.update({"module.to_rgb.0.bias": torch.zeros(3)}), "differ only by the prefix"),
        (lambda s: s.update({"to_rgb.0.bias": torch.zeros(3, dtype=torch.int32)}), "int32 numbers"),
        (lambda s: s.update({"block1.conv_s.0.weight_orig": torch.zeros(6, 17, 1, 4, 4)}), "block1 maps"),
        (lambda s: s.update({"block1.conv_v.0.weight_orig": torch.zeros(9, 16, 3, 1, 1)}), "kernels"),
        (lambda s: s.update({"block1.conv_v.0.weight_orig": torch.zeros(9, 16)}), "expected 5 axes"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, message: str) -> None:
    state = dict(filled(SMALL).state_dict())
    change(state)
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")
    assert not (tmp_path / "g.safetensors").exists()


def test_folded_spectral_norm_is_explained(tmp_path: Path) -> None:
    state = {name.replace("weight_orig", "weight"): v for name, v in filled(SMALL).state_dict().items()}
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match="without spectral norm"):
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=r"2 tensors \('weight', 'bias'\)"):
        import_checkpoint(tmp_path / "G.pth", tmp_path / "g.safetensors")


def test_wrong_arguments_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    torch.save(official(filled(G3ANDiscriminatorConfig("image", 2))), tmp_path / "ID.pth")
    with pytest.raises(SettingsError, match="--model stylegan"):
        import_checkpoint(tmp_path / "ID.pth", tmp_path / "d.safetensors", model="stylegan")
    with pytest.raises(SettingsError, match=r"ends in \.safetensors"):
        import_checkpoint(tmp_path / "ID.pth", tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="expected g3an"):
        import_checkpoint(tmp_path / "ID.pth", tmp_path / "d.safetensors", model="g3an")
    (tmp_path / "same.safetensors").symlink_to(tmp_path / "ID.pth")
    with pytest.raises(SettingsError, match="same file"):
        import_checkpoint(tmp_path / "ID.pth", tmp_path / "same.safetensors")


def test_a_refused_import_leaves_an_existing_destination_alone(tmp_path: Path) -> None:
    (tmp_path / "g.safetensors").write_bytes(b"precious")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(CheckpointError, match="NumPy array"):
        import_checkpoint(tmp_path / "a.npy", tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "g.safetensors"]
