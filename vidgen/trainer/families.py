"""The model families that can be trained: their settings, presets and recipes. Needs no torch until a recipe loads."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidgen.errors import SettingsError
from vidgen.trainer import classifier_settings, g3an_settings, twostreamvan_settings
from vidgen.trainer.run_settings import RunSettings

if TYPE_CHECKING:
    from vidgen.trainer.recipe import Recipe


@dataclass(frozen=True)
class Family:
    """One model family under training.

    Attributes:
        settings: its settings. presets: differences from their defaults, by name. module, name: of its recipe.
    """

    settings: type[RunSettings]
    presets: Mapping[str, Mapping[str, Any]]
    module: str
    name: str

    def load(self) -> type[Recipe[Any]]:
        """The recipe; imports torch."""
        recipe: type[Recipe[Any]] = getattr(importlib.import_module(self.module), self.name)
        return recipe

    def preset(self, name: str) -> Mapping[str, Any]:
        """The values of a preset.

        Raises:
            SettingsError: no such preset.
        """
        if name not in self.presets:
            raise SettingsError(
                f"unknown preset {name!r}",
                seen=f"{name!r}, expected one of {', '.join(self.presets)}",
                cause="a typing error, or a preset of another model",
                fix=f"vidgen train {self.settings.MODEL} --preset small",
            )
        return self.presets[name]


#: By the name that ``vidgen train`` takes.
FAMILIES: Mapping[str, Family] = {
    "g3an": Family(g3an_settings.G3ANTrainSettings, g3an_settings.PRESETS, "vidgen.trainer.g3an", "G3ANRecipe"),
    "twostreamvan": Family(
        twostreamvan_settings.TwoStreamVANTrainSettings,
        twostreamvan_settings.PRESETS,
        "vidgen.trainer.twostreamvan",
        "TwoStreamVANRecipe",
    ),
    "classifier": Family(
        classifier_settings.ClassifierTrainSettings,
        classifier_settings.PRESETS,
        "vidgen.trainer.classifier",
        "ClassifierRecipe",
    ),
}


def family(model: str) -> Family:
    """What trains a model.

    Raises:
        SettingsError: nothing does.
    """
    model = model.lower()
    if model == "sgvan":
        raise SettingsError(
            "cannot train SGVAN",
            seen="'SGVAN', expected one of " + ", ".join(FAMILIES),
            cause="the single-stream baseline was never published in a form that runs: its file is missing from the "
            "reference program",
            fix="vidgen train twostreamvan --preset small --out runs/twostreamvan",
        )
    if model not in FAMILIES:
        near = next(iter(difflib.get_close_matches(model, FAMILIES, n=1)), "g3an")
        raise SettingsError(
            f"cannot train {model!r}",
            seen=f"{model!r}, expected one of {', '.join(FAMILIES)}",
            cause="a typing error, or a model of another program",
            fix=f"vidgen train {near} --preset small --out runs/{near}",
        )
    return FAMILIES[model]
