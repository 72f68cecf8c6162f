"""Official checkpoints meet the reference's vectors after import and export, and a faulty export leaves nothing."""

from __future__ import annotations

import collections
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import vectors
from support.combinations import chequered
from support.fill import fill_module

from vidgen.errors import VerificationError, VidgenError
from vidgen.export import ExportSettings, export, lowering_cpu
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import G3ANConfig
from vidgen.models.g3an import Generator
from vidgen.models.official import import_checkpoint
from vidgen.runtime.backends import open_backend
from vidgen.runtime.manifest import read_manifest


def _official(folder: Path, config: G3ANConfig) -> Path:
    """The checkpoint an official program would have saved: DataParallel's prefix, filled weights."""
    state = fill_module(Generator(config)).state_dict()
    torch.save(collections.OrderedDict((f"module.{name}", value) for name, value in state.items()), folder / "G.pth")
    return folder / "G.pth"


def _cases() -> list[object]:
    """Small cases, and a large one that people have checkpoints of; all large ones, by both lowerings, when slow."""
    everyday, lowerings = "g3an_gen_ch64_noatt_1p2d_b2t1", ("cpu", "tensorrt")
    large = [
        pytest.param(case, lowering, marks=() if (case, lowering) == (everyday, "cpu") else pytest.mark.slow)
        for case in vectors.cases("g3an_gen_ch64_*")
        for lowering in lowerings
    ]
    return [*chequered(vectors.cases("g3an_gen_ch8_*"), lowerings), *large]


@pytest.mark.parametrize(("case", "lowering"), _cases())
def test_official_checkpoints_match_the_reference_through_the_artifact(
    tmp_path: Path, case: str, lowering: str
) -> None:
    stored = vectors.load(case)
    width, attention, mode = re.fullmatch(r"g3an_gen_ch(\d+)_(att|noatt)_(\w+)_b\dt\d", case).groups()
    config = G3ANConfig(ch=int(width), mode=mode, use_attention=attention == "att")
    assert import_checkpoint(_official(tmp_path, config), tmp_path / "g.safetensors").config == config
    settings = ExportSettings(tmp_path / "g.safetensors", tmp_path / "g.onnx", lowering=lowering, output="float32")
    export(settings)
    za, zm = stored["in_za"][:, :, 0, 0, 0], stored["in_zm"][:, :, :, 0, 0]
    with open_backend(tmp_path / "g.onnx") as backend:
        frames = backend.manifest.interface.frames.frames(zm.shape[2])
        video = np.empty((len(za), 3, frames, 64, 64), np.float32)
        backend.run({"za": np.ascontiguousarray(za), "zm": np.ascontiguousarray(zm)}, video)
    vectors.assert_matches(video, stored, "out_video", 1e-3 if case == "g3an_gen_ch64_att_1p2d_b2t1" else 2e-4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled checkpoint of a small generator."""
    return _filled(tmp_path_factory.mktemp("checkpoint") / "g.safetensors")


def _filled(path: Path, **changes: object) -> Path:
    config = G3ANConfig(**{"c_a": 8, "c_m": 4, "ch": 4, "use_attention": False, **changes})
    save_checkpoint(path, fill_module(Generator(config)).state_dict(), CheckpointInfo("g3an", config))
    return path


def _zero_a_bias(model: lowering_cpu.CpuGenerator) -> None:
    model.to_rgb.bias.zero_()


def _turn_time_round(model: lowering_cpu.CpuGenerator) -> None:
    weight = model.block2.conv_v.time.even.weight
    weight.copy_(weight.flip(2))


def _swap_rows_and_columns(model: lowering_cpu.CpuGenerator) -> None:
    for phase in model.block4.conv_v.space.phases:
        phase.weight.copy_(phase.weight.transpose(2, 3).clone())


def _scale_by_a_hundredth(model: lowering_cpu.CpuGenerator) -> None:
    model.block3.conv_v.time.odd.weight.mul_(1.01)


FAULTS = (_zero_a_bias, _turn_time_round, _swap_rows_and_columns, _scale_by_a_hundredth)


@pytest.mark.parametrize(("fault", "fp16", "output"), chequered(FAULTS, (False, True), ("uint8", "float32")))
def test_a_faulty_lowering_is_caught_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault, fp16: bool, output: str
) -> None:
    class Faulty(lowering_cpu.CpuGenerator):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            with torch.no_grad():
                fault(self)

    monkeypatch.setattr(lowering_cpu, "CpuGenerator", Faulty)
    with pytest.raises(VerificationError):
        export(ExportSettings(checkpoint, tmp_path / "g.onnx", fp16=fp16, output=output))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_keeps_the_artifact_that_was_there(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export(ExportSettings(checkpoint, tmp_path / "g.onnx")).manifest
    other = _filled(tmp_path / "other.safetensors", mode="3d")
    monkeypatch.setattr(lowering_cpu.ToRGB, "forward", lambda self, spatial, moving, temporal, output: temporal)
    with pytest.raises(VidgenError):
        export(ExportSettings(other, tmp_path / "g.onnx"))
    assert read_manifest(tmp_path / "g.onnx") == before
