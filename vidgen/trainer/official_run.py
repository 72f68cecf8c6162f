"""Makes a run folder from an official training state: ``vidgen train MODEL --out RUN --resume`` goes on from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidgen._files import write_json
from vidgen.data.store import ClipStore
from vidgen.errors import SettingsError, TrainingError
from vidgen.models.checkpoint import load_into
from vidgen.models.config import ClassifierConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.official_training import TrainingState, read_training_state
from vidgen.settings import build_settings
from vidgen.trainer import state
from vidgen.trainer.families import FAMILIES, Family
from vidgen.trainer.recipe import Place, Recipe
from vidgen.trainer.resume import SETTINGS_NAME, check_run_folder
from vidgen.trainer.run_settings import RunSettings

#: Network in our saves -> entry of the file it is taken from.
_TAKEN_FROM = {
    "generator": "generator",
    "generator_ema": "generator",
    "img_discriminator": "img_discriminator",
    "vid_discriminator": "vid_discriminator",
    "network": "classifer",
    "best": "classifer",
}


@dataclass(frozen=True)
class RunImportReport:
    """What was read and written.

    Attributes:
        checkpoint: the generator or classifier to export or score with. step: where training goes on.
        classes: names of the classes in the order of the data, which must be that of the checkpoint.
        notes: what a reader should know, sentence by sentence.
    """

    source: Path
    run: Path
    model: str
    step: int
    checkpoint: Path
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        values = dataclasses.asdict(self)
        return {**values, **{name: str(values[name]) for name in ("source", "run", "checkpoint")}}

    def __str__(self) -> str:
        first = f"{self.run}: {self.model} at step {self.step}, with its optimisers"
        follow = f"next: vidgen train {self.model} --out {self.run} --resume"
        return "\n".join((first, *self.notes, follow))


def import_run(
    source: str | Path,
    run: str | Path,
    *,
    data: str | Path,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> RunImportReport:
    """Make a run that goes on from ``*_model.pth.tar`` of TwoStreamVAN or its classifier (spec twostreamvan 5.1).

    Random states are not in such a file: training goes on with the draws that a run of ours would make at that step.

    Args:
        run: the folder to make; it may exist if it holds no saves.
        data: the clip store to train on. Its classes, in its order, must be those of the checkpoint.
        preset, settings: of ``vidgen train``, for what a checkpoint does not tell: schedules, weights, batch size,
            ``no_mask``. Sizes are read from the tensors, and may only be repeated.

    Raises:
        CheckpointError: the file is not a sound whole training state.
        SettingsError: unknown preset or setting, or one that contradicts the tensors.
        DataError: the clip store cannot be used.
        TrainingError: the folder holds a run, or the data has other classes than the checkpoint.
        StorageError: the folder cannot be written.
    """
    run = Path(run).absolute()
    saved = read_training_state(source)
    kind = FAMILIES[saved.model]
    chosen = _settings(saved, kind, run, Path(data).absolute(), preset, settings or {})
    check_run_folder(chosen, resume=False)
    store = ClipStore.open(chosen.data_path)
    recipe = kind.load()(chosen, store, Place(torch.device("cpu")), lambda _: None)
    _check_classes(saved, recipe)
    for name, network in recipe.networks.items():
        load_into(network, saved.networks[_TAKEN_FROM[name]], saved.source)
    for name, optimiser in recipe.optimisers.items():
        optimiser.load_state_dict(dict(saved.optimisers[name]))
    # The state file comes last: until it is there, the folder holds no run.
    write_json(run / SETTINGS_NAME, chosen.to_dict())
    checkpoint = state.save(run, recipe, state.Progress(saved.step, 0.0, store.info.content_hash))
    return RunImportReport(
        source=saved.source,
        run=run,
        model=saved.model,
        step=saved.step,
        checkpoint=checkpoint,
        classes=recipe.description.labels,
        notes=(*saved.notes, *_notes(saved, recipe)),
    )


def _settings(
    saved: TrainingState, kind: Family, run: Path, data: Path, preset: str | None, given: Mapping[str, Any]
) -> RunSettings:
    """The settings of the run: those asked for, with the sizes of the tensors."""
    place = {"save_path": str(run.parent), "exp_name": run.name, "data_path": str(data)}
    layers = (f"preset {preset}", kind.preset(preset) if preset else {}), ("the command line", {**given, **place})
    asked = build_settings(kind.settings, *layers)
    told = _told(saved)
    for name in {key for _, layer in layers for key in layer} & set(told):
        if getattr(asked, name) != told[name]:
            raise SettingsError(
                f"cannot continue the training of {saved.source} with other sizes",
                seen=f"{name} = {getattr(asked, name)!r}, expected {told[name]!r} as its tensors tell",
                cause="the preset or the setting is that of another model",
                fix=f"leave {name} out, or choose the preset the checkpoint was trained with",
            )
    return dataclasses.replace(asked, **told)


def _told(saved: TrainingState) -> dict[str, Any]:
    """Settings that the tensors and the optimisers tell."""
    told: dict[str, Any] = {}
    for config in saved.configs.values():
        if isinstance(config, TwoStreamVANConfig):
            names = "gf_dim cont_dim motion_dim joint use_bn ac_kernel kernel_layer n_channels".split()
            told |= {name: getattr(config, name) for name in names}
            told["lr"] = saved.optimisers["optimize_contEnc"]["param_groups"][0]["lr"]
        elif isinstance(config, TwoStreamVANDiscriminatorConfig):
            told[f"ndf_{config.kind}"] = config.ndf
        elif isinstance(config, ClassifierConfig):
            told["ndf"] = config.ndf
    return told


def _check_classes(saved: TrainingState, recipe: Recipe[Any]) -> None:
    """The data must have as many classes as the networks; what remains was made equal."""
    for name, entry in _TAKEN_FROM.items():
        if name not in recipe.networks:
            continue
        ours, theirs = recipe.saved_as(name)[1], saved.configs[entry]
        for size in ("n_cat", "n_class"):
            here, there = getattr(ours, size, None), getattr(theirs, size, None)
            if here != there:
                raise TrainingError(
                    f"cannot continue the training of {saved.source} on {recipe.store.path}",
                    seen=f"{here} classes in the data, expected {there}",
                    cause="the checkpoint was trained on other data, or a classifier tells actors apart",
                    fix="give the data it was trained on with --data, choose classes with --set classes=a,b, "
                    "or --set is_actor=true for a classifier of actors",
                )


def _notes(saved: TrainingState, recipe: Recipe[Any]) -> list[str]:
    labels = recipe.description.labels
    order = ", ".join(f"{number} {label}" for number, label in enumerate(labels[:30]))
    more = ", ..." if len(labels) > 30 else ""
    notes = [f"classes are taken from the data: {order}{more}; if the checkpoint's order differs: --set classes=a,b"]
    if "no_mask" in saved.assumed:
        notes.append(f"no_mask = {str(recipe.settings.no_mask).lower()}, which no tensor tells")
    if saved.step >= recipe.settings.last_step(1):
        notes.append(f"its training is complete: go on with --set total_iters=N above {saved.step}")
    return notes
