"""An export leaves a verified artifact with its manifest, or nothing."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

import vidgen.export.lowering_cpu_layers as layers
from vidgen._child import child_command
from vidgen._files import sha256
from vidgen.errors import CheckpointError, ExportError, SamplingError, SettingsError, StorageError, VerificationError
from vidgen.export import ExportSettings, export, pipeline
from vidgen.runtime.manifest import manifest_path, read_manifest


def test_artifact_and_manifest_tell_the_whole_story(checkpoint, tmp_path):
    source, out = checkpoint(), tmp_path / "deep" / "g3an.onnx"
    report = export(ExportSettings(source, out))
    manifest = read_manifest(out)
    assert json.loads(json.dumps(report.manifest.to_dict())) == json.loads(json.dumps(manifest.to_dict()))
    assert report.paths == (out, manifest_path(out))
    assert (manifest.model, manifest.config.ch, manifest.step) == ("g3an", 4, 7)
    assert (manifest.fps, manifest.labels, manifest.data["content_hash"]) == (12.5, ("smile", "nod"), "0123")
    assert (manifest.sha256, manifest.checkpoint_sha256) == (sha256(out), sha256(source))
    assert (manifest.lowering, manifest.opset, manifest.precision.kind) == ("cpu", 20, "float32")
    assert "vidgen" in manifest.builder and "torch" in manifest.builder
    assert manifest.rebuild == f"vidgen export {source} -o {out} --for cpu --output uint8"
    (check,) = manifest.verification
    assert check.arrow == "torch -> onnx" and len(check.cases) == 4 and check.max_grey_levels < 0.0255
    stored = {prop.key: prop.value for prop in onnx.load(out).metadata_props}
    assert stored["vidgen.checkpoint"] == sha256(source) and json.loads(stored["vidgen.config"])["ch"] == 4
    assert sorted(path.name for path in out.parent.iterdir()) == ["g3an.onnx", "g3an.onnx.json"]
    assert "vidgen sample" in str(report) and json.loads(json.dumps(report.to_dict()))["manifest"]["model"] == "g3an"


def test_half_precision_verifies_both_arrows(checkpoint, tmp_path):
    out = tmp_path / "half.onnx"
    source = checkpoint(use_attention=False)
    assert not export(ExportSettings(source, out)).replaced
    report = export(ExportSettings(source, out, fp16=True, lowering="tensorrt"))
    assert report.replaced == "float32" and f"{out}: replaces an earlier one in float32" in str(report)
    manifest = read_manifest(out)
    assert [check.arrow for check in manifest.verification] == ["torch -> onnx", "torch -> onnx, half"]
    assert manifest.precision.kind == "float16" and manifest.precision.half_share > 0.85
    assert manifest.precision.kept_float32 == ("Tanh", "after Tanh")
    assert "--fp16" in manifest.rebuild and "in half" in str(report)


@pytest.mark.parametrize(
    "config", [{"mode": "3d", "use_attention": False}, {"mode": "2p1d", "attention_merge": "clean"}], ids=str
)
def test_foreign_configurations_export(checkpoint, tmp_path, config):
    manifest = export(ExportSettings(checkpoint(**config), tmp_path / "g3an.onnx")).manifest
    assert {name: getattr(manifest.config, name) for name in config} == config


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    hashes = [export(ExportSettings(source, tmp_path / name)).manifest.sha256 for name in ("a.onnx", "b.onnx")]
    assert hashes[0] == hashes[1]


def test_frames_become_the_default_and_are_verified(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    manifest = export(ExportSettings(source, tmp_path / "g3an.onnx", frames=28)).manifest
    assert manifest.interface.frames.default == 28 and "batch 1, time 4" in manifest.verification[0].cases
    assert "--frames 28" in manifest.rebuild
    with pytest.raises(SamplingError):
        export(ExportSettings(source, tmp_path / "other.onnx", frames=17))
    assert not (tmp_path / "other.onnx").exists()


def test_batches_are_verified(checkpoint, tmp_path):
    settings = ExportSettings(checkpoint(use_attention=False), tmp_path / "g3an.onnx", batch="2:4:64")
    cases = export(settings).manifest.verification[0].cases
    assert {"batch 2, time 1", "batch 4, time 1"} <= set(cases)


BAD = [
    ({"out": None}, "-o"),
    ({"out": "g3an"}, r"expected \.onnx"),
    ({"out": "g3an.pb"}, r"expected \.onnx"),
    ({"lowering": "gpu"}, "--for gpu"),
    ({"output": "rgb"}, "--output rgb"),
    ({"opset": 11}, "--opset 11"),
    ({"frames": 0}, "--frames 0"),
    ({"batch": "1:2"}, "MIN:OPT:MAX"),
    ({"batch": "4:2:8"}, "MIN:OPT:MAX"),
    ({"frames": "16:8:48"}, "MIN:OPT:MAX"),
    ({"frames": "many"}, "--frames many"),
    ({"batch": "1:1:2,4:8:16"}, "several profiles are for engines"),
    ({"tolerance": 1.0}, "add --fp16"),
    ({"tolerance": 0.0, "fp16": True}, "--tolerance 0"),
    ({"plugin_library": "p.so"}, "--sepconv plugin"),
    ({"gpu": "sm_89"}, "--gpu sm_89, expected nothing"),
    ({"builder": "tensorrt"}, "--builder"),
    ({"workspace": "1GiB"}, "--workspace"),
    ({"strip_plan": True}, "--strip-plan"),
    ({"engine": "e.trt"}, r"expected \.plan"),
    ({"out": "g.plan", "engine": "e.plan"}, "names an engine already"),
    ({"out": "g.plan", "lowering": "cpu"}, "--for cpu, expected tensorrt"),
    ({"out": "g.plan", "sepconv": "plugin", "plugin_library": "none.so"}, "no such file"),
    ({"out": "g.plan", "workspace": "99999999TB"}, "1MiB to 1TiB"),
    ({"out": ".plan"}, "MODEL"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_settings_that_cannot_be_met_are_refused_at_once(options, message):
    with pytest.raises(SettingsError, match=message):
        ExportSettings(**{"checkpoint": Path("g.safetensors"), "out": Path("g.onnx"), **options})


@pytest.mark.parametrize(
    ("options", "onnx", "engine"),
    [
        ({"out": "g.plan"}, "g.onnx", "g.plan"),
        ({"out": "g.onnx", "engine": "e.plan"}, "g.onnx", "e.plan"),
        ({"engine": "runs/e.plan"}, "runs/e.onnx", "runs/e.plan"),
        ({"out": "g.plan", "engine": "g.plan"}, "g.onnx", "g.plan"),
    ],
)
def test_an_engine_is_written_beside_its_onnx_file(options, onnx, engine):
    settings = ExportSettings(Path("g.safetensors"), **options)
    assert (settings.path, settings.engine, settings.lowers_for) == (Path(onnx), Path(engine), "tensorrt")
    assert ExportSettings(Path("g.safetensors"), **options, lowering="cpu", output="float32").lowers_for == "cpu"


def test_an_onnx_file_is_for_cpus_unless_it_is_asked_otherwise():
    assert ExportSettings(Path("g.safetensors"), Path("g.onnx")).lowers_for == "cpu"


def test_separable_convolution_does_not_apply(checkpoint, tmp_path):
    with pytest.raises(SettingsError, match="--sepconv"):
        export(ExportSettings(checkpoint(), tmp_path / "g.onnx", sepconv="standard"))


def test_bad_checkpoints_are_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    for name in ("missing.safetensors", "bad.safetensors"):
        with pytest.raises(CheckpointError):
            export(ExportSettings(tmp_path / name, tmp_path / "g.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_a_place_that_cannot_be_written_is_named_before_any_work(checkpoint, tmp_path, monkeypatch):
    source = checkpoint(use_attention=False)
    monkeypatch.setattr(pipeline, "_write_onnx", lambda *_: pytest.fail("worked in vain"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        export(ExportSettings(source, tmp_path / "file" / "g.onnx"))


def _shift_the_wrong_way(monkeypatch):
    monkeypatch.setattr(layers, "TAPS", ((1, 3), (2, 0)))


def _forget_the_bias_in_time(monkeypatch):
    real = layers.TimeDoubling.__init__

    def broken(self, weight, bias, still=0):
        real(self, weight, torch.zeros_like(bias), still)

    monkeypatch.setattr(layers.TimeDoubling, "__init__", broken)


def _swap_even_and_odd_frames(monkeypatch):
    from vidgen.export import lowering_cpu

    def swapped(even, odd):
        return torch.stack((odd, even), dim=2).flatten(1, 2)

    monkeypatch.setattr(layers, "alternate", swapped)
    monkeypatch.setattr(lowering_cpu, "alternate", swapped)


def _scale_attention(monkeypatch):
    from vidgen.export import lowering_cpu_attention as attention

    real = attention.SpatialAttention.__init__

    def broken(self, *arguments):
        real(self, *arguments)
        self.query.mul_(0.98)

    monkeypatch.setattr(attention.SpatialAttention, "__init__", broken)


FAULTS = [_shift_the_wrong_way, _forget_the_bias_in_time, _swap_even_and_odd_frames, _scale_attention]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_lowering_leaves_no_artifact(checkpoint, tmp_path, monkeypatch, fault):
    source = checkpoint(use_attention=fault is _scale_attention)
    fault(monkeypatch)
    with pytest.raises(VerificationError, match="does not compute"):
        export(ExportSettings(source, tmp_path / "g3an.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_failed_export_leaves_the_old_artifact(checkpoint, tmp_path, monkeypatch):
    source, out = checkpoint(use_attention=False), tmp_path / "g3an.onnx"
    export(ExportSettings(source, out))
    before = read_manifest(out)
    _swap_even_and_odd_frames(monkeypatch)
    with pytest.raises(VerificationError):
        export(ExportSettings(source, out))
    assert read_manifest(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g3an.onnx", "g3an.onnx.json", source.name]


def test_an_interrupted_export_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    source = checkpoint(use_attention=False)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.verification, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(ExportSettings(source, tmp_path / "g3an.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_killed_export_leaves_no_artifact(checkpoint, tmp_path):
    source, out = checkpoint(use_attention=False), tmp_path / "out" / "g3an.onnx"
    process = subprocess.Popen(
        child_command("vidgen", "export", str(source), "-o", str(out)), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "comparing" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists() and not manifest_path(out).exists()


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, vidgen.export; sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'onnxruntime')))"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0


def test_a_tolerance_is_met_with_what_it_needs_in_float32(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "search", functools.partial(pipeline.search, most=8))
    source = checkpoint(use_attention=False)
    usual = export(ExportSettings(source, tmp_path / "a.onnx", fp16=True))
    levels = usual.manifest.verification[-1].max_grey_levels * 0.9
    told = []
    settings = ExportSettings(source, tmp_path / "b.onnx", fp16=True, tolerance=levels)
    closer = export(settings, advance=lambda *words: told.append(words))
    precision = closer.manifest.precision
    assert closer.manifest.verification[-1].max_grey_levels <= levels and precision.kept_nodes and told
    assert usual.manifest.precision.half_share > precision.half_share >= 0.5 and not usual.manifest.precision.kept_nodes
    assert closer.layers is not None and usual.layers is not None and closer.layers.half < usual.layers.half
    assert (
        read_manifest(tmp_path / "b.onnx").precision == precision and f"--tolerance {levels}" in closer.manifest.rebuild
    )
    assert str(closer.layers).splitlines()[0] in str(closer) and closer.to_dict()["layers"]["kept"]


@pytest.mark.slow
def test_a_tolerance_that_cannot_be_met_leaves_nothing(checkpoint, tmp_path):
    with pytest.raises(ExportError, match="cannot keep") as caught:
        export(ExportSettings(checkpoint(use_attention=False), tmp_path / "g.onnx", fp16=True, tolerance=1e-6))
    assert "--tolerance" in caught.value.fix and not list(tmp_path.glob("g.onnx*"))
