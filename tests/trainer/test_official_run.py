"""Training goes on from an official checkpoint, and from our own save put into the official form, without a seam."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.official_files import classifier_file, twostreamvan_file, twostreamvan_networks

from vidgen.data.store import StoreWriter
from vidgen.errors import CheckpointError, SettingsError, TrainingError
from vidgen.models.checkpoint import read_info
from vidgen.models.config import ClassifierConfig, TwoStreamVANConfig
from vidgen.trainer.official_run import import_run
from vidgen.trainer.resume import resumed_settings
from vidgen.trainer.run_settings import RunSettings
from vidgen.trainer.state import saved_steps
from vidgen.trainer.train import train
from vidgen.trainer.twostreamvan import TwoStreamVANRecipe
from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings

CLASSES = ("bend", "jump", "walk")
CONFIG = TwoStreamVANConfig(3, 1, 4, 2, joint=False, no_mask=True, kernel_layer=2)
TINY: dict[str, Any] = {
    "batch_size": 2,
    "every_nth": 1,
    "no_mask": True,
    "crop": False,
    "print_freq": 1,
    "save_freq": 1000,
    "val_freq": 1000,
    "val_clips": 1,
    "threads": 1,
    "motion_ratio_start": 0.5,
    "cont_ratio_start": 0.5,
}
SIZES = {"gf_dim": 1, "cont_dim": 4, "motion_dim": 2, "joint": False, "kernel_layer": 2, "ndf_image": 2, "ndf_video": 2}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation at the end of every run takes most of the time, and changes nothing that is compared here."""
    monkeypatch.setattr(TwoStreamVANRecipe, "validate", lambda *_: None)


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of each of three actions, by two actors."""
    path = tmp_path_factory.mktemp("data") / "actions"
    noise = np.random.default_rng(0)
    with StoreWriter(path, name="actions", height=64, width=64, labels=CLASSES) as writer:
        for number in range(12):
            frames = np.repeat(noise.integers(0, 255, (12, 8, 8, 3), np.uint8), 8, 1).repeat(8, 2)
            about = {"actor": f"actor{number % 2}"}
            writer.add(frames, source=f"{number}.npy", fps=25.0, label=number // 4, attributes=about)
    return path


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training state of 40 steps as the reference program saves it."""
    path = tmp_path_factory.mktemp("official") / "40_model.pth.tar"
    torch.save(twostreamvan_file(twostreamvan_networks(CONFIG), step=40, old=True), path)
    return path


def _resume(kind: type[RunSettings], run: Path, **changes: Any) -> int:
    return train(resumed_settings(kind, run, changes), resume=True).step


def test_a_run_goes_on_from_an_official_checkpoint(official: Path, actions: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = import_run(official, run, data=actions, settings=TINY)
    assert (report.step, report.model, report.classes) == (40, "twostreamvan", CLASSES)
    assert saved_steps(run) == [40]
    info = read_info(report.checkpoint)
    assert (info.config, info.step) == (CONFIG, 40)
    assert info.data is not None and info.data.labels == CLASSES
    saved = torch.load(official, weights_only=True)
    for name in ("generator", "img_discriminator", "vid_discriminator"):
        written = load_file(run / "models" / f"{name}_{40:08d}.safetensors")
        assert all(torch.equal(written[key], value) for key, value in saved[name].items())
    assert "0 bend, 1 jump, 2 walk" in str(report) and "no_mask = true" in str(report)
    assert str(report).endswith(f"vidgen train twostreamvan --out {run} --resume")
    assert _resume(TwoStreamVANTrainSettings, run, steps=42) == 42


def test_our_run_through_the_official_form_ends_with_the_same_bits(actions: Path, tmp_path: Path) -> None:
    """A save of ours, rewritten as the reference's file and imported, trains on like the run it came from."""
    place = {"save_path": str(tmp_path), "exp_name": "ours", "data_path": str(actions)}
    settings = TwoStreamVANTrainSettings(**{**TINY, **SIZES, **place, "steps": 2})
    train(settings)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    state = torch.load(ours / "models" / "state_00000002.pt", weights_only=True)
    names = ("generator", "img_discriminator", "vid_discriminator")
    networks = {name: load_file(ours / "models" / f"{name}_{2:08d}.safetensors") for name in names}
    torch.save({**networks, **state["optimisers"], "iter": 2}, tmp_path / "2_model.pth.tar")
    import_run(tmp_path / "2_model.pth.tar", theirs, data=actions, settings={**TINY, "steps": 2})
    for run in (ours, theirs):
        assert _resume(TwoStreamVANTrainSettings, run, steps=5) == 5
    for name in names:
        one, other = (load_file(run / "models" / f"{name}_{5:08d}.safetensors") for run in (ours, theirs))
        assert all(torch.equal(one[key], other[key]) for key in one)
    moments = [torch.load(run / "models" / f"state_{5:08d}.pt", weights_only=True) for run in (ours, theirs)]
    assert str(moments[0]["optimisers"]) == str(moments[1]["optimisers"])


@pytest.mark.parametrize("is_actor", [False, True])
def test_a_classifiers_run_goes_on(actions: Path, tmp_path: Path, is_actor: bool) -> None:
    from vidgen.trainer.classifier_settings import ClassifierTrainSettings

    config = ClassifierConfig(6 if is_actor else 3, 2, 3)
    torch.save(classifier_file(config, step=5), tmp_path / "latest_model.pth.tar")
    asked = {"batch_size": 2, "every_nth": 1, "crop": False, "threads": 1, "is_actor": is_actor}
    report = import_run(tmp_path / "latest_model.pth.tar", tmp_path / "run", data=actions, settings=asked)
    assert read_info(report.checkpoint).config == config
    assert _resume(ClassifierTrainSettings, tmp_path / "run", steps=7) == 7


def test_an_average_starts_at_the_generator(official: Path, actions: Path, tmp_path: Path) -> None:
    report = import_run(official, tmp_path / "run", data=actions, settings={**TINY, "ema": 0.5})
    average = load_file(tmp_path / "run" / "models" / "generator_ema_00000040.safetensors")
    saved = torch.load(official, weights_only=True)["generator"]
    assert all(torch.equal(average[key], value) for key, value in saved.items())
    assert report.checkpoint.name == "twostreamvan.safetensors"


def test_a_finished_training_is_said_to_be_so(official: Path, actions: Path, tmp_path: Path) -> None:
    report = import_run(official, tmp_path / "run", data=actions, settings={**TINY, "total_iters": 40})
    assert "training is complete" in str(report)
    assert _resume(TwoStreamVANTrainSettings, tmp_path / "run", total_iters=41) == 41


@pytest.mark.parametrize(
    ("preset", "changes", "error", "message"),
    [
        (None, {"gf_dim": "16"}, SettingsError, "gf_dim = 16, expected 1 as its tensors tell"),
        (None, {"joint": "true"}, SettingsError, "joint = True, expected False"),
        ("synaction", {}, SettingsError, "expected"),
        ("paper", {}, SettingsError, "unknown preset"),
        (None, {"warp": 1}, SettingsError, "unknown setting 'warp'"),
        (None, {"classes": ("bend", "walk")}, TrainingError, "2 classes in the data, expected 3"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused(
    official: Path, actions: Path, tmp_path: Path, preset: Any, changes: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        import_run(official, tmp_path / "run", data=actions, preset=preset, settings={**TINY, **changes})
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_left_alone(official: Path, actions: Path, tmp_path: Path) -> None:
    import_run(official, tmp_path / "run", data=actions, settings=TINY)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match="saved at step 40"):
        import_run(official, tmp_path / "run", data=actions, settings=TINY)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_single_network_is_no_run(official: Path, actions: Path, tmp_path: Path) -> None:
    saved = torch.load(official, weights_only=True)
    torch.save(saved["generator"], tmp_path / "g.pth")
    with pytest.raises(CheckpointError, match="not a whole training state"):
        import_run(tmp_path / "g.pth", tmp_path / "run", data=actions)
    assert not (tmp_path / "run").exists()


def test_a_report_is_plain_values(official: Path, actions: Path, tmp_path: Path) -> None:
    import json

    report = import_run(official, tmp_path / "run", data=actions, settings=TINY)
    values = json.loads(json.dumps(report.to_dict()))
    assert values["step"] == 40 and values["run"] == str(tmp_path / "run")
    assert set(values) == {field.name for field in dataclasses.fields(report)}
