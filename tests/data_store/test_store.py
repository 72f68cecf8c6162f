"""The clip store: what is written is read, by any number of workers, and damage is noticed."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidgen.data.store import Clip, ClipStore, StoreWriter, Window
from vidgen.errors import DataError, StorageError

attribute_values = st.one_of(st.text(max_size=8), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def stores(draw: st.DrawFn) -> dict:
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    labels = draw(st.lists(st.text(max_size=5), max_size=3, unique=True))
    label = st.none() | st.integers(0, len(labels) - 1) if labels else st.none()
    clips = [
        {
            "frames": draw(hnp.arrays(np.uint8, (draw(st.integers(1, 4)), height, width, 3))),
            "source": draw(st.text(max_size=9)),
            "fps": draw(st.floats(0.01, 1000)),
            "label": draw(label),
            "attributes": draw(st.dictionaries(st.text(max_size=4), attribute_values, max_size=2)),
        }
        for _ in range(draw(st.integers(1, 4)))
    ]
    return {"height": height, "width": width, "labels": labels, "clips": clips}


def write(path: Path, content: dict, **more: object) -> ClipStore:
    size = {"height": content["height"], "width": content["width"], "labels": content["labels"]}
    with StoreWriter(path, name="set", **size, **more) as writer:
        for clip in content["clips"]:
            writer.add(**clip)
    return ClipStore.open(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=stores())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: dict) -> None:
    store = write(tmp_path_factory.mktemp("s") / "store", content)
    store.verify()
    assert len(store) == len(content["clips"]) == store.info.clips
    assert store.info.labels == tuple(content["labels"])
    for number, clip in enumerate(content["clips"]):
        found = store.clips[number]
        assert np.array_equal(store.frames(number), clip["frames"])
        assert (found.source, found.fps, found.label) == (clip["source"], clip["fps"], clip["label"])
        assert found.attributes == clip["attributes"]
    assert store.info.frames == sum(len(clip["frames"]) for clip in content["clips"])


@settings(max_examples=15, deadline=None)
@given(content=stores())
def test_the_hash_depends_on_content_alone(tmp_path_factory: pytest.TempPathFactory, content: dict) -> None:
    folder = tmp_path_factory.mktemp("s")
    first = write(folder / "a", content).info.content_hash
    assert write(folder / "b", content).info.content_hash == first
    content["clips"][-1]["frames"] = content["clips"][-1]["frames"] ^ 1
    second = write(folder / "c", content).info.content_hash
    content["clips"][0]["fps"] += 1
    assert len({first, second, write(folder / "d", content).info.content_hash}) == 3


def test_frames_picks_times_in_the_order_asked_for(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    whole = store.frames(2)
    picked = store.frames(2, [4, 0, 4])
    assert np.array_equal(picked, whole[[4, 0, 4]])
    assert store.frames(2, []).shape == (0, 8, 6, 3)
    assert np.array_equal(store.frames(-1), store.frames(4))
    assert np.array_equal(store.frames(2, np.array([1, 2])), whole[1:3])


def test_frames_are_copies(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    for taken in (store.frames(0), store.frames(0, [1])):
        assert type(taken) is np.ndarray and taken.flags.writeable and taken.flags.c_contiguous
        taken[:] = 0
    assert store.frames(0).any()
    store.verify()


@pytest.mark.parametrize("times", [[3], [-1], [0, 99]])
def test_a_frame_of_a_neighbouring_clip_cannot_be_read(
    tmp_path: Path, make_store: Callable[..., Path], times: list[int]
) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    with pytest.raises(IndexError, match="frames 0 to 2"):
        store.frames(0, times)
    with pytest.raises(IndexError):
        store.frames(len(store))
    with pytest.raises(TypeError):
        store.frames(0, [0.5])  # type: ignore[list-item]  # the point of the test


def sum_of(store: ClipStore, number: int) -> int:
    return int(store.frames(number).astype(np.int64).sum())


def test_forked_workers_read_what_the_parent_reads(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    store = ClipStore.open(make_store(tmp_path / "s"))
    expected = [sum_of(store, number) for number in range(len(store))]
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(sum_of, [store] * len(store), range(len(store)))) == expected


def test_a_pickled_store_reads_the_same_in_a_fresh_process(
    tmp_path: Path, make_store: Callable[..., Path], child_environment: dict[str, str]
) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    expected = [sum_of(store, number) for number in range(len(store))]
    state = pickle.dumps(store)
    assert len(state) < 4000, "the frames must not travel with it"
    program = (
        "import pickle, sys; s = pickle.load(sys.stdin.buffer); print([int(s.frames(i).sum()) for i in range(len(s))])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=state, env=child_environment, capture_output=True)
    assert json.loads(done.stdout) == expected, done.stderr


def test_windows_share_their_frames_on_disk(tmp_path: Path, make_frames: Callable[..., np.ndarray]) -> None:
    frames = make_frames(10, 4, 4)
    with StoreWriter(tmp_path / "s", name="n", height=4, width=4) as writer:
        windows = [Window(start, 4, {"first_frame": start}) for start in (0, 2, 6)]
        writer.extend([frames[:3], frames[3:]], windows, source="v", fps=25, attributes={"take": 1})
    store = ClipStore.open(tmp_path / "s")
    assert store.info.frames == 10
    assert [clip.attributes for clip in store.clips] == [{"take": 1, "first_frame": n} for n in (0, 2, 6)]
    assert all(np.array_equal(store.frames(n), frames[s : s + 4]) for n, s in enumerate((0, 2, 6)))
    store.verify()


def test_a_run_that_fails_half_way_leaves_the_store_as_it_was(
    tmp_path: Path, make_frames: Callable[..., np.ndarray]
) -> None:
    frames = make_frames(6, 4, 4)

    def broken() -> object:
        yield frames[:4]
        raise RuntimeError("decoder died")

    with StoreWriter(tmp_path / "s", name="n", height=4, width=4) as writer:
        writer.add(frames, source="a", fps=25)
        with pytest.raises(RuntimeError, match="decoder died"):
            writer.extend(broken(), [Window(0, 4)], source="b", fps=25)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="window"):
            writer.extend([frames], [Window(3, 4)], source="b", fps=25)
        writer.add(frames[::-1], source="c", fps=25)
    store = ClipStore.open(tmp_path / "s")
    assert [clip.source for clip in store.clips] == ["a", "c"]
    assert np.array_equal(store.frames(1), frames[::-1])
    store.verify()


def test_the_usual_rate_is_that_of_most_frames(tmp_path: Path, make_frames: Callable[..., np.ndarray]) -> None:
    with StoreWriter(tmp_path / "s", name="n", height=4, width=4) as writer:
        for fps, length in ((50, 3), (50, 3), (25, 7), (30, 6)):
            writer.add(make_frames(length, 4, 4), source="v", fps=fps)
    assert ClipStore.open(tmp_path / "s").info.fps == 25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fps": 0}, "0 frames a second"),
        ({"fps": float("nan")}, "nan"),
        ({"label": 2}, "label 2"),
        ({"label": -1}, "label -1"),
        ({"attributes": {"x": float("inf")}}, "finite"),
        ({"attributes": {"x": [1]}}, "list"),
        ({"frames": np.zeros((2, 8, 7, 3), np.uint8)}, "shape"),
        ({"frames": np.zeros((0, 8, 6, 3), np.uint8)}, "T >= 1"),
        ({"frames": np.zeros((2, 8, 6, 3), np.float32)}, "float32"),
        ({"frames": [[1]]}, "list"),
    ],
)
def test_a_clip_that_does_not_fit_is_refused_and_nothing_is_added(tmp_path: Path, change: dict, said: str) -> None:
    good = {"frames": np.zeros((2, 8, 6, 3), np.uint8), "source": "v", "fps": 25}
    with StoreWriter(tmp_path / "s", name="n", height=8, width=6, labels=["a", "b"]) as writer:
        writer.add(**good)
        with pytest.raises(DataError, match=said):
            writer.add(**{**good, **change})
    store = ClipStore.open(tmp_path / "s")
    store.verify()
    assert store.info.frames == 2


def test_numpy_numbers_are_accepted(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", name="n", height=np.int64(2), width=2, labels=["a"]) as writer:
        frames = np.zeros((np.int64(2), 2, 2, 3), np.uint8)
        values = {"i": np.int32(3), "f": np.float32(0.5), "b": True}
        writer.add(frames, source="v", fps=np.float64(25), label=np.int64(0), attributes=values)
    (clip,) = ClipStore.open(tmp_path / "s").clips
    assert clip == Clip("v", 0, 2, 25.0, 0, {"i": 3, "f": 0.5, "b": 1})


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, FileNotFoundError])
def test_an_aborted_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), StoreWriter(tmp_path / "s", name="n", height=2, width=2) as writer:
        writer.add(np.zeros((2, 2, 2, 3), np.uint8), source="v", fps=25)
        raise error("stop")
    assert left_in(tmp_path) == []


def test_an_aborted_overwrite_keeps_the_old_store(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    make_store(tmp_path / "s")
    new = StoreWriter(tmp_path / "s", name="new", height=2, width=2, overwrite=True)
    with pytest.raises(KeyboardInterrupt), new:
        raise KeyboardInterrupt
    old = ClipStore.open(tmp_path / "s")
    old.verify()
    assert old.info.name == "small" and left_in(tmp_path) == ["s"]


def test_only_a_clip_store_is_ever_replaced(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    make_store(tmp_path / "s")
    with pytest.raises(StorageError, match="exists"):
        make_store(tmp_path / "s")
    assert ClipStore.open(make_store(tmp_path / "s", overwrite=True, clips=2)).info.clips == 2
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StorageError, match="not a clip store"):
        make_store(photos, overwrite=True)
    (tmp_path / "s" / "my notes.txt").write_text("keep me")
    with pytest.raises(StorageError, match="other files"):
        make_store(tmp_path / "s", overwrite=True)
    assert (photos / "holiday.jpg").exists() and (tmp_path / "s" / "my notes.txt").exists()


def test_a_store_without_clips_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no clip was added"), StoreWriter(tmp_path / "s", name="n", height=2, width=2):
        pass
    assert left_in(tmp_path) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, child_environment: dict[str, str]) -> None:
    pytest.importorskip("resource")
    program = """
import resource, sys, numpy as np
from vidgen.data.store import StoreWriter
from vidgen.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with StoreWriter(sys.argv[1], name="n", height=64, width=64) as writer:
        for _ in range(100):
            writer.add(np.zeros((16, 64, 64, 3), np.uint8), source="v", fps=25)
except StorageError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    assert "cannot write" in done.stdout, done.stderr
    assert left_in(tmp_path) == []


def test_memory_does_not_grow_with_the_store(tmp_path: Path, child_environment: dict[str, str]) -> None:
    resource = pytest.importorskip("resource")
    assert resource
    program = """
import resource, sys, numpy as np
from vidgen.data.store import StoreWriter
with StoreWriter(sys.argv[1], name="n", height=64, width=64) as writer:
    clip = np.zeros((512, 64, 64, 3), np.uint8)
    writer.add(clip, source="v", fps=25)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        writer.add(clip, source="v", fps=25)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True, timeout=120)
    # 120 MiB are written; the unit is KiB on Linux and bytes on macOS, where the bound is looser.
    assert int(done.stdout) < 16 * 1024 * (1024 if sys.platform == "darwin" else 1), done.stderr


def test_the_frame_file_is_an_ordinary_npy_file(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    array = np.load(tmp_path / "s" / "frames.npy", allow_pickle=False)
    assert array.shape == (store.info.frames, 8, 6, 3) and array.dtype == np.uint8
    assert np.array_equal(array[3:7], store.frames(1))
    assert left_in(tmp_path / "s") == ["frames.npy", "index.json"]


def test_importing_the_store_loads_no_heavy_library(child_environment: dict[str, str]) -> None:
    program = (
        "import sys, vidgen.data.store, vidgen.data.prepare, vidgen.data.contact_sheet;"
        "print([name for name in ('torch', 'av', 'PIL', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=child_environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
