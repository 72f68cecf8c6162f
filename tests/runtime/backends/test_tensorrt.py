"""The TensorRT backend over a fake library and device: order of calls, streams, ring and graphs."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_machine import TINY, Machine, assert_right, batch, expected
from support.fake_cuda import FakeEvent

from vidgen.errors import BackendError, SamplingError
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Batch
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.device_loop import LANES
from vidgen.runtime.jobs import sample
from vidgen.runtime.manifest import EngineProfile, Manifest
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.settings import SampleSettings

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
