"""Tells which network a state dict belongs to, and its sizes, from tensor names and shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidgen.errors import CheckpointError
from vidgen.models.config import (
    CONFIGS,
    G3ANDiscriminatorConfig,
    ModelConfig,
    TwoStreamVANDiscriminatorConfig,
)
from vidgen.models.official_g3an import infer_g3an_config, infer_g3an_discriminator_config
from vidgen.models.official_reader import Shapes
from vidgen.models.official_resnext3d import infer_resnext3d_config
from vidgen.models.official_twostreamvan import infer_main_config, infer_twostreamvan_config
from vidgen.models.safe_pickle import shown

if TYPE_CHECKING:
    from torch import nn

#: What a name of each kind of network starts with; the first that is found decides.
_FAMILIES = (
    (("block", "to_rgb.", "fsa."), infer_g3an_config),
    (("net.",), infer_g3an_discriminator_config),
    (
        ("contEnc.", "contSampler.", "motionEnc.", "motionSampler.", "trajGenerator.", "kernelGen.", "videoDec."),
        infer_twostreamvan_config,
    ),
    (("main.",), infer_main_config),
    (("layer1.",), infer_resnext3d_config),
)


def infer_config(shapes: Shapes, *, source: str = "the checkpoint") -> ModelConfig:
    """The configuration of the network that has these tensors.

    Args:
        shapes: state-dict keys of the reference program without ``module.``, and their sizes.
        source: what error messages call the file.

    Raises:
        CheckpointError: it is no known network.
    """
    for prefixes, infer in _FAMILIES:
        if any(name.startswith(prefixes) for name in shapes):
            return infer(shapes, source=source)
    names = ", ".join(shown(name) for name in list(shapes)[:3])
    raise not_official(
        source, f"{len(shapes)} tensors ({names}), expected block1..., contEnc..., net..., main... or layer1..."
    )


def not_official(source: object, seen: str) -> CheckpointError:
    """The error that says a file holds none of the networks we know."""
    return CheckpointError(
        f"cannot import {source}",
        seen=seen,
        cause="the file holds no network of G3AN or TwoStreamVAN, no classifier and no ResNeXt-3D in official form",
        fix="vidgen import G_4900.pth OUT.safetensors   (give the file that the training program saved)",
    )


def model_name(config: ModelConfig) -> str:
    """The name a checkpoint stores for this kind of configuration."""
    return next(name for name, kind in CONFIGS.items() if isinstance(config, kind))


def kind_name(config: ModelConfig) -> str:
    """The name ``--model`` gives to this kind of network: discriminators are told apart."""
    name = model_name(config)
    if isinstance(config, G3ANDiscriminatorConfig | TwoStreamVANDiscriminatorConfig):
        return name.replace("_discriminator", f"_{config.kind}_discriminator")
    return name


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every state-dict key of a network, in its order, with its size; allocates no weights. Needs torch."""
    return {name: tuple(tensor.shape) for name, tensor in _weightless(config).state_dict().items()}


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The parameters among the keys, in the order of the network's ``parameters()``. Needs torch."""
    return {name: tuple(tensor.shape) for name, tensor in _weightless(config).named_parameters()}


def _weightless(config: ModelConfig) -> nn.Module:
    import torch

    from vidgen.models.registry import build_network

    with torch.device("meta"):
        return build_network(config)
