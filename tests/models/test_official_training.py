"""Whole training states of TwoStreamVAN and its classifier are read so that training goes on as if never stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.combinations import chequered
from support.official_files import (
    classifier_file,
    filled,
    old_adam_state,
    optimised_parameters,
    stepped_adam,
    twostreamvan_file,
    twostreamvan_networks,
)
from torch import nn

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.config import ClassifierConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.official_training import TrainingState, read_training_state

SMALL = TwoStreamVANConfig(n_cat=3, gf_dim=1, cont_dim=4, motion_dim=2, joint=False, kernel_layer=1)


def step_on(parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    """One more step, the same for the same parameters."""
    noise = torch.Generator().manual_seed(7)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=noise)
    optimiser.step()


def assert_goes_on_alike(state: TrainingState, networks: Mapping[str, nn.Module], steps: Mapping[str, Any]) -> None:
    """A step with each optimiser as it was read ends where a step with the original ends."""
    for key, names in state.parameters.items():
        ours, theirs = ({n: copy.deepcopy(network) for n, network in networks.items()} for _ in range(2))
        for name, network in ours.items():
            network.load_state_dict(dict(state.networks[name]))
        parameters = optimised_parameters(ours)[key]
        by_identity = {id(p): name for network in ours.values() for name, p in network.named_parameters()}
        assert [by_identity[id(parameter)] for parameter in parameters] == list(names)
        optimiser = torch.optim.Adam(parameters)
        optimiser.load_state_dict(copy.deepcopy(dict(state.optimisers[key])))
        step_on(parameters, optimiser)
        originals = optimised_parameters(theirs)[key]
        original = torch.optim.Adam(originals)
        original.load_state_dict(steps[key])
        step_on(originals, original)
        assert all(torch.equal(a, b) for a, b in zip(parameters, originals, strict=True))


@pytest.mark.parametrize(("zipped", "old", "joint"), chequered(*[(True, False)] * 3))
def test_training_goes_on_as_if_never_stopped(tmp_path: Path, zipped: bool, old: bool, joint: bool) -> None:
    config = TwoStreamVANConfig(3, 1, 4, 2, joint=joint, use_bn=not joint, no_mask=True)
    networks = twostreamvan_networks(config)
    source = tmp_path / "200_model.pth.tar"
    torch.save(twostreamvan_file(networks, step=200, old=old), source, _use_new_zipfile_serialization=zipped)
    state = read_training_state(source, settings={"no_mask": True})
    assert (state.model, state.step, dict(state.assumed), state.notes) == ("twostreamvan", 200, {}, ())
    assert state.configs == {
        "generator": config,
        "img_discriminator": TwoStreamVANDiscriminatorConfig("image", 0, 2),
        "vid_discriminator": TwoStreamVANDiscriminatorConfig("video", 3, 2),
    }
    for name, network in networks.items():
        expected = network.state_dict()
        assert all(torch.equal(state.networks[name][key], value) for key, value in expected.items())
    owned = [name for names in state.parameters.values() for name in names]
    assert len(owned) == sum(len(list(network.parameters())) for network in networks.values())
    originals = {
        key: stepped_adam(parameters, seed).state_dict()
        for seed, (key, parameters) in enumerate(optimised_parameters(networks).items())
    }
    assert_goes_on_alike(state, networks, originals)


def test_the_classifiers_training_is_read(tmp_path: Path) -> None:
    config = ClassifierConfig(6, 2, 3)
    saved = classifier_file(config)
    torch.save(saved, tmp_path / "latest_model.pth.tar")
    state = read_training_state(tmp_path / "latest_model.pth.tar", settings={"n_actions": 3})
    assert (state.model, state.configs, state.step) == ("classifier", {"classifer": config}, 100_000)
    assert state.parameters == {"optimizer": tuple(name for name, _ in filled(config).named_parameters())}
    read, given = state.optimisers["optimizer"], saved["optimizer"]
    assert read["param_groups"] == given["param_groups"]
    for index, moments in given["state"].items():
        assert all(torch.equal(read["state"][index][name], value) for name, value in moments.items())


def test_what_no_tensor_tells_is_assumed_as_in_an_import(tmp_path: Path) -> None:
    source = tmp_path / "c.pth.tar"
    torch.save(classifier_file(ClassifierConfig(6, 2)), source)
    assert read_training_state(source).assumed == {"n_actions": 6}
    with pytest.raises(SettingsError, match="another model"):
        read_training_state(source, settings={"no_mask": "true"})


def test_optimisers_before_their_first_step_are_read(tmp_path: Path) -> None:
    """Motion is not trained while content is pre-trained."""
    networks = twostreamvan_networks(SMALL, ndf=1)
    saved = twostreamvan_file(networks, step=10)
    saved["optimize_d_vid"]["state"] = {}
    del saved["optimize_motionDec"]["state"][0]
    torch.save(saved, tmp_path / "10_model.pth.tar")
    state = read_training_state(tmp_path / "10_model.pth.tar")
    assert state.optimisers["optimize_d_vid"]["state"] == {}
    assert state.notes == (
        "optimize_motionDec has made no step for 1 of its parameters",
        f"optimize_d_vid has made no step for {len(state.parameters['optimize_d_vid'])} of its parameters",
    )


def _group(saved: dict[str, Any]) -> dict[str, Any]:
    group: dict[str, Any] = saved["optimize_contEnc"]["param_groups"][0]
    return group


def _first(saved: dict[str, Any]) -> dict[str, Any]:
    moments: dict[str, Any] = saved["optimize_contEnc"]["state"][0]
    return moments


def _swap_encoders(saved: dict[str, Any]) -> None:
    saved["optimize_contEnc"], saved["optimize_motionEnc"] = saved["optimize_motionEnc"], saved["optimize_contEnc"]


def _reverse(saved: dict[str, Any]) -> None:
    _group(saved)["params"].reverse()


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no discriminator": (lambda s: s.pop("img_discriminator"), "no network img_discriminator"),
    "no generator": (lambda s: s.pop("generator"), "no network generator"),
    "swapped discriminators": (
        lambda s: s.update(img_discriminator=s["vid_discriminator"]),
        "img_discriminator is a twostreamvan_video_discriminator",
    ),
    "damaged discriminator": (lambda s: s["vid_discriminator"].pop("main.1.weight"), "no tensor main.1.weight"),
    "other classes": (
        lambda s: s.update(vid_discriminator=filled(TwoStreamVANDiscriminatorConfig("video", 4, 1)).state_dict()),
        "generator with 3 and vid_discriminator with 4 classes",
    ),
    "no optimiser": (lambda s: s.pop("optimize_d_vid"), "no optimiser optimize_d_vid"),
    "text for an optimiser": (lambda s: s.update(optimize_d_vid="Adam"), "no optimiser optimize_d_vid"),
    "two groups": (lambda s: s["optimize_contEnc"]["param_groups"].append(_group(s)), "not one group"),
    "a parameter less": (lambda s: _group(s)["params"].pop(), "parameters that are not in its list|has 11 parameters"),
    "repeated parameters": (lambda s: _group(s).update(params=[0] * 12), "no list of parameters"),
    "no parameters": (lambda s: _group(s).pop("params"), "no list of parameters"),
    "swapped optimisers": (_swap_encoders, r"optimize_contEnc has 3\d parameters|exp_avg of"),
    "another order": (_reverse, "exp_avg of .*expected"),
    "moments of nobody": (lambda s: s["optimize_contEnc"]["state"].update({99: _first(s)}), "not in its list"),
    "SGD": (lambda s: _first(s).pop("exp_avg_sq"), "no exp_avg_sq: not the state of Adam"),
    "no moments": (lambda s: s["optimize_contEnc"]["state"].update({0: None}), "no exp_avg"),
    "NaN": (lambda s: _first(s)["exp_avg"].view(-1)[0].fill_(float("nan")), "exp_avg has 1 values that are NaN"),
    "negative": (lambda s: _first(s)["exp_avg_sq"].neg_(), "exp_avg_sq has values below 0"),
    "step of text": (lambda s: _first(s).update(step="5"), "step '5', expected a count"),
    "step below 0": (lambda s: _first(s).update(step=-3), "-3.0 steps"),
    "half a step": (lambda s: _first(s).update(step=torch.tensor(0.5)), "0.5 steps"),
    "step NaN": (lambda s: _first(s).update(step=torch.tensor(float("nan"))), "nan steps"),
    "steps": (lambda s: _first(s).update(step=torch.zeros(3)), "expected a count"),
    "no rate": (lambda s: _group(s).pop("lr"), "lr is None"),
    "negative rate": (lambda s: _group(s).update(lr=-1e-3), "lr is -0.001, expected a number from 0"),
    "infinite rate": (lambda s: _group(s).update(lr=float("inf")), "lr is inf"),
    "momentum of 1": (
        lambda s: _group(s).update(betas=(0.5, 1.0)),
        "betas is 1.0, expected a number from 0",
    ),
    "one beta": (lambda s: _group(s).update(betas=0.9), "not the options of Adam"),
    "amsgrad": (lambda s: _group(s).update(amsgrad=True), "amsgrad"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound training state."""
    path = tmp_path_factory.mktemp("sound") / "sound.pth"
    torch.save(twostreamvan_file(twostreamvan_networks(SMALL, ndf=1)), path)
    read_training_state(path)
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named(fault: str, sound: Path, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    saved = torch.load(sound, weights_only=True)
    change(saved)
    torch.save(saved, tmp_path / "latest_model.pth.tar")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_training_state(tmp_path / "latest_model.pth.tar")
    assert str(caught.value).isprintable()


def test_moments_that_share_numbers_are_refused(sound: Path, tmp_path: Path) -> None:
    """Views of one storage would make a small file fill the memory."""
    saved = torch.load(sound, weights_only=True)
    moments = [entry for key in ("optimize_motionEnc", "optimize_motionDec") for entry in saved[key]["state"].values()]
    shared = torch.zeros(max(entry["exp_avg"].numel() for entry in moments))
    for entry in moments:
        for name in ("exp_avg", "exp_avg_sq"):
            entry[name] = shared[: entry[name].numel()].view(entry[name].shape)
    torch.save(saved, tmp_path / "latest_model.pth.tar")
    with pytest.raises(CheckpointError, match="share the same numbers"):
        read_training_state(tmp_path / "latest_model.pth.tar")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: filled(SMALL).state_dict(), "expected generator"),
        (lambda: {"G": filled(SMALL).state_dict()}, "networks at 'G', expected generator"),
        (lambda: {"generator": {"step": 3}}, "networks at none"),
        (lambda: [1, 2], "networks at none"),
        (lambda: {"classifer": filled(ClassifierConfig(2, 1)).state_dict()}, "no optimiser optimizer"),
    ],
)
def test_files_that_are_no_training_state_are_refused(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        read_training_state(tmp_path / "x.pth")


def test_old_states_are_read_by_position_whatever_their_addresses(tmp_path: Path) -> None:
    saved = classifier_file(ClassifierConfig(3, 1))
    expected = saved["optimizer"]
    optimiser = stepped_adam(list(filled(ClassifierConfig(3, 1)).parameters()), 0)
    torch.save({**saved, "optimizer": old_adam_state(optimiser)}, tmp_path / "x.pth")
    read = read_training_state(tmp_path / "x.pth").optimisers["optimizer"]
    for index, moments in expected["state"].items():
        assert all(torch.equal(read["state"][index][name], value) for name, value in moments.items())
