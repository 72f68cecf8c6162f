"""The training command: check everything, then one readable loop that can be killed and resumed at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgen._files import write_json
from vidgen.data.store import ClipStore
from vidgen.errors import SettingsError, TrainingError
from vidgen.models.checkpoint import DataDescription
from vidgen.settings import build_settings
from vidgen.trainer import state
from vidgen.trainer.clips import StepSampler, WindowDataset, check_store, window_batches
from vidgen.trainer.clock import Pace, StopRequest, Stopwatch, stop_between_steps
from vidgen.trainer.distributed import World, any_over_world, check_divides, join_world, mean_over_world, wait_for_all
from vidgen.trainer.g3an import (
    Draws,
    Losses,
    Networks,
    Optimisers,
    train_step,
    update_average,
    validation_noise,
    validation_videos,
)
from vidgen.trainer.journal import Journal
from vidgen.trainer.settings import G3ANTrainSettings


@dataclass(frozen=True)
class TrainReport:
    """What a run left: the generator to export, steps made, seconds of training, the last losses."""

    checkpoint: Path
    run: Path
    step: int
    seconds: float
    losses: Losses | None
    stopped_by: str


@dataclass(frozen=True)
class Tick:
    """What a progress display needs after each step."""

    step: int
    last_step: int
    losses: Losses
    samples_a_second: float
    seconds_left: float


Listener = Callable[[Tick], None]
Say = Callable[[str], None]


def _quiet(_: Any) -> None:
    pass


def train(
    settings: G3ANTrainSettings, *, resume: bool = False, listen: Listener = _quiet, say: Say = _quiet
) -> TrainReport:
    """Train G3AN (spec g3an 3) and return what the run left.

    Every random draw depends on (seed, step) alone, so on a CPU a run that was killed and resumed ends with the
    same bits as one that was not. Ctrl-C saves before it ends.

    Args:
        resume: go on from the newest complete save of ``settings.run``; without it the folder must be new.
        listen: called after every step on the leading process. say: called with lines worth printing.

    Raises:
        VidgenError: settings, data or run folder cannot be used; nothing was changed then.
        KeyboardInterrupt: after the checkpoint of the interrupted run was written.
    """
    device = _device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with join_world(device.type) as world:
        if device.type == "cuda":
            device = torch.device("cuda", world.local_rank)
        check_divides(settings.batch_size, world)
        _check_run_folder(settings, resume)
        store = _open_store(settings, world, say)
        check_store(store, settings.batch_size)
        return _loop(
            settings, resume, device, world, store, listen if world.leads else _quiet, say if world.leads else _quiet
        )


def _loop(
    settings: G3ANTrainSettings,
    resume: bool,
    device: torch.device,
    world: World,
    store: ClipStore,
    listen: Listener,
    say: Say,
) -> TrainReport:
    config, run, seed = settings.generator_config, settings.run, settings.random_seed
    for seed_library in (random.seed, np.random.seed, torch.manual_seed):
        seed_library(seed % 2**32)
    networks = Networks.create(config, settings.ch_d, averaged=settings.ema > 0)
    networks.to(device)
    optimisers = Optimisers.create(networks, settings.g_lr, settings.d_lr)
    progress = state.restore(run, networks, optimisers) if resume else state.Progress(data_hash=store.info.content_hash)
    _check_same_data(progress, store)
    wait_for_all(world)  # everyone has read before anyone writes
    journal = _open_journal(settings, progress.step) if world.leads else None

    dataset = WindowDataset(store.path, seed, settings.frame_steps)
    sampler = StepSampler(len(store), settings.batch_size, seed, progress.step, world.rank, world.size)
    batches = window_batches(dataset, sampler, settings.num_workers, pin_memory=device.type == "cuda")
    data = _describe(store, settings.frame_steps)
    za, zm = validation_noise(seed, config, settings.n_za_test, settings.n_zm_test)
    autocast = _autocast(settings.amp, device)

    steps_an_epoch = sampler.steps_an_epoch
    last_step = min(settings.max_epoch * steps_an_epoch, settings.steps or 2**62)
    step, losses, stopped_by = progress.step, None, "steps"
    watch, pace = Stopwatch(progress.seconds), Pace(settings.batch_size)
    saved = step if resume else -1

    def save() -> None:
        nonlocal saved
        if world.leads and saved != step:
            here = state.Progress(step, watch.total, store.info.content_hash)
            state.save(run, networks, optimisers, here, data, settings.keep)
            saved = step

    def draw_grid() -> None:
        if journal:
            videos = validation_videos(networks.average or networks.generator, za, zm)
            journal.grid(videos, settings.n_zm_test, step // steps_an_epoch, step, data.fps)

    try:
        with stop_between_steps() as stop:
            while step < last_step and stopped_by == "steps":
                real = next(batches).to(device, non_blocking=True)
                draws = Draws.of_step(seed, step, settings.batch_size, config, world).to(device)
                values = mean_over_world(train_step(networks, optimisers, real, draws, world, autocast), world)
                if networks.average:
                    update_average(networks.average, networks.generator, settings.ema)
                losses = Losses(*values.tolist())
                _check_finite(values, step, run)
                epoch = step // steps_an_epoch
                step += 1
                pace.tick()
                if journal:
                    journal.record(step, epoch, losses, pace.samples_a_second, watch.total)
                listen(Tick(step, last_step, losses, pace.samples_a_second, pace.seconds_left(last_step - step)))
                if step % settings.print_freq == 0:
                    say(_line(step, epoch, losses, pace))
                epoch_ended = step % steps_an_epoch == 0
                if _due(step, settings.val_steps) or (epoch_ended and epoch % settings.val_freq == 0):
                    draw_grid()
                if _due(step, settings.save_steps) or (epoch_ended and epoch % settings.save_freq == 0):
                    save()
                stopped_by = _reason_to_stop(settings, watch, stop, world, device)
            save()
            draw_grid()
    finally:
        if journal:
            journal.close()
    if stopped_by == "interrupt":
        say(f"interrupted after step {step}, saved; go on with: vidgen train g3an --out {run} --resume")
        raise KeyboardInterrupt
    return TrainReport(run / "g3an.safetensors", run, step, watch.total, losses, stopped_by)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _reason_to_stop(
    settings: G3ANTrainSettings, watch: Stopwatch, stop: StopRequest, world: World, device: torch.device
) -> str:
    if any_over_world(stop.asked, world, device):
        return "interrupt"
    late = settings.minutes is not None and watch.total >= 60 * settings.minutes
    return "minutes" if any_over_world(late, world, device) else "steps"


def _line(step: int, epoch: int, losses: Losses, pace: Pace) -> str:
    values = " ".join(f"{name} {value:.3f}" for name, value in dataclasses.asdict(losses).items())
    return f"step {step} epoch {epoch} {values} {pace.samples_a_second:.1f} samples/s"


def _check_finite(values: torch.Tensor, step: int, run: Path) -> None:
    if not torch.isfinite(values).all():
        raise TrainingError(
            f"training diverged at step {step}",
            seen=f"losses {[round(value, 3) for value in values.tolist()]}, expected finite numbers",
            cause="the learning rates are too high for these sizes, or the data is constant",
            fix=f"lower g_lr and d_lr and start anew; the last good save is in {state.models_folder(run)}",
        )


def _device(settings: G3ANTrainSettings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError(
            "cannot train on cuda",
            seen="torch finds no CUDA device",
            cause="no GPU, no driver, or a CPU build of torch",
            fix="vidgen doctor, or --set device=cpu",
        )
    return torch.device("cuda" if settings.device != "cpu" and available else "cpu")


def _autocast(amp: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    if amp == "off" or (amp == "auto" and not has_native_bfloat16(device)):
        return contextlib.nullcontext
    return functools.partial(torch.autocast, device.type, torch.bfloat16)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is the device's own; emulated it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _check_run_folder(settings: G3ANTrainSettings, resume: bool) -> None:
    run = settings.run
    if not resume and state.saved_steps(run):
        raise TrainingError(
            f"cannot start a run in {run}",
            seen=f"it holds a run saved at step {state.saved_steps(run)[-1]}",
            cause="an earlier run used the same folder",
            fix=f"vidgen train g3an --out {run} --resume, or choose another --out",
        )
    if resume and not state.saved_steps(run):
        raise TrainingError(
            f"cannot resume {run}",
            seen=f"no save in {state.models_folder(run)}",
            cause="a wrong path, or the run stopped before its first save",
            fix=f"vidgen train g3an --out {run}   (starts it)",
        )


def _open_store(settings: G3ANTrainSettings, world: World, say: Say) -> ClipStore:
    if settings.data_path:
        return ClipStore.open(settings.data_path)
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    path = settings.run / "data" / "faces"
    if world.leads and not path.exists():
        say(f"no --data: making {settings.builtin_clips} built-in face clips in {path}")
        synthesize(SyntheticSettings(kind="faces", out=path, clips=settings.builtin_clips, seed=0))
    wait_for_all(world)
    return ClipStore.open(path)


def _describe(store: ClipStore, frame_steps: tuple[int, ...]) -> DataDescription:
    """The data as a checkpoint tells it; a model sees every ``frame_steps``-th frame, so it plays slower."""
    info = store.info
    fps = info.fps * len(frame_steps) / sum(frame_steps)
    return DataDescription(info.name, round(fps, 3), info.labels, info.content_hash)


def _check_same_data(progress: state.Progress, store: ClipStore) -> None:
    if progress.data_hash != store.info.content_hash:
        raise TrainingError(
            "cannot resume on other data",
            seen=f"content hash {store.info.content_hash[:12]}..., expected {progress.data_hash[:12]}...",
            cause=f"{store.path} is not the clip store the run was trained on",
            fix="give the run's own data with --data, or start a new run with another --out",
        )


def _open_journal(settings: G3ANTrainSettings, step: int) -> Journal:
    settings.run.mkdir(parents=True, exist_ok=True)
    write_json(settings.run / SETTINGS_NAME, settings.to_dict())
    if step == 0:
        # What a run that died before its first save left would be shown beside this one's.
        shutil.rmtree(settings.run / "log", ignore_errors=True)
        (settings.run / "stats.jsonl").unlink(missing_ok=True)
    journal = Journal(settings.run, step)
    journal.note(settings.to_dict())
    return journal


#: The settings a run was last started with, beside its record.
SETTINGS_NAME = "settings.json"


def resumed_settings(run: Path, changes: Mapping[str, Any]) -> G3ANTrainSettings:
    """The settings of a run with the changes a continuation may make.

    Raises:
        TrainingError: the run cannot be read, or a change would make it another run.
    """
    path = run / SETTINGS_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        earlier = build_settings(G3ANTrainSettings, (str(path), values))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"cannot resume {run}",
            seen=f"{path}: {error}",
            cause="a wrong path, or not a run of this program",
            fix=f"vidgen train g3an --out {run}   (starts it)",
        ) from error
    place = {"save_path": str(run.parent), "exp_name": run.name}
    now = build_settings(G3ANTrainSettings, (str(path), values), ("the command line", {**changes, **place}))
    for field in dataclasses.fields(now):
        before, after = getattr(earlier, field.name), getattr(now, field.name)
        if before != after and field.name not in G3ANTrainSettings.RESUMABLE:
            raise TrainingError(
                f"cannot resume {run} with other settings",
                seen=f"{field.name} = {after!r}, expected {before!r} as the run was started",
                cause="this setting changes what is trained",
                fix=f"leave {field.name} out, or start a new run with another --out",
            )
    return now
