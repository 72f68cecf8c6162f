"""Sampling settings: every bad option is named with a good one, and the command line says the same."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.errors import SettingsError
from vidgen.runtime.settings import SampleSettings


def _settings(**options: Any) -> SampleSettings:
    return SampleSettings(Path("a.onnx"), Path("out"), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "-n 1"),
        ({"batch": 0}, "--batch 1"),
        ({"threads": 0}, "--threads 1"),
        ({"encoders": -1}, "--encoders 1"),
        ({"seed": -1}, "--seed 0"),
        ({"seed": 2**32}, "--seed 0"),
        ({"fps": 0.0}, "--fps 25"),
        ({"fps": float("nan")}, "--fps 25"),
        ({"format": "avi"}, "--format mp4"),
        ({"range": "full"}, "--range model"),
        ({"crf": 99}, "--crf 18"),
        ({"pix_fmt": "rgba"}, "--pix-fmt yuv420p"),
        ({"grid": "8"}, "--grid 8x8"),
        ({"grid": "0x4"}, "--grid 8x8"),
        ({"frames": "16:48"}, "--frames 16:48:4"),
        ({"frames": "48:16:4"}, "--frames 16:48:4"),
        ({"frames": "16:48:0"}, "--frames 16:48:4"),
        ({"frames": "abc"}, "--frames 16:48:4"),
        ({"shard": "4/4"}, "--shard 0/4"),
        ({"shard": "1"}, "--shard 0/4"),
        ({"shard": "-1/4"}, "--shard 0/4"),
        ({"grid": "2x2", "n": 4}, "drop -n"),
        ({"grid": "2x2", "frames": "16:24:4"}, "use --frames 16"),
        ({"group": 8}, "drop --group"),
        ({"grid": "2x2", "grid_by": "row"}, "--grid-by class"),
        ({"grid_by": "class"}, "--grid 4x8"),
        ({"grid": "2x4", "grid_by": "class", "labels": ("a", "b", "c")}, "use --grid 3x4"),
        ({"grid": "2x4", "grid_by": "class", "range": "batch-minmax"}, "use --range model"),
        ({"format": "png", "strips": True}, "drop --strips"),
    ],
)
def test_bad_options_are_answered_with_a_good_one(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _settings(**options)
    assert said in caught.value.fix


def test_notations_are_read() -> None:
    assert _settings(grid="3x5").grid_size == (3, 5)
    assert _settings(shard="2/7").shard_of == (2, 7)
    assert _settings().shard_of == (0, 1)
    assert _settings(frames="20").lengths == (20,)
    assert _settings().lengths == ()


@given(
    rows=st.integers(1, 5),
    labels=st.lists(st.sampled_from("abc"), max_size=5),
    grid_by=st.sampled_from([None, "motion", "class"]),
)
def test_rows_are_classes_if_asked_or_if_each_has_a_label(rows: int, labels: list[str], grid_by: str | None) -> None:
    if grid_by == "class" and labels and len(labels) != rows:
        return
    found = _settings(grid=f"{rows}x2", labels=tuple(labels), grid_by=grid_by).by_class
    assert found == (grid_by == "class" or (grid_by is None and rows > 1 and len(labels) == rows))
    assert not _settings(labels=tuple(labels)).by_class


@given(start=st.integers(1, 60), count=st.integers(0, 9), step=st.integers(1, 9), rest=st.integers(0, 8))
def test_ranges_of_lengths_include_their_end(start: int, count: int, step: int, rest: int) -> None:
    stop = start + count * step
    lengths = _settings(frames=f"{start}:{stop + min(rest, step - 1)}:{step}").lengths
    assert lengths == tuple(range(start, stop + 1, step))


def test_numbers_of_videos_follow_the_demos() -> None:
    assert _settings().videos == 64
    assert _settings(frames="16:48:4").videos == 8
    assert _settings(grid="3x5").videos == 15
    assert _settings(grid="3x5", range="batch-minmax").normalised_together == 15
    assert _settings(range="batch-minmax", n=200).normalised_together == 64


def test_the_command_says_what_differs_from_the_defaults() -> None:
    settings = SampleSettings(
        Path("my models/a.onnx"), Path("out"), n=5, labels=("walk", "jump"), pix_fmt="yuv444p", resume=True, sheet=False
    )
    assert settings.command() == (
        "vidgen sample --engine 'my models/a.onnx' -o out -n 5 --labels walk,jump --resume --pix-fmt yuv444p --no-sheet"
    )
    assert "--resume" not in settings.command(resume=False)
    more = _settings(grid="2x3", grid_by="class", first_frame=Path("a b.png"), masks=True, strips=True)
    assert more.command().endswith("--grid 2x3 --grid-by class --first-frame 'a b.png' --masks --strips")
    assert shlex.split(settings.elsewhere())[5] == "out-2"
    assert shlex.split(SampleSettings(Path("a.onnx"), Path(".")).elsewhere())[5] == "samples-2"
