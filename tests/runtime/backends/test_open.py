"""Which backend runs which file, and what is said when none does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen.errors import ArtifactError, BackendError, CheckpointError, VidgenError
from vidgen.runtime.backends import ALLOWS_FAKE, BACKENDS, FAKE, backend_for, open_backend
from vidgen.runtime.manifest import Manifest, manifest_path


def test_the_kind_of_file_picks_the_backend(toy: Path, checkpoint: Path) -> None:
    with open_backend(toy) as one, open_backend(checkpoint) as other:
        assert (one.name, other.name) == ("onnxruntime", "torch")


@pytest.mark.parametrize(
    "name", sorted({*BACKENDS, FAKE} - {"tensorrt"})
)  # which test_tensorrt.py does, over a fake device
def test_every_registered_backend_opens_and_describes_itself(name: str, toy: Path, checkpoint: Path) -> None:
    with open_backend(checkpoint if name == "torch" else toy, name, threads=1) as backend:
        backend.warm_up(batch=2, length=3)
        described = backend.describe()
    assert described["backend"] == backend.name == name
    assert set(described) == {"backend", "library", "device", "threads"}
    assert described["threads"] == "1"


def test_an_unknown_backend_lists_those_that_exist(toy: Path) -> None:
    with pytest.raises(BackendError) as caught:
        open_backend(toy, "tensorflow")
    assert all(name in caught.value.seen for name in BACKENDS)
    assert caught.value.fix == "use --backend onnxruntime"


def test_the_fake_backend_is_for_tests_alone(toy: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_for(toy, FAKE) == FAKE
    with pytest.raises(BackendError) as caught:
        backend_for(toy, "tensorflow")
    assert FAKE not in caught.value.seen
    with pytest.raises(BackendError) as caught:
        backend_for(toy.with_suffix(".plan"), FAKE)
    assert caught.value.fix.endswith("toy.onnx")
    monkeypatch.delenv(ALLOWS_FAKE)
    for artifact in (toy, checkpoint, toy.with_suffix(".plan")):
        with pytest.raises(BackendError, match=f"unknown backend '{FAKE}'") as caught:
            open_backend(artifact, FAKE)
        assert FAKE not in caught.value.fix


def test_a_backend_refuses_the_other_kind_of_file(toy: Path, checkpoint: Path) -> None:
    with pytest.raises(BackendError, match="onnxruntime or openvino"):
        open_backend(toy, "torch")
    with pytest.raises(BackendError, match="vidgen export"):
        open_backend(checkpoint, "openvino")


def test_engines_are_run_by_tensorrt_alone(tmp_path: Path) -> None:
    plan = tmp_path / "g3an.plan"
    assert backend_for(plan) == "tensorrt"
    with pytest.raises(BackendError) as caught:
        open_backend(plan, "onnxruntime")
    assert caught.value.fix == f"vidgen export CHECKPOINT.safetensors -o {tmp_path / 'g3an.onnx'}"
    with pytest.raises(BackendError) as caught:
        open_backend(tmp_path / "g3an.onnx", "tensorrt")
    assert caught.value.fix == f"vidgen export CHECKPOINT.safetensors -o {plan}"


def test_a_missing_engine_is_named(tmp_path: Path) -> None:
    for trust in (False, True):
        with pytest.raises(ArtifactError, match="no such file"):
            open_backend(tmp_path / "g3an.plan", trust=trust)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.pth", "vidgen import"), ("a.xyz", "vidgen export"), ("a", "no suffix"), ("a.onnx", "no such")],
)
def test_other_files_are_refused_with_the_next_command(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        open_backend(tmp_path / name)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        open_backend(tmp_path / "a.safetensors")


def test_an_altered_file_is_refused_even_with_trust(toy: Path) -> None:
    toy.write_bytes(toy.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="SHA-256"):
        open_backend(toy, trust=True)


def test_a_file_without_manifest_is_refused(toy: Path) -> None:
    manifest_path(toy).unlink()
    with pytest.raises(ArtifactError, match="no manifest"):
        open_backend(toy)


def test_another_output_than_exported_names_the_export(toy: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        open_backend(toy, output="float32")
    assert caught.value.fix.endswith("--output float32")


def test_files_that_keep_tensors_elsewhere_are_refused(tmp_path: Path, make_toy: Callable[..., Manifest]) -> None:
    make_toy(tmp_path / "toy.onnx", external=True)
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(ArtifactError, match="self-contained"):
            open_backend(tmp_path / "toy.onnx", name)


def test_a_broken_model_with_a_matching_manifest_is_a_backend_error(toy: Path) -> None:
    import json

    from vidgen._files import sha256

    toy.write_bytes(toy.read_bytes()[:2000])
    values = json.loads(manifest_path(toy).read_text())
    manifest_path(toy).write_text(json.dumps({**values, "sha256": sha256(toy)}))
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(BackendError, match=f"{name} cannot load"):
            open_backend(toy, name)


def test_the_manifest_of_another_model_is_noticed(toy: Path, tmp_path: Path, make_toy: Callable[..., Manifest]) -> None:
    import dataclasses

    from vidgen._files import sha256, write_json

    other = make_toy(tmp_path / "other.onnx", output="float32")
    write_json(manifest_path(toy), dataclasses.replace(other, sha256=sha256(toy)).to_dict())
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(VidgenError, match="belongs to another file"):
            open_backend(toy, name)


def test_a_discriminator_is_refused(tmp_path: Path) -> None:
    from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
    from vidgen.models.config import G3ANDiscriminatorConfig
    from vidgen.models.g3an import ImageDiscriminator

    path = tmp_path / "ID.safetensors"
    info = CheckpointInfo("g3an_discriminator", G3ANDiscriminatorConfig("image", ch=2))
    save_checkpoint(path, ImageDiscriminator(2).state_dict(), info)
    with pytest.raises(VidgenError, match="expected a generator"):
        open_backend(path)


def test_running_onnx_files_never_imports_torch(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    program = (
        "import sys\n"
        "from vidgen.runtime.jobs import sample\n"
        "from vidgen.runtime.settings import SampleSettings\n"
        "light = {'torch', 'onnxruntime', 'openvino', 'av', 'PIL', 'onnx'} & set(sys.modules)\n"
        f"sample(SampleSettings({str(toy)!r}, {str(out)!r}, n=2))\n"
        "print(sorted(light), 'torch' in sys.modules, 'onnx' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[0] == "[] False False"
