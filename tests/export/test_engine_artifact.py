"""An export with an engine: four files that belong together, or none."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from vidgen._files import sha256
from vidgen.commands import models as commands
from vidgen.errors import ExportError, SettingsError, StorageError
from vidgen.export import ExportSettings, export, pipeline
from vidgen.export import engine_artifact as artifacts
from vidgen.export.engine import EngineSettings
from vidgen.plugins.sepconv_trt.onnx_form import uses_operator
from vidgen.runtime.manifest import EngineProfile, manifest_path, read_manifest

pytest.importorskip("tensorrt_rtx")
TARGETS = "sm_86,sm_89,sm_120"


def test_the_engine_is_of_the_graph_that_was_verified(checkpoint, tmp_path):
    report = export(ExportSettings(checkpoint(use_attention=False), tmp_path / "g.plan", fp16=True, gpu=TARGETS))
    assert [path.name for path in report.paths] == ["g.onnx", "g.onnx.json", "g.plan", "g.plan.json"]
    graph, plan = read_manifest(tmp_path / "g.onnx"), read_manifest(tmp_path / "g.plan")
    assert report.engine is not None and json.dumps(plan.to_dict()) == json.dumps(report.engine.to_dict())
    assert plan.sha256 == sha256(tmp_path / "g.plan") != graph.sha256
    assert plan.onnx_sha256 == graph.sha256 and plan.checkpoint_sha256 == graph.checkpoint_sha256
    assert plan.verification == graph.verification and plan.precision.kind == "float16"
    assert plan.target == tuple(TARGETS.split(",")) and plan.engine is not None and plan.engine.half_layers
    assert plan.engine.profiles == (EngineProfile((1, 16, 64), (1, 1, 1)),)
    text = str(report)
    assert "not run on a GPU here" in text and TARGETS.replace(",", ", ") in text
    assert json.loads(json.dumps(report.to_dict()))["engine"]["target"] == list(plan.target)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".safetensors") == [
        *("g.onnx", "g.onnx.json", "g.plan", "g.plan.json")
    ]


def test_the_command_in_the_manifest_makes_the_engine_again(checkpoint, tmp_path):
    settings = ExportSettings(
        checkpoint(use_attention=False),
        tmp_path / "a.onnx",
        engine=tmp_path / "b.plan",
        frames="16:20:24",
        batch="1:1:2,2:4:8",
        gpu="sm_89",
        output="float32",
        builder_optimization_level=1,
        workspace="512MiB",
        version_compatible=False,
    )
    manifest = export(settings).engine
    assert manifest is not None and manifest.engine is not None
    assert manifest.engine.profiles == (EngineProfile((1, 1, 2), (1, 2, 3)), EngineProfile((2, 4, 8), (1, 2, 3)))
    assert manifest.interface.frames.default == 20 and "batch 1, time 3" in manifest.verification[0].cases
    words = dict(zip(shlex.split(manifest.rebuild)[3::2], shlex.split(manifest.rebuild)[4::2], strict=False))
    again = ExportSettings(
        settings.checkpoint,
        **{
            {"o": "out", "for": "lowering"}.get(key.strip("-"), key.strip("-").replace("-", "_")): value
            for key, value in words.items()
            if key != "--builder-optimization-level"
        },
        builder_optimization_level=int(words["--builder-optimization-level"]),
    )
    assert again == settings


FORMS = [
    pytest.param({}, "inlined", True, id="custom", marks=pytest.mark.slow),
    pytest.param({"sepconv": "standard"}, "inlined", False, id="standard", marks=pytest.mark.slow),
    pytest.param({"sepconv": "plugin"}, "python", True, id="plugin"),
]


@pytest.mark.parametrize(("options", "form", "node"), FORMS)
def test_the_manifest_names_the_form_of_the_separable_convolution(actor_checkpoint, tmp_path, options, form, node):
    settings = ExportSettings(actor_checkpoint(), tmp_path / "t.plan", gpu="sm_89", frames="2:3:5", **options)
    manifest = export(settings).engine
    assert manifest is not None and manifest.engine is not None
    assert (manifest.engine.sepconv, bool(manifest.engine.needs)) == (form, form == "python")
    model = onnx.load(tmp_path / "t.onnx")
    assert uses_operator(model) == node and bool(model.functions) == (node and form == "inlined")


def test_what_a_target_refuses_leaves_nothing(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    (tmp_path / "g.onnx").write_bytes(b"what was there")
    with pytest.raises(ExportError, match="ConvTranspose"):
        export(ExportSettings(source, tmp_path / "g.plan", gpu="sm_75"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.onnx", source.name]
    assert (tmp_path / "g.onnx").read_bytes() == b"what was there"


def test_no_builder_for_a_target_is_said_before_any_work(checkpoint, tmp_path, monkeypatch):
    source = checkpoint(use_attention=False)
    monkeypatch.setattr(pipeline, "_write_onnx", lambda *_: pytest.fail("worked in vain"))
    monkeypatch.setattr(artifacts, "check_builder", _nothing)
    with pytest.raises(SettingsError, match="sm_90"):
        export(ExportSettings(source, tmp_path / "g.plan", gpu="sm_90"))


def _nothing(settings: EngineSettings) -> tuple[str, str]:
    raise SettingsError("cannot build", seen=settings.gpu[0], cause="no library", fix="another")


def test_every_option_of_the_command_is_one_of_the_settings():
    import dataclasses
    import inspect

    fields = {field.name for field in dataclasses.fields(ExportSettings)}
    assert set(inspect.signature(commands.export).parameters) - {"console"} == fields


def test_an_engine_of_another_model_is_told_by_its_manifest(checkpoint, tmp_path):
    export(ExportSettings(checkpoint(use_attention=False), tmp_path / "g.plan", gpu="sm_89"))
    values = json.loads(manifest_path(tmp_path / "g.plan").read_text())
    assert {"engine", "target", "onnx_sha256"} <= set(values) and values["engine"]["library"] == "tensorrt-rtx"
    Path(tmp_path / "g.plan").write_bytes(b"another")
    from vidgen.errors import ArtifactError

    with pytest.raises(ArtifactError, match="SHA-256"):
        read_manifest(tmp_path / "g.plan")


def test_a_folder_in_the_place_of_the_engine_leaves_the_old_files_usable(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    export(ExportSettings(source, tmp_path / "g.onnx", lowering="tensorrt"))
    before = read_manifest(tmp_path / "g.onnx")
    (tmp_path / "g.plan").mkdir()
    with pytest.raises(StorageError, match="folder"):
        export(ExportSettings(source, tmp_path / "g.onnx", engine=tmp_path / "g.plan", fp16=True, gpu="sm_89"))
    assert read_manifest(tmp_path / "g.onnx") == before and not (tmp_path / "g.plan.json").exists()


def test_a_polite_kill_leaves_nothing(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    words = ["export", str(source), "-o", str(tmp_path / "g.plan"), "--gpu", "sm_89"]
    process = subprocess.Popen([sys.executable, "-m", "vidgen", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "writing the network" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "terminated" in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
