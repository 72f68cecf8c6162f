"""Jobs of models with classes, masks and first frames: what each file shows, and what the record says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vidgen._files import sha256
from vidgen.bench.scores.video_folder import BY_CLASS, BY_FIRST_FRAME, list_videos
from vidgen.data.store import StoreWriter
from vidgen.errors import DataError, SamplingError, SettingsError
from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.first_frames import as_input
from vidgen.runtime.jobs import SampleReport, sample
from vidgen.runtime.manifest import Manifest, write_manifest
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks import PngSink
from vidgen.runtime.sinks.masks import mask_frames

CONFIG = TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=3)
LABELS = ("walk", "wave", "jump")
SMALL = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _backend(*, masks: bool = False, conditional: bool = False, delay: float = 0.0) -> FakeBackend:
    interface = CONFIG.interface(masks=masks, conditional=conditional)
    return FakeBackend(Manifest("twostreamvan", CONFIG, interface, fps=10.0, labels=LABELS), delay=delay)


def _sample(out: Path, backend: FakeBackend | None = None, **options: Any) -> SampleReport:
    chosen = SampleSettings(Path("fake.onnx"), out, **{"format": "npy", "frames": "3", **options})
    if backend is None:
        backend = _backend(masks=chosen.masks, conditional=chosen.first_frame is not None)
    return sample(chosen, backend=backend)


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "samples.json").read_text())
    return record


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("samples")
    }


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with two first frames of one colour each."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, colour in (("a", (200, 40, 0)), ("b", (0, 90, 250))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder


def _given(folder: Path) -> np.ndarray:
    return as_input(np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]))


# Grids


@SMALL
@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=2, max_size=4),
    columns=st.integers(1, 4),
    batch=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_a_row_is_a_class_and_a_column_one_noise(
    labels: list[str], columns: int, batch: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("grid")
    grid = f"{len(labels)}x{columns}"
    _sample(out / "a", grid=grid, labels=tuple(labels), batch=batch, seed=seed, sheet=False)
    for row, label in enumerate(labels):
        alone = Sampler(_backend()).sample(columns, seed=seed, labels=[label], frames=3)
        for column in range(columns):
            assert np.array_equal(np.load(out / "a" / f"{row}_{column}.npy"), alone[column])
    assert _record(out / "a")["labels"] == {str(row): label for row, label in enumerate(labels)}


def test_rows_are_the_first_classes_where_none_are_named(tmp_path: Path) -> None:
    _sample(tmp_path / "a", grid="2x3", grid_by="class")
    _sample(tmp_path / "b", grid="2x3", labels=LABELS[:2])
    assert _content(tmp_path / "a") == _content(tmp_path / "b")
    assert _record(tmp_path / "a")["settings"] == _record(tmp_path / "b")["settings"]
    with pytest.raises(SamplingError, match="4 rows, expected at most 3"):
        _sample(tmp_path / "c", grid="4x2", grid_by="class")
    with pytest.raises(SamplingError, match="without classes"):
        _sample(tmp_path / "c", FakeBackend(fake_manifest()), grid="4x2", grid_by="class", frames=None)
    assert not (tmp_path / "c").exists()


def test_in_a_grid_of_motions_a_label_goes_with_its_column(tmp_path: Path) -> None:
    _sample(tmp_path, grid="2x3", labels=("jump", "walk"), grid_by="motion")
    expected = Sampler(_backend()).render([1], motion=[2], labels=[2, 0], frames=3)[0]
    assert np.array_equal(np.load(tmp_path / "1_2.npy"), expected)
    assert _record(tmp_path)["labels"] == {"0": "jump", "1": "walk", "2": "jump"}


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_make_a_whole_grid_of_classes(shards: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"grid": "3x3", "labels": LABELS, "masks": True, "strips": True, "sheet": False}
    _sample(tmp_path / "a", **options)
    for i in range(shards):
        _sample(tmp_path / "b", **options, shard=f"{i}/{shards}")
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


@pytest.mark.parametrize("options", [{"grid_by": "class"}, {"grid_by": "motion"}])
def test_scores_read_the_class_of_each_cell(options: dict[str, str], tmp_path: Path) -> None:
    _sample(tmp_path, grid="2x3", labels=("jump", "walk"), masks=True, strips=True, **options)
    found = {video.path.stem: video.label for video in list_videos(tmp_path, LABELS).videos}
    by_row = options["grid_by"] == "class"
    assert found == {
        f"{row}_{column}": ("jump", "walk")[(row if by_row else column) % 2] for row in range(2) for column in range(3)
    }


def test_another_kind_of_grid_is_refused_by_name(tmp_path: Path) -> None:
    _sample(tmp_path, grid="2x2", labels=("walk", "jump"))
    with pytest.raises(SamplingError, match="grid_by is 'class' there, None here"):
        _sample(tmp_path, grid="2x2", labels=("walk", "jump"), grid_by="motion", resume=True)


# Masks and strips


def test_masks_and_strips_stand_beside_each_video(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=3, masks=True, strips=True)
    assert [path.relative_to(tmp_path).as_posix() for path in report.masks] == [f"masks/{i}.png" for i in range(3)]
    assert [path.relative_to(tmp_path).as_posix() for path in report.strips] == [f"strips/{i}.png" for i in range(3)]
    made = Sampler(_backend(masks=True)).render_with_extras([0, 1, 2], frames=3)
    for i in range(3):
        with Image.open(report.masks[i]) as image:
            assert (image.mode, image.size) == ("L", (3 * 64, 4 * 64))
            pixels = np.asarray(image)
        for scale, size in enumerate((8, 16, 32, 64)):
            step = 64 // size
            row = pixels[64 * scale : 64 * (scale + 1) : step, ::step].reshape(size, 3, size).swapaxes(0, 1)
            assert np.array_equal(row, np.rint(made.extras[f"mask_{size}"][i] * 255))
        with Image.open(report.strips[i]) as image:
            assert np.array_equal(np.asarray(image), np.concatenate(list(made.videos[i]), axis=1))
    values = json.loads(json.dumps(report.to_dict()))
    assert len(values["masks"]) == len(values["strips"]) == 3


def test_masks_change_no_video(tmp_path: Path) -> None:
    _sample(tmp_path / "a", n=5, masks=True)
    _sample(tmp_path / "b", n=5)
    with_masks = _content(tmp_path / "a")
    assert {name: data for name, data in with_masks.items() if "/" not in name} == _content(tmp_path / "b")


def test_several_lengths_have_masks_each(tmp_path: Path) -> None:
    report = _sample(tmp_path, n=2, frames="2:4:2", masks=True, batch=2)
    assert sorted(path.name for path in report.masks) == ["0_2.png", "0_4.png", "1_2.png", "1_4.png"]
    with Image.open(tmp_path / "masks" / "1_4.png") as image:
        assert image.size == (256, 256)


def test_masks_of_a_model_without_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplingError) as caught:
        _sample(tmp_path / "a", _backend(), n=1, masks=True)
    assert "vidgen export" in caught.value.fix and "--masks" in caught.value.fix
    assert not (tmp_path / "a").exists()


def test_an_artifact_without_masks_or_first_frames_names_the_export(
    toy: Path, checkpoint: Path, frames: Path, tmp_path: Path
) -> None:
    actor, config = tmp_path / "actor.onnx", TwoStreamVANConfig(n_cat=3)
    actor.write_bytes(b"of which only the manifest is read")
    write_manifest(actor, Manifest("twostreamvan", config, config.interface(), fps=10.0, sha256=sha256(actor)))
    for engine, options, said in (
        (actor, {"masks": True}, f"-o {actor} --masks"),
        (actor, {"first_frame": frames}, f"-o {actor} --conditional"),
        (toy, {"masks": True}, "drop --masks"),
        (toy, {"first_frame": frames}, "drop --first-frame"),
        (checkpoint, {"masks": True}, "--masks"),
        (checkpoint, {"first_frame": frames}, "--first-frame"),
    ):
        with pytest.raises(Exception) as caught:
            sample(SampleSettings(engine, tmp_path / "a", n=1, **options))  # type: ignore[arg-type]
        assert said in caught.value.fix  # type: ignore[attr-defined]
    assert not (tmp_path / "a").exists()


@SMALL
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    scales=st.integers(1, 3),
    values=st.floats(-0.5, 1.5, width=32),
)
def test_mask_frames_can_be_read_back(shape: tuple[int, int], scales: int, values: float) -> None:
    count, finest = shape[0], shape[1] * 2 ** (scales - 1)
    rng = np.random.default_rng(abs(hash(values)) % 2**32)
    sizes = [finest // 2**k for k in range(scales)]
    masks = {f"m{size}": rng.random((count, size, size), dtype=np.float32) + np.float32(values) for size in sizes}
    made = mask_frames(masks)
    assert made.shape == (count, scales * finest, finest)
    for row, size in enumerate(sorted(sizes)):
        part = made[:, row * finest : (row + 1) * finest]
        step = finest // size
        levels = np.rint(np.clip(masks[f"m{size}"], 0, 1) * np.float32(255))
        assert np.array_equal(part[:, ::step, ::step], levels)
        assert np.array_equal(part, part[:, ::step, ::step].repeat(step, 1).repeat(step, 2))


def test_a_mask_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(SamplingError, match="not a number"):
        mask_frames({"mask_8": np.full((1, 8, 8), np.nan, np.float32)})


# First frames


@SMALL
@given(n=st.integers(1, 7), batch=st.integers(1, 4), shards=st.integers(1, 3))
def test_first_frames_are_taken_in_turn_whatever_the_batch_and_the_shard(
    n: int, batch: int, shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    for name, colour in (("a", (200, 40, 0)), ("b", (0, 90, 250))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    out = tmp_path_factory.mktemp("out") / "a"
    for i in range(shards):
        _sample(out, n=n, batch=batch, first_frame=folder, shard=f"{i}/{shards}")
    expected = Sampler(_backend(conditional=True)).sample(n, first_frames=_given(folder), frames=3)
    for i in range(n):
        assert np.array_equal(np.load(out / f"{i}.npy"), expected[i])


def test_the_record_says_what_was_gone_on_from(frames: Path, tmp_path: Path) -> None:
    _sample(tmp_path / "a", n=3, first_frame=frames, labels=("walk",))
    record = _record(tmp_path / "a")
    assert record["settings"]["first_frame"]
    assert record["first_frames"] == {"source": str(frames), "names": ["a.png", "b.png"]}
    assert f"--first-frame {frames}" in record["command"]
    assert {video.kind for video in list_videos(tmp_path / "a", LABELS).videos} == {BY_FIRST_FRAME}
    _sample(tmp_path / "b", n=3)
    assert "first_frame" not in _record(tmp_path / "b")["settings"]
    assert {video.kind for video in list_videos(tmp_path / "b", LABELS).videos} == {BY_CLASS}


def test_other_first_frames_are_refused_and_the_same_elsewhere_are_not(frames: Path, tmp_path: Path) -> None:
    _sample(tmp_path / "a", n=3, first_frame=frames)
    moved = frames.rename(tmp_path / "moved")
    assert _sample(tmp_path / "a", n=4, first_frame=moved, resume=True).written == 1
    with pytest.raises(SamplingError, match="first_frame is"):
        _sample(tmp_path / "a", n=4, first_frame=moved / "a.png", resume=True)


def test_clips_of_a_store_bring_their_classes(tmp_path: Path) -> None:
    def store(name: str, labels: tuple[str, ...]) -> Path:
        with StoreWriter(tmp_path / name, name="toy", height=64, width=64, labels=labels) as writer:
            for i in range(3):
                clip = np.full((2, 64, 64, 3), 50 * i, np.uint8)
                writer.add(clip, source=f"c{i}", fps=10, label=i % len(labels) if labels else None)
        return tmp_path / name

    _sample(tmp_path / "a", n=4, first_frame=store("known", ("jump", "walk")))
    assert _record(tmp_path / "a")["labels"] == {"0": "jump", "1": "walk", "2": "jump", "3": "jump"}
    _sample(tmp_path / "b", n=2, first_frame=tmp_path / "known", labels=("wave",))
    assert _record(tmp_path / "b")["labels"] == {"0": "wave", "1": "wave"}
    with pytest.raises(SamplingError, match="clips of fly, expected walk, wave, jump"):
        _sample(tmp_path / "c", n=2, first_frame=store("foreign", ("jump", "fly")))
    drawn = _sample(tmp_path / "d", n=2, first_frame=store("plain", ()))
    assert drawn.written == 2
    assert set(_record(tmp_path / "d")["labels"].values()) <= set(LABELS)


def test_a_grid_of_classes_goes_on_from_one_frame_in_each_column(frames: Path, tmp_path: Path) -> None:
    _sample(tmp_path / "a", grid="2x2", labels=("walk", "jump"), first_frame=frames)
    sampler = Sampler(_backend(conditional=True))
    expected = sampler.render([0, 1], labels=[2], frames=3, first_frames=_given(frames))
    for column in range(2):
        assert np.array_equal(np.load(tmp_path / "a" / f"1_{column}.npy"), expected[column])


def test_first_frames_and_artifacts_must_suit_each_other(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="cannot go on from a first frame"):
        _sample(tmp_path / "a", _backend(), n=1, first_frame=frames)
    with pytest.raises(SamplingError, match="no first frame to go on from"):
        _sample(tmp_path / "a", _backend(conditional=True), n=1)
    (frames / "a.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot take a first frame"):
        _sample(tmp_path / "a", n=1, first_frame=frames)
    assert not (tmp_path / "a").exists()


# Resuming


@SMALL
@given(data=st.data())
def test_whatever_is_missing_is_made_again_to_the_bit(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("run") / "a"
    options: dict[str, Any] = {"n": 5, "batch": 2, "masks": True, "strips": True, "encoders": 1}
    _sample(out, **options)
    content = _content(out)
    lost = data.draw(st.sets(st.sampled_from(sorted(content))))
    stamps = {name: (out / name).stat().st_mtime_ns for name in content}
    for name in lost:
        (out / name).unlink()
    seen: list[tuple[int, int]] = []
    chosen = SampleSettings(Path("fake.onnx"), out, format="npy", frames="3", resume=True, **options)
    report = sample(chosen, lambda done, total: seen.append((done, total)), backend=_backend(masks=True))
    assert _content(out) == content
    assert all((out / name).stat().st_mtime_ns == stamps[name] for name in content if name not in lost)
    assert report.written == len({Path(name).stem for name in lost})
    assert seen == [(done, 5) for done in range(5 - report.written, 6)]


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_classes_and_masks as tests
tests._sample(Path(sys.argv[2]), tests._backend(masks=True, delay=0.05), n=40, masks=True, strips=True, encoders=1)
"""


@pytest.mark.parametrize("files", [1, 8])
def test_a_killed_run_resumes_to_the_same_images(files: int, tmp_path: Path) -> None:
    arguments = [str(Path(__file__).parent), str(tmp_path / "a")]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "a").glob("masks/[0-9]*"))) < files:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    options: dict[str, Any] = {"n": 40, "masks": True, "strips": True}
    report = _sample(tmp_path / "a", **options, resume=True)
    assert files - 1 <= report.kept < 40
    _sample(tmp_path / "b", **options)
    assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_a_video_counts_as_made_with_its_last_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = PngSink.write

    def slowly(self: PngSink, path: Path, frames: np.ndarray, fps: float) -> None:
        time.sleep(0.02)
        write(self, path, frames, fps)

    def check(done: int, total: int) -> None:
        images = [list((tmp_path / kind).glob("[0-9]*")) for kind in ("masks", "strips")]
        assert min(map(len, images)) >= done

    monkeypatch.setattr(PngSink, "write", slowly)
    options: dict[str, Any] = {"n": 4, "masks": True, "strips": True, "encoders": 1, "frames": "3"}
    sample(SampleSettings(Path("fake.onnx"), tmp_path, format="npy", **options), check, backend=_backend(masks=True))


def test_unfinished_images_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    _sample(tmp_path, n=2, masks=True)
    half = tmp_path / "masks" / ".partial-1234-1.png"
    foreign = tmp_path / "masks" / ".partial-1234-notes.txt"
    for path in (half, foreign):
        path.write_text("half")
    _sample(tmp_path, n=2, masks=True, resume=True)
    assert not half.exists()
    assert foreign.exists()


def test_a_run_with_masks_is_not_resumed_without(tmp_path: Path) -> None:
    _sample(tmp_path, n=2, masks=True)
    with pytest.raises(SamplingError, match="masks is True there, None here"):
        _sample(tmp_path, n=2, resume=True)


def test_a_file_where_the_folder_of_masks_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("mine")
    with pytest.raises(Exception, match="cannot write"):
        _sample(tmp_path, n=1, masks=True)
    assert (tmp_path / "masks").read_text() == "mine"


# A real network


def test_a_checkpoint_writes_masks_and_goes_on_from_frames(
    frames: Path, tmp_path: Path, small_actor: Callable[[], Path]
) -> None:
    engine = small_actor()
    report = sample(
        SampleSettings(
            engine, tmp_path / "a", n=2, batch=2, frames="3", first_frame=frames, masks=True, format="npy", threads=1
        )
    )
    assert report.backend["backend"] == "torch"
    with Image.open(report.masks[1]) as image:
        strip = np.asarray(image)
    assert not strip[:, :64].any(), "no motion made the first frame"
    assert strip[:, 64:].any()
    with pytest.raises(SettingsError, match="batch-minmax"):
        sample(SampleSettings(engine, tmp_path / "b", grid="2x2", grid_by="class", range="batch-minmax"))
