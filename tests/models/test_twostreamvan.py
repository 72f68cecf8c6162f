"""TwoStreamVAN's networks compute what the reference computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support import vectors
from support.fill import fill_module, make_input

from vidgen.errors import SettingsError
from vidgen.models.classifier import Classifier, ImageDiscriminator, VideoDiscriminator
from vidgen.models.config import ClassifierConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.registry import build_network
from vidgen.models.twostreamvan import Generator, halved_differences

CONFIGS = {
    "joint": TwoStreamVANConfig(),
    "nojoint": TwoStreamVANConfig(joint=False),
    "nomask": TwoStreamVANConfig(n_cat=6, no_mask=True),
    "layer2": TwoStreamVANConfig(n_cat=6, kernel_layer=2),
    "synaction": TwoStreamVANConfig(n_cat=20, gf_dim=32, cont_dim=1024),
    "bn": TwoStreamVANConfig(n_cat=6, gf_dim=8, cont_dim=32, use_bn=True),
}


class Case:
    """A stored case with its inputs as tensors and the filled generator in evaluation mode."""

    def __init__(self, name: str) -> None:
        self.name, self.stored = name, vectors.load(name)
        self.config = next(config for key, config in CONFIGS.items() if f"_{key}_" in f"{name}_")
        self.generator: Generator = fill_module(Generator(self.config)).eval()
        self.category = torch.from_numpy(self.stored["in_cat"]).long()

    def input(self, name: str) -> torch.Tensor:
        """An input; our cut-down copies leave out those that follow from their names."""
        if f"in_{name}" in self.stored:
            return torch.from_numpy(self.stored[f"in_{name}"])
        shapes = {"images": (2, 3, 5, 64, 64), "z_motion": (8, 64), "z_cont": (2, 512), "eps_cont": (2, 512)}
        made = make_input(f"{self.name}/{name}", shapes[name], "image" if name == "images" else "normal")
        return torch.from_numpy(made)

    def check(self, name: str, actual: torch.Tensor, tolerance: float) -> None:
        vectors.assert_matches(actual.numpy(), self.stored, f"out_{name}", tolerance)


@pytest.mark.parametrize("name", vectors.cases("tsv_submodules_*"))
@torch.no_grad()
def test_submodules_match_the_reference(name: str) -> None:
    case = Case(name)
    net, one_hot = case.generator, case.generator.one_hot(case.category)
    seen: dict[str, torch.Tensor] = {}
    seen["contEnc"] = net.contEnc(case.input("image"))
    content = net.contSampler(seen["contEnc"], one_hot, case.input("eps_cont"))
    seen |= {f"contSampler_{key}": value for key, value in content._asdict().items()}
    seen["motionEnc"] = net.motionEnc(case.input("diff"))
    seen["motionEnc_fc"] = net.motionEnc.embed(seen["motionEnc"])
    motion = net.motionSampler(seen["motionEnc_fc"], one_hot, case.input("eps_motion"))
    seen |= {f"motionSampler_{key}": value for key, value in motion._asdict().items()}
    seen["traj_fc"] = net.trajGenerator(case.input("z_motion"), one_hot)
    state, hidden = None, []
    sequence = case.input("lstm_seq")
    for t in range(sequence.shape[1]):
        h, state = net.trajGenerator.main(sequence[:, t], state)
        hidden.append(h)
    seen["lstm_none"], seen["lstm_none_state"] = torch.stack(hidden, 1), state
    h, state = net.trajGenerator.main(sequence[:, 0], state)
    seen["lstm_state"], seen["lstm_state_state"] = h[:, None], state
    seen["mcinput_cont"] = net.contMotionStateGen.content(case.input("z_cont"), one_hot)[0]
    states = net.contMotionStateGen(case.input("z_cont"), case.input("motion_state"), one_hot)
    seen["mcinput_cont_state"], seen["mcinput_motion_state"] = states
    motions = net.kernelGen(case.input("motion_state"))
    for size, (vertical, horizontal, mask) in motions.items():
        seen[f"kernelGen_kernel_v_{size}"], seen[f"kernelGen_kernel_h_{size}"] = vertical, horizontal
        seen[f"kernelGen_mask_{size}"] = mask
    for kind, given in (("plain", None), ("motion", motions)):
        seen[f"dec_{kind}_frame"], features = net.videoDec(case.input("cont_state"), given)
        seen |= {f"dec_{kind}_scale{i}": value for i, value in enumerate(features)}
    outputs = {key.removeprefix("out_").split("__")[0] for key in case.stored if key.startswith("out_")}
    assert outputs == set(seen)
    for key, value in seen.items():
        case.check(key, value, 1e-3)


@pytest.mark.parametrize("name", vectors.cases("tsv_full_test_*"))
@torch.no_grad()
def test_sampled_videos_match_the_reference(name: str) -> None:
    case = Case(name)
    batch = len(case.category)
    z_motion = case.input("z_motion").unflatten(0, (batch, -1))
    frames, masks = zip(*case.generator.sample(case.category, case.input("z_cont"), z_motion))
    case.check("video", torch.stack(frames, 1), 2e-4)
    assert masks[0] == {}
    for size in case.config.scales:
        case.check(f"masks_{size}", torch.stack([mask[size] for mask in masks[1:]], 1), 2e-4)
    assert set(masks[1]) == set(case.config.scales)


@pytest.mark.parametrize("name", vectors.cases("tsv_modes_*"))
@torch.no_grad()
def test_modes_match_the_reference(name: str) -> None:
    case = Case(name)
    net, category, images = case.generator, case.category, case.input("images")
    differences = halved_differences(images)
    first, z_motion = images[:, :, 0], case.input("z_motion")
    seen: dict[str, torch.Tensor] = {}

    def keep(key: str, made: tuple, *, statistics: bool = True) -> None:
        image, mean, logvar, features = made
        seen[key] = image
        if statistics:
            seen[f"{key}_mu"], seen[f"{key}_logvar"] = mean, logvar
            seen.update({f"{key}_scale{i}": value for i, value in enumerate(features)})

    keep("recon_mean", net.reconstruct_one_frame(category, first))
    keep("recon_sample", net.reconstruct_one_frame(category, first, noise=case.input("eps_cont")), statistics=False)
    keep("recon_random", net.reconstruct_one_frame(category, prior=case.input("z_cont")), statistics=False)
    for t in (1, 3):
        keep(f"predict_t{t}", net.predict_next_frame(images[:, :, t - 1], differences[:, :, :t], category))
    three = (images[:, :, 2], differences[:, :, :3], category)
    keep("predict_random", net.predict_next_frame(*three, prior=z_motion[:2]), statistics=False)
    keep("predict_sample", net.predict_next_frame(*three, noise=case.input("eps_motion")), statistics=False)
    uniforms = torch.full((7,), 0.5)
    for epsilon in (0, 1):
        made = net.reconstruct_seq(images, category, differences, epsilon, uniforms)
        seen[f"seq_eps{epsilon}"] = made.image
        if epsilon == 0:
            seen |= {"seq_mu": made.mean, "seq_logvar": made.logvar, "seq_eps0_lastscale": made.features[-1]}
    seen["seq_random_eps0"] = net.reconstruct_seq(images, category, differences, 0, uniforms, prior=z_motion).image
    compared = 0
    for key, value in seen.items():
        if any(name.startswith(f"out_{key}") for name in case.stored):
            case.check(key, value, 2e-4)
            compared += 1
    outputs = {key.removeprefix("out_").split("__")[0] for key in case.stored if key.startswith("out_")}
    assert compared == len(outputs)


@torch.no_grad()
def test_networks_that_judge_match_the_reference() -> None:
    stored = vectors.load("tsv_disc_classifier_b2")
    video = torch.from_numpy(make_input("tsv_disc_classifier_b2/video", (2, 3, 10, 64, 64), "image"))
    patches = fill_module(ImageDiscriminator(TwoStreamVANDiscriminatorConfig("image", ndf=16))).eval()
    clips = fill_module(VideoDiscriminator(TwoStreamVANDiscriminatorConfig("video", 10))).eval()
    classifier = fill_module(Classifier(ClassifierConfig(10))).eval()
    judgement, logits = clips(video), classifier(video)
    vectors.assert_matches(patches(video[:, :, 4]).numpy(), stored, "out_patch", 2e-4)
    vectors.assert_matches(judgement.realness[:, None].numpy(), stored, "out_video_score", 2e-4)
    vectors.assert_matches(judgement.categories.numpy(), stored, "out_video_categories", 2e-4)
    vectors.assert_matches(logits.numpy(), stored, "out_classifier_logits", 2e-4)
    vectors.assert_matches(logits.softmax(1).numpy(), stored, "out_classifier_softmax", 2e-4)


@torch.no_grad()
def test_a_batch_of_one_keeps_its_shape() -> None:
    video = torch.zeros(1, 3, 10, 64, 64)
    judgement = VideoDiscriminator(TwoStreamVANDiscriminatorConfig("video", 4, ndf=2)).eval()(video)
    assert judgement.realness.shape == (1,)
    assert judgement.categories.shape == (1, 4)
    patches = ImageDiscriminator(TwoStreamVANDiscriminatorConfig("image", ndf=2)).eval()(video[:, :, 0])
    assert patches.shape == (1, 4, 4)
    assert Classifier(ClassifierConfig(4, ndf=2)).eval()(video).shape == (1, 4)


TABLES = {
    "tsv_generator_gf16_cont512_joint_bn_layer3_10cat": TwoStreamVANConfig(use_bn=True, kernel_layer=3),
    "tsv_generator_mug_gf16_cont512_joint_6cat": TwoStreamVANConfig(n_cat=6),
    "tsv_generator_synaction_gf32_cont1024_joint_20cat": CONFIGS["synaction"],
    "tsv_generator_weizmann_gf16_cont512_joint_10cat": CONFIGS["joint"],
    "tsv_generator_weizmann_gf16_cont512_nojoint_10cat": CONFIGS["nojoint"],
    "tsv_img_discriminator": TwoStreamVANDiscriminatorConfig("image", ndf=16),
    **{f"tsv_vid_discriminator_{n}cat": TwoStreamVANDiscriminatorConfig("video", n) for n in (6, 10, 20)},
    **{f"tsv_classifier_ndf64_{n}class": ClassifierConfig(n) for n in (6, 10, 20, 90)},
}


@pytest.mark.parametrize("table", TABLES)
def test_tensor_names_and_shapes_are_the_references(table: str) -> None:
    path = vectors.SPECIFICATION / "state_dicts" / f"{table}.json"
    if not path.exists():
        pytest.skip("the specification is not beside the project")
    expected = {key: (tuple(shape), dtype) for key, (shape, dtype) in json.loads(path.read_text()).items()}
    with torch.device("meta"):
        network = build_network(TABLES[table])
    found = {key: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for key, v in network.state_dict().items()}
    assert found == expected


def test_sampling_draws_nothing_from_the_global_generator() -> None:
    net = Generator(TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=4)).eval()
    arguments = (torch.tensor([0, 2]), torch.randn(2, 4), torch.randn(2, 3, 4))
    before = torch.get_rng_state()
    with torch.no_grad():
        videos = [torch.stack([frame for frame, _ in net.sample(*arguments)], 1) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*videos)
    assert np.isfinite(videos[0].numpy()).all()


@pytest.mark.parametrize(
    "values", [{"ac_kernel": 4}, {"kernel_layer": 5}, {"gf_dim": 0}, {"n_channels": 1}, {"n_cat": True}]
)
def test_impossible_configurations_are_refused(values: dict) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        TwoStreamVANConfig(**values)
