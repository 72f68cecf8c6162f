"""A store that is missing, truncated, foreign or altered is refused with the reason, never read wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidgen.data.store import ClipStore
from vidgen.errors import DataError


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="vidgen data prepare"):
        ClipStore.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="it is a file"):
        ClipStore.open(tmp_path / "file")
    with pytest.raises(DataError, match=r"holds no index\.json"):
        ClipStore.open(tmp_path)


@pytest.mark.parametrize("keep", [0, 50, 128, 500])
def test_a_truncated_frame_file_is_noticed_on_opening(
    tmp_path: Path, make_store: Callable[..., Path], keep: int
) -> None:
    frames = make_store(tmp_path / "s") / "frames.npy"
    frames.write_bytes(frames.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"frames\.npy"):
        ClipStore.open(tmp_path / "s")


def test_changed_frames_are_noticed_by_verify(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    frames = make_store(tmp_path / "s") / "frames.npy"
    content = bytearray(frames.read_bytes())
    content[-1] ^= 1
    frames.write_bytes(content)
    store = ClipStore.open(tmp_path / "s")
    with pytest.raises(DataError, match="hashes to"):
        store.verify()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"),
        ("version", 2),
        ("version", True),
        ("content_hash", "abc"),
        ("content_hash", "Z" * 64),
        ("fps", -1),
        ("fps", None),
        ("frames", 10**9),
        ("height", "8"),
        ("labels", ["a", "a"]),
        ("labels", [1]),
        ("labels", []),
        ("clips", []),
        ("clips", [7]),
        ("clips", [{"source": "x", "start": 0, "length": 99, "fps": 25, "label": None, "attributes": {}}]),
        ("clips", [{"source": "x", "start": -1, "length": 2, "fps": 25, "label": None, "attributes": {}}]),
        ("name", None),
    ],
)
def test_a_wrong_value_in_the_index_is_named(
    tmp_path: Path, make_store: Callable[..., Path], key: str, value: object
) -> None:
    index = make_store(tmp_path / "s") / "index.json"
    record = json.loads(index.read_text())
    index.write_text(json.dumps({**record, key: value}))
    with pytest.raises(DataError, match="cannot use clip store"):
        ClipStore.open(tmp_path / "s")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_the_index_raises_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Path], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("f") / "s"
    index = make_store(folder, clips=2) / "index.json"
    content = bytearray(index.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    index.write_bytes(content)
    try:
        store = ClipStore.open(folder)
    except DataError as error:
        assert str(folder) in str(error)
    else:
        assert all(store.frames(number).shape[1:] == (8, 6, 3) for number in range(len(store)))


def test_frames_replaced_behind_an_open_store_are_noticed(tmp_path: Path, make_store: Callable[..., Path]) -> None:
    store = ClipStore.open(make_store(tmp_path / "s"))
    make_store(tmp_path / "s", overwrite=True, clips=2)
    with pytest.raises(DataError, match="does not match"):
        store.frames(0)
