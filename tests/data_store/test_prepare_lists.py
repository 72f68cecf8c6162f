"""Lists of TwoStreamVAN's clips are written, followed, and refused by name where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference_arrays import run, spans

from vidgen.data.clip_lists import ListLine, list_split, read_list, write_list
from vidgen.data.prepare import PrepareSettings, prepare
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS
from vidgen.errors import DataError, StorageError


def test_lists_survive_a_round_trip(weizmann: Path, tmp_path: Path) -> None:
    report, store = run(weizmann, "weizmann", miniclip=True, write_lists=tmp_path / "lists")
    files = [Path(path) for path in report.lists]
    assert [path.name for path in files] == ["miniclip_Train_list_20.txt", "Test_list_20.txt"]
    assert files[1].read_text() == "daria_bend 37 56\neli_run 28 41\nshahar_walk 22 41\n"
    _, again = run(weizmann, "weizmann", lists=tuple(files))
    assert sorted(spans(again)) == sorted(spans(store))
    assert again.info.content_hash == store.info.content_hash
    _, tests = run(weizmann, "weizmann", lists=tuple(files), split="test")
    assert {split for _, split, *_ in spans(tests)} == {"test"}


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("mug", ["Train_list_20.txt", "Test_list_20.txt"]),
        ("mug2", ["mug2_Train_list_20.txt", "mug2_Test_list_20.txt"]),
        ("synaction", ["Train_list_10.txt", "Test_list_10.txt"]),
        ("weizmann", ["Train_list_20.txt", "Test_list_20.txt"]),
    ],
)
def test_lists_have_the_names_of_the_reference(layout: str, names: list[str]) -> None:
    chosen = REFERENCE_LAYOUTS[layout]
    assert [chosen.list_name(split, 10, 2, miniclip=False) for split in ("train", "test")] == names


def test_lists_that_exist_are_not_lost(weizmann: Path, tmp_path: Path) -> None:
    (tmp_path / "Test_list_20.txt").write_text("daria_bend 0 20\n")
    with pytest.raises(StorageError, match="Test_list_20"):
        prepare(PrepareSettings(weizmann, tmp_path / "out", "weizmann", write_lists=tmp_path))
    assert not (tmp_path / "out").exists() and (tmp_path / "Test_list_20.txt").read_text() == "daria_bend 0 20\n"


def test_lines_that_cannot_be_followed_are_named(weizmann: Path, tmp_path: Path) -> None:
    released = tmp_path / "Test_list_16.txt"
    released.write_text(
        "daria_bend 0 20 \nC:\\data\\eli_run.npy 2 30\n\n/data/ido_run 0 20\neli_run 30 42\neli_run 0 8\n"
    )
    report, store = run(weizmann, "weizmann", lists=(released,))
    assert spans(store) == [("daria_bend", "test", 0, 21), ("eli_run", "test", 2, 29)]
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert "no usable file ido_run.npy" in reasons["ido_run 0 20"]
    assert "frames 0 to 41" in reasons["eli_run 30 42"] and "9 frames" in reasons["eli_run 0 8"]
    assert any("1 files are in no list" in note.text for note in report.notes)
    with pytest.raises(DataError, match="ido_run 0 20"):
        run(weizmann, "weizmann", lists=(released,), strict=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "nothing"), ("daria_bend 0\n", "line 1"), ("a 0 9\nb 5 3\n", "line 2"), ("a 0 x\n", "line 1"),
     ("a -1 9\n", "line 1"), ("a 0 9 9\n", "line 1"), ("a 0 99999999999\n", "line 1")],
)  # fmt: skip
def test_a_damaged_list_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "Train_list_20.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_list(path)


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Train_list_1.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("Train_list_1.txt", "Train_list_2.txt"):
        with pytest.raises(DataError, match=name):
            read_list(tmp_path / name)
    for name, split in (("mug2_Train_list_10.txt", "train"), ("miniclip_test_LIST_20.txt", "test")):
        assert list_split(Path("train_list_of") / name) == split
    for name in ("list.txt", "Train_list_Test_list.txt", "Training.txt"):
        with pytest.raises(DataError, match=r"Train_list or Test_list"):
            list_split(Path(name))


@given(st.lists(st.tuples(st.from_regex("[a-z0-9]+_[a-z]+", fullmatch=True), st.integers(0, 10**6), st.integers(0, 99)),
                min_size=1))  # fmt: skip
@settings(max_examples=25)
def test_written_lists_are_read_back(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lists") / "Train_list_20.txt"
    wanted = [ListLine(name, first, first + more) for name, first, more in lines]
    write_list(path, wanted)
    assert read_list(path) == wanted
