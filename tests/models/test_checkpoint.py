"""A checkpoint says what it is, loads exactly, and refuses what it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.checkpoint import (
    METADATA_KEY,
    CheckpointInfo,
    DataDescription,
    load_generator,
    load_into,
    read_info,
    save_checkpoint,
)
from vidgen.models.config import G3ANConfig, G3ANDiscriminatorConfig, config_from
from vidgen.models.g3an import Generator, ImageDiscriminator

CONFIG = G3ANConfig(c_a=6, c_m=3, ch=2, mode="2p1d", use_attention=True, attention_merge="clean")
INFO = CheckpointInfo("g3an", CONFIG, 12, DataDescription("faces", 12.5, ("smile", "nod"), "abc"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "g.safetensors"
    save_checkpoint(path, Generator(CONFIG).state_dict(), INFO)
    return path


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = Generator(CONFIG).state_dict()
    save_checkpoint(tmp_path / "g.safetensors", saved, INFO)
    generator, info = load_generator(tmp_path / "g.safetensors")
    assert info == INFO and not generator.training
    assert generator.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in generator.state_dict().items())


def test_names_are_the_reference_names(checkpoint: Path) -> None:
    names = set(load_generator(checkpoint)[0].state_dict())
    assert {"block1.conv_v.0.weight_orig", "block5.conv_t.1.running_var", "fsa.ssa.gamma", "to_rgb.0.bias"} <= names


def test_reading_what_a_checkpoint_is_needs_no_torch(checkpoint: Path) -> None:
    code = f"import sys; from vidgen.models.checkpoint import read_info; print(read_info({str(checkpoint)!r}).step)"
    code += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "12"


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0, 0.999))
def test_a_truncated_checkpoint_is_refused(checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    broken = checkpoint.with_name("broken.safetensors")
    broken.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as caught:
        load_generator(broken)
    assert caught.value.fix


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_info(tmp_path / "x.safetensors")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(CheckpointError, match="cannot open"):
            read_info(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"model": "sgvan"},
        {"config": {"ch": 0}},
        {"config": {"width": 3}},
        {"step": "many"},
        {"data": {"rate": 3}},
    ],
)
def test_foreign_metadata_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    values = {**json.loads(INFO.to_json()), **change}
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={METADATA_KEY: json.dumps(values)})
    with pytest.raises((CheckpointError, SettingsError)):
        read_info(tmp_path / "x.safetensors")


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not written by vidgen"):
        read_info(tmp_path / "x.safetensors")


def test_a_discriminator_is_not_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    info = CheckpointInfo("g3an_discriminator", G3ANDiscriminatorConfig("image", 2))
    save_checkpoint(path, ImageDiscriminator(2).state_dict(), info)
    assert read_info(path) == info
    with pytest.raises(SettingsError, match="discriminator"):
        load_generator(path)


def test_tensors_that_do_not_fit_are_named() -> None:
    tensors = Generator(CONFIG).state_dict()
    tensors["extra"] = tensors.pop("to_rgb.0.bias")
    tensors["to_rgb.0.weight"] = torch.zeros(3, 4, 1, 1, 1)
    with pytest.raises(CheckpointError) as caught:
        load_into(Generator(CONFIG), tensors, "x")
    for part in ("to_rgb.0.bias is missing", "extra is unknown", "to_rgb.0.weight is [3, 4, 1, 1, 1]"):
        assert part in str(caught.value)


def test_configurations_survive_json() -> None:
    for model, config in (("g3an", CONFIG), ("g3an_discriminator", G3ANDiscriminatorConfig("video", 8))):
        values = json.loads(CheckpointInfo(model, config).to_json())
        assert config_from(values["model"], values["config"]) == config
