"""Jobs of models with classes and masks: what each file shows, and what the record says of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.class_jobs import LABELS, SMALL, backend_of, content_of, record_of, run

from vidgen._files import sha256
from vidgen.bench.scores.video_folder import list_videos
from vidgen.errors import SamplingError
from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.jobs import sample
from vidgen.runtime.manifest import Manifest, write_manifest
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks import PngSink
from vidgen.runtime.sinks.masks import mask_frames

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
    run(out / "a", grid=grid, labels=tuple(labels), batch=batch, seed=seed, sheet=False)
    for row, label in enumerate(labels):
        alone = Sampler(backend_of()).sample(columns, seed=seed, labels=[label], frames=3)
        for column in range(columns):
            assert np.array_equal(np.load(out / "a" / f"{row}_{column}.npy"), alone[column])
    assert record_of(out / "a")["labels"] == {str(row): label for row, label in enumerate(labels)}


def test_rows_are_the_first_classes_where_none_are_named(tmp_path: Path) -> None:
    run(tmp_path / "a", grid="2x3", grid_by="class")
    run(tmp_path / "b", grid="2x3", labels=LABELS[:2])
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
    assert record_of(tmp_path / "a")["settings"] == record_of(tmp_path / "b")["settings"]
    with pytest.raises(SamplingError, match="4 rows, expected at most 3"):
        run(tmp_path / "c", grid="4x2", grid_by="class")
    with pytest.raises(SamplingError, match="without classes"):
        run(tmp_path / "c", FakeBackend(fake_manifest()), grid="4x2", grid_by="class", frames=None)
    assert not (tmp_path / "c").exists()


def test_in_a_grid_of_motions_a_label_goes_with_its_column(tmp_path: Path) -> None:
    run(tmp_path, grid="2x3", labels=("jump", "walk"), grid_by="motion")
    expected = Sampler(backend_of()).render([1], motion=[2], labels=[2, 0], frames=3)[0]
    assert np.array_equal(np.load(tmp_path / "1_2.npy"), expected)
    assert record_of(tmp_path)["labels"] == {"0": "jump", "1": "walk", "2": "jump"}


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_make_a_whole_grid_of_classes(shards: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"grid": "3x3", "labels": LABELS, "masks": True, "strips": True, "sheet": False}
    run(tmp_path / "a", **options)
    for i in range(shards):
        run(tmp_path / "b", **options, shard=f"{i}/{shards}")
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


@pytest.mark.parametrize("options", [{"grid_by": "class"}, {"grid_by": "motion"}])
def test_scores_read_the_class_of_each_cell(options: dict[str, str], tmp_path: Path) -> None:
    run(tmp_path, grid="2x3", labels=("jump", "walk"), masks=True, strips=True, **options)
    found = {video.path.stem: video.label for video in list_videos(tmp_path, LABELS).videos}
    by_row = options["grid_by"] == "class"
    assert found == {
        f"{row}_{column}": ("jump", "walk")[(row if by_row else column) % 2] for row in range(2) for column in range(3)
    }


def test_another_kind_of_grid_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, grid="2x2", labels=("walk", "jump"))
    with pytest.raises(SamplingError, match="grid_by is 'class' there, None here"):
        run(tmp_path, grid="2x2", labels=("walk", "jump"), grid_by="motion", resume=True)


# Masks and strips


def test_masks_and_strips_stand_beside_each_video(tmp_path: Path) -> None:
    report = run(tmp_path, n=3, masks=True, strips=True)
    assert [path.relative_to(tmp_path).as_posix() for path in report.masks] == [f"masks/{i}.png" for i in range(3)]
    assert [path.relative_to(tmp_path).as_posix() for path in report.strips] == [f"strips/{i}.png" for i in range(3)]
    made = Sampler(backend_of(masks=True)).render_with_extras([0, 1, 2], frames=3)
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
    run(tmp_path / "a", n=5, masks=True)
    run(tmp_path / "b", n=5)
    with_masks = content_of(tmp_path / "a")
    assert {name: data for name, data in with_masks.items() if "/" not in name} == content_of(tmp_path / "b")


def test_several_lengths_have_masks_each(tmp_path: Path) -> None:
    report = run(tmp_path, n=2, frames="2:4:2", masks=True, batch=2)
    assert sorted(path.name for path in report.masks) == ["0_2.png", "0_4.png", "1_2.png", "1_4.png"]
    with Image.open(tmp_path / "masks" / "1_4.png") as image:
        assert image.size == (256, 256)


def test_masks_of_a_model_without_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplingError) as caught:
        run(tmp_path / "a", backend_of(), n=1, masks=True)
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


# Resuming


@SMALL
@given(data=st.data())
def test_whatever_is_missing_is_made_again_to_the_bit(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("run") / "a"
    options: dict[str, Any] = {"n": 5, "batch": 2, "masks": True, "strips": True, "encoders": 1}
    run(out, **options)
    content = content_of(out)
    lost = data.draw(st.sets(st.sampled_from(sorted(content))))
    stamps = {name: (out / name).stat().st_mtime_ns for name in content}
    for name in lost:
        (out / name).unlink()
    seen: list[tuple[int, int]] = []
    chosen = SampleSettings(Path("fake.onnx"), out, format="npy", frames="3", resume=True, **options)
    report = sample(chosen, lambda done, total: seen.append((done, total)), backend=backend_of(masks=True))
    assert content_of(out) == content
    assert all((out / name).stat().st_mtime_ns == stamps[name] for name in content if name not in lost)
    assert report.written == len({Path(name).stem for name in lost})
    assert seen == [(done, 5) for done in range(5 - report.written, 6)]


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.class_jobs import backend_of, run
run(Path(sys.argv[2]), backend_of(masks=True, delay=0.05), n=40, masks=True, strips=True, encoders=1)
"""


@pytest.mark.parametrize("files", [1, 8])
def test_a_killed_run_resumes_to_the_same_images(files: int, tmp_path: Path) -> None:
    arguments = [str(Path(__file__).parents[1]), str(tmp_path / "a")]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "a").glob("masks/[0-9]*"))) < files:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    options: dict[str, Any] = {"n": 40, "masks": True, "strips": True}
    report = run(tmp_path / "a", **options, resume=True)
    assert files - 1 <= report.kept < 40
    run(tmp_path / "b", **options)
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


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
    sample(SampleSettings(Path("fake.onnx"), tmp_path, format="npy", **options), check, backend=backend_of(masks=True))


def test_unfinished_images_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    run(tmp_path, n=2, masks=True)
    half = tmp_path / "masks" / ".partial-1234-1.png"
    foreign = tmp_path / "masks" / ".partial-1234-notes.txt"
    for path in (half, foreign):
        path.write_text("half")
    run(tmp_path, n=2, masks=True, resume=True)
    assert not half.exists()
    assert foreign.exists()


def test_a_run_with_masks_is_not_resumed_without(tmp_path: Path) -> None:
    run(tmp_path, n=2, masks=True)
    with pytest.raises(SamplingError, match="masks is True there, None here"):
        run(tmp_path, n=2, resume=True)


def test_a_file_where_the_folder_of_masks_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("mine")
    with pytest.raises(Exception, match="cannot write"):
        run(tmp_path, n=1, masks=True)
    assert (tmp_path / "masks").read_text() == "mine"
