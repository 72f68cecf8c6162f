"""The TensorRT backend over a fake library and device: order of calls, streams, ring, graphs and errors."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_cuda import FakeCuda, FakeEvent
from support.fake_tensorrt import PROFILES, FakeTensorRT, write_engine

from vidgen.errors import ArtifactError, BackendError, MissingDependencyError, SamplingError, VidgenError
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Batch
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.device_loop import LANES
from vidgen.runtime.jobs import sample
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import EngineProfile, Manifest, manifest_path
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.tensorrt_library import TensorRT

TINY = G3ANConfig(c_a=6, c_m=4, ch=2)


class Machine:
    """A machine with a fake GPU and a fake TensorRT, and an engine on its disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = folder / "g.plan"
        self.cuda = FakeCuda()
        self.trt = FakeTensorRT(self.cuda)
        self.asked: list[Any] = []
        for module in ("vidgen.runtime.backends.tensorrt", "vidgen.runtime.engine_tensors"):
            monkeypatch.setattr(f"{module}.open_cuda", self._open)
            monkeypatch.setattr(f"{module}.load_tensorrt", self._load)

    def _open(self, device: int = 0) -> FakeCuda:
        self.asked.append(device)
        return self.cuda

    def _load(self, name: str, purpose: str) -> TensorRT:
        self.asked.append(name)
        self.trt.name = name
        return self.trt.library

    def write(self, manifest: Manifest | None = None, **changes: Any) -> Manifest:
        return write_engine(self.plan, manifest or fake_manifest(TINY), **changes)

    def called(self, call: str) -> list[tuple[Any, ...]]:
        return [each for each in self.trt.calls if each[1] == call]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """With an engine of a small G3AN, and nothing of the device held at the end."""
    made = Machine(tmp_path, monkeypatch)
    made.write()
    yield made
    assert made.cuda.leaks() == {}


def batch(manifest: Manifest, first: int, size: int = 2, frames: int = 16) -> Batch:
    interface = manifest.interface
    inputs = latents(interface, 0, range(first, first + size), frames=frames)
    sizes = {"batch": size, "frames": frames}
    extras = {spec.name: np.empty(spec.resolve(**sizes), spec.dtype) for spec in interface.extras}
    return Batch(inputs, np.empty(interface.output.resolve(**sizes), interface.output.dtype), extras)


def expected(manifest: Manifest, given: Batch) -> Batch:
    made = Batch(
        given.inputs, np.empty_like(given.output), {k: np.empty_like(v) for k, v in (given.extras or {}).items()}
    )
    FakeBackend(manifest).run(*made)
    return made


def assert_right(manifest: Manifest, given: Batch) -> None:
    right = expected(manifest, given)
    assert np.array_equal(given.output, right.output)
    assert all(
        np.array_equal(array, right.extras[name]) for name, array in (given.extras or {}).items() if right.extras
    )


# Results


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("captures", [True, False])
def test_frames_are_those_of_the_engine_in_every_run(machine: Machine, captures: bool, library: str) -> None:
    machine.cuda.captures = captures  # type: ignore[misc]
    machine.write(library=library)
    with open_backend(machine.plan) as backend:
        for first in range(0, 8, 2):
            given = batch(backend.manifest, first)
            backend.run(*given)
            assert_right(backend.manifest, given)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7])
def test_many_batches_are_those_of_single_runs(machine: Machine, number: int) -> None:
    with open_backend(machine.plan) as backend:
        given = [batch(backend.manifest, 2 * index) for index in range(number)]
        done = list(backend.run_many(iter(given)))
        assert [id(one.output) for one in done] == [id(one.output) for one in given]
        for one in done:
            assert_right(backend.manifest, one)


def test_masks_and_labels_pass_through(machine: Machine) -> None:
    config = TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=3, kernel_layer=2)
    manifest = dataclasses.replace(
        fake_manifest(), model="twostreamvan", config=config, interface=config.interface(masks=True)
    )
    machine.write(manifest, profiles=(EngineProfile((1, 2, 4), (3, 11, 20)),))
    with open_backend(machine.plan, masks=True) as backend:
        wanted = [batch(manifest, at, frames=10) for at in (0, 2, 4)]
        # Masks that nobody asked for have memory on the device all the same.
        unwanted = Batch(wanted[1].inputs, np.empty_like(wanted[1].output))
        for one in backend.run_many([wanted[0], unwanted, wanted[2]]):
            assert_right(manifest, one)


def test_the_sampler_makes_the_videos_of_the_fake_backend(machine: Machine) -> None:
    whole = Sampler(FakeBackend(fake_manifest(TINY)), batch=3).sample(10, seed=5)
    with Sampler.open(machine.plan, batch=4) as sampler:
        assert np.array_equal(sampler.sample(10, seed=5), whole)
        assert np.array_equal(sampler.sample(3, seed=5, start=4), whole[4:7])


# What the device is given


def test_shapes_and_every_address_are_set_before_the_first_run(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        backend.run(*batch(backend.manifest, 0))
    calls = [call[1] for call in machine.trt.calls]
    assert calls[:3] == ["new", "profile", "shape"] and calls[-1] == "enqueue"
    assert {call[2] for call in machine.called("shape")} == {"za", "zm"}
    assert {call[2] for call in machine.called("address")} == {"za", "zm", "video"}
    assert max(calls.index("shape"), calls.index("address")) < calls.index("enqueue")


def test_a_graph_is_captured_after_one_plain_run_and_launched_from_then_on(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        assert "CUDA graphs: not yet" in backend.describe()["device"]
        for first in range(4):
            backend.run(*batch(backend.manifest, first))
        assert [call[1] for call in machine.trt.calls if call[1] in ("enqueue", "capture")] == ["enqueue", "capture"]
        assert (machine.cuda.launches, machine.cuda.graphs) == (3, 1)
        assert "CUDA graphs: yes" in backend.describe()["device"]


def test_another_shape_means_another_graph_after_another_plain_run(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        for size, frames in ((2, 16), (2, 16), (3, 20), (3, 20), (2, 16), (2, 16)):
            given = batch(backend.manifest, 0, size, frames)
            backend.run(*given)
            assert_right(backend.manifest, given)
    runs = [call[1] for call in machine.trt.calls if call[1] in ("enqueue", "capture", "new")]
    assert runs == ["new"] + ["enqueue", "capture"] * 3


def test_each_graph_has_a_context_of_its_own(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        for _ in backend.run_many(batch(backend.manifest, 2 * index) for index in range(6)):
            pass
        assert machine.trt.contexts == machine.cuda.graphs == LANES
        captured = [call[0] for call in machine.called("capture")]
        assert sorted(captured) == [0, 1]


@pytest.mark.parametrize("how", ["library", "capture", "end"])
def test_an_engine_that_cannot_be_captured_runs_all_the_same_and_says_so(machine: Machine, how: str) -> None:
    if how == "library":
        machine.trt.capturable = False
    elif how == "capture":
        machine.trt.fail.add("capture")
    else:
        machine.cuda.fail_capture = {0}
    with open_backend(machine.plan) as backend:
        for first in (0, 2, 4):
            given = batch(backend.manifest, first)
            backend.run(*given)
            assert_right(backend.manifest, given)
        assert "CUDA graphs: no: " in backend.describe()["device"]
        assert machine.cuda.launches == 0 and len(machine.called("capture")) <= 1


def test_a_library_of_cuda_without_graphs_leaves_them_to_tensorrt(machine: Machine) -> None:
    machine.cuda.captures = False  # type: ignore[misc]
    with open_backend(machine.plan) as backend:
        backend.run(*batch(backend.manifest, 0))
    ((_, _, options),) = machine.called("new")
    assert options["cuda_graph_strategy"].name == "WHOLE_GRAPH_CAPTURE"
    assert options["dynamic_shapes_kernel_specialization_strategy"].name == "EAGER"


def test_the_profile_nearest_to_the_shape_is_taken(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        for size in (1, 4, 8, 2):
            given = batch(backend.manifest, 0, size)
            backend.run(*given)
            assert_right(backend.manifest, given)
    # 4 lies in both: as far from 2 as from 8. A context is made once for each profile.
    assert [call[2] for call in machine.called("profile")] == [0, 1]


def test_engines_never_run_code_of_their_own(machine: Machine) -> None:
    with open_backend(machine.plan):
        assert machine.trt.runtimes[0].engine_host_code_allowed is False


# The ring


def test_the_next_batch_is_on_the_device_before_the_last_is_taken(machine: Machine) -> None:
    asked: list[int] = []

    def coming(manifest: Manifest) -> Iterator[Batch]:
        for index in range(5):
            asked.append(index)
            yield batch(manifest, 2 * index)

    with open_backend(machine.plan) as backend:
        made = backend.run_many(coming(backend.manifest))
        assert asked == []
        for taken, _ in enumerate(made):
            assert len(asked) == min(5, taken + LANES)


def test_the_host_waits_once_for_each_batch(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        backend.run(*batch(backend.manifest, 0))
        before = machine.cuda.waits
        for _ in backend.run_many(batch(backend.manifest, 2 * index) for index in range(10)):
            pass
        assert machine.cuda.waits - before == 10


def test_latents_may_change_as_soon_as_they_were_handed_over(machine: Machine) -> None:
    """One set of buffers for all batches, overwritten for each: the device takes copies."""
    with open_backend(machine.plan) as backend:
        shared = batch(backend.manifest, 0)
        kept: list[Batch] = []

        def coming() -> Iterator[Batch]:
            for index in range(5):
                fresh = batch(backend.manifest, 2 * index)
                kept.append(fresh)
                for name, array in shared.inputs.items():
                    array[:] = fresh.inputs[name]
                yield Batch(shared.inputs, fresh.output)

        for _ in backend.run_many(coming()):
            pass
        for one in kept:
            assert_right(backend.manifest, one)


def test_leaving_early_and_going_on_with_other_batches_gives_the_right_frames(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        made = backend.run_many(batch(backend.manifest, 2 * index) for index in range(5))
        next(made)
        made.close()  # type: ignore[attr-defined]
        given = batch(backend.manifest, 40)
        backend.run(*given)
        assert_right(backend.manifest, given)
        started = backend.run_many(batch(backend.manifest, 2 * index) for index in range(5))
        next(started)
        # Left hanging: closing the backend waits for what is on its way.


@pytest.mark.parametrize("missing", ["compute waits for upload", "download waits for compute", "host waits for frames"])
def test_a_missing_wait_would_show(machine: Machine, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """What these tests rest on: without any one of the waits the frames are wrong."""
    with open_backend(machine.plan) as backend:
        streams, given = backend._loop._streams, batch(backend.manifest, 0)  # type: ignore[attr-defined]
        if missing == "host waits for frames":
            monkeypatch.setattr(FakeEvent, "synchronize", lambda event: None)
            monkeypatch.setattr(FakeEvent, "milliseconds_since", lambda event, earlier: 1.0)
        else:
            stream = streams.compute if missing.startswith("compute") else streams.download
            monkeypatch.setattr(stream, "wait", lambda event: None)
            monkeypatch.setattr(FakeEvent, "milliseconds_since", lambda event, earlier: 1.0)
        backend.run(*given)
        assert not np.array_equal(given.output, expected(backend.manifest, given).output)
        monkeypatch.undo()


def test_iterators_used_by_turns_do_not_take_each_others_frames(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        one = backend.run_many(batch(backend.manifest, 2 * index) for index in range(4))
        other = backend.run_many(batch(backend.manifest, 100 + 3 * index, 3) for index in range(4))
        for pair in zip(one, other, strict=True):
            between = batch(backend.manifest, 200, 1)
            backend.run(*between)
            for given in (*pair, between):
                assert_right(backend.manifest, given)


def test_a_device_that_fails_late_fails_the_batch_it_worked_on(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        made = backend.run_many(batch(backend.manifest, 2 * index) for index in range(3))
        assert_right(backend.manifest, next(made))
        machine.trt.fail |= {"kernel", "capture"}  # the second is on the device already, the third fails
        assert_right(backend.manifest, next(made))
        with pytest.raises(BackendError, match="ILLEGAL"):
            next(made)
        machine.trt.fail.clear()
        given = batch(backend.manifest, 0)
        backend.run(*given)
        assert_right(backend.manifest, given)


def test_batches_before_one_that_fails_are_given_back_first(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        good = [batch(backend.manifest, 2 * index) for index in range(2)]
        bad = batch(backend.manifest, 0, 2, 16 + 4 * 20)
        made = backend.run_many([*good, bad, *good])
        for _ in good:
            assert_right(backend.manifest, next(made))
        with pytest.raises(BackendError, match="no profile"):
            next(made)


def test_an_error_in_making_latents_reaches_the_caller(machine: Machine) -> None:
    with Sampler.open(machine.plan, batch=2) as sampler, pytest.raises(SamplingError):
        sampler.sample(4, frames=17)


def test_memory_on_the_device_does_not_grow_with_the_number_of_batches(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        made = backend.run_many(batch(backend.manifest, 2 * index) for index in range(8))
        peaks = [dict(machine.cuda.peak) for _ in made]
    video = 2 * 16 * 64 * 64 * 3
    assert peaks[1] == peaks[-1]
    assert all(LANES * video <= size < 1.1 * LANES * video for size in peaks[-1].values())


def test_device_time_is_told_for_the_last_batch(machine: Machine) -> None:
    with open_backend(machine.plan) as backend:
        assert backend.device_milliseconds() is None
        backend.run(*batch(backend.manifest, 0))
        first = backend.device_milliseconds()
        assert first is not None and first > 0


# Threads and closing


def test_an_engine_belongs_to_the_thread_that_loaded_it(machine: Machine) -> None:
    caught: list[Exception] = []
    with open_backend(machine.plan) as backend:
        given = batch(backend.manifest, 0)

        def elsewhere() -> None:
            for call in (lambda: backend.run(*given), lambda: list(backend.run_many([given])), backend.close):
                try:
                    call()
                except BackendError as error:
                    caught.append(error)

        thread = threading.Thread(target=elsewhere, name="other")
        thread.start()
        thread.join()
        backend.run(*given)
        assert_right(backend.manifest, given)
    assert len(caught) == 3 and all("other" in str(error) for error in caught)


def test_a_closed_backend_says_so_and_closes_twice(machine: Machine) -> None:
    backend = open_backend(machine.plan)
    backend.run(*batch(backend.manifest, 0))
    backend.close()
    backend.close()
    assert not machine.cuda.open
    for call in (lambda: backend.run(*batch(backend.manifest, 0)), lambda: list(backend.run_many([]))):
        with pytest.raises(BackendError, match="closed"):
            call()


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


# The whole way


def test_a_job_writes_the_videos_of_an_engine_and_resumes_under_either_name_of_its_device(
    machine: Machine, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = SampleSettings(machine.plan, out, n=7, batch=2, format="npy", seed=5, sheet=False)
    report = sample(job)
    assert (report.written, report.backend["backend"]) == (7, "tensorrt")
    expected_videos = Sampler(FakeBackend(fake_manifest(TINY)), batch=3).sample(7, seed=5)
    assert np.array_equal(np.stack([np.load(path) for path in report.files]), expected_videos)
    report.files[3].unlink()
    again = sample(dataclasses.replace(job, device="cuda", resume=True))
    assert (again.written, again.kept) == (1, 6)
    assert np.array_equal(np.load(again.files[3]), expected_videos[3])


@settings(max_examples=15)
@given(data=st.data())
def test_any_order_of_runs_and_iterators_gives_each_batch_its_own_frames(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        machine = Machine(Path(folder), patch)
        machine.write(fake_manifest(G3ANConfig(c_a=2, c_m=2, ch=2)))
        machine.cuda.captures = data.draw(st.booleans())  # type: ignore[misc]
        with open_backend(machine.plan) as backend:
            coming = [iter(range(100)) for _ in range(2)]
            shapes = st.sampled_from([(1, 16), (2, 16), (1, 20)])

            def batches(which: int) -> Iterator[Batch]:
                for index in coming[which]:
                    yield batch(backend.manifest, 1000 * which + 10 * index, *data.draw(shapes))

            iterators = [backend.run_many(batches(which)) for which in range(2)]
            for _ in range(data.draw(st.integers(1, 6))):
                which = data.draw(st.integers(0, 2))
                given_now = next(iterators[which]) if which < 2 else batch(backend.manifest, 5000)
                if which == 2:
                    backend.run(*given_now)
                assert_right(backend.manifest, given_now)
        assert machine.cuda.leaks() == {}
