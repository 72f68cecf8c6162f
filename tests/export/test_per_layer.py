"""Layer by layer: the first layer that a fault changes is named; polygraphy reads and rewrites our files."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vidgen.errors import ArtifactError, VidgenError
from vidgen.export import ExportSettings, export
from vidgen.export.onnx_graph import graphs
from vidgen.runtime.manifest import read_manifest, write_manifest

pytest.importorskip("polygraphy")


def _change(artifact, change):
    from vidgen._files import sha256

    model = onnx.load(artifact)
    change(model)
    manifest = read_manifest(artifact)
    onnx.save(model, artifact)
    write_manifest(artifact, dataclasses.replace(manifest, sha256=sha256(artifact)))


def _scale(part):
    """Make the weights of a part 5 % larger."""

    def change(model):
        tensors = [t for g in graphs(model.graph) for t in g.initializer if part in t.name and len(t.dims) > 1]
        assert tensors
        for tensor in tensors:
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((value * 1.05).astype(value.dtype), tensor.name))

    return change


@pytest.mark.parametrize("options", [{}, {"fp16": True}], ids=["float32", "half"])
def test_the_first_layer_that_a_fault_changes_is_named(checkpoint, tmp_path, options):
    from vidgen.export.per_layer import per_layer

    source, artifact = checkpoint(use_attention=False), tmp_path / "g.onnx"
    export(ExportSettings(source, artifact, lowering="tensorrt", **options))
    good = per_layer(source, artifact)
    assert good.ok and good.first_diverging is None and "none of" in str(good)
    assert len(good.layers) > 50 and json.loads(json.dumps(good.to_dict()))["ok"] is True
    _change(artifact, _scale("block3.conv_s"))
    report = per_layer(source, artifact)
    assert not report.ok and report.first_diverging.name.startswith("block3.conv_s")
    assert "block3.conv_s" in str(report) and "<- diverges" in report.table()
    assert report.to_dict()["first_diverging"]["operator"] == report.first_diverging.operator


def test_a_fault_inside_a_loop_is_named(actor_checkpoint, tmp_path):
    from vidgen.export.per_layer import per_layer

    source, artifact = actor_checkpoint(), tmp_path / "a.onnx"
    export(ExportSettings(source, artifact, fp16=True))
    assert per_layer(source, artifact).ok
    _change(artifact, _scale("kernelGen"))
    inside = [layer for layer in per_layer(source, artifact).layers if layer.inside and not layer.ok]
    assert inside and inside[0].name.startswith("step.kernelGen") and inside[0].inside == "step 1 of loop/Loop"


def test_other_files_and_machines_without_a_gpu_are_told(checkpoint, tmp_path):
    from vidgen.export.per_layer import per_layer

    source, artifact = checkpoint(use_attention=False), tmp_path / "g.onnx"
    with pytest.raises(ArtifactError, match="no such file"):
        per_layer(source, artifact)
    with pytest.raises(ArtifactError, match=r"expected \.onnx"):
        per_layer(source, source)
    export(ExportSettings(source, artifact))
    from vidgen.runtime.cuda import open_cuda

    try:
        open_cuda().close()
    except VidgenError:
        with pytest.raises(VidgenError):
            per_layer(source, artifact, device=True)


def _polygraphy(*words):
    done = subprocess.run(
        [sys.executable, "-c", "from polygraphy.tools import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["g3an", "g3an half", pytest.param("twostreamvan half", marks=pytest.mark.slow)])
def test_polygraphy_inspects_and_sanitises_our_files(checkpoint, actor_checkpoint, tmp_path, kind):
    pytest.importorskip("onnx_graphsurgeon")
    from vidgen.runtime.sampler import Sampler

    source = checkpoint(use_attention=False) if kind.startswith("g3an") else actor_checkpoint(joint=False)
    artifact = tmp_path / "v.onnx"
    manifest = export(ExportSettings(source, artifact, fp16=kind.endswith("half"), lowering="tensorrt")).manifest
    told = _polygraphy("inspect", "model", artifact)
    assert "video" in told and all(spec.name in told for spec in manifest.interface.inputs)
    with Sampler.open(artifact) as sampler:
        before = sampler.sample(2, seed=1)
    clean = tmp_path / "clean.onnx"
    # The shapes that it infers for sums of videos and temporal streams are wrong; in half ONNX Runtime believes them.
    plain = ["--no-shape-inference"] if kind == "g3an half" else []
    _polygraphy("surgeon", "sanitize", artifact, "-o", clean, *plain)
    onnx.checker.check_model(onnx.load(clean))
    from vidgen._files import sha256

    write_manifest(clean, dataclasses.replace(manifest, sha256=sha256(clean)))
    with Sampler.open(clean) as sampler:
        np.testing.assert_array_equal(sampler.sample(2, seed=1), before)


def test_one_weight_is_seen_in_the_whole_and_the_layer_is_suspected(checkpoint, tmp_path):
    from vidgen._console import Console
    from vidgen.commands.models import verify

    def change(model):
        (tensor,) = (each for each in model.graph.initializer if each.name == "block3.conv_s.0.weight")
        value = numpy_helper.to_array(tensor).copy()
        value.flat[0] += 0.5 / 16
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

    source, artifact = checkpoint(use_attention=False), tmp_path / "g.onnx"
    export(ExportSettings(source, artifact, lowering="tensorrt"))
    console = Console(as_json=False, quiet=True)
    assert verify(console, source, artifact, per_layer=True).ok
    _change(artifact, change)
    result = verify(console, source, artifact, per_layer=True)
    assert not result.ok and not result.values["verification"]["matches"] and "DOES NOT MATCH" in result.text
    named = result.values.get("suspect") or result.values["first_diverging"]
    assert named["name"].startswith("block3.conv_s")
