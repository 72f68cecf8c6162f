"""A run's folder: may it be started or continued, with which settings, and its record opened at the right step."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidgen._files import storage_error, write_json
from vidgen.errors import TrainingError, VidgenError
from vidgen.settings import build_settings
from vidgen.trainer import state
from vidgen.trainer.journal import Journal
from vidgen.trainer.run_settings import RunSettings

Settings = TypeVar("Settings", bound=RunSettings)
#: The settings a run was last started with, beside its record.
SETTINGS_NAME = "settings.json"


def check_run_folder(settings: RunSettings, resume: bool) -> None:
    """A new run needs a folder without saves, a continued one a folder with some.

    Raises:
        TrainingError: otherwise.
    """
    run = settings.run
    if not resume and state.saved_steps(run):
        raise TrainingError(
            f"cannot start a run in {run}",
            seen=f"it holds a run of {_model_of(run) or settings.MODEL} saved at step {state.saved_steps(run)[-1]}",
            cause="an earlier run used the same folder",
            fix=f"vidgen train {_model_of(run) or settings.MODEL} --out {run} --resume, or choose another --out",
        )
    if resume and not state.saved_steps(run):
        raise TrainingError(
            f"cannot resume {run}",
            seen=f"no save in {state.models_folder(run)}",
            cause="a wrong path, or the run stopped before its first save",
            fix=f"vidgen train {settings.MODEL} --out {run}   (starts it)",
        )


def resumed_settings(kind: type[Settings], run: Path, changes: Mapping[str, Any]) -> Settings:
    """The settings of a run with the changes a continuation may make.

    Raises:
        TrainingError: the run cannot be read, or a change would make it another run.
    """
    stored = _stored(kind, run)
    place = {"save_path": str(run.parent), "exp_name": run.name}
    now = build_settings(kind, ("the run", stored), ("the command line", {**changes, **place}))
    check_same_settings(now)
    return now


def check_same_settings(settings: RunSettings) -> None:
    """Settings that continue the run in ``settings.run`` must train what it was started to train.

    Raises:
        TrainingError: the run cannot be read, or a setting differs that changes what is trained.
    """
    kind = type(settings)
    earlier = build_settings(kind, ("the run", _stored(kind, settings.run)))
    for field in dataclasses.fields(settings):
        before, after = getattr(earlier, field.name), getattr(settings, field.name)
        if before != after and field.name not in kind.RESUMABLE:
            raise TrainingError(
                f"cannot resume {settings.run} with other settings",
                seen=f"{field.name} = {after!r}, expected {before!r} as the run was started",
                cause="this setting changes what is trained",
                fix=f"leave {field.name} out, or start a new run with another --out",
            )


def _model_of(run: Path) -> str:
    """The family of a run, by the file it is known by; empty where there is none."""
    return next((path.stem for path in sorted(run.glob("*.safetensors"))), "")


def _stored(kind: type[RunSettings], run: Path) -> dict[str, Any]:
    path = run / SETTINGS_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        build_settings(kind, (str(path), values))
    except (OSError, ValueError, VidgenError) as error:
        other = _model_of(run)
        if other and other != kind.MODEL:
            raise TrainingError(
                f"cannot resume {run}",
                seen=f"a run of {other}, expected one of {kind.MODEL}",
                cause="another model was trained in this folder",
                fix=f"vidgen train {other} --out {run} --resume",
            ) from error
        raise TrainingError(
            f"cannot resume {run}",
            seen=f"{path}: {error}",
            cause="a wrong path, or not a run of this model and version",
            fix=f"vidgen train {kind.MODEL} --out {run}   (starts it)",
        ) from error
    return values


def open_journal(settings: RunSettings, step: int) -> Journal:
    """Write the settings and open the record of a run that has come to ``step``.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        settings.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(settings.run, error) from error
    write_json(settings.run / SETTINGS_NAME, settings.to_dict())
    if step == 0:
        # What a run that died before its first save left would be shown beside this one's.
        shutil.rmtree(settings.run / "log", ignore_errors=True)
        for name in ("stats.jsonl", "val/scores.jsonl"):
            (settings.run / name).unlink(missing_ok=True)
    journal = Journal(settings.run, step)
    journal.note(settings.to_dict())
    return journal
