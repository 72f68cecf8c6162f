"""What the TensorRT backend says when something fails, and that the next run works."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
from support.engine_machine import TINY, Machine, assert_right, batch
from support.fake_cuda import FakeCuda

from vidgen.errors import ArtifactError, BackendError, VidgenError
from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.fake import fake_manifest
from vidgen.runtime.manifest import EngineProfile, manifest_path
from vidgen.runtime.tensorrt_library import TensorRT

# Failures


def test_a_shape_outside_every_profile_names_them_and_the_options(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        with pytest.raises(BackendError) as caught:
            backend.run(*batch(backend.manifest, 0, 9))
        assert "batch 1 to 4, 16 to 24 frames; batch 4 to 8, 16 to 48 frames" in caught.value.seen
        assert caught.value.fix.startswith("use --batch 8, or rebuild: vidgen export g.safetensors")
        assert caught.value.fix.endswith(" --batch 1:9:9")
        with pytest.raises(BackendError) as caught:
            backend.run(*batch(backend.manifest, 0, 5, 52))
        assert caught.value.fix.startswith("use --frames 48, ") and caught.value.fix.endswith(" --frames 16:52:52")
        with pytest.raises(BackendError, match="does not fit the artifact"):
            backend.run({}, batch(backend.manifest, 0).output)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("enqueue", "invalid argument"),
        ("context", "OutOfMemory"),
        ("profile", "Cannot set profile"),
        ("kernel", "ILLEGAL"),
    ],
)
def test_a_failure_has_the_words_of_tensorrt_and_the_next_run_may_work(machine: Machine, what: str, said: str) -> None:
    with open_backend(machine.plan) as backend:
        machine.trt.fail.add(what)
        given = batch(backend.manifest, 0)
        with pytest.raises(BackendError, match=said):
            backend.run(*given)
        machine.trt.fail.clear()
        backend.run(*given)
        assert_right(backend.manifest, given)


def test_a_device_that_is_lost_is_told_once_and_all_is_let_go(machine: Machine) -> None:
    machine.cuda.fatal = True
    with pytest.raises(BackendError, match="ILLEGAL_ADDRESS"), open_backend(machine.plan) as backend:
        for given in backend.run_many(batch(backend.manifest, 2 * index) for index in range(6)):
            machine.trt.fail |= {"kernel", "capture"}
            assert_right(backend.manifest, given)
    assert not machine.cuda.open
    machine.cuda = FakeCuda()  # nothing can be given back to the other


def test_a_device_without_room_for_the_batch_advises_a_smaller_one(machine: Machine) -> None:
    machine.cuda.memory_limit = 3 * 16 * 64 * 64 * 3
    with open_backend(machine.plan) as backend:
        with pytest.raises(BackendError, match="OUT_OF_MEMORY") as caught:
            backend.run(*batch(backend.manifest, 0, 4))
        assert "--batch 2" in caught.value.fix
        given = batch(backend.manifest, 0, 2)
        backend.run(*given)
        assert_right(backend.manifest, given)


def test_an_engine_that_makes_other_shapes_than_its_manifest_says_is_stopped_before_it_runs(machine: Machine) -> None:
    machine.write(made={"video": [2, 17, 64, 64, 3]})
    with open_backend(machine.plan) as backend, pytest.raises(BackendError, match=r"makes \[2, 17, 64, 64, 3\]"):
        backend.run(*batch(backend.manifest, 0))
    assert not machine.called("enqueue")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": ["sm_120", "sm_86"]}, "for sm_120, sm_86; this device is sm_89"),
        ({"tensors": {"zm": "float16"}}, "belongs to another file"),
        ({"on_host": ["za"]}, "in host memory"),
    ],
)
def test_an_engine_for_another_device_or_manifest_is_refused(machine: Machine, changes: Any, said: str) -> None:
    machine.write(**changes)
    with pytest.raises(BackendError, match=said):
        open_backend(machine.plan)
    assert not machine.cuda.open


def test_an_engine_of_another_version_is_refused_with_both_versions(machine: Machine) -> None:
    machine.trt.fail.add("deserialize")
    machine.trt.version, machine.trt.reasons = (1, 8, 0, 3), 1
    with pytest.raises(BackendError) as caught:
        open_backend(machine.plan)
    assert all(word in caught.value.seen for word in ("1.7.1.116", "1.8.0.3", "VERSION_MISMATCH", "Error Code 6"))
    assert "version of the library" in caught.value.cause
    # The options of the first build stay; the one in question is replaced.
    assert caught.value.fix == f"vidgen export g.safetensors -o {machine.plan} --batch 1:2:4 --gpu current"


def test_profiles_of_another_engine_are_noticed(machine: Machine) -> None:
    import json

    values = json.loads(manifest_path(machine.plan).read_text())
    values["engine"]["profiles"] = values["engine"]["profiles"][:1]
    manifest_path(machine.plan).write_text(json.dumps(values))
    with pytest.raises(BackendError, match="belongs to another engine"):
        open_backend(machine.plan)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_the_manifest_says_which_library_and_the_option_which_device(machine: Machine, name: str) -> None:
    machine.write(library=name)
    with open_backend(machine.plan, device="cuda:1"):
        assert machine.asked == [1, name]
    for device in ("cpu", "cuda", "tensorrt"):
        with open_backend(machine.plan, device=device):
            assert machine.asked[-2:] == [0, name]
    with pytest.raises(BackendError, match="--device cuda"):
        open_backend(machine.plan, device="tpu")


# Weights and plugins


def test_a_stripped_engine_takes_the_weights_of_its_onnx_file(machine: Machine) -> None:
    from vidgen._files import sha256

    onnx = machine.plan.with_name("other-name.onnx")
    onnx.write_bytes(b"the weights")
    machine.plan.with_suffix(".onnx").write_bytes(b"another model")
    machine.write(dataclasses.replace(fake_manifest(TINY), onnx_sha256=sha256(onnx)), stripped=True)
    with open_backend(machine.plan) as backend:
        given = batch(backend.manifest, 0)
        backend.run(*given)
        assert_right(backend.manifest, given)
    onnx.write_bytes(b"changed")
    with pytest.raises(ArtifactError, match=r"no \.onnx file with SHA-256"):
        open_backend(machine.plan)


def test_a_stripped_engine_refuses_weights_that_do_not_fit(machine: Machine) -> None:
    from vidgen._files import sha256

    onnx = machine.plan.with_suffix(".onnx")
    onnx.write_bytes(b"something else")
    machine.write(dataclasses.replace(fake_manifest(TINY), onnx_sha256=sha256(onnx)), stripped=True)
    with pytest.raises(BackendError, match="1 weights are missing"):
        open_backend(machine.plan)


def test_streamed_weights_get_the_budget_of_the_library_before_the_first_context(machine: Machine) -> None:
    machine.write(streamable=1000)
    with open_backend(machine.plan):
        assert machine.called("budget") == [("engine", "budget", 500)]


def test_the_plugin_is_registered_before_the_engine_is_read_and_its_error_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=3)
    manifest = dataclasses.replace(fake_manifest(), model="twostreamvan", config=config, interface=config.interface())
    machine.write(manifest, profiles=(EngineProfile((1, 2, 4), (3, 11, 20)),), sepconv="python")
    prepared: list[Any] = []

    class Registered(contextlib.AbstractContextManager["Registered"]):
        failure: VidgenError | None = None

        def __exit__(self, *error: object) -> None:
            # After the engine and before the device.
            assert machine.cuda.open and not machine.cuda.leaks()
            prepared.append("closed")

        def raise_failure(self) -> None:
            if self.failure:
                raise self.failure

    registered = Registered()

    def prepare(module: Any, form: str, **options: Any) -> Registered:
        assert not machine.trt.runtimes, "registered after the engine was read"
        prepared.append((isinstance(module, TensorRT), form, options))
        return registered

    monkeypatch.setattr("vidgen.plugins.sepconv_trt.tensorrt.prepare", prepare)
    with open_backend(machine.plan) as backend:
        ((same, form, options),) = prepared
        assert same and form == "python" and options["dtypes"] == ("float32",) and options["cuda"] is machine.cuda
        given = batch(manifest, 0, frames=10)
        backend.run(*given)
        assert_right(manifest, given)
        registered.failure = BackendError("the plugin", seen="K 7", cause="of it", fix="mend it")
        machine.trt.fail.add("enqueue")
        with pytest.raises(BackendError, match="K 7"):
            backend.run(*batch(manifest, 0, 3, frames=10))
    assert prepared[1:] == ["closed"]
