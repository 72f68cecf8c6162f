"""Checkpoints of a run: its networks and one state file a save, from which training goes on exactly."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidgen._files import atomic_file, remove_partials, sha256
from vidgen.errors import TrainingError
from vidgen.models.checkpoint import CheckpointInfo, load_into, load_tensors, save_checkpoint
from vidgen.trainer.recipe import Recipe
from vidgen.trainer.run_settings import RunSettings

FORMAT = 1
_STATE_NAME = re.compile(r"^state_(\d+)\.pt$")


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps made, seconds of training behind them, hash of the data."""

    step: int = 0
    seconds: float = 0.0
    data_hash: str = ""


def models_folder(run: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run / "models"


def _file(run: Path, name: str, step: int) -> Path:
    return models_folder(run) / f"{name}_{step:08d}.safetensors"


def save(run: Path, recipe: Recipe[Any], progress: Progress) -> Path:
    """Save everything a run needs to go on, then drop checkpoints beyond the newest ``keep`` (0: none).

    Those that are not ``lasting`` by the run's settings are dropped too, but for the newest two.

    The networks are written first, each atomically, and the state file that names their hashes last: a kill
    at any instant leaves the last complete save usable. ``run/MODEL.safetensors`` becomes the newest
    generator (the averaged one where it is kept), the file to export and sample from.

    Returns:
        The path of that generator.

    Raises:
        StorageError: a file cannot be written; earlier saves are intact.
    """
    hashes = {}
    for name, network in recipe.networks.items():
        model, config = recipe.saved_as(name)
        path = _file(run, name, progress.step)
        info = CheckpointInfo(model, config, progress.step, recipe.description)
        save_checkpoint(path, network.state_dict(), info)
        hashes[name] = sha256(path)
    state = {
        "format": FORMAT,
        "step": progress.step,
        "seconds": progress.seconds,
        "data_hash": progress.data_hash,
        "networks": hashes,
        "optimisers": {name: optimiser.state_dict() for name, optimiser in recipe.optimisers.items()},
        "extra": recipe.extra_state(),
    }
    buffer = io.BytesIO()  # torch reports a full disk as an error of its own kind
    torch.save(state, buffer)
    with atomic_file(models_folder(run) / f"state_{progress.step:08d}.pt") as partial:
        partial.write_bytes(buffer.getbuffer())
    latest = publish(run, recipe, progress.step)
    _drop_old(run, recipe.settings)
    return latest


def published_file(run: Path, recipe: Recipe[Any]) -> Path:
    """The file a run is known by: its newest generator."""
    return run / f"{recipe.settings.MODEL}.safetensors"


def publish(run: Path, recipe: Recipe[Any], step: int) -> Path:
    """Make the file a run is known by the network of a save."""
    latest = published_file(run, recipe)
    with atomic_file(latest) as partial:
        shutil.copyfile(_file(run, recipe.published, step), partial)
    return latest


def tidy(run: Path, recipe: Recipe[Any], step: int) -> None:
    """Put a run's folder in order before it goes on from a save: one process, before any is written.

    Damaged saves after it must not count as the newest, unfinished files of a kill are of no use, and the kill
    may have come between the save and the copy of its generator.
    """
    for late in [saved for saved in saved_steps(run) if saved > step]:
        _drop(run, late)
    for folder in (run, models_folder(run)):
        remove_partials(folder)
    publish(run, recipe, step)


def saved_steps(run: Path) -> list[int]:
    """Steps that have a state file, oldest first."""
    folder = models_folder(run)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(_STATE_NAME.match, names) if match)


def _drop_old(run: Path, settings: RunSettings) -> None:
    steps = saved_steps(run)
    old = steps[: -settings.keep] if settings.keep else []
    # Two stay whatever they are: where the newest is found damaged, a run goes on from the one before.
    passing = [step for step in steps[:-2] if not settings.lasting(step)]
    for step in {*old, *passing}:
        _drop(run, step)


def _drop(run: Path, step: int) -> None:
    # The state file goes first: networks without one are never resumed from.
    (models_folder(run) / f"state_{step:08d}.pt").unlink()
    for path in models_folder(run).glob(f"*_{step:08d}.safetensors"):
        path.unlink()


def restore(run: Path, recipe: Recipe[Any]) -> Progress:
    """Load the newest complete save of a run into a recipe.

    A save whose files are incomplete or altered is passed over for the one before it.

    Raises:
        TrainingError: there is no complete save.
    """
    tried = []
    for step in reversed(saved_steps(run)):
        problem, state = _read_state(run, step, recipe.networks)
        if problem:
            tried.append(f"step {step}: {problem}")
            continue
        for name, network in recipe.networks.items():
            path = _file(run, name, step)
            load_into(network, load_tensors(path), path)
        for name, optimiser in recipe.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        recipe.load_extra_state(state.get("extra", {}))
        return Progress(step, float(state["seconds"]), str(state["data_hash"]))
    raise TrainingError(
        f"cannot resume {run}",
        seen="; ".join(tried) or f"no state file in {models_folder(run)}",
        cause="the run stopped before its first save, or its files were moved",
        fix=f"start it anew: rm -r {run} and run the same command without --resume",
    )


def _read_state(run: Path, step: int, networks: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The state of a save, or what is wrong with it."""
    path = models_folder(run) / f"state_{step:08d}.pt"
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            return f"{path.name} has format {state['format']!r}, expected {FORMAT}", {}
        hashes: dict[str, str] = state["networks"]
    except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
        return f"{path.name} cannot be read ({type(error).__name__})", {}
    for name in networks:
        file = _file(run, name, step)
        if not file.is_file():
            return f"{file.name} is missing", {}
        if sha256(file) != hashes.get(name):
            return f"{file.name} was altered", {}
    return "", state
