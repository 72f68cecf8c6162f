"""The model families: how to build each one's networks and how to tell its sizes from tensor shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidgen.errors import SettingsError
from vidgen.models.config import CONFIGS, ModelConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelFamily:
    """A family of models.

    Attributes:
        build_generator: a freshly initialised generator of a configuration.
        infer_config: the configuration from a state dict's shapes; raises CheckpointError when they are
            not of this family.
    """

    name: str
    build_generator: Callable[[ModelConfig], nn.Module]
    infer_config: Callable[[Mapping[str, tuple[int, ...]]], ModelConfig]


def family(name: str) -> ModelFamily:
    """The family of this name.

    Raises:
        SettingsError: no such family.
    """
    if name == "g3an":
        from vidgen.models.g3an import Generator
        from vidgen.models.official import infer_g3an_config

        return ModelFamily("g3an", Generator, infer_g3an_config)
    raise SettingsError(
        f"unknown model {name!r}",
        seen=f"{name!r}, expected one of {', '.join(sorted(CONFIGS))}",
        cause="a typing error, or a model of a newer version",
        fix="vidgen train --help",
    )
