"""Verification of engines, with ONNX Runtime in the place of one; and what is said where no GPU is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vidgen._files import sha256
from vidgen.errors import ArtifactError, VerificationError
from vidgen.export import ExportSettings, export, verify
from vidgen.export.per_layer import per_layer
from vidgen.export.verify import references
from vidgen.export.verify_engine import compare_engine, engine_cases, verify_engine
from vidgen.models.config import G3ANConfig
from vidgen.runtime.backends.onnxruntime import OnnxRuntimeBackend
from vidgen.runtime.manifest import Engine, EngineProfile, manifest_path, read_manifest, write_manifest
from vidgen.runtime.tensorrt_library import device_architecture

PROFILES = (
    EngineProfile((1, 2, 4), (1, 1, 2)),
    EngineProfile((1, 2, 4), (1, 1, 2)),
    EngineProfile((8, 64, 64), (1, 2, 2)),
)


def _plan(onnx: Path) -> Path:
    """A file with the manifest of an engine that was built from the ONNX file."""
    plan = onnx.with_suffix(".plan")
    plan.write_bytes(b"not a real engine")
    manifest = read_manifest(onnx)
    engine = Engine("tensorrt-rtx", "1.7", PROFILES)
    made = dataclasses.replace(manifest, sha256=sha256(plan), onnx_sha256=manifest.sha256, engine=engine)
    write_manifest(plan, dataclasses.replace(made, target=("sm_89",)))
    return plan


def test_every_profile_is_run_at_its_ends_and_in_its_middle():
    cases = engine_cases(G3ANConfig().interface("uint8"), PROFILES)
    assert [(case.batch, case.length) for case in cases] == [(1, 1), (1, 2), (2, 1), (8, 1), (8, 2), (16, 2)]
    assert all(any(profile.holds(case.batch, case.length) for profile in PROFILES) for case in cases)


@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("fp16", [False, True])
def test_what_computes_the_same_matches_and_what_does_not_is_found(checkpoint, tmp_path, output, fp16):
    source, onnx = checkpoint(use_attention=False), tmp_path / "g.onnx"
    export(ExportSettings(source, onnx, output=output, fp16=fp16, lowering="tensorrt"))
    manifest = read_manifest(onnx)
    expected = references(source, engine_cases(manifest.interface, PROFILES[:1]), manifest.interface)
    with OnnxRuntimeBackend.load(onnx, manifest) as backend:
        outcome = compare_engine(tmp_path / "g.plan", backend, expected)
        assert outcome and outcome.checks[0].arrow == "torch -> engine" and len(outcome.checks[0].cases) == 3
        moved = [dataclasses.replace(each, video=np.clip(each.video + 0.03, -1, 1)) for each in expected]
        wrong = compare_engine(tmp_path / "g.plan", backend, moved)
    assert not wrong and wrong.checks[0].max_grey_levels == pytest.approx(3.8, abs=2)


@pytest.mark.skipif(device_architecture() is not None, reason="there is a GPU")
def test_without_a_gpu_the_graph_it_was_built_from_is_named(checkpoint, tmp_path):
    source, onnx = checkpoint(use_attention=False), tmp_path / "g.onnx"
    export(ExportSettings(source, onnx))
    plan = _plan(onnx)
    with pytest.raises(ArtifactError, match="no GPU") as caught:
        verify(source, plan)
    assert caught.value.fix.startswith(f"vidgen verify {source} {onnx}")
    layers = per_layer(source, plan)
    assert layers.artifact == onnx and layers.ok and "ONNX Runtime" in layers.runtime
    manifest_path(onnx).unlink()
    onnx.unlink()
    with pytest.raises(ArtifactError) as caught:
        verify_engine(source, plan, read_manifest(plan))
    assert "sm_89" in caught.value.fix
    with pytest.raises(VerificationError, match="was not made from"):
        verify(checkpoint("wider", ch=6, use_attention=False), plan)
