"""The demo tells the whole story, and its page shows what it made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vidgen.demo import DemoSettings, _clear, demo
from vidgen.errors import StorageError


@pytest.mark.slow
def test_the_demo_makes_a_page_whose_pictures_are_there(tmp_path: Path) -> None:
    report = demo(DemoSettings(tmp_path / "demo", minutes=0))
    page = report.report.read_text(encoding="utf-8")
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) >= 6
    for picture in pictures:
        assert (tmp_path / "demo" / picture).stat().st_size > 500
    for step in report.steps:
        assert step.command.startswith("vidgen ") and step.seconds > 0
    assert page.count("g3an-fp16.onnx@") >= 2 and page.count("tsv.onnx@") >= 2
    assert "Inception Score" in page
    scores = next(step for step in report.steps if step.title == "G3AN: scores")
    assert scores.table is not None and len(scores.table.rows) in (6, 12)
    assert page.count("half precision − float32") > len(scores.table.rows) / 6
    assert (tmp_path / "demo" / "g3an-scores.json").stat().st_size > 1000
    again = demo(DemoSettings(tmp_path / "demo", minutes=0))
    assert again.report.exists()


def test_what_a_kill_left_unfinished_is_cleared(tmp_path: Path) -> None:
    for name in ("demo.json", ".partial-1-g3an.onnx", "g3an.onnx"):
        (tmp_path / name).write_text('{"vidgen": "1"}')
    (tmp_path / ".partial-1-faces").mkdir()
    _clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


@pytest.mark.parametrize("files", [{"precious": ""}, {"demo.json": "[]"}, {"demo.json": '{"vidgen": "1"}', "mine": ""}])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(StorageError, match="ANOTHER_FOLDER"):
        demo(DemoSettings(tmp_path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
