"""Reads a whole official training state, networks and optimisers, so that its training can go on (spec 4.2, 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen._imports import require
from vidgen.errors import CheckpointError
from vidgen.models.config import (
    ModelConfig,
    TwoStreamVANConfig,
    TwoStreamVANDiscriminatorConfig,
)
from vidgen.models.official import complete, parse_settings, read_step
from vidgen.models.official_optimisers import OptimiserState, match_optimiser
from vidgen.models.official_proof import prove
from vidgen.models.official_search import Contents, FoundNetwork, find_contents
from vidgen.models.official_shapes import kind_name, parameter_shapes
from vidgen.models.official_tensors import check_bytes, check_fit, read_network
from vidgen.models.safe_pickle import shown

if TYPE_CHECKING:
    from torch import Tensor

#: Entry of a network in the file -> what it is; the classifier's is spelt so.
_NETWORKS: Mapping[str, Mapping[str, str]] = {
    "twostreamvan": {
        "generator": "twostreamvan",
        "img_discriminator": "twostreamvan_image_discriminator",
        "vid_discriminator": "twostreamvan_video_discriminator",
    },
    "classifier": {"classifer": "classifier"},
}
#: Entry of an optimiser -> the network and its modules whose parameters it has, in this order (spec 4.2).
_OPTIMISERS: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "twostreamvan": {
        "optimize_contEnc": ("generator", ("contEnc.", "contSampler.")),
        "optimize_motionEnc": ("generator", ("motionEnc.", "motionSampler.")),
        "optimize_motionDec": (
            "generator",
            ("trajGenerator.", "kernelGen.", "contMotionStateGen.fc_motion.", "contMotionStateGen.fc_comb."),
        ),
        "optimize_contDec": (
            "generator",
            ("videoDec.", "contMotionStateGen.fc_cont1.", "contMotionStateGen.fc_cont2."),
        ),
        "optimize_d_img": ("img_discriminator", ("",)),
        "optimize_d_vid": ("vid_discriminator", ("",)),
    },
    "classifier": {"optimizer": ("classifer", ("",))},
}


@dataclass(frozen=True)
class TrainingState:
    """What an official program saved to go on from, checked and under the names of its file.

    Attributes:
        model: ``twostreamvan`` or ``classifier``.
        configs, networks: of each network: its configuration, and its tensors as float32.
        parameters: of each optimiser: the names of its parameters in order, those of a network's state dict.
        optimisers: state dicts for ``torch.optim.Adam`` over those parameters in that order.
        step: steps behind the weights. assumed: as in an import. notes: what a reader should know.
    """

    source: Path
    model: str
    configs: Mapping[str, ModelConfig]
    networks: Mapping[str, Mapping[str, Tensor]]
    parameters: Mapping[str, tuple[str, ...]]
    optimisers: Mapping[str, Mapping[str, Any]]
    step: int
    assumed: Mapping[str, Any]
    notes: tuple[str, ...]


def read_training_state(source: str | Path, *, settings: Mapping[str, Any] | None = None) -> TrainingState:
    """Read ``*_model.pth.tar`` of TwoStreamVAN, or of its classifier, with its optimisers.

    Nothing in the file is executed. Each network is run once. Optimisers may be those of any version of torch: old ones
    name parameters by address.

    Args:
        settings: as for :func:`vidgen.models.official.import_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, lacks a network or an optimiser, or an optimiser does not fit
            the parameters of spec 4.2 in number, order and shape.
        SettingsError: an unknown setting.
    """
    source = Path(source)
    given = parse_settings(settings or {})
    require("torch", "import a checkpoint")
    from vidgen.models.torch_file import open_torch_file

    with open_torch_file(source) as opened:
        contents = find_contents(opened.root, source)
        model = _model(contents, source)
        found = {name: _network(contents, name, kind, source) for name, kind in _NETWORKS[model].items()}
        first = next(iter(found))
        config, assumed = complete(found[first].config, given)
        configs = {name: network.config for name, network in found.items()} | {first: config}
        _check_classes(configs, source)
        for network in found.values():
            check_fit(network, source)
        states = _optimiser_states(opened.root, model, configs, source)
        views = [view for network in found.values() for view in network.views.values()]
        check_bytes([*views, *(view for state in states.values() for view in state.views())], source)
        networks = {name: read_network(opened, network, source)[0] for name, network in found.items()}
        optimisers = {name: state.read(opened) for name, state in states.items()}
        step, doubt = read_step(opened, found[first])
    for name, tensors in networks.items():
        prove(configs[name], tensors, source)
    fresh = {name: len(state.parameters) - len(state.moments) for name, state in states.items()}
    untouched = tuple(f"{name} has made no step for {n} of its parameters" for name, n in fresh.items() if n)
    return TrainingState(
        source=source,
        model=model,
        configs=configs,
        networks=networks,
        parameters={name: tuple(state.parameters) for name, state in states.items()},
        optimisers=optimisers,
        step=step,
        assumed=assumed,
        notes=(*doubt, *untouched),
    )


def _model(contents: Contents, source: Path) -> str:
    entries = {network.entry for network in contents.networks} | set(contents.refusals)
    for model, networks in _NETWORKS.items():
        if any((name,) in entries for name in networks):
            return model
    names = ", ".join(shown("/".join(entry)) for entry in sorted(entries)[:3]) or "none"
    raise _incomplete(source, f"networks at {names}, expected generator, img_discriminator, ... or classifer")


def _network(contents: Contents, name: str, kind: str, source: Path) -> FoundNetwork:
    if (name,) in contents.refusals:
        raise contents.refusals[(name,)][1]
    found = next((network for network in contents.networks if network.entry == (name,)), None)
    if found is None:
        raise _incomplete(source, f"no network {name}")
    if kind_name(found.config) != kind:
        raise _incomplete(source, f"{name} is a {kind_name(found.config)}, expected a {kind}")
    return found


def _check_classes(configs: Mapping[str, ModelConfig], source: Path) -> None:
    kinds = TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
    numbers = {name: config.n_cat for name, config in configs.items() if isinstance(config, kinds) and config.n_cat}
    if len(set(numbers.values())) > 1:
        found = " and ".join(f"{name} with {number}" for name, number in numbers.items())
        raise _incomplete(source, f"{found} classes, expected as many")


def _optimiser_states(
    root: Mapping[Any, Any], model: str, configs: Mapping[str, ModelConfig], source: Path
) -> dict[str, OptimiserState]:
    states = {}
    for name, (network, modules) in _OPTIMISERS[model].items():
        shapes = parameter_shapes(configs[network])
        parameters = {key: shape for module in modules for key, shape in shapes.items() if key.startswith(module)}
        states[name] = match_optimiser(name, root.get(name), parameters, source)
    return states


def _incomplete(source: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"cannot continue the training of {source}",
        seen=seen,
        cause="the file is not a whole training state of TwoStreamVAN or its classifier",
        fix=f"vidgen import {source} OUT.safetensors   (imports one network, without optimisers)",
    )
