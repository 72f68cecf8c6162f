"""A run can be stopped anywhere and goes on as if it had not been; what it leaves is whole."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidgen.data.store import ClipStore, StoreWriter
from vidgen.errors import SettingsError, StorageError, TrainingError
from vidgen.models.checkpoint import load_generator, read_info
from vidgen.trainer.clips import mean_step
from vidgen.trainer.g3an_settings import PRESETS, G3ANTrainSettings
from vidgen.trainer.resume import resumed_settings
from vidgen.trainer.state import saved_steps
from vidgen.trainer.train import Tick, train

TINY = {
    "batch_size": 4,
    "ch_g": 2,
    "ch_d": 2,
    "d_za": 8,
    "d_zm": 4,
    "num_workers": 0,
    "n_za_test": 2,
    "n_zm_test": 2,
    "val_freq": 1000,
    "save_freq": 1000,
    "threads": 1,
    "ema": 0.9,
}


def _settings(run: Path, clips: Path, **changes: object) -> G3ANTrainSettings:
    place = {"save_path": str(run.parent), "exp_name": run.name, "data_path": str(clips)}
    return G3ANTrainSettings(**{**TINY, **place, **changes})


def _arguments(run: Path, clips: Path, **changes: object) -> list[str]:
    values = {**TINY, **changes}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return ["-m", "vidgen", "train", "g3an", "--data", str(clips), "--out", str(run), *sets]


def _final(run: Path, step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {name: load_file(run / "models" / f"{name}_{step:08d}.safetensors") for name in ("G", "G_ema", "VD", "ID")}


def _stats(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def _assert_same_run(one: Path, other: Path, step: int) -> None:
    for name, tensors in _final(one, step).items():
        for key, value in _final(other, step)[name].items():
            assert torch.equal(value, tensors[key]), f"{name} {key}"
    losses = ("step", "epoch", "D_vid_loss", "D_img_loss", "G_vid_loss", "G_img_loss")
    rows = [[[line[key] for key in losses] for line in _stats(run)] for run in (one, other)]
    assert rows[0] == rows[1] and len(rows[0]) == step


@pytest.fixture(scope="module")
def straight(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps without interruption."""
    run = tmp_path_factory.mktemp("runs") / "straight"
    train(_settings(run, clips, steps=6))
    return run


def test_a_run_resumed_after_three_steps_ends_with_the_same_bits(straight: Path, clips: Path, tmp_path: Path) -> None:
    train(_settings(tmp_path / "run", clips, steps=3))
    report = train(resumed_settings(G3ANTrainSettings, tmp_path / "run", {"steps": 6}), resume=True)
    assert report.step == 6
    _assert_same_run(straight, tmp_path / "run", 6)


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(straight: Path, clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = _arguments(run, clips, steps=1000, save_steps=1)
    process = _start(run, *arguments)
    time.sleep(random.uniform(0, 0.3))
    process.kill()
    process.communicate()
    assert saved_steps(run)
    for late in [step for step in saved_steps(run) if step > 4]:  # a slow kill: step back so that there is work left
        (run / "models" / f"state_{late:08d}.pt").unlink()
    train(resumed_settings(G3ANTrainSettings, run, {"steps": 6}), resume=True)
    _assert_same_run(straight, run, 6)


def test_a_damaged_save_is_passed_over_for_the_one_before(straight: Path, clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(_settings(run, clips, steps=4, save_steps=2))
    path = run / "models" / "G_00000004.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    train(resumed_settings(G3ANTrainSettings, run, {"steps": 6}), resume=True)
    _assert_same_run(straight, run, 6)


def _start(run: Path, *arguments: str) -> subprocess.Popen[str]:
    """A training process that has made two steps."""
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "stats.jsonl").exists() or len(_stats(run)) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_ctrl_c_finishes_the_step_and_saves_it(clips: Path, tmp_path: Path, workers: int) -> None:
    run = tmp_path / "run"
    process = _start(run, *_arguments(run, clips, steps=100000, num_workers=workers), "--json", "-q")
    try:
        for child in (process.pid, *_children(process.pid)):  # a terminal sends Ctrl-C to all of them
            os.kill(child, signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "--resume" in errors and "Traceback" not in errors
    assert "--resume" in json.loads(out)["interrupted"]
    assert saved_steps(run)[-1] == len(_stats(run))
    assert not list(run.rglob(".partial-*"))


def test_ctrl_c_during_the_last_step_is_heard_after_the_run_was_saved(clips: Path, tmp_path: Path) -> None:
    def listen(tick: Tick) -> None:
        if tick.step == tick.last_step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="after step 2, saved"):
        train(_settings(tmp_path / "run", clips, steps=2), listen=listen)
    assert saved_steps(tmp_path / "run")[-1] == 2


def _children(pid: int) -> list[int]:
    """Child processes, the loaders among them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def test_a_full_disk_is_named_and_keeps_the_last_save(straight: Path, clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(_settings(run, clips, steps=3))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    code = f"{limit} {ignore} import sys; sys.argv[0] = 'vidgen'; from vidgen.cli import main; main()"
    words = ["train", "g3an", "--out", str(run), "--resume", "--steps", "6"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "cannot write" in done.stderr
    assert saved_steps(run)[-1] == 3 and not list(run.rglob(".partial-*"))
    train(resumed_settings(G3ANTrainSettings, run, {"steps": 6}), resume=True)
    _assert_same_run(straight, run, 6)


def test_a_continued_run_puts_its_folder_in_order(clips: Path, tmp_path: Path) -> None:
    """The generator to export is there again, damaged saves do not count as the newest, leftovers are gone."""
    run = tmp_path / "run"
    train(_settings(run, clips, steps=4, save_steps=1, keep=2))
    (run / "g3an.safetensors").unlink()
    (run / "models" / "state_00000004.pt").write_bytes(b"damaged")
    (run / "models" / ".partial-1-G_00000005.safetensors").write_bytes(b"half")
    report = train(resumed_settings(G3ANTrainSettings, run, {"steps": 3}), resume=True)
    assert report.step == 3 and read_info(run / "g3an.safetensors").step == 3
    assert saved_steps(run) == [3] and not list(run.rglob(".partial-*"))
    train(resumed_settings(G3ANTrainSettings, run, {"steps": 5}), resume=True)
    assert saved_steps(run) == [4, 5]


def test_a_folder_that_cannot_be_made_is_a_storage_error(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        train(_settings(tmp_path / "file", clips, steps=1))


def _scalars(run: Path, tag: str) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "log"))
    events.Reload()
    return [event.step for event in (events.Scalars(tag) if tag.endswith("loss") else events.Images(tag))]


def test_tensorboard_counts_as_the_reference_and_loses_nothing_at_a_resume(clips: Path, tmp_path: Path) -> None:
    """Iterations from 0 (epoch * iterations + i), grids at the number of the epoch that ended (spec g3an 3)."""
    run = tmp_path / "run"
    train(_settings(run, clips, steps=3, val_freq=1))
    train(resumed_settings(G3ANTrainSettings, run, {"steps": 6}), resume=True)
    assert _scalars(run, "G_vid_loss") == [0, 1, 2, 3, 4, 5]
    assert sorted(set(_scalars(run, "generated_videos"))) == [0, 1, 2]  # two steps an epoch


def test_the_checkpoint_of_a_run_is_the_averaged_generator_and_knows_its_data(straight: Path, clips: Path) -> None:
    generator, info = load_generator(straight / "g3an.safetensors")
    assert info.step == 6 and info.config.ch == 2 and info.data.name == "squares"
    frame_steps = mean_step(ClipStore.open(clips), (2, 3))
    assert info.data.fps == pytest.approx(25 / frame_steps, abs=1e-3) and 1 < frame_steps < 2.5
    average = _final(straight, 6)["G_ema"]
    assert all(torch.equal(value, average[name]) for name, value in generator.state_dict().items())
    assert read_info(straight / "models" / "VD_00000006.safetensors").model == "g3an_discriminator"


def test_a_run_leaves_curves_and_a_grid(straight: Path) -> None:
    from PIL import Image

    assert list((straight / "log").glob("events.*"))
    with Image.open(straight / "val" / "grid_00000006.webp") as grid:
        assert grid.size == (128, 128) and grid.n_frames > 1


def test_retention_keeps_the_newest_saves(clips: Path, tmp_path: Path) -> None:
    train(_settings(tmp_path / "run", clips, steps=4, save_steps=1, keep=2))
    assert saved_steps(tmp_path / "run") == [3, 4]
    assert len(list((tmp_path / "run" / "models").glob("G_0*.safetensors"))) == 2


def test_a_folder_with_a_run_is_not_overwritten(straight: Path, clips: Path) -> None:
    with pytest.raises(TrainingError, match="--resume"):
        train(_settings(straight, clips, steps=6))


def test_resuming_with_other_settings_or_data_is_refused(straight: Path, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="g_lr"):
        resumed_settings(G3ANTrainSettings, straight, {"g_lr": 1.0})
    with StoreWriter(tmp_path / "other", name="other", height=64, width=64) as writer:
        for number in range(4):
            writer.add(np.zeros((20, 64, 64, 3), np.uint8), source=str(number), fps=25.0)
    with pytest.raises(TrainingError, match="other data"):
        train(
            resumed_settings(G3ANTrainSettings, straight, {"data_path": str(tmp_path / "other"), "steps": 8}),
            resume=True,
        )


def test_resuming_nothing_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="starts it"):
        resumed_settings(G3ANTrainSettings, tmp_path / "none", {})


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]


def test_two_processes_make_one_run_and_speak_once(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*TORCHRUN, *_arguments(run, clips, steps=2), "--json"],
        check=True, env=environment, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["step"] == 2
    assert [line["step"] for line in _stats(run)] == [1, 2]
    assert len(list((run / "log").glob("events.*"))) == 1


GRADIENT = """
import sys, torch
from vidgen.models.g3an import VideoDiscriminator
from vidgen.trainer.distributed import average_gradients, join_world
from vidgen.trainer.g3an import adversarial_loss
with join_world("cpu") as world:
    torch.manual_seed(0)
    network, clips = VideoDiscriminator(2), 3 * torch.randn(4, 3, 16, 64, 64)
    adversarial_loss(network(clips[world.rank :: world.size]), True).backward()
    average_gradients(network.parameters(), world)
    if world.leads:
        torch.save([parameter.grad for parameter in network.parameters()], sys.argv[1])
"""


def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gradient.py"
    program.write_text(GRADIENT)
    words = [*TORCHRUN, str(program), str(tmp_path / "two")]
    subprocess.run(words, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    monkeypatch.setattr(sys, "argv", [str(program), str(tmp_path / "one")])
    runpy.run_path(str(program))
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert max(gradient.abs().max() for gradient in one) > 1e-3
    for expected, found in zip(one, two, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_batch_system_s_world_size_alone_means_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgen.trainer.distributed import World, join_world

    monkeypatch.setenv("WORLD_SIZE", "2")
    with join_world("cpu") as world:
        assert world == World()


def test_a_batch_that_does_not_divide_over_processes_is_refused() -> None:
    from vidgen.trainer.distributed import World, check_divides

    with pytest.raises(SettingsError, match="batch_size=6"):
        check_divides(5, World(0, 2))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_valid_settings(name: str) -> None:
    settings = G3ANTrainSettings(**PRESETS[name])
    assert settings.to_dict()["img_size"] == 64


def test_the_paper_preset_is_the_reference() -> None:
    """Defaults of spec g3an 9, and nothing of ours switched on."""
    paper = G3ANTrainSettings(**PRESETS["paper"])
    expected = {
        "max_epoch": 5001, "batch_size": 96, "g_lr": 2e-4, "d_lr": 2e-4, "d_za": 128, "d_zm": 10, "num_workers": 8,
        "ch_g": 64, "ch_d": 64, "g_mode": "1p2d", "img_size": 64, "dataset": "uva", "val_freq": 50, "print_freq": 100,
        "save_freq": 100, "exp_name": "g3an", "save_path": "./exps", "data_path": "", "use_attention": False,
        "random_seed": 12345, "n_za_test": 8, "n_zm_test": 8, "ema": 0.0, "amp": "off", "frame_steps": (2, 3),
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in expected} == expected
