"""Real clips go the whole way: windows, training, ONNX, samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.real_clips import FACES, link_files

import vidgen
from vidgen.data.prepare import PrepareSettings, prepare
from vidgen.export import ExportSettings, export
from vidgen.settings import build_settings
from vidgen.trainer.g3an_settings import PRESETS, G3ANTrainSettings
from vidgen.trainer.train import train


@pytest.mark.slow
def test_real_faces_are_trained_on_exported_and_sampled(tmp_path: Path) -> None:
    source = link_files(tmp_path / "faces", FACES)
    data = prepare(PrepareSettings(source, tmp_path / "store", window=32, window_stride=16, strict=True))
    place = {"data_path": str(data.out), "save_path": str(tmp_path), "exp_name": "run"}
    run = train(build_settings(G3ANTrainSettings, ("smoke", PRESETS["smoke"]), ("place", place)))
    manifest = export(ExportSettings(checkpoint=run.checkpoint, out=tmp_path / "g3an.onnx")).manifest
    assert manifest.data["content_hash"] == data.info.content_hash
    with vidgen.load(tmp_path / "g3an.onnx") as artifact, vidgen.load(run.checkpoint) as network:
        videos, expected = artifact.sample(3, seed=1), network.sample(3, seed=1)
    assert videos.shape == (3, 16, 64, 64, 3) and videos.std() > 1
    assert np.abs(videos.astype(int) - expected.astype(int)).max() <= 1
