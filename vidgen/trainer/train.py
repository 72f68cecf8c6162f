"""The training command: check everything, then one readable loop that can be killed and resumed at any step."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidgen.data.store import ClipStore
from vidgen.errors import SettingsError, TrainingError
from vidgen.trainer import state
from vidgen.trainer.clips import StepSampler, window_batches
from vidgen.trainer.clock import Pace, StopRequest, Stopwatch, stop_between_steps
from vidgen.trainer.distributed import World, any_over_world, check_divides, join_world, mean_over_world, wait_for_all
from vidgen.trainer.recipe import Autocast, Place, Recipe, Say
from vidgen.trainer.resume import check_run_folder, check_same_settings, open_journal
from vidgen.trainer.run_settings import RunSettings


@dataclass(frozen=True)
class TrainReport:
    """What a run left: the generator to export, steps made, seconds of training, the last losses."""

    checkpoint: Path
    run: Path
    step: int
    seconds: float
    losses: Mapping[str, float]
    stopped_by: str


@dataclass(frozen=True)
class Tick:
    """What a progress display needs after each step."""

    step: int
    last_step: int
    losses: str
    samples_a_second: float
    seconds_left: float


Listener = Callable[[Tick], None]


def _quiet(_: Any) -> None:
    pass


def train(settings: RunSettings, *, resume: bool = False, listen: Listener = _quiet, say: Say = _quiet) -> TrainReport:
    """Train the model of these settings (spec g3an 3, twostreamvan 5) and return what the run left.

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
        check_run_folder(settings, resume)
        say = say if world.leads else _quiet
        store = _open_store(settings, world, say)
        recipe = _recipe(settings, store, Place(device, world, _autocast(settings.amp, device)), say)
        run = _Run(recipe, resume)
        try:
            report = run.loop(listen if world.leads else _quiet, say)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory(settings, error) from error
        finally:
            run.close()
    if report.stopped_by == "interrupt":
        again = f"vidgen train {settings.MODEL} --out {report.run} --resume"
        raise KeyboardInterrupt(f"interrupted after step {report.step}, saved; go on with: {again}")
    return report


class _Run:
    """A run under way: its recipe, its record, and the place it has come to."""

    def __init__(self, recipe: Recipe[Any], resume: bool) -> None:
        self.recipe, self.settings, self.place = recipe, recipe.settings, recipe.place
        self.folder, store = recipe.settings.run, recipe.store
        progress = state.Progress(data_hash=store.info.content_hash)
        if resume:
            progress = state.restore(self.folder, recipe)
            _check_same_data(progress, store)
        wait_for_all(self.place.world)  # everyone has read before anyone writes
        self.step = progress.step
        self.saved, self.validated = (progress.step if resume else -1), -1
        self.watch, self.pace = Stopwatch(progress.seconds), Pace(self.settings.batch_size)
        self.journal = None
        if self.place.world.leads:
            if resume:
                state.tidy(self.folder, recipe, self.step)
            self.journal = open_journal(self.settings, self.step)

    def loop(self, listen: Listener, say: Say) -> TrainReport:
        """Train until the last step, the time limit or an interruption; save and validate at the end."""
        settings, recipe, world = self.settings, self.recipe, self.place.world
        sampler = StepSampler(
            recipe.clips, settings.batch_size, settings.random_seed, self.step, world.rank, world.size
        )
        pin_memory = self.place.device.type == "cuda"
        batches = window_batches(recipe.dataset, recipe.store.path, sampler, settings.num_workers, pin_memory)
        steps_an_epoch = sampler.steps_an_epoch
        last_step = settings.last_step(steps_an_epoch)
        losses: dict[str, float] = {}
        if self.step >= last_step:
            say(f"already at step {self.step} of {last_step}: nothing to train")
        with stop_between_steps() as stop:
            while not (reason := self._reason_to_stop(last_step, stop)):
                epoch = self.step // steps_an_epoch
                losses = self._mean(recipe.step(self.step, next(batches)))
                self._check_finite(losses)
                self.step += 1
                self.pace.tick()
                if self.journal:
                    self.journal.record(self.step, epoch, losses, self.pace.samples_a_second, self.watch.total)
                listen(self._tick(last_step, losses))
                if self.step % settings.print_freq == 0:
                    say(_line(self.step, epoch, losses, self.pace))
                if settings.validation_due(self.step, steps_an_epoch):
                    self.validate(epoch)
                if settings.save_due(self.step, steps_an_epoch):
                    self.save()
            self.save()
            if reason != "interrupt":
                before = recipe.extra_state()
                self.validate(max(0, self.step - 1) // steps_an_epoch)
                if recipe.extra_state() != before:
                    # It changed what a run is known by, such as the best classifier so far.
                    self.saved = -1
                    self.save()
            # Asked while the last step or the validation was under way: whoever called has to hear of it.
            if any_over_world(stop.asked, world, self.place.device):
                reason = "interrupt"
        checkpoint = state.published_file(self.folder, recipe)
        return TrainReport(checkpoint, self.folder, self.step, self.watch.total, losses, reason)

    def save(self) -> None:
        """Save, unless this step is saved already."""
        if self.place.world.leads and self.saved != self.step:
            here = state.Progress(self.step, self.watch.total, self.recipe.store.info.content_hash)
            state.save(self.folder, self.recipe, here)
            self.saved = self.step

    def validate(self, epoch: int) -> None:
        """Show what the networks do, unless it was shown at this step already."""
        if self.journal and self.validated != self.step:
            self.recipe.validate(self.journal, self.step, epoch)
            self.validated = self.step

    def close(self) -> None:
        """Close the record."""
        if self.journal:
            self.journal.close()

    def _mean(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = mean_over_world(torch.stack(list(losses.values())), self.place.world)
        return dict(zip(losses, values.tolist(), strict=True))

    def _reason_to_stop(self, last_step: int, stop: StopRequest) -> str:
        """``steps``, ``finished``, ``minutes`` or ``interrupt``; empty to go on. All processes agree."""
        if self.step >= last_step:
            return "steps"
        if any_over_world(self.recipe.finished, self.place.world, self.place.device):
            return "finished"
        world, device = self.place.world, self.place.device
        if any_over_world(stop.asked, world, device):
            return "interrupt"
        return "minutes" if any_over_world(self._seconds_left() <= 0, world, device) else ""

    def _seconds_left(self) -> float:
        minutes = self.settings.minutes
        return float("inf") if minutes is None else 60 * minutes - self.watch.total

    def _tick(self, last_step: int, losses: Mapping[str, float]) -> Tick:
        left = min(self._seconds_left(), self.pace.seconds_left(last_step - self.step))
        return Tick(self.step, last_step, self.recipe.headline(losses), self.pace.samples_a_second, left)

    def _check_finite(self, losses: Mapping[str, float]) -> None:
        wrong = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if not wrong:
            return
        saves = state.saved_steps(self.folder)
        kept = f"; step {saves[-1]} is saved in {state.models_folder(self.folder)}" if saves else ""
        raise TrainingError(
            f"training diverged at step {self.step}",
            seen=", ".join(f"{name} {value}" for name, value in wrong.items()) + ", expected finite numbers",
            cause="the learning rates are too high for these sizes, or the data is constant",
            fix=f"lower the learning rates (--set) and start anew with another --out{kept}",
        )


def _out_of_memory(settings: RunSettings, error: BaseException) -> TrainingError:
    return TrainingError(
        "cannot train in this much memory",
        seen=(str(error).splitlines() or ["out of memory"])[0][:300],
        cause=f"a batch of {settings.batch_size} does not fit at these widths",
        fix=f"--set batch_size={max(1, settings.batch_size // 2)}, and start anew with another --out",
    )


def _line(step: int, epoch: int, losses: Mapping[str, float], pace: Pace) -> str:
    values = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
    return f"step {step} epoch {epoch} {values} {pace.samples_a_second:.1f} samples/s"


def _device(settings: RunSettings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError(
            "cannot train on cuda",
            seen="torch finds no CUDA device",
            cause="no GPU, no driver, or a CPU build of torch",
            fix="vidgen doctor, or --set device=cpu",
        )
    return torch.device("cuda" if settings.device != "cpu" and available else "cpu")


def _autocast(amp: str, device: torch.device) -> Autocast:
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


#: Frames of the built-in clips: room for every window of the presets.
_BUILTIN_FRAMES = 48


def _open_store(settings: RunSettings, world: World, say: Say) -> ClipStore:
    if settings.data_path:
        return ClipStore.open(settings.data_path)
    from vidgen.data.synthetic import SyntheticSettings, synthesize

    path = settings.run / "data" / settings.BUILTIN
    if world.leads and not path.exists():
        say(f"no --data: making {settings.builtin_clips} built-in clips of {settings.BUILTIN} in {path}")
        clips = settings.builtin_clips
        synthesize(SyntheticSettings(kind=settings.BUILTIN, out=path, clips=clips, frames=_BUILTIN_FRAMES))
    wait_for_all(world)
    return ClipStore.open(path)


def _recipe(settings: RunSettings, store: ClipStore, place: Place, say: Say) -> Recipe[Any]:
    """The recipe of these settings, its networks freshly initialised from the seed."""
    from vidgen.trainer.families import FAMILIES

    for seed_library in (random.seed, np.random.seed, torch.manual_seed):
        seed_library(settings.random_seed)
    return FAMILIES[settings.MODEL].load()(settings, store, place, say)


def _check_same_data(progress: state.Progress, store: ClipStore) -> None:
    if progress.data_hash != store.info.content_hash:
        raise TrainingError(
            "cannot resume on other data",
            seen=f"content hash {store.info.content_hash[:12]}..., expected {progress.data_hash[:12]}...",
            cause=f"{store.path} is not the clip store the run was trained on",
            fix="give the run's own data with --data, or start a new run with another --out",
        )
