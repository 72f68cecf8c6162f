"""Engines built for this machine's GPU make the videos of their ONNX files, from graphs, in any batch and any order."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fill import fill_module

from vidgen.bench.latency import bench
from vidgen.bench.settings import BenchSettings
from vidgen.errors import BackendError, VidgenError
from vidgen.export import ExportSettings, export
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import G3ANConfig, TwoStreamVANConfig
from vidgen.models.registry import build_network
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend, Batch
from vidgen.runtime.cuda import LIBRARIES, open_cuda
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import manifest_path, read_manifest
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.tensorrt_library import MODULES, choose_builder, device_architecture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(device_architecture() is None, reason="CUDA shows no device"),
]

CONFIGS = {
    "g3an": G3ANConfig(ch=16),
    "twostreamvan": TwoStreamVANConfig(n_cat=3, gf_dim=4, cont_dim=16),
}
#: Model, half, form of the separable convolution.
CASES = {
    "g3an": ("g3an", False, None),
    "g3an half": ("g3an", True, None),
    "actor": ("twostreamvan", False, "custom"),
    "actor half": ("twostreamvan", True, "custom"),
    "actor standard": ("twostreamvan", False, "standard"),
    "actor plugin": ("twostreamvan", False, "plugin"),
    "actor plugin half": ("twostreamvan", True, "plugin"),
}
#: Grey levels: rounding; half precision; half precision of frames that are made from each other.
ALLOWED = {"g3an": 1, "g3an half": 3, "actor": 1, "actor half": 16, "actor standard": 1, "actor plugin": 1}
ALLOWED["actor plugin half"] = 16
OPTIONS: dict[str, Any] = {"gpu": "current", "batch": "1:1:2,2:8:8"}
FRAMES = {"g3an": "16:16:24", "twostreamvan": "10:10:14"}


def builders() -> list[str]:
    """The libraries here that build for this GPU."""
    found = []
    for name in MODULES:
        try:
            found.append(choose_builder(name, ("current",))[0])
        except VidgenError as error:
            print(f"{name}: {error}")
    return found


def cuda_libraries() -> list[str]:
    """The CUDA libraries for Python that open the device."""
    found = []
    for name in LIBRARIES:
        try:
            open_cuda(0, name).close()
            found.append(name)
        except VidgenError as error:
            print(f"{name}: {error}")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled checkpoints of both models, and the engines made from them."""
    place = tmp_path_factory.mktemp("engines")
    for name, config in CONFIGS.items():
        network = fill_module(build_network(config))
        save_checkpoint(place / f"{name}.safetensors", network.state_dict(), CheckpointInfo(name, config))
    return place


@pytest.fixture(scope="module", params=list(MODULES))
def builder(request: pytest.FixtureRequest) -> str:
    """Each library in turn."""
    if request.param not in builders():
        pytest.skip(f"{request.param} does not build for this GPU (vidgen doctor)")
    return str(request.param)


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> str:
    """Each kind of engine in turn."""
    return str(request.param)


def build(folder: Path, builder: str, case: str, **more: Any) -> Path:
    """The engine of a case, built once."""
    model, half, sepconv = CASES[case]
    suffix = "-".join(map(str, itertools.chain.from_iterable(sorted(more.items()))))
    plan = folder / f"{builder}-{case.replace(' ', '-')}{suffix}.plan"
    if not plan.exists():
        options = {**OPTIONS, "frames": FRAMES[model], "builder": builder, "sepconv": sepconv, "fp16": half, **more}
        export(ExportSettings(folder / f"{model}.safetensors", plan, **options))
    return plan


@pytest.fixture(scope="module")
def plan(folder: Path, builder: str, case: str) -> Path:
    """An engine of each library and kind."""
    return build(folder, builder, case)


def frames_of(backend: Backend) -> int:
    return backend.manifest.interface.frames.default


def batch(backend: Backend, first: int, size: int = 2, frames: int | None = None) -> Batch:
    interface = backend.manifest.interface
    length = frames or interface.frames.default
    inputs = latents(interface, 0, range(first, first + size), frames=length)
    return Batch(inputs, np.empty(interface.output.resolve(batch=size, frames=length), interface.output.dtype))


def one_by_one(backend: Backend, given: Batch) -> np.ndarray[Any, Any]:
    again = np.empty_like(given.output)
    backend.run(given.inputs, again)
    return again


def reference(plan: Path, n: int, frames: int | None = None) -> np.ndarray[Any, Any]:
    """The videos of the ONNX file beside an engine, on the CPU."""
    with Sampler.open(plan.with_suffix(".onnx"), batch=2) as sampler:
        return sampler.sample(n, seed=3, frames=frames).astype(int)


def test_videos_are_those_of_the_onnx_file(plan: Path, case: str) -> None:
    # Two profiles and padded batches.
    for size, longer in ((2, 0), (8, 0), (2, 4)):
        with Sampler.open(plan, batch=size) as sampler:
            frames = sampler.info.interface.frames.default + longer
            videos = sampler.sample(5, seed=3, frames=frames).astype(int)
        assert np.abs(videos - reference(plan, 5, frames)).max() <= ALLOWED[case]
        assert len({video.tobytes() for video in videos}) == 5


def test_half_is_in_the_engine(plan: Path, case: str) -> None:
    engine = read_manifest(plan).engine
    assert engine is not None
    assert (engine.half_layers > engine.float_layers / 2) == CASES[case][1]


@pytest.mark.parametrize("library", list(LIBRARIES))
def test_many_batches_are_those_of_single_runs_to_the_bit(
    plan: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library not in cuda_libraries():
        pytest.skip(f"{library} does not open the device (vidgen doctor)")
    monkeypatch.setattr("vidgen.runtime.backends.tensorrt.open_cuda", lambda device: open_cuda(device, library))
    with open_backend(plan) as backend:
        length = frames_of(backend)
        shapes = [(2, length)] * 5 + [(1, length + 4)] * 4 + [(8, length)] * 4 + [(2, length)] * 3
        given = [batch(backend, 10 * number, *shape) for number, shape in enumerate(shapes)]
        done = list(backend.run_many(iter(given)))
        assert [id(one.output) for one in done] == [id(one.output) for one in given]
        described = backend.describe()["device"]
        for one in done:
            assert np.array_equal(one.output, one_by_one(backend, one))
        assert 0 < (backend.device_milliseconds() or 0) < 60_000
    print(f"{plan.name}: {described}")


def test_g3an_runs_from_a_graph(folder: Path, builder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cuda-python" not in cuda_libraries():
        pytest.skip("pycuda has no graphs")
    opener = "vidgen.runtime.backends.tensorrt.open_cuda"
    monkeypatch.setattr(opener, lambda device: open_cuda(device, "cuda-python"))
    with open_backend(build(folder, builder, "g3an")) as backend:
        for number in range(3):
            backend.run(*batch(backend, number))
        assert "CUDA graphs: yes" in backend.describe()["device"]


def test_iterators_used_by_turns_do_not_take_each_others_frames(folder: Path, builder: str) -> None:
    with open_backend(build(folder, builder, "g3an")) as backend:
        one = backend.run_many(batch(backend, 2 * number) for number in range(4))
        other = backend.run_many(batch(backend, 100 + number, 1) for number in range(4))
        pairs = list(zip(one, other, strict=True))
        for given in itertools.chain.from_iterable(pairs):
            assert np.array_equal(given.output, one_by_one(backend, given))


def test_a_shape_outside_the_profiles_is_refused_and_the_next_runs(folder: Path, builder: str) -> None:
    with open_backend(build(folder, builder, "g3an")) as backend:
        with pytest.raises(BackendError, match="no profile"):
            backend.run(*batch(backend, 0, 9))
        given = batch(backend, 0)
        backend.run(*given)
        assert np.array_equal(given.output, one_by_one(backend, given))


def test_a_damaged_engine_is_an_error_and_no_crash(folder: Path, builder: str, tmp_path: Path) -> None:
    good = build(folder, builder, "g3an")
    bad = tmp_path / "bad.plan"
    bad.write_bytes(good.read_bytes()[:-4096])
    from vidgen._files import sha256, write_json

    write_json(manifest_path(bad), {**read_manifest(good).to_dict(), "sha256": sha256(bad)})
    with pytest.raises(BackendError, match="cannot load"):
        open_backend(bad)


def test_an_engine_for_another_gpu_names_both(folder: Path, builder: str) -> None:
    if builder != "tensorrt-rtx":
        pytest.skip("TensorRT builds for this GPU alone")
    other = "sm_120" if device_architecture() != "sm_120" else "sm_86"
    with pytest.raises(BackendError) as caught:
        open_backend(build(folder, builder, "g3an", gpu=other))
    assert other in caught.value.seen and str(device_architecture()) in str(caught.value)


@pytest.mark.parametrize("option", ["strip_plan", "weight_streaming"])
def test_weights_from_elsewhere_give_the_same_videos(folder: Path, builder: str, option: str) -> None:
    try:
        plan = build(folder, builder, "g3an", **{option: True})
    except VidgenError as error:
        pytest.skip(f"{builder} has no {option}: {error}")
    with Sampler.open(plan, batch=2) as sampler:
        videos = sampler.sample(3, seed=3).astype(int)
    assert np.abs(videos - reference(plan, 3)).max() <= 1


def test_a_trusted_engine_without_manifest_makes_the_same_videos(folder: Path, builder: str, tmp_path: Path) -> None:
    plan = build(folder, builder, "g3an")
    bare = tmp_path / "bare.plan"
    bare.write_bytes(plan.read_bytes())
    with Sampler.open(bare, batch=2, trust=True) as one, Sampler.open(plan, batch=2) as other:
        assert np.array_equal(one.sample(3), other.sample(3))
        profiles = [sampler.info.engine and sampler.info.engine.profiles for sampler in (one, other)]
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_onnxruntime_on_the_device_makes_the_videos_of_the_cpu(folder: Path, device: str) -> None:
    onnx = folder / "plain.onnx"
    if not onnx.exists():
        export(ExportSettings(folder / "g3an.safetensors", onnx, lowering="tensorrt"))
    try:
        backend = open_backend(onnx, device=device)
    except BackendError as error:
        pytest.skip(f"onnxruntime-gpu is not installed whole: {error}")
    with Sampler(backend, batch=2) as sampler, Sampler.open(onnx, batch=2) as cpu:
        assert np.abs(sampler.sample(5).astype(int) - cpu.sample(5).astype(int)).max() <= 1
        print(backend.describe()["device"])


def test_a_bench_reports_device_time_beside_end_to_end_time(folder: Path, builder: str) -> None:
    plan = build(folder, builder, "g3an half")
    settings = BenchSettings((plan.with_suffix(".onnx"), plan), ("onnxruntime", "tensorrt"), (1, 8), seconds=1.0)
    report = bench(dataclasses.replace(settings, rounds=2, warmup_seconds=5.0))
    assert report.ok
    engines = [row for row in report.rows if row.backend == "tensorrt"]
    for row in engines:
        assert row.device_ms and 0 < row.device_ms.p50 <= row.compute_ms.p50 <= row.end_to_end_ms.p50
        assert row.agreement and row.agreement.max_grey_levels <= 3
    print(report.table())


def test_nothing_is_left_on_the_device(folder: Path, builder: str) -> None:
    plan = build(folder, builder, "g3an")

    def free() -> int:
        """Bytes."""
        amount, total = ctypes.c_size_t(), ctypes.c_size_t()
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        assert driver.cuMemGetInfo_v2(ctypes.byref(amount), ctypes.byref(total)) == 0
        return amount.value

    def use() -> Iterator[Batch]:
        with open_backend(plan) as backend:
            yield from backend.run_many(batch(backend, 8 * number, 8) for number in range(4))

    with open_cuda():  # keeps the context, and what the libraries hold in it, through the test
        for _ in use():
            pass
        before = free()
        for _ in range(3):
            for _ in use():
                pass
        assert before - free() <= 64 * 2**20
