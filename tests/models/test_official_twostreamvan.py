"""Official checkpoints of TwoStreamVAN and its classifier import as a pure rename, with the right sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import vectors
from support.official_files import classifier_file, filled, twostreamvan_file, twostreamvan_networks
from torch import nn

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import load_generator, load_tensors, read_info
from vidgen.models.config import ClassifierConfig, ModelConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.official import import_checkpoint, infer_config
from vidgen.models.official_shapes import expected_shapes

COPIES: dict[str, dict[str, list[int]]] = json.loads(
    (vectors.TESTS / "data" / "models" / "tsv_state_dicts.json").read_text()
)
ORIGINALS = {path.stem: path for path in (vectors.SPECIFICATION / "state_dicts").glob("tsv_*.json")}
EXPECTED: dict[str, ModelConfig] = {
    "tsv_generator_weizmann_gf16_cont512_joint_10cat": TwoStreamVANConfig(),
    "tsv_generator_weizmann_gf16_cont512_nojoint_10cat": TwoStreamVANConfig(joint=False),
    "tsv_generator_mug_gf16_cont512_joint_6cat": TwoStreamVANConfig(n_cat=6),
    "tsv_generator_synaction_gf32_cont1024_joint_20cat": TwoStreamVANConfig(n_cat=20, gf_dim=32, cont_dim=1024),
    "tsv_generator_gf16_cont512_joint_bn_layer3_10cat": TwoStreamVANConfig(use_bn=True, kernel_layer=3),
    "tsv_img_discriminator": TwoStreamVANDiscriminatorConfig("image", 0, 16),
    **{f"tsv_vid_discriminator_{n}cat": TwoStreamVANDiscriminatorConfig("video", n, 64) for n in (6, 10, 20)},
    **{f"tsv_classifier_ndf64_{n}class": ClassifierConfig(n, 64) for n in (6, 10, 20, 90)},
}
SMALL = TwoStreamVANConfig(n_cat=3, gf_dim=1, cont_dim=4, motion_dim=2, joint=False, kernel_layer=2)
KINDS: dict[str, ModelConfig] = {
    "twostreamvan": SMALL,
    "twostreamvan_image_discriminator": TwoStreamVANDiscriminatorConfig("image", 0, 2),
    "twostreamvan_video_discriminator": TwoStreamVANDiscriminatorConfig("video", 3, 2),
    "classifier": ClassifierConfig(6, 2),
}


def assert_same(imported: Path, network: nn.Module) -> None:
    tensors, expected = load_tensors(imported), network.state_dict()
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value), name


def table(name: str) -> dict[str, tuple[int, ...]]:
    """Key -> size in the reference's order."""
    if name in ORIGINALS:
        return {key: tuple(shape) for key, (shape, _) in json.loads(ORIGINALS[name].read_text()).items()}
    return {key: tuple(shape) for key, shape in COPIES[name].items()}


@pytest.mark.parametrize("name", sorted({*COPIES, *ORIGINALS}))
def test_every_reference_table_is_recognised(name: str) -> None:
    shapes = table(name)
    config = infer_config(shapes)
    assert config == EXPECTED[name]
    # In the same order too: the states of optimisers are told apart by it alone.
    assert list(expected_shapes(config).items()) == list(shapes.items())


@settings(max_examples=15, deadline=None)
@given(
    st.builds(
        TwoStreamVANConfig,
        n_cat=st.integers(1, 200),
        gf_dim=st.integers(1, 40),
        cont_dim=st.integers(1, 600),
        motion_dim=st.integers(1, 600),
        joint=st.booleans(),
        use_bn=st.booleans(),
        ac_kernel=st.integers(0, 25).map(lambda half: 2 * half + 1),
        kernel_layer=st.integers(1, 4),
    )
)
def test_inference_inverts_construction_of_generators(config: TwoStreamVANConfig) -> None:
    assert infer_config(expected_shapes(config)) == config


@settings(max_examples=15, deadline=None)
@given(
    st.one_of(
        st.builds(ClassifierConfig, n_class=st.integers(1, 300), ndf=st.integers(1, 80)),
        st.builds(
            TwoStreamVANDiscriminatorConfig,
            kind=st.just("video"),
            n_cat=st.integers(1, 300),
            ndf=st.integers(1, 80),
        ),
        st.builds(TwoStreamVANDiscriminatorConfig, kind=st.just("image"), ndf=st.integers(1, 80)),
    )
)
def test_inference_inverts_construction_of_judges(config: ModelConfig) -> None:
    assert infer_config(expected_shapes(config)) == config


@pytest.mark.parametrize("wrapped", [True, False], ids=["module.", "plain"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_bare_state_dicts_import_in_every_form(tmp_path: Path, kind: str, zipped: bool, wrapped: bool) -> None:
    network = filled(KINDS[kind])
    state = (nn.DataParallel(network) if wrapped else network).state_dict()
    torch.save(state, tmp_path / "saved.pth", _use_new_zipfile_serialization=zipped)
    for model in (None, kind):
        report = import_checkpoint(tmp_path / "saved.pth", tmp_path / "out.safetensors", model=model)
        assert_same(tmp_path / "out.safetensors", network)
        assert read_info(tmp_path / "out.safetensors").config == report.config == KINDS[kind]
        assert report.renamed == (len(state) if wrapped else 0)
        assert (report.step, report.entry, report.others) == (0, (), {})


@pytest.mark.parametrize("old", [True, False], ids=["old torch", "new torch"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_generator_of_a_training_state_is_imported_and_the_rest_told(
    tmp_path: Path, zipped: bool, old: bool
) -> None:
    networks = twostreamvan_networks(SMALL)
    source, out = tmp_path / "latest_model.pth.tar", tmp_path / "out.safetensors"
    torch.save(twostreamvan_file(networks, old=old), source, _use_new_zipfile_serialization=zipped)
    report = import_checkpoint(source, out)
    assert_same(out, networks["generator"])
    assert report.entry == ("generator",)
    assert read_info(out).step == report.step == 500_000
    optimisers = ("contEnc", "motionEnc", "motionDec", "contDec", "d_img", "d_vid")
    assert report.others == {
        "img_discriminator": "twostreamvan_image_discriminator",
        "vid_discriminator": "twostreamvan_video_discriminator",
        **{f"optimize_{name}": "optimiser" for name in optimisers},
    }
    assert all(place in str(report) for place in report.others)
    assert json.loads(json.dumps(report.to_dict()))["config"]["n_cat"] == 3
    for kind, name in (("image", "img"), ("video", "vid")):
        model = f"twostreamvan_{kind}_discriminator"
        assert import_checkpoint(source, out, model=model).config == KINDS[model]
        assert_same(out, networks[f"{name}_discriminator"])
    with pytest.raises(CheckpointError, match=r"2 networks.*--model twostreamvan_image_discriminator"):
        import_checkpoint(source, out, model="twostreamvan_discriminator")


def test_the_classifiers_file_imports_with_its_actions(tmp_path: Path) -> None:
    config = ClassifierConfig(6, 2)
    saved = classifier_file(config)
    torch.save(saved, tmp_path / "best_model.pth.tar")
    report = import_checkpoint(tmp_path / "best_model.pth.tar", tmp_path / "c.safetensors")
    assert (report.model, report.config, report.step) == ("classifier", config, 100_000)
    assert report.assumed == {"n_actions": 6}
    assert "n_actions = 6" in str(report) and "--set n_actions=N" in str(report)
    given = import_checkpoint(tmp_path / "best_model.pth.tar", tmp_path / "c.safetensors", settings={"n_actions": "3"})
    assert given.config == read_info(tmp_path / "c.safetensors").config == ClassifierConfig(6, 2, 3)
    assert given.assumed == {}
    tensors = load_tensors(tmp_path / "c.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in saved["classifer"].items())
    with pytest.raises(SettingsError, match=r"n_actions = 4.*divisor"):
        import_checkpoint(tmp_path / "best_model.pth.tar", tmp_path / "c.safetensors", settings={"n_actions": 4})


@pytest.mark.parametrize("no_mask", [None, "true", False])
def test_no_mask_is_asked_for_and_otherwise_said(tmp_path: Path, no_mask: Any) -> None:
    torch.save(filled(SMALL).state_dict(), tmp_path / "g.pth")
    asked = {} if no_mask is None else {"no_mask": no_mask}
    report = import_checkpoint(tmp_path / "g.pth", tmp_path / "g.safetensors", settings=asked)
    assert report.config == replace(SMALL, no_mask=no_mask == "true")
    assert report.assumed == ({"no_mask": False} if no_mask is None else {})
    assert ("--set no_mask=true" in str(report)) == (no_mask is None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gf_dim": "16"}, "read from the shapes"),
        ({"no_masc": "true"}, "no_mask"),
        ({"n_actions": "3"}, "setting of another model"),
        ({"no_mask": "perhaps"}, "no_mask"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    torch.save(filled(SMALL).state_dict(), tmp_path / "g.pth")
    with pytest.raises(SettingsError, match=message):
        import_checkpoint(tmp_path / "g.pth", tmp_path / "g.safetensors", settings=asked)
    assert not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize(
    ("value", "step"),
    [(7, 7), (torch.tensor(9), 9), (torch.tensor([5]), 5), (-1, 0), (True, 0), ("12", 0), (2.5, 0), (1 << 70, 0)],
)
def test_the_step_is_a_count_or_it_is_said(tmp_path: Path, value: Any, step: int) -> None:
    torch.save({"generator": filled(SMALL).state_dict(), "iter": value}, tmp_path / "g.pth")
    report = import_checkpoint(tmp_path / "g.pth", tmp_path / "g.safetensors")
    assert report.step == read_info(tmp_path / "g.safetensors").step == step
    assert ("step 0 is recorded" in str(report)) == (step == 0)


@pytest.mark.parametrize(
    "case", ["tsv_full_test_nomask_L4", pytest.param("tsv_full_test_layer2_L4", marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_imported_generators_sample_what_the_reference_samples(tmp_path: Path, case: str) -> None:
    config = TwoStreamVANConfig(n_cat=6, no_mask="nomask" in case, kernel_layer=2 if "layer2" in case else 4)
    torch.save({"generator": filled(config).state_dict(), "iter": 3}, tmp_path / "3_model.pth.tar")
    report = import_checkpoint(
        tmp_path / "3_model.pth.tar", tmp_path / "g.safetensors", settings={"no_mask": config.no_mask}
    )
    assert report.config == config
    generator, _ = load_generator(tmp_path / "g.safetensors")
    stored = vectors.load(case)
    z_motion = torch.from_numpy(stored["in_z_motion"]).unflatten(0, (2, -1))
    category = torch.from_numpy(stored["in_cat"]).long()
    frames = generator.sample(category, torch.from_numpy(stored["in_z_cont"]), z_motion)  # type: ignore[operator]
    video = torch.stack([image for image, _ in frames], 1)
    vectors.assert_matches(video.numpy(), stored, "out_video", 2e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("kernelGen.block3.0.bias"), r"1 missing, 0 unknown.*block3\.0\.bias is missing"),
        (lambda s: s.update({"contEnc.new": torch.zeros(2)}), r"0 missing, 1 unknown.*contEnc\.new' is unknown"),
        (
            lambda s: s.update({"motionEnc.main.0.bias": torch.zeros(4)}),
            r"1 of another size.*is \[4\], expected \[16\]",
        ),
        (lambda s: s.update({"contSampler.mean.weight": torch.zeros(4, 32)}), "leaves 0 action classes"),
        (lambda s: s.update({"contSampler.mean.weight": torch.zeros(4, 5)}), "leaves -27 action classes"),
        (lambda s: s.update({"contSampler.mean.weight": torch.zeros(4)}), "expected 2 axes"),
        (lambda s: s.update({"contEnc.encode_cnn.0.weight": torch.zeros(2, 3, 3, 3)}), "leaves -29"),
        (lambda s: s.update({"contEnc.encode_cnn.0.weight": torch.zeros(1, 1, 3, 3)}), "n_channels = 1"),
        (lambda s: s.update({"videoDec.conv1_block.0.weight": torch.zeros(2, 16, 3, 3)}), r"expected \[1, 8, 3, 3\]"),
        (lambda s: s.update({"trajGenerator.fc_block.0.weight": torch.zeros(1024, 9)}), r"expected \[1024, 5\]"),
        (lambda s: s.update({"motionSampler.mean.weight": torch.zeros(2, 514)}), r"expected \[2, 515\]"),
        (lambda s: s.update({"kernelGen.kernel_h_block5.0.weight": torch.zeros(4, 16, 3, 3)}), "ac_kernel = 4"),
        (lambda s: s.update({"contMotionStateGen.fc_comb.0.bias": torch.zeros(1024)}), "fc_comb.0.weight"),
        (lambda s: s.update({"kernelGen.branch_block2.0.bias": torch.zeros(16)}), r"branches \[2, 4, 5\]"),
        (lambda s: [s.pop(n) for n in list(s) if "branch_block" in n], r"branches \[\]"),
        (lambda s: s.pop("contEnc.encode_cnn.0.weight"), "no tensor contEnc"),
        (lambda s: s["videoDec.conv3_block.4.weight"].view(-1)[0].fill_(float("nan")), "1 values that are NaN"),
        (lambda s: s["motionEnc.main.1.running_var"][0].fill_(-1), "values below 0"),
        (lambda s: s["motionEnc.main.1.weight"].mul_(1e38), "gives NaN or infinite values"),
        (lambda s: s.update({"motionEnc.main.1.num_batches_tracked": torch.tensor(float("nan"))}), "expected int64"),
        (lambda s: s.update({"module.videoDec.conv3_block.4.weight": torch.zeros(1)}), "differ only by the prefix"),
    ],
)
@pytest.mark.parametrize("alone", [True, False], ids=["bare", "training state"])
def test_what_does_not_fit_a_generator_is_named(tmp_path: Path, change: Any, message: str, alone: bool) -> None:
    networks = twostreamvan_networks(SMALL)
    state = dict(networks["generator"].state_dict())
    change(state)
    rest = {name: network.state_dict() for name, network in networks.items()}
    torch.save(state if alone else {**rest, "generator": state}, tmp_path / "g.pth")
    for model in (None, "twostreamvan"):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(tmp_path / "g.pth", tmp_path / "g.safetensors", model=model)
    assert not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("video", lambda s: s.update({"main.15.weight": torch.zeros(1, 16, 4, 4, 4)}), "n_cat at least 1"),
        ("video", lambda s: s.update({"main.12.weight": torch.zeros(16, 9, 4, 4, 4)}), r"expected \[16, 8, 4, 4, 4\]"),
        ("video", lambda s: s.pop("main.15.weight"), "no tensor main.15.weight"),
        ("video", lambda s: s.pop("main.13.bias"), "main.13.bias is missing"),
        ("video", lambda s: s.update({"main.1.weight": torch.zeros(2, 3, 4)}), "expected 4 axes"),
        ("image", lambda s: s.update({"main.8.weight": torch.zeros(8, 4, 3, 3)}), r"expected \[8, 4, 4, 4\]"),
        ("image", lambda s: s.update({"main.12.weight": torch.zeros(2, 8, 4, 4)}), r"expected \[1, 8, 4, 4\]"),
        ("classifier", lambda s: s.update({"main.11.weight": torch.zeros(6, 16, 1, 4, 4)}), "of another size"),
        ("classifier", lambda s: s.update({"main.0.weight": torch.zeros(0, 3, 4, 4, 4)}), "at least 1"),
    ],
)
def test_what_does_not_fit_a_judge_is_named(tmp_path: Path, kind: str, change: Any, message: str) -> None:
    config = KINDS[kind if kind == "classifier" else f"twostreamvan_{kind}_discriminator"]
    state = dict(filled(config).state_dict())
    change(state)
    torch.save(state, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "d.pth", tmp_path / "d.safetensors")


def test_a_sound_generator_is_imported_beside_a_damaged_discriminator(tmp_path: Path) -> None:
    networks = twostreamvan_networks(SMALL)
    saved = {name: dict(network.state_dict()) for name, network in networks.items()}
    saved["vid_discriminator"].pop("main.1.weight")
    torch.save(saved, tmp_path / "g.pth")
    report = import_checkpoint(tmp_path / "g.pth", tmp_path / "g.safetensors")
    assert_same(tmp_path / "g.safetensors", networks["generator"])
    assert "no known network" in report.others["vid_discriminator"]


FOREIGN: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "DCGAN": ({"main.0.weight": (100, 64, 4, 4), "main.1.weight": (64,)}, r"is \[100, 64, 4, 4\], expected 5 axes"),
    "MLP": ({"main.1.weight": (10, 3)}, "expected 4 axes"),
    "ResNet": ({"conv1.weight": (8, 3, 7, 7), "layer1.0.bn1.weight": (8,)}, r"is \[8, 3, 7, 7\], expected \[64, 3, 7"),
    "a VAE": ({"contEnc.0.weight": (8, 3, 4, 4), "videoDec.0.weight": (8, 3, 4, 4)}, "no tensor contEnc.encode_cnn"),
    "detached layers": ({"kernelGen.block2.0.weight": (16, 128, 3, 3)}, "no tensor contEnc"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("entry", [None, "generator", "state_dict"])
def test_networks_of_other_programs_are_refused(tmp_path: Path, kind: str, entry: str | None) -> None:
    shapes, message = FOREIGN[kind]
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    torch.save({entry: state, "iter": 3} if entry else state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
