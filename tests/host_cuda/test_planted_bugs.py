"""The host driver catches what it says it catches: each mistake is made once, and told apart from the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from host_cuda import bugs, programs, scenarios
from host_cuda.harness import HostCuda, HostCudaError, libraries

from vidgen.plugins.sepconv_trt.geometry import launch_geometry

LIBRARY = libraries()[1]
PLAN = launch_geometry("forward", 1, 1, 8, 16, 5, "float32").plan
with_library = pytest.mark.parametrize("library", [LIBRARY])


@with_library
@pytest.mark.parametrize(
    ("bug", "schedule", "message"),
    [
        (bugs.copy_to_freed_memory, "now", "which was freed"),
        (bugs.copy_past_the_end, "now", "of 64 bytes at byte 0 of device memory 1 (60 bytes)"),
        (bugs.copy_past_the_end_of_pinned_memory, "now", "byte 0 of pinned memory 1 (60 bytes)"),
        (bugs.free_device_memory_in_flight, "now", "is freed while a copy to the device in stream 1"),
        (bugs.free_device_memory_in_flight, "late", "is freed while a copy to the device in stream 1"),
        (bugs.free_pinned_memory_in_flight, "now", "is freed while a copy to the device in stream 1"),
        (bugs.free_twice, "now", "device memory 1 (64 bytes) is freed twice"),
        (bugs.change_a_source_in_flight, "late", "was changed before its copy to the device ran"),
        (bugs.write_a_target_in_flight, "late", "was written by the host before a copy into it ran"),
        (bugs.two_streams_into_one_slot, "now", "does not wait for a copy to the host in stream 1"),
        (bugs.touch_the_device_from_the_host, "now", "the host touched byte 12 of device memory 1"),
        (bugs.engine_touches_undeclared_memory, "late", "the engine touched byte 0 of device memory 2"),
        (bugs.engine_writes_beside, "late", "the engine wrote beside device memory 1"),
        (bugs.kernel_writes_past_the_end, "late", "wrote beside device memory 4"),
        (bugs.kernel_reads_far_past_the_end, "now", "of device memory"),
        (bugs.kernel_is_given_freed_memory, "now", "argument 0, of 1 bytes at byte 0 of device memory 1"),
        (bugs.unload_a_module_in_flight, "now", "module 1 is unloaded while kernel vidgen_sepconv_forward"),
        (bugs.replay_into_freed_memory, "now", "a copy to the device uses device memory 2 (64 bytes), which was freed"),
        (bugs.destroy_a_stream_and_use_it, "now", "is used after it was destroyed"),
    ],
)
def test_a_mistake_is_caught(
    host_cuda: HostCuda, library: str, bug: Callable[[str], None], schedule: str, message: str
) -> None:
    found = host_cuda.outcome(bug, library, schedule=schedule, kernels=[PLAN])
    assert len(found.violations) == 1, found.stderr
    assert message in found.violations[0]


@with_library
@pytest.mark.parametrize("schedule", ["now", "late", "ahead"])
@pytest.mark.parametrize(
    "wait",
    [
        "upload waits for compute",
        "compute waits for upload",
        "download waits for compute",
        "compute waits for download",
    ],
)
def test_a_missing_wait_between_streams_is_caught_in_every_schedule(
    host_cuda: HostCuda, library: str, wait: str, schedule: str
) -> None:
    found = host_cuda.outcome(scenarios.ring, library, 2, 4, wait, schedule=schedule)
    assert len(found.violations) == 1, found.stderr
    assert "does not wait for" in found.violations[0] and "both use device memory" in found.violations[0]


@with_library
@pytest.mark.parametrize("schedule", ["now", "late", "ahead"])
def test_programs_with_the_waits_they_need_compute_the_same_in_every_schedule(
    host_cuda: HostCuda, library: str, schedule: str
) -> None:
    drawn = [programs.draw(seed) for seed in range(30)]
    assert sum(len(program.waits) for program in drawn) > 60
    for program, found in zip(drawn, host_cuda(programs.run, library, drawn, schedule=schedule), strict=True):
        assert np.array_equal(found, programs.computed(program).astype(np.float32))


@with_library
@pytest.mark.parametrize("seed", range(4))
def test_any_wait_left_out_of_a_program_is_caught(host_cuda: HostCuda, library: str, seed: int) -> None:
    program = programs.draw(seed)
    wait = program.waits[seed % len(program.waits)]
    found = host_cuda.outcome(programs.run, library, [program.without(wait)], schedule=("now", "late")[seed % 2])
    assert len(found.violations) == 1, found.stderr
    assert "does not wait for" in found.violations[0]


@with_library
@pytest.mark.parametrize("schedule", ["late", "ahead"])
def test_an_overtaken_ring_is_caught(host_cuda: HostCuda, library: str, schedule: str) -> None:
    found = host_cuda.outcome(scenarios.ring, library, 2, 4, "host waits for download", schedule=schedule)
    assert found.violations == ["pinned memory 3 (16 bytes) was changed before its copy to the device ran"]


@with_library
def test_a_missing_wait_of_the_host_shows_as_poison(host_cuda: HostCuda, library: str) -> None:
    assert host_cuda(bugs.read_too_early, library, schedule="now") == (7, 7)
    for schedule in ("late", "ahead"):
        assert host_cuda(bugs.read_too_early, library, schedule=schedule) == (0xCB, 7)


@pytest.mark.parametrize("library", libraries()[:1])
def test_arguments_of_the_wrong_width_are_caught(host_cuda: HostCuda, library: str) -> None:
    # pycuda gives one buffer; an array of pointers, as cuda-python gives, has no sizes to check.
    found = host_cuda.outcome(bugs.kernel_gets_a_wide_argument, library, kernels=[PLAN])
    assert "bytes of arguments, expected 48" in found.violations[0]


@with_library
@pytest.mark.parametrize(
    "what",
    ["device memory", "pinned memory", "stream", "event", "module", "executable graph", "the primary context"],
)
def test_what_is_left_open_is_counted(host_cuda: HostCuda, library: str, what: str) -> None:
    leaks = host_cuda.outcome(bugs.forget, library, what).leaks
    assert len(leaks) == 1
    assert leaks[0].startswith(what)


@with_library
def test_a_test_fails_when_something_was_caught(host_cuda: HostCuda, library: str) -> None:
    with pytest.raises(HostCudaError, match="freed twice"):
        host_cuda(bugs.free_twice, library)
    with pytest.raises(HostCudaError, match="leak: event 1"):
        host_cuda(bugs.forget, library, "event")
