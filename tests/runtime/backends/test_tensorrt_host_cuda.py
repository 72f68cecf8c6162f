"""The TensorRT backend over pycuda, cuda-python and a driver that runs on the CPU and forgives nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host_cuda.harness import HostCuda, HostCudaError, host_cuda, libraries
from support import engine_scenarios as scenarios
from support.fake_tensorrt import write_engine

from vidgen.models.config import G3ANConfig
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.sampler import Sampler

__all__ = ["host_cuda"]
TINY = G3ANConfig(c_a=6, c_m=4, ch=2)
LIBRARIES = libraries()
SCHEDULES = ("now", "late", "ahead")
NAMES = ("tensorrt", "tensorrt-rtx")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "g.plan"
    write_engine(path, fake_manifest(TINY))
    return path


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_are_right_in_every_order_of_work(
    host_cuda: HostCuda, plan: Path, library: str, name: str, schedule: str
) -> None:
    shapes = [(2, 16)] * 4 + [(1, 20)] * 3 + [(2, 16)] * 3
    wrong, calls, described = host_cuda(scenarios.stream, plan, library, name, shapes, schedule=schedule)
    assert wrong == 0
    # One wait for each batch, none for a stream.
    assert (calls["cuEventSynchronize"], calls["cuStreamSynchronize"]) == (len(shapes), 0)
    if library == "cuda-python":
        # Of each shape two contexts run plainly first, where there are as many batches.
        assert calls["cuGraphLaunch"] == len(shapes) - 6
    else:
        assert "CUDA graphs: no: pycuda has none" in described


@pytest.mark.parametrize("schedule", ["late", "ahead"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_sampler_makes_the_same_videos(host_cuda: HostCuda, plan: Path, library: str, schedule: str) -> None:
    whole = Sampler(FakeBackend(fake_manifest(TINY)), batch=3).sample(10, seed=5)
    made = host_cuda(scenarios.sample, plan, library, "tensorrt-rtx", 10, 4, schedule=schedule)
    assert np.array_equal(made, whole)


@pytest.mark.parametrize("library", LIBRARIES)
def test_memory_does_not_grow_with_the_number_of_batches(host_cuda: HostCuda, plan: Path, library: str) -> None:
    few, many = (host_cuda(scenarios.stream, plan, library, "tensorrt", [(2, 16)] * number)[1] for number in (3, 12))
    assert (few["cuMemAlloc"], few["cuMemHostAlloc"]) == (many["cuMemAlloc"], many["cuMemHostAlloc"]) == (6, 6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_full_device_says_which_batch_to_try_and_a_smaller_one_runs(
    host_cuda: HostCuda, plan: Path, library: str
) -> None:
    said = host_cuda(scenarios.without_memory, plan, library, "tensorrt", memory=1 << 20)
    assert "CUDA_ERROR_OUT_OF_MEMORY" in said and "--batch 4" in said


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_an_iterator_that_is_left_keeps_nothing_and_spoils_nothing(
    host_cuda: HostCuda, plan: Path, library: str, schedule: str
) -> None:
    assert host_cuda(scenarios.left_hanging, plan, library, "tensorrt", schedule=schedule) == 0


@pytest.mark.parametrize("bug", ["compute waits for upload", "download waits for compute", "host waits for frames"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_wait_would_be_caught(host_cuda: HostCuda, plan: Path, library: str, bug: str) -> None:
    outcome = host_cuda.outcome(scenarios.stream, plan, library, "tensorrt", [(2, 16)] * 4, bug, schedule="late")
    assert outcome.violations or outcome.error or outcome.value[0] > 0


def test_the_harness_itself_fails_a_test_on_a_violation(host_cuda: HostCuda, plan: Path) -> None:
    with pytest.raises(HostCudaError):
        host_cuda(scenarios.stream, plan, "cuda-python", "tensorrt", [(2, 16)] * 4, "compute waits for upload")
