"""Runs of TwoStreamVAN and of the classifier: resumed exactly, validated, refused where they cannot work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidgen.data.store import ClipStore, StoreWriter
from vidgen.data.synthetic import SyntheticSettings, synthesize
from vidgen.errors import CheckpointError, DataError, SettingsError, TrainingError
from vidgen.models.checkpoint import read_info
from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan import Generator
from vidgen.settings import build_settings
from vidgen.trainer.classifier_settings import ClassifierTrainSettings
from vidgen.trainer.clips import check_store
from vidgen.trainer.families import FAMILIES, family
from vidgen.trainer.initialise import start_from_stills
from vidgen.trainer.labelled_clips import LabelledWindows, WindowShape, split_store
from vidgen.trainer.recipe import Place
from vidgen.trainer.resume import resumed_settings
from vidgen.trainer.state import saved_steps
from vidgen.trainer.train import train
from vidgen.trainer.twostreamvan import CONTENT, EASY, HARD, PRETRAINING, Draws, TwoStreamVANRecipe
from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings

TINY: dict[str, Any] = {
    "batch_size": 2, "gf_dim": 2, "cont_dim": 4, "motion_dim": 4, "ndf_image": 2, "ndf_video": 2, "every_nth": 1,
    "pretrain_iters": 2, "motion_ratio_start": 0.5, "cont_ratio_start": 0.7, "cont_ratio_end": 0.7, "val_freq": 4,
    "save_freq": 2, "val_clips": 2, "val_samples": 1, "total_iters": 4, "ema": 0.5, "sampling_iter_end": 150001,
    "classes": ("walk", "bend"),
}  # fmt: skip


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips of acting figures, 12 frames each."""
    path = tmp_path_factory.mktemp("actions") / "store"
    return synthesize(SyntheticSettings("actions", path, clips=60, frames=12, workers=1))


def _settings(store: Path, run: Path, **changes: Any) -> TwoStreamVANTrainSettings:
    place = {"data_path": str(store), "save_path": str(run.parent), "exp_name": run.name}
    return build_settings(TwoStreamVANTrainSettings, ("test", TINY | place | changes))


def _tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    files = sorted((run / "models").glob(f"*_{step:08d}.safetensors"))
    assert len(files) == 4
    return {f"{file.stem}/{name}": value for file in files for name, value in load_file(file).items()}


def test_a_resumed_run_is_the_same_run(actions: Path, tmp_path: Path) -> None:
    whole = train(_settings(actions, tmp_path / "whole"))
    train(_settings(actions, tmp_path / "parts", steps=2))
    again = resumed_settings(TwoStreamVANTrainSettings, tmp_path / "parts", {"steps": 4})
    parts = train(again, resume=True)
    assert whole.step == parts.step == 4
    one, other = _tensors(tmp_path / "whole", 4), _tensors(tmp_path / "parts", 4)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.losses == parts.losses
    info = read_info(whole.checkpoint)
    assert (info.model, info.step, info.data.labels[0]) == ("twostreamvan", 4, "walk")
    assert torch.equal(load_file(whole.checkpoint)["contEnc.encode_cnn.0.weight"],
                       one["generator_ema_00000004/contEnc.encode_cnn.0.weight"])  # fmt: skip
    shown = {path.name for path in (tmp_path / "whole" / "val").iterdir()}
    assert {f"{name}_00000004.webp" for name in ("samples", "masks", "val_recons", "val_pred", "val_video")} < shown
    scores = json.loads((tmp_path / "whole" / "val" / "scores.jsonl").read_text().splitlines()[-1])
    assert {"val_recons/mse", "val_pred/mse", "val_video/mse"} < scores.keys()


def test_the_classifier_learns_and_the_best_one_is_published(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 4, "batch_size": 8, "every_nth": 1, "classes": ("bend", "wave-two"), "total_iters": 12,
              "val_freq": 4, "save_freq": 4, "held_out": 0.3, "lr": 2e-3, "print_freq": 100}  # fmt: skip
    said: list[str] = []
    report = train(build_settings(ClassifierTrainSettings, ("test", values | place)), say=said.append)
    info = read_info(report.checkpoint)
    assert info.model == "classifier" and info.data.labels == ("bend", "wave-two")
    assert (info.config.n_class, info.config.n_actions) == (2, 2)
    rows = [json.loads(line) for line in (tmp_path / "c" / "val" / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12]
    losses = [json.loads(line)["loss"] for line in (tmp_path / "c" / "stats.jsonl").read_text().splitlines()]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert sum("held-out accuracy" in line for line in said) == 3


def test_a_classifier_that_ends_between_validations_is_validated_and_published(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "steps": 2, "val_freq": 100, "save_freq": 100}
    report = train(build_settings(ClassifierTrainSettings, ("test", values | place)))
    published = load_file(report.checkpoint)
    for name in ("network", "best"):
        saved = load_file(tmp_path / "c" / "models" / f"{name}_00000002.safetensors")
        assert all(torch.equal(published[key], saved[key]) for key in published), name


def test_saves_between_lasting_ones_make_room_for_newer_ones(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "total_iters": 8, "val_freq": 1, "save_freq": 3}
    train(build_settings(ClassifierTrainSettings, ("test", values | place)))
    assert saved_steps(tmp_path / "c") == [3, 6, 7, 8]
    files = {path.name for path in (tmp_path / "c" / "models").glob("*.safetensors")}
    assert files == {f"{name}_{step:08d}.safetensors" for name in ("network", "best") for step in (3, 6, 7, 8)}


def test_a_continued_run_drops_the_scores_of_later_steps(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "total_iters": 2, "val_freq": 1, "save_freq": 1}
    train(build_settings(ClassifierTrainSettings, ("test", values | place)))
    (tmp_path / "c" / "models" / "state_00000002.pt").unlink()  # as a kill before the save leaves it
    train(resumed_settings(ClassifierTrainSettings, tmp_path / "c", {}), resume=True)
    rows = [json.loads(line) for line in (tmp_path / "c" / "val" / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_an_actor_classifier_counts_action_first(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "is_actor": True, "total_iters": 1, "val_freq": 1}
    info = read_info(train(build_settings(ClassifierTrainSettings, ("test", values | place))).checkpoint)
    assert (info.config.n_class, info.config.n_actions) == (100, 10)


def test_samples_are_scored_during_validation(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "total_iters": 1, "val_freq": 1}
    classifier = train(build_settings(ClassifierTrainSettings, ("test", values | place))).checkpoint
    chosen = {"steps": 1, "pretrain_iters": 0, "classifier": str(classifier)}
    train(_settings(actions, tmp_path / "run", **chosen))
    row = json.loads((tmp_path / "run" / "val" / "scores.jsonl").read_text())
    assert 0 <= row["samples/accuracy"] <= 100
    assert 1 <= row["samples/inception_score"] <= 10


def test_a_classifier_that_cannot_score_the_samples_is_refused_at_the_start(actions: Path, tmp_path: Path) -> None:
    place = {"data_path": str(actions), "save_path": str(tmp_path), "exp_name": "c"}
    values = {"ndf": 2, "batch_size": 4, "every_nth": 1, "total_iters": 1, "val_freq": 1, "classes": ("run", "bend")}
    classifier = train(build_settings(ClassifierTrainSettings, ("test", values | place))).checkpoint
    with pytest.raises(SettingsError, match="walk"):
        train(_settings(actions, tmp_path / "run", classifier=str(classifier)))
    with pytest.raises(SettingsError, match="val_samples"):
        _settings(actions, tmp_path / "run", classifier=str(classifier), val_samples=0)
    with pytest.raises(CheckpointError):
        train(_settings(actions, tmp_path / "run", classifier=str(tmp_path / "none.safetensors")))
    assert not (tmp_path / "run").exists()


def test_tasks_come_as_often_as_their_schedules_say(actions: Path, tmp_path: Path) -> None:
    settings = _settings(actions, tmp_path / "run", motion_ratio_end=0.5, batch_size=1, total_iters=1000)
    recipe = TwoStreamVANRecipe(settings, ClipStore.open(actions), Place(torch.device("cpu")), print)
    tasks = [recipe.choose(step, Draws.of_step(settings, step, recipe.place.world, torch.device("cpu")))
             for step in range(1000)]  # fmt: skip
    assert tasks[0] is PRETRAINING and PRETRAINING not in tasks[1:]
    shares = [sum(task is kind for task in tasks) / 1000 for kind in (CONTENT, EASY, HARD)]
    assert shares == pytest.approx([0.3, 0.35, 0.35], abs=0.05)


@torch.no_grad()
def test_a_generator_that_starts_from_stills_makes_videos_that_hold_still() -> None:
    torch.manual_seed(0)
    generator = Generator(TwoStreamVANConfig(n_cat=2, gf_dim=2, cont_dim=4, motion_dim=4, ac_kernel=3)).eval()
    start_from_stills(generator)
    for module in generator.kernelGen.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 3:
            module.weight.zero_()  # what is random in the kernels is small, not nothing
    category, still = torch.tensor([0, 1]), torch.rand(2, 3, 64, 64) * 2 - 1
    one_hot = generator.one_hot(category)
    moved = generator.next_frame(still, torch.randn(2, 16, 8, 8), None, one_hot)
    expected = generator.reconstruct_one_frame(category, still)
    assert torch.allclose(moved.image, expected.image, atol=1e-5)


def test_held_out_clips_are_not_trained_on(actions: Path) -> None:
    store = ClipStore.open(actions)
    split = split_store(store, 0.2, ("bend", "walk"))
    assert not set(split.train) & set(split.test)
    assert {split.actions[clip] for clip in [*split.train, *split.test]} == {0, 1}
    assert split.action_names == ("bend", "walk")
    names = [store.clips[clip].attributes["action"] for clip in split.train]
    assert names == [split.action_names[split.actions[clip]] for clip in split.train]


def test_held_out_clips_that_cannot_be_used_are_refused_before_the_first_step(actions: Path) -> None:
    store = ClipStore.open(actions)
    split = split_store(store, 0.2, ())
    short = dataclasses.replace(store.clips[split.test[0]], length=9)
    clips = tuple(short if number == split.test[0] else clip for number, clip in enumerate(store.clips))
    with pytest.raises(DataError, match="fewer than 10"):
        check_store(ClipStore(store.path, store.info, clips), split.train, 10, 2, held_out=split.test)
    told = [dataclasses.replace(clip, attributes={**clip.attributes, "split": "train"}) for clip in store.clips]
    run = store.info.labels.index("run")
    told = [dataclasses.replace(clip, attributes={**clip.attributes, "split": "test"}) if clip.label == run else clip
            for clip in told]  # fmt: skip
    with pytest.raises(DataError, match="no test clip of bend, walk"):
        split_store(ClipStore(store.path, store.info, tuple(told)), 0.2, ("bend", "walk"))


def test_test_windows_start_at_the_first_frame(actions: Path) -> None:
    store = ClipStore.open(actions)
    split = split_store(store, 0.2, ())
    windows = LabelledWindows(store, split, split.test, WindowShape(10, 1, True), test=True)
    assert torch.equal(windows[0, 0]["frames"], torch.from_numpy(store.frames(split.test[0], list(range(10)))))


@pytest.mark.parametrize(("class_steps", "step"), [(False, 1), (True, 2)])
def test_a_clip_may_have_a_step_of_its_own(tmp_path: Path, class_steps: bool, step: int) -> None:
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    with StoreWriter(tmp_path / "store", name="steps", height=64, width=64, labels=("walk",)) as writer:
        for number in range(4):
            writer.add(frames, source=str(number), fps=25.0, label=0, attributes={"step": 2})
    store = ClipStore.open(tmp_path / "store")
    split = split_store(store, 0.3, ())
    windows = LabelledWindows(store, split, split.test, WindowShape(10, 1, False, class_steps), test=True)
    assert windows[0, 0]["frames"][:, 0, 0, 0].tolist() == list(range(0, 10 * step, step))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"classes": ("bend", "swim")}, DataError, "swim"),
        ({"batch_size": 15}, DataError, "batch of 15"),
        ({"video_length": 16}, SettingsError, "video_length"),
        ({"ac_kernel": 4}, SettingsError, "ac_kernel"),
        ({"classes": ("bend", "bend")}, SettingsError, "each class once"),
        ({"held_out": 1.0}, SettingsError, "held_out"),
        ({"motion_ratio_end": 1.5}, SettingsError, "motion_ratio_end"),
        ({"sampling_iter_end": 3}, SettingsError, "sampling_iter_end"),
        ({"dataroot": "x"}, SettingsError, "data prepare"),
    ],
)
def test_what_cannot_train_is_refused(actions: Path, tmp_path: Path, changes: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        train(_settings(actions, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_model_cannot_be_resumed(actions: Path, tmp_path: Path) -> None:
    train(_settings(actions, tmp_path / "run", steps=1, pretrain_iters=4))
    with pytest.raises(TrainingError, match="model"):
        resumed_settings(ClassifierTrainSettings, tmp_path / "run", {})


def test_sgvan_is_refused_with_the_reason() -> None:
    with pytest.raises(SettingsError, match="never published"):
        family("SGVAN")
    with pytest.raises(SettingsError, match="twostreamvan"):
        family("mocogan")


@pytest.mark.parametrize("model", FAMILIES)
def test_every_preset_is_a_valid_setting(model: str) -> None:
    kind = family(model)
    assert {"small", "smoke"} < set(kind.presets)
    for name in kind.presets:
        settings = build_settings(kind.settings, (name, kind.preset(name)))
        assert dataclasses.asdict(settings) == build_settings(kind.settings, ("again", settings.to_dict())).to_dict()
    with pytest.raises(SettingsError, match="unknown preset"):
        kind.preset("huge")
