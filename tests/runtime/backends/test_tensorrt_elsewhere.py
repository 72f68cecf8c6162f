"""Engines without a GPU or without a manifest: what is said, and what can be told from the engine itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engine_machine import TINY, Machine, assert_right, batch
from support.fake_tensorrt import PROFILES

from vidgen.errors import ArtifactError, BackendError, MissingDependencyError, VidgenError
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.fake import fake_manifest
from vidgen.runtime.manifest import Manifest, manifest_path
from vidgen.runtime.sampler import Sampler

# Without a GPU, without a manifest


@pytest.fixture
def no_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """To take the GPU, or the library, away."""

    def take(missing: VidgenError, what: str = "open_cuda") -> Machine:
        def fail(*arguments: Any) -> None:
            raise missing

        for module in ("vidgen.runtime.backends.tensorrt", "vidgen.runtime.engine_tensors"):
            monkeypatch.setattr(f"{module}.{what}", fail)
        return machine

    return take


NO_DRIVER = BackendError("cannot open CUDA", seen="no libcuda.so.1", cause="no NVIDIA GPU", fix="install the driver")
NO_LIBRARY = MissingDependencyError(
    "cannot import tensorrt_rtx", seen="not found", cause="x", fix="pip install 'vidgen[rtx]'"
)


def test_without_a_gpu_the_error_names_targets_and_what_runs_here(
    no_gpu: Callable[..., Machine], make_toy: Callable[..., Manifest], tmp_path: Path
) -> None:
    machine = no_gpu(NO_DRIVER)
    toy = make_toy(tmp_path / "a toy.onnx")
    make_toy(tmp_path / "another.onnx", output="float32")
    machine.write(dataclasses.replace(fake_manifest(TINY), onnx_sha256=toy.sha256), targets=["sm_86", "sm_89"])
    with pytest.raises(BackendError) as caught:
        open_backend(machine.plan)
    assert (
        "for sm_86 (RTX 30, A10), sm_89 (RTX 40, L4), tensorrt-rtx 1.7.1.116" in caught.value.seen
        and "libcuda" in caught.value.seen
    )
    assert caught.value.fix == f"use --engine '{tmp_path / 'a toy.onnx'}'   (runs here), or install the driver"


def test_without_a_gpu_the_checkpoint_of_the_engine_is_found_too(
    no_gpu: Callable[..., Machine], checkpoint: Path
) -> None:
    from vidgen._files import sha256

    machine = no_gpu(NO_DRIVER)
    copy = machine.plan.with_name("tiny.safetensors")
    copy.write_bytes(checkpoint.read_bytes())
    machine.plan.with_name("other.safetensors").write_bytes(b"another")
    machine.write(dataclasses.replace(fake_manifest(TINY), checkpoint_sha256=sha256(copy)))
    with pytest.raises(BackendError, match=f"--engine {copy}"):
        open_backend(machine.plan)
    copy.unlink()
    with pytest.raises(BackendError) as caught:
        open_backend(machine.plan)
    assert caught.value.fix.startswith(f"vidgen export g.safetensors -o {machine.plan.with_suffix('.onnx')}")


def test_without_the_library_the_command_that_installs_it_comes_first(no_gpu: Callable[..., Machine]) -> None:
    machine = no_gpu(NO_LIBRARY, "load_tensorrt")
    with pytest.raises(MissingDependencyError) as caught:
        open_backend(machine.plan)
    assert caught.value.fix.startswith("pip install 'vidgen[rtx]', or vidgen export g.safetensors")
    assert not machine.cuda.open


def test_an_engine_without_manifest_is_refused_unless_trusted(machine: Machine) -> None:
    manifest_path(machine.plan).unlink()
    with pytest.raises(ArtifactError, match="--trust"):
        open_backend(machine.plan)
    assert not machine.asked


def test_a_trusted_engine_of_a_g3an_tells_what_it_is_by_its_tensors(machine: Machine) -> None:
    manifest_path(machine.plan).unlink()
    with open_backend(machine.plan, trust=True) as backend:
        manifest = backend.manifest
        assert manifest.interface == TINY.interface()
        assert manifest.engine and manifest.engine.profiles == PROFILES
        assert (manifest.engine.library, manifest.engine.version) == ("tensorrt-rtx", "1.7.1.116")
        assert manifest.precision.kind == "unknown"
        given = batch(manifest, 0)
        backend.run(*given)
        assert_right(fake_manifest(TINY), given)
    with Sampler.open(machine.plan, trust=True) as sampler:
        assert sampler.sample(1).shape == (1, 16, 64, 64, 3)


def test_a_trusted_engine_of_another_model_says_what_is_missing(machine: Machine, labelled: Manifest) -> None:
    for manifest, said in (
        (labelled, "number of classes"),
        (dataclasses.replace(fake_manifest(), interface=_without_motion()), "expected za, zm and video"),
    ):
        machine.write(manifest)
        manifest_path(machine.plan).unlink()
        with pytest.raises(ArtifactError, match=said):
            open_backend(machine.plan, trust=True)
    assert not machine.cuda.open


def _without_motion() -> Any:
    interface = TINY.interface()
    named = dataclasses.replace(interface.inputs[0], name="noise")
    return dataclasses.replace(interface, inputs=(named, interface.inputs[1]))


@pytest.mark.parametrize("content", [b"", b"ftrt", b"PK\x03\x04" + bytes(60)])
def test_a_trusted_file_that_is_no_engine_is_refused_before_any_library_sees_it(
    machine: Machine, content: bytes
) -> None:
    manifest_path(machine.plan).unlink()
    machine.plan.write_bytes(content)
    with pytest.raises(ArtifactError, match="not an engine"):
        open_backend(machine.plan, trust=True)
    assert not machine.asked


def test_an_altered_engine_is_refused_even_with_trust(machine: Machine) -> None:
    machine.plan.write_bytes(machine.plan.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="SHA-256"):
        open_backend(machine.plan, trust=True)
    assert not machine.asked
