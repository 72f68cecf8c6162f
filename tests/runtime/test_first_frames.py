"""First frames: every kind of source gives the same pixels as preparing it would, and hostile files a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vidgen.data.layouts import Frame
from vidgen.data.store import ClipStore, StoreWriter
from vidgen.data.transform import resize
from vidgen.data.windows import NO_CROP, Crop, crop_and_resize
from vidgen.errors import DataError
from vidgen.runtime.first_frames import MOST, as_input, read_first_frames
from vidgen.runtime.sinks import GifSink, Mp4Sink, NpySink, PngSink, WebpSink

SIDE = 64


def _clip(frames: int = 5, height: int = SIDE, width: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth frames that differ, which lossy formats keep."""
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    phase = 0.7 * seed + t + y / 9 + x / 7
    waves = [128 + 100 * np.sin(phase + 2 * channel) for channel in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def _levels(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return (frames.transpose(0, 2, 3, 1) + 1) * 127.5


def test_input_is_scaled_as_the_model_was_trained() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    scaled = as_input(pixels)
    assert scaled.dtype == np.float32
    assert scaled.shape == (1, 3, 16, 16)
    assert scaled.flags.c_contiguous
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert np.array_equal(np.rint((scaled + 1) * 127.5).astype(np.uint8)[0, 0], pixels[0, ..., 0])


@pytest.mark.parametrize(
    ("name", "sink", "tolerance"),
    [
        ("a.npy", NpySink(), 0),
        ("a.png", PngSink(), 0),  # a strip of frames
        ("a.webp", WebpSink(100), 0),
        ("a.gif", GifSink(), 20),
        ("a.mp4", Mp4Sink(crf=0, pix_fmt="rgb24"), 0),
    ],
)
def test_what_sampling_writes_can_be_gone_on_from(name: str, sink: object, tolerance: int, tmp_path: Path) -> None:
    clip = _clip()
    sink.write(tmp_path / name, clip, 10)  # type: ignore[attr-defined]
    found = read_first_frames(tmp_path / name, SIDE)
    assert found.names == (name,)
    assert np.abs(_levels(found.frames)[0] - clip[0]).mean() <= tolerance + 1e-3


@pytest.mark.parametrize("shape", [(64, 64), (80, 50), (37, 120), (1, 1), (200, 150)])
def test_images_are_cropped_and_resized_as_when_they_are_prepared(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = _clip(1, *shape)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = _levels(read_first_frames(tmp_path / "a.png", SIDE).frames)[0]
    assert np.abs(found - resize(Frame(pixels), SIDE, "center")).max() < 1e-3


@pytest.mark.parametrize("upright", [False, True])
def test_of_a_strip_the_first_frame_is_taken(upright: bool, tmp_path: Path) -> None:
    clip = _clip(4)
    Image.fromarray(np.concatenate(list(clip), axis=0 if upright else 1)).save(tmp_path / "a.png")
    assert np.abs(_levels(read_first_frames(tmp_path / "a.png", SIDE).frames)[0] - clip[0]).max() < 1e-3


def test_grey_transparent_and_turned_images_are_read(tmp_path: Path) -> None:
    grey = _clip(1)[0, ..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(grey).convert("RGB").save(tmp_path / "c.png", exif=exif)
    found = _levels(read_first_frames(tmp_path, SIDE).frames)
    for frame, expected in zip(found, (grey, grey, np.rot90(grey, -1)), strict=True):
        assert np.abs(frame - expected[..., None]).max() < 1e-3


def test_arrays_with_time_last_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.moveaxis(_clip(), 0, -1))
    assert np.abs(_levels(read_first_frames(tmp_path / "a.npy", SIDE).frames)[0] - _clip()[0]).max() < 1e-3


def test_a_folder_gives_its_files_sorted_by_name(tmp_path: Path) -> None:
    for seed, name in enumerate(("b.npy", "a.npy", "c.npy")):
        np.save(tmp_path / name, _clip(seed=seed))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.npy").write_text("x")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "0.npy", _clip())
    found = read_first_frames(tmp_path, SIDE)
    assert found.names == ("a.npy", "b.npy", "c.npy")
    assert np.abs(_levels(found.frames)[1] - _clip(seed=0)[0]).max() < 1e-3
    assert found.labels == ()


def _store(path: Path, crop: Crop = NO_CROP, labels: tuple[str, ...] = ("walk", "jump")) -> list[NDArray[np.uint8]]:
    clips = [_clip(3, 72, 72, seed) for seed in range(3)]
    with StoreWriter(path, name="toy", height=72, width=72, labels=labels, crop=crop) as writer:
        for i, clip in enumerate(clips):
            writer.add(clip, source=f"clip{i}", fps=10, label=i % 2 if labels else None)
    return clips


@pytest.mark.parametrize("crop", [NO_CROP, Crop("margin", 5), Crop("square", 64, 4)])
def test_a_store_gives_what_its_crop_rule_takes_in_a_test(crop: Crop, tmp_path: Path) -> None:
    clips = _store(tmp_path / "store", crop)
    found = read_first_frames(tmp_path / "store", SIDE)
    box = crop.box(72, 72, test=True)
    for frame, clip in zip(_levels(found.frames), clips, strict=True):
        assert np.abs(frame - crop_and_resize(clip[:1], box, SIDE)[0]).max() < 1e-3
    assert found.names == ("clip0", "clip1", "clip2")
    assert found.labels == ("walk", "jump", "walk")


def test_a_store_without_classes_names_none(tmp_path: Path) -> None:
    _store(tmp_path / "store", labels=())
    assert read_first_frames(tmp_path / "store", SIDE).labels == ()


def test_the_hash_is_that_of_the_pixels_wherever_they_lie(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / f"{folder}.npy", _clip(seed=seed))
    one, same, other = (read_first_frames(tmp_path / folder, SIDE).sha256 for folder in "abc")
    assert one == same != other


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b""),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        ("a.jpg", b"no image"),
        ("a.mp4", b"no video"),
        ("a.webp", b"RIFF\x00\x00\x00\x00WEBPVP8X" + b"\x02" * 10),
        ("a.npy", b""),
        ("a.npy", b"\x93NUMPY\x01\x00\xff\xff{"),
        ("a.txt", b"hello"),
        ("a", b"hello"),
    ],
)
def test_files_that_are_no_pictures_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="cannot take a first frame from") as caught:
        read_first_frames(tmp_path / name, SIDE)
    assert str(tmp_path / name) in caught.value.what
    assert "--first-frame" in caught.value.fix


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.float64),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros(3, np.uint8),
        np.array([{}], dtype=object),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_video_are_refused_and_never_unpickled(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match="cannot take a first frame"):
        read_first_frames(tmp_path / "a.npy", SIDE)


def test_huge_images_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot take a first frame"):
        read_first_frames(tmp_path / "a.png", SIDE)


def test_empty_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_first_frames(tmp_path / "none.png", SIDE)
    with pytest.raises(DataError, match="without images"):
        read_first_frames(tmp_path, SIDE)


def test_more_than_fit_in_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidgen.runtime.first_frames.MOST", 2)
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"never opened")
    with pytest.raises(DataError, match="3 of them"):
        read_first_frames(tmp_path, SIDE)
    assert MOST > 1000


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["png", "npy", "webp", "gif"]), data=st.data())
def test_damage_gives_a_frame_or_a_clear_error(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    sinks = {"png": PngSink(), "npy": NpySink(), "webp": WebpSink(), "gif": GifSink()}
    path = tmp_path / f"a.{kind}"
    sinks[kind].write(path, _clip(2), 10)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, min(127, len(content) - 1)), st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        found = read_first_frames(path, SIDE)
    except DataError as error:
        assert str(path) in error.what
    else:
        assert found.frames.shape == (1, 3, SIDE, SIDE)
        assert np.abs(found.frames).max() <= 1


def test_a_store_that_is_damaged_is_named(tmp_path: Path) -> None:
    _store(tmp_path / "store")
    assert len(ClipStore.open(tmp_path / "store")) == 3
    (tmp_path / "store" / "frames.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot use clip store"):
        read_first_frames(tmp_path / "store", SIDE)
