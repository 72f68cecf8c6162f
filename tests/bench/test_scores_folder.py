"""Folders of videos: names, records, arrays, and everything that is not what it says."""

from __future__ import annotations

import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scoring import LABELS, painted

from vidgen.bench.scores.video_folder import BY_CLASS, BY_FIRST_FRAME, FolderVideo, list_videos, read_video
from vidgen.errors import DataError

FLOATS = np.linspace(-1, 1, 10 * 3 * 64 * 64, dtype=np.float32).reshape(10, 3, 64, 64)


def read(path: Path) -> np.ndarray:
    return read_video(FolderVideo(path, 0))[0]


def test_the_references_names_tell_actor_and_action(tmp_path: Path) -> None:
    labels = ("walk", "wave", "wave_both", "wave1")
    names = ["none_walk_000", "none_wave_899", "none_wave_both_3", "ida_wave1_007", "daria_walk", "023_wave_2_3_099"]
    for name in names:
        np.save(tmp_path / f"{name}.npy", painted(0))
    (tmp_path / "results.txt").write_text("")
    (tmp_path / "masks").mkdir()
    found = {video.path.stem: (video.label, video.kind) for video in list_videos(tmp_path, labels).videos}
    assert found == {
        "none_walk_000": ("walk", BY_CLASS),
        "none_wave_899": ("wave", BY_CLASS),
        "none_wave_both_3": ("wave_both", BY_CLASS),
        "ida_wave1_007": ("wave1", BY_FIRST_FRAME),
        "daria_walk": ("walk", BY_FIRST_FRAME),
        "023_wave_2_3_099": ("wave", BY_FIRST_FRAME),
    }


@pytest.mark.parametrize("name", ["walk", "none_run_000", "none_walker_000", "_walk_000", "walk_none", "none"])
def test_names_without_a_known_class_are_refused(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "none_walk_000.npy", painted(0))
    np.save(tmp_path / f"{name}.npy", painted(0))
    with pytest.raises(DataError, match=r"cannot tell the class of .* class of: walk, wave, jump"):
        list_videos(tmp_path, LABELS)


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for folder, match in (
        (tmp_path, "none of them a video"),
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "none", "No such"),
    ):
        with pytest.raises(DataError, match=match):
            list_videos(folder, LABELS)


def test_8_bit_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (13, 64, 64, 3), np.uint8)
    np.save(tmp_path / "a.npy", video)
    found = read(tmp_path / "a.npy")
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, video[:10])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float_arrays_have_channels_second(tmp_path: Path, dtype: type, order: str) -> None:
    np.save(tmp_path / "a.npy", np.asarray(FLOATS.astype(dtype), order=order))
    found = read(tmp_path / "a.npy")
    assert found.dtype == np.float32 and found.shape == (10, 64, 64, 3)
    np.testing.assert_array_equal(found, FLOATS.astype(dtype).astype(np.float32).transpose(0, 2, 3, 1))


WRONG: dict[str, Any] = {
    "time last": np.zeros((64, 64, 3, 10), np.uint8),
    "channels first": np.zeros((10, 3, 64, 64), np.uint8),
    "float channels last": np.zeros((10, 64, 64, 3), np.float32),
    "one frame": np.zeros((64, 64, 3), np.uint8),
    "a batch": np.zeros((1, 10, 64, 64, 3), np.uint8),
    "size 32": np.zeros((10, 32, 32, 3), np.uint8),
    "signed": np.zeros((10, 64, 64, 3), np.int64),
    "complex": np.zeros((10, 3, 64, 64), np.complex64),
    "text": np.full((10, 3, 64, 64), "x"),
    "short": np.zeros((9, 64, 64, 3), np.uint8),
    "short floats": np.zeros((9, 3, 64, 64), np.float32),
    "empty": np.zeros((0, 64, 64, 3), np.uint8),
    "nan": np.where(np.arange(10)[:, None, None, None] == 9, np.nan, FLOATS),
    "infinity": np.where(np.arange(10)[:, None, None, None] == 9, np.inf, FLOATS),
    "0 to 255": np.full((10, 3, 64, 64), 255, np.float32),
    "nothing": np.array(0.0),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_are_no_clip_are_refused(tmp_path: Path, case: str) -> None:
    np.save(tmp_path / "a.npy", WRONG[case])
    with pytest.raises(DataError, match=r"cannot score .*a\.npy"):
        read(tmp_path / "a.npy")


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.save(tmp_path / "object.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Bomb(mark)))
    np.savez(tmp_path / "archive.npz", painted(0))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("object", "pickle", "archive"):
        with pytest.raises(DataError, match=r"more than one array|something else than one array"):
            read(tmp_path / f"{name}.npy")
    assert not mark.exists()


def test_a_header_that_claims_terabytes_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(b"\0" * 1000)
    with pytest.raises(DataError, match="cut short"):
        read(tmp_path / "a.npy")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_arrays_never_give_another_error(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of the header changed, or the file cut anywhere."""
    path = tmp_path / "a.npy"
    np.save(path, painted(0))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 140))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        assert read(path).shape == (10, 64, 64, 3)
    except DataError as error:
        assert "a.npy" in str(error)


@pytest.mark.parametrize("name", ["a.mp4", "a.webp", "a.gif"])
def test_damaged_videos_are_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0", b"GIF89a", bytes(range(256))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot score .*vidgen data prepare"):
            read(tmp_path / name)


def test_videos_of_another_size_or_too_short_are_refused(tmp_path: Path) -> None:
    from vidgen.runtime.sinks import make_sink

    clips = {"large": np.zeros((10, 96, 96, 3), np.uint8), "short": np.zeros((9, 64, 64, 3), np.uint8)}
    for name, match in (("large", "expected 64x64"), ("short", "9 frames, expected at least 10")):
        for format in ("mp4", "png"):
            path = tmp_path / f"{name}.{format}"
            make_sink(format).write(path, clips[name], 10.0)
            with pytest.raises(DataError, match=match if format == "mp4" else "cannot score"):
                read(path)


def record(folder: Path, *, name: str = "samples.json", **changes: Any) -> None:
    values = {"format": 1, "settings": {"n": 2, "seed": 0, "artifact": "a", "format": "npy", "frames": 10, "fps": 10.0}}
    values |= {"labels": {"0": "walk", "1": "wave"}, "command": "vidgen sample --engine m.onnx -o out"}
    (folder / name).write_text(json.dumps(values | changes))


def test_a_record_tells_the_labels(tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", painted(number))
    np.save(tmp_path / "none_walk_0.npy", painted(0))
    record(tmp_path)
    found = list_videos(tmp_path, LABELS)
    assert [(video.path.stem, video.label) for video in found.videos] == [("0", "walk"), ("1", "wave")]
    record(tmp_path, settings={"n": 2, "format": "npy", "first_frame": "face.png"})
    assert {video.kind for video in list_videos(tmp_path, LABELS).videos} == {BY_FIRST_FRAME}


def test_videos_of_a_grid_have_the_label_of_their_motion(tmp_path: Path) -> None:
    for name in ("0_0", "0_1", "1_0", "1_1"):
        np.save(tmp_path / f"{name}.npy", painted(0))
    record(tmp_path, settings={"n": 4, "format": "npy", "grid": "2x2"})
    found = {video.path.stem: video.label for video in list_videos(tmp_path, LABELS).videos}
    assert found == {"0_0": "walk", "0_1": "wave", "1_0": "walk", "1_1": "wave"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"settings": {"format": 3}}', '{"settings": {"format": "npy"}, "labels": []}']
)
def test_damaged_records_are_refused(tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "0.npy", painted(0))
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(DataError, match=r"cannot read .*samples\.json"):
        list_videos(tmp_path, LABELS)


def test_records_of_different_runs_are_not_mixed(tmp_path: Path) -> None:
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", painted(number))
    record(tmp_path, name="samples-0-of-2.json")
    record(tmp_path, name="samples-1-of-2.json", settings={"n": 2, "seed": 0, "artifact": "b", "format": "npy"})
    with pytest.raises(DataError, match="differ in artifact"):
        list_videos(tmp_path, LABELS)


def test_headers_are_parsed_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", painted(0))
    original, at_work, most = np.lib.format.open_memmap, 0, 0

    def slowly(*arguments: Any, **options: Any) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.01)
        at_work -= 1
        return original(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "open_memmap", slowly)
    with ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(read, [tmp_path / "a.npy"] * 8))
    assert most == 1 and all(np.array_equal(clip, clips[0]) for clip in clips)
