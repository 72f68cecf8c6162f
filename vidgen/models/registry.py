"""The model families: how to build the generator of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidgen.errors import SettingsError
from vidgen.models.config import CONFIGS, ModelConfig

if TYPE_CHECKING:
    from torch import nn


def build_generator(model: str, config: ModelConfig) -> nn.Module:
    """A freshly initialised generator of a family, on the CPU, in training mode.

    Raises:
        SettingsError: no such family.
    """
    if model == "g3an":
        from vidgen.models.g3an import Generator

        return Generator(config)
    raise SettingsError(
        f"unknown model {model!r}",
        seen=f"{model!r}, expected one of {', '.join(sorted(CONFIGS))}",
        cause="a typing error, or a model of a newer version",
        fix="vidgen train --help",
    )
