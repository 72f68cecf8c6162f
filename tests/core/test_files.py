"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidgen._files import PARTIAL_PREFIX, atomic_directory, atomic_file, atomic_files, sha256, write_json
from vidgen.errors import StorageError


def test_a_file_appears_whole_with_its_suffix_kept_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "new" / "video.mp4"
    with atomic_file(target) as partial:
        assert partial.suffix == ".mp4" and partial.parent == target.parent
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="mid-way"), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError("mid-way")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(StorageError, match="disk is full"), atomic_file(target) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), atomic_file(tmp_path / "file" / "below"):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_directory(target) as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(target) as partial:
        (partial / "a").write_text("whole")
        assert not target.exists()
    assert (target / "a").read_text() == "whole"


def test_a_full_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("")
    with pytest.raises(StorageError, match="not empty"), atomic_directory(target):
        pass
    assert (target / "old").exists()
    with atomic_directory(target, replace=True) as partial:
        (partial / "new").write_text("")
    assert [path.name for path in target.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [target]


def test_json_is_written_with_a_final_newline_and_hashed_by_content(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, 2]})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [1, 2]} and text.endswith("}\n")
    write_json(tmp_path / "y.json", {"a": [1, 2]})
    assert sha256(tmp_path / "x.json") == sha256(tmp_path / "y.json")


def test_files_that_belong_together_all_change_or_none(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a", "b", "c")]
    with atomic_files(*names) as partials:
        for partial in partials:
            partial.write_text("new")
        assert not any(path.exists() for path in names)
    assert [path.read_text() for path in names] == ["new"] * 3
    with pytest.raises(ZeroDivisionError), atomic_files(*names) as partials:
        partials[0].write_text("newer")
        raise ZeroDivisionError
    # One that was not written fails before any is renamed.
    with pytest.raises(StorageError), atomic_files(*names) as partials:
        partials[0].write_text("newer")
    assert [path.read_text() for path in names] == ["new"] * 3 and len(list(tmp_path.iterdir())) == 3


def test_a_folder_in_the_way_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(StorageError, match="a folder of that name"), atomic_files(tmp_path / "a", tmp_path / "b"):
        pytest.fail("worked in vain")
    assert not (tmp_path / "a").exists()


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead, alive = (tmp_path / f"{PARTIAL_PREFIX}{pid}-a.onnx" for pid in (done.pid, os.getppid()))
    other = tmp_path / f"{PARTIAL_PREFIX}{done.pid}-b.onnx"
    for path in (dead, alive, other):
        path.write_text("half")
    with atomic_file(tmp_path / "a.onnx") as partial:
        partial.write_text("whole")
    assert not dead.exists() and alive.exists() and other.exists()
