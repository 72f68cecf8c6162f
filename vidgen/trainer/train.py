"""The training command: check everything, then one readable loop that can be killed and resumed at any step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgen.data.store import ClipStore
from vidgen.errors import SettingsError, TrainingError
from vidgen.models.checkpoint import DataDescription
from vidgen.trainer import state
from vidgen.trainer.clips import (
    WINDOW,
    StepSampler,
    WindowDataset,
    check_store,
    mean_step,
    network_input,
    window_batches,
)
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
from vidgen.trainer.resume import check_run_folder, check_same_settings, open_journal
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
    if resume:
        check_same_settings(settings)
    with join_world(device.type) as world:
        if device.type == "cuda":
            device = torch.device("cuda", world.local_rank)
        check_divides(settings.batch_size, world)
        check_run_folder(settings.run, resume)
        say = say if world.leads else _quiet
        store = _open_store(settings, world, say)
        check_store(store, settings.batch_size)
        _mention_short_clips(store, settings, say)
        run = _Run(settings, store, device, world, resume)
        try:
            report = run.loop(listen if world.leads else _quiet, say)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory(settings, error) from error
        finally:
            run.close()
    if report.stopped_by == "interrupt":
        raise KeyboardInterrupt(
            f"interrupted after step {report.step}, saved; go on with: vidgen train g3an --out {report.run} --resume"
        )
    return report


class _Run:
    """A run under way: networks, data, record, and the place it has come to."""

    def __init__(self, settings: G3ANTrainSettings, store: ClipStore, device: torch.device, world: World, resume: bool):
        self.settings, self.store, self.device, self.world = settings, store, device, world
        self.folder, seed = settings.run, settings.random_seed
        for seed_library in (random.seed, np.random.seed, torch.manual_seed):
            seed_library(seed)
        self.networks = Networks.create(settings.generator_config, settings.ch_d, averaged=settings.ema > 0)
        self.networks.to(device)
        self.optimisers = Optimisers.create(self.networks, settings.g_lr, settings.d_lr)
        progress = state.Progress(data_hash=store.info.content_hash)
        if resume:
            progress = state.restore(self.folder, self.networks, self.optimisers)
            _check_same_data(progress, store)
        wait_for_all(world)  # everyone has read before anyone writes
        self.step = progress.step
        self.saved, self.drawn = (progress.step if resume else -1), -1
        self.watch, self.pace = Stopwatch(progress.seconds), Pace(settings.batch_size)
        self.data = _describe(store, settings.frame_steps)
        self.noise = validation_noise(seed, settings.generator_config, settings.n_za_test, settings.n_zm_test)
        self.journal = None
        if world.leads:
            if resume:
                state.tidy(self.folder, self.networks, self.step)
            self.journal = open_journal(settings, self.step)

    def loop(self, listen: Listener, say: Say) -> TrainReport:
        """Train until the last step, the time limit or an interruption; save and draw a grid at the end."""
        settings, world, seed = self.settings, self.world, self.settings.random_seed
        dataset = WindowDataset(self.store.path, seed, settings.frame_steps)
        sampler = StepSampler(len(self.store), settings.batch_size, seed, self.step, world.rank, world.size)
        batches = window_batches(dataset, sampler, settings.num_workers, pin_memory=self.device.type == "cuda")
        autocast = _autocast(settings.amp, self.device)
        steps_an_epoch = sampler.steps_an_epoch
        last_step = min(settings.max_epoch * steps_an_epoch, settings.steps or 2**62)
        losses = None
        with stop_between_steps() as stop:
            while not (reason := self._reason_to_stop(last_step, stop)):
                epoch = self.step // steps_an_epoch
                real = network_input(next(batches).to(self.device, non_blocking=True))
                draws = Draws.of_step(seed, self.step, settings.batch_size, settings.generator_config, world)
                values = train_step(self.networks, self.optimisers, real, draws.to(self.device), world, autocast)
                values = mean_over_world(values, world)
                if self.networks.average:
                    update_average(self.networks.average, self.networks.generator, settings.ema)
                losses = Losses(*values.tolist())
                self._check_finite(losses)
                self.step += 1
                self.pace.tick()
                if self.journal:
                    self.journal.record(self.step, epoch, losses, self.pace.samples_a_second, self.watch.total)
                listen(self._tick(last_step, losses))
                if self.step % settings.print_freq == 0:
                    say(_line(self.step, epoch, losses, self.pace))
                epoch_ended = self.step % steps_an_epoch == 0
                if _due(self.step, settings.val_steps) or (epoch_ended and epoch % settings.val_freq == 0):
                    self.draw_grid(epoch)
                if _due(self.step, settings.save_steps) or (epoch_ended and epoch % settings.save_freq == 0):
                    self.save()
            self.save()
            if reason != "interrupt":
                self.draw_grid(max(0, self.step - 1) // steps_an_epoch)
        return TrainReport(self.folder / "g3an.safetensors", self.folder, self.step, self.watch.total, losses, reason)

    def save(self) -> None:
        """Save, unless this step is saved already."""
        if self.world.leads and self.saved != self.step:
            here = state.Progress(self.step, self.watch.total, self.store.info.content_hash)
            state.save(self.folder, self.networks, self.optimisers, here, self.data, self.settings.keep)
            self.saved = self.step

    def draw_grid(self, epoch: int) -> None:
        """Log the validation grid, unless this step's is drawn already."""
        if self.journal and self.drawn != self.step:
            videos = validation_videos(self.networks.average or self.networks.generator, *self.noise)
            self.journal.grid(videos, self.settings.n_zm_test, epoch, self.step, self.data.fps)
            self.drawn = self.step

    def close(self) -> None:
        """Close the record."""
        if self.journal:
            self.journal.close()

    def _reason_to_stop(self, last_step: int, stop: StopRequest) -> str:
        """``steps``, ``minutes`` or ``interrupt``; empty to go on. All processes agree."""
        if self.step >= last_step:
            return "steps"
        if any_over_world(stop.asked, self.world, self.device):
            return "interrupt"
        return "minutes" if any_over_world(self._seconds_left() <= 0, self.world, self.device) else ""

    def _seconds_left(self) -> float:
        minutes = self.settings.minutes
        return float("inf") if minutes is None else 60 * minutes - self.watch.total

    def _tick(self, last_step: int, losses: Losses) -> Tick:
        left = min(self._seconds_left(), self.pace.seconds_left(last_step - self.step))
        return Tick(self.step, last_step, losses, self.pace.samples_a_second, left)

    def _check_finite(self, losses: Losses) -> None:
        values = dataclasses.asdict(losses).values()
        if all(math.isfinite(value) for value in values):
            return
        saves = state.saved_steps(self.folder)
        kept = f"; step {saves[-1]} is saved in {state.models_folder(self.folder)}" if saves else ""
        raise TrainingError(
            f"training diverged at step {self.step}",
            seen=f"losses {[round(value, 3) for value in values]}, expected finite numbers",
            cause="the learning rates are too high for these sizes, or the data is constant",
            fix=f"lower g_lr and d_lr and start anew with another --out{kept}",
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _out_of_memory(settings: G3ANTrainSettings, error: BaseException) -> TrainingError:
    return TrainingError(
        "cannot train in this much memory",
        seen=(str(error).splitlines() or ["out of memory"])[0][:300],
        cause=f"a batch of {settings.batch_size} at width {settings.ch_g} does not fit",
        fix=f"--set batch_size={max(1, settings.batch_size // 2)}, and start anew with another --out",
    )


def _line(step: int, epoch: int, losses: Losses, pace: Pace) -> str:
    values = " ".join(f"{name} {value:.3f}" for name, value in dataclasses.asdict(losses).items())
    return f"step {step} epoch {epoch} {values} {pace.samples_a_second:.1f} samples/s"


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


def _open_store(settings: G3ANTrainSettings, world: World, say: Say) -> ClipStore:
    if settings.data_path:
        return ClipStore.open(settings.data_path)
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    path = settings.run / "data" / "faces"
    if world.leads and not path.exists():
        say(f"no --data: making {settings.builtin_clips} built-in face clips in {path}")
        frames = WINDOW * max(settings.frame_steps)  # room for every step
        synthesize(SyntheticSettings(kind="faces", out=path, clips=settings.builtin_clips, frames=frames))
    wait_for_all(world)
    return ClipStore.open(path)


def _mention_short_clips(store: ClipStore, settings: G3ANTrainSettings, say: Say) -> None:
    longest = max(settings.frame_steps)
    short = sum(clip.length < WINDOW * longest for clip in store.clips)
    if short:
        say(
            f"{short} of {len(store)} clips have fewer than {WINDOW * longest} frames: "
            f"where a step of {longest} does not fit, their windows take the largest that does"
        )


def _describe(store: ClipStore, frame_steps: tuple[int, ...]) -> DataDescription:
    """The data as a checkpoint tells it; a model sees only every so many frames, so it plays slower."""
    info = store.info
    return DataDescription(
        info.name, round(info.fps / mean_step(store, frame_steps), 3), info.labels, info.content_hash
    )


def _check_same_data(progress: state.Progress, store: ClipStore) -> None:
    if progress.data_hash != store.info.content_hash:
        raise TrainingError(
            "cannot resume on other data",
            seen=f"content hash {store.info.content_hash[:12]}..., expected {progress.data_hash[:12]}...",
            cause=f"{store.path} is not the clip store the run was trained on",
            fix="give the run's own data with --data, or start a new run with another --out",
        )
