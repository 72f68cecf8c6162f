"""`vidgen sample` as typed: options of models with classes, what it prints, and how mistakes are answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vidgen.cli import app


def _run(*words: str | Path) -> tuple[int, str, str]:
    ran = CliRunner().invoke(app, ["sample", *map(str, words)])
    return ran.exit_code, ran.stdout, ran.stderr


def test_json_names_every_file(small_actor: Callable[[], Path], tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), (200, 40, 0)).save(tmp_path / "me.png")
    words = ("--grid", "2x2", "--labels", "walk,jump", "--frames", "3", "--masks", "--strips", "--format", "webp")
    start = ("--engine", small_actor(), "-o", tmp_path / "out", "--first-frame", tmp_path / "me.png", *words)
    code, out, _ = _run(*start, "--threads", "1", "--json")
    assert code == 0
    values = json.loads(out)
    cells = ["0_0", "0_1", "1_0", "1_1"]
    assert [Path(name).stem for name in values["files"]] == cells
    for kind in ("masks", "strips"):
        assert values[kind] == [str(tmp_path / "out" / kind / f"{cell}.png") for cell in cells]
    assert all(Path(name).exists() for kind in ("files", "sheets", "masks", "strips") for name in values[kind])
    code, out, _ = _run(*start, "--threads", "1", "--resume")
    assert code == 0
    assert "0 videos" in out and "4 kept" in out and "masks: 4 images" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", ","), "no class name"),
        (("--labels", "fly"), "expected one of walk, wave, jump"),
        (("--grid", "4x2", "--grid-by", "class"), "expected at most 3"),
        (("--grid-by", "class"), "--grid"),
        (("--first-frame", "missing.png"), "no such file"),
        (("--strips", "--format", "png"), "drop --strips"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    words: tuple[str, ...], said: str, small_actor: Callable[[], Path], tmp_path: Path
) -> None:
    code, _, errors = _run("--engine", small_actor(), "-o", tmp_path / "out", *words)
    assert code == 2
    assert said in errors
    assert not (tmp_path / "out").exists()
