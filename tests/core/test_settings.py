"""Command line, TOML and Python make the same settings object, or say what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vidgen.errors import SettingsError
from vidgen.settings import build_settings, parse_assignments, read_toml
from vidgen.trainer.g3an_settings import G3ANTrainSettings


def test_the_same_object_comes_from_a_command_line_a_file_and_python(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('g_lr = 1e-4\nframe_steps = [1, 2]\nuse_attention = true\ng_mode = "3d"\n')
    typed = parse_assignments(["g_lr=1e-4", "frame_steps=[1,2]", "use_attention=true", "g_mode=3d"])
    from_file = build_settings(G3ANTrainSettings, ("file", read_toml(tmp_path / "run.toml")))
    from_words = build_settings(G3ANTrainSettings, ("words", typed))
    assert from_file == from_words
    assert from_file == G3ANTrainSettings(g_lr=1e-4, frame_steps=(1, 2), use_attention=True, g_mode="3d")


def test_later_layers_win() -> None:
    settings = build_settings(G3ANTrainSettings, ("a", {"ch_g": 8, "ch_d": 8}), ("b", {"ch_g": 4}))
    assert (settings.ch_g, settings.ch_d) == (4, 8)


@pytest.mark.parametrize("text", ["5", "2024-01-01", "1e3", "true", "a b"])
def test_text_stays_the_text_that_was_typed(text: str) -> None:
    assert build_settings(G3ANTrainSettings, ("--set", parse_assignments([f"exp_name={text}"]))).exp_name == text


def test_none_switches_an_optional_setting_off() -> None:
    assert (
        build_settings(G3ANTrainSettings, ("a", {"steps": 5}), ("b", parse_assignments(["steps=none"]))).steps is None
    )


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("ch_q=4", "did you mean 'ch_g'"),
        ("ch_g=wide", "ch_g"),
        ("g_mode=4d", "'4d'"),
        ("batch_size=0", "at least 1"),
        ("ema=1.5", "0.999"),
        ("img_size=128", "64"),
        ("n=64", "vidgen sample -n"),
        ("random_seed=99999999999", "below"),
        ("batch_size=true", "no true or false"),
    ],
)
def test_a_bad_value_is_named_with_the_way_out(assignment: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(G3ANTrainSettings, ("--set", parse_assignments([assignment])))
    assert said in str(caught.value)


@pytest.mark.parametrize("assignment", ["ch_g", "=4", ""])
def test_an_assignment_without_key_and_value_is_refused(assignment: str) -> None:
    with pytest.raises(SettingsError, match="key=value"):
        parse_assignments([assignment])


@pytest.mark.parametrize("content", [b"= nonsense", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"x\.toml"):
        read_toml(tmp_path / "x.toml")
    with pytest.raises(SettingsError, match="none"):
        read_toml(tmp_path / "none.toml")


def test_every_setting_survives_a_round_trip_through_json() -> None:
    settings = G3ANTrainSettings(ch_g=16, frame_steps=(1, 3), minutes=2.5)
    again = build_settings(G3ANTrainSettings, ("stored", dataclasses.asdict(settings)))
    assert again == settings


@pytest.mark.parametrize("text", ["bend, wave-two", '["bend", "wave-two"]'])
def test_lists_are_typed_with_commas_or_as_toml(text: str) -> None:
    from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings

    assert build_settings(TwoStreamVANTrainSettings, ("t", {"classes": text})).classes == ("bend", "wave-two")
    assert build_settings(G3ANTrainSettings, ("t", {"frame_steps": "1,4"})).frame_steps == (1, 4)
