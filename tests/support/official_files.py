"""Files as TwoStreamVAN's programs save them: filled networks, optimisers after a step, iteration (spec 4.2, 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from support.fill import fill_module
from torch import nn

from vidgen.models.config import ClassifierConfig, ModelConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.registry import build_network

#: Checkpoint key -> modules of the generator whose parameters it holds, in this order (spec 4.2).
OPTIMISED = {
    "optimize_contEnc": ("contEnc", "contSampler"),
    "optimize_motionEnc": ("motionEnc", "motionSampler"),
    "optimize_motionDec": (
        *("trajGenerator", "kernelGen"),
        *("contMotionStateGen.fc_motion", "contMotionStateGen.fc_comb"),
    ),
    "optimize_contDec": ("videoDec", "contMotionStateGen.fc_cont1", "contMotionStateGen.fc_cont2"),
}


def filled(config: ModelConfig) -> nn.Module:
    """A network with the weights of the parity rule, in evaluation mode."""
    network: nn.Module = fill_module(build_network(config))
    return network.eval()


def twostreamvan_networks(config: TwoStreamVANConfig, *, ndf: int = 2) -> dict[str, nn.Module]:
    """The three networks under their names in a checkpoint."""
    return {
        "generator": filled(config),
        "img_discriminator": filled(TwoStreamVANDiscriminatorConfig("image", 0, ndf)),
        "vid_discriminator": filled(TwoStreamVANDiscriminatorConfig("video", config.n_cat, ndf)),
    }


def optimised_parameters(networks: Mapping[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """The parameters of each optimiser of TwoStreamVAN, in the order of spec 4.2."""
    modules = dict(networks["generator"].named_modules())
    parameters = {
        key: [parameter for name in names if name in modules for parameter in modules[name].parameters()]
        for key, names in OPTIMISED.items()
    }
    parameters["optimize_d_img"] = list(networks["img_discriminator"].parameters())
    parameters["optimize_d_vid"] = list(networks["vid_discriminator"].parameters())
    return parameters


def stepped_adam(parameters: list[nn.Parameter], seed: int, *, steps: int = 2) -> torch.optim.Adam:
    """An optimiser after some steps on noise; the parameters are put back."""
    optimiser = torch.optim.Adam(parameters, 2e-4, (0.5, 0.999), weight_decay=1e-5)
    noise = torch.Generator().manual_seed(seed)
    before = [parameter.detach().clone() for parameter in parameters]
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=noise)
        optimiser.step()
    with torch.no_grad():
        for parameter, value in zip(parameters, before):
            parameter.copy_(value)
            parameter.grad = None
    return optimiser


def old_adam_state(optimiser: torch.optim.Adam) -> dict[str, Any]:
    """An optimiser's state as torch before 1.4 saved it: keyed by addresses, whole numbers of steps, fewer options."""
    state = optimiser.state_dict()
    address = {index: 140_000_000_000_000 + 97 * (index * 7919 % 1009) for index in state["param_groups"][0]["params"]}
    options = ("lr", "betas", "eps", "weight_decay", "amsgrad")
    return {
        "state": {address[index]: {**v, "step": int(v["step"])} for index, v in state["state"].items()},
        "param_groups": [
            {name: group[name] for name in options} | {"params": [address[index] for index in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def twostreamvan_file(networks: Mapping[str, nn.Module], *, step: int = 500_000, old: bool = False) -> dict[str, Any]:
    """The whole training state that the program saves."""
    optimisers = {
        key: stepped_adam(parameters, seed)
        for seed, (key, parameters) in enumerate(optimised_parameters(networks).items())
    }
    saved: dict[str, Any] = {name: network.state_dict() for name, network in networks.items()}
    saved |= {key: old_adam_state(value) if old else value.state_dict() for key, value in optimisers.items()}
    return {**saved, "iter": step}


def classifier_file(config: ClassifierConfig, *, step: int = 100_000) -> dict[str, Any]:
    """What the classifier's program saves; the key is spelt so."""
    network = filled(config)
    optimiser = stepped_adam(list(network.parameters()), 0)
    return {"classifer": network.state_dict(), "optimizer": optimiser.state_dict(), "iter": step}
