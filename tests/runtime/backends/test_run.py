"""What backends compute: into the caller's buffer, equal to the model, and clear about what went wrong."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_cuda import FakeCuda

from vidgen.errors import BackendError
from vidgen.runtime.backends import open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.backends.onnxruntime_device import DeviceRunner
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.ranges import to_uint8

RUNNERS = ("torch", "onnxruntime", "openvino", "fake")


def _open(name: str, toy: Path, checkpoint: Path) -> Backend:
    return open_backend(checkpoint if name == "torch" else toy, name, threads=1)


def _run(backend: Backend, indices: range, frames: int = 16) -> np.ndarray:
    interface = backend.manifest.interface
    inputs = latents(interface, 0, indices, frames=frames)
    shape = interface.output.resolve(batch=len(indices), frames=frames)
    output = np.empty(shape, dtype=interface.output.dtype)
    backend.run(inputs, output)
    return output


@pytest.mark.parametrize("name", RUNNERS)
def test_rows_of_a_batch_do_not_depend_on_each_other(name: str, toy: Path, checkpoint: Path) -> None:
    with _open(name, toy, checkpoint) as backend:
        first, second = _run(backend, range(4)), _run(backend, range(2, 6))
    assert np.array_equal(first[2:], second[:2])
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("name", RUNNERS)
def test_batch_and_length_may_change_between_runs(name: str, toy: Path, checkpoint: Path) -> None:
    with _open(name, toy, checkpoint) as backend:
        shapes = [_run(backend, range(batch), frames).shape for batch, frames in ((1, 16), (3, 24), (2, 48), (1, 16))]
    assert shapes == [(1, 16, 64, 64, 3), (3, 24, 64, 64, 3), (2, 48, 64, 64, 3), (1, 16, 64, 64, 3)]


@pytest.mark.parametrize("name", RUNNERS)
def test_the_whole_buffer_is_written_in_place(name: str, toy: Path, checkpoint: Path) -> None:
    with _open(name, toy, checkpoint) as backend:
        interface = backend.manifest.interface
        inputs = latents(interface, 0, [0, 1])
        # A part of a larger array: what lies beside it must stay.
        memory = np.full((4, 16, 64, 64, 3), 7, dtype=np.uint8)
        backend.run(inputs, memory[1:3])
        again = np.zeros((2, 16, 64, 64, 3), dtype=np.uint8)
        backend.run(inputs, again)
    assert np.array_equal(memory[1:3], again)
    assert (memory[0] == 7).all()
    assert (memory[3] == 7).all()
    assert again.std() > 1


def test_torch_equals_the_module_and_the_documented_rounding(checkpoint: Path) -> None:
    import torch

    from vidgen.models.checkpoint import load_generator

    generator, info = load_generator(checkpoint)
    inputs = latents(info.config.interface(), 0, range(2), frames=24)
    with torch.no_grad():
        za, zm = (torch.from_numpy(inputs[name]) for name in ("za", "zm"))
        expected = generator(za[:, :, None, None, None], zm[..., None, None]).numpy()
    with open_backend(checkpoint, output="float32") as backend:
        assert backend.manifest.interface.output.dtype == "float32"
        raw = _run(backend, range(2), frames=24)
    with open_backend(checkpoint) as backend:
        levels = _run(backend, range(2), frames=24)
    assert np.array_equal(raw, expected)
    assert raw.std() > 0.05
    assert np.array_equal(levels, to_uint8(expected))


def test_onnxruntime_and_openvino_agree_on_an_artifact(tmp_path: Path, make_toy: Callable[..., Manifest]) -> None:
    make_toy(tmp_path / "raw.onnx", output="float32")
    videos = []
    for name in ("onnxruntime", "openvino"):
        with open_backend(tmp_path / "raw.onnx", name) as backend:
            videos.append(_run(backend, range(3), frames=20))
    assert videos[0].shape == (3, 3, 20, 64, 64)
    assert np.abs(videos[0] - videos[1]).max() < 1e-5


def test_openvino_is_told_to_compute_in_float32(toy: Path) -> None:
    with open_backend(toy, "openvino", threads=1) as backend:
        precision = backend._compiled.get_property("INFERENCE_PRECISION_HINT")  # type: ignore[attr-defined]
    assert "float" in str(precision)
    assert "16" not in str(precision)


def test_read_only_inputs_are_accepted(toy: Path, checkpoint: Path) -> None:
    for name in RUNNERS:
        with _open(name, toy, checkpoint) as backend:
            inputs = latents(backend.manifest.interface, 0, [0])
            videos = np.zeros((2, 1, 16, 64, 64, 3), dtype=np.uint8)
            backend.run(inputs, videos[0])
            for array in inputs.values():
                array.flags.writeable = False
            backend.run(inputs, videos[1])
            assert videos.any() and np.array_equal(videos[0], videos[1])


@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("fault", ["shape", "dtype", "order", "batch", "length", "missing", "read-only", "empty"])
def test_buffers_that_do_not_fit_never_reach_the_library(name: str, fault: str, toy: Path, checkpoint: Path) -> None:
    with _open(name, toy, checkpoint) as backend:
        inputs: dict[str, Any] = latents(backend.manifest.interface, 0, [0, 1])
        output = np.zeros((2, 16, 64, 64, 3), dtype=np.uint8)
        if fault == "shape":
            inputs["za"] = inputs["za"][:, :-1].copy()
        elif fault == "dtype":
            inputs["za"] = inputs["za"].astype(np.float64)
        elif fault == "order":
            output = np.zeros((2, 64, 16, 64, 3), dtype=np.uint8).swapaxes(1, 2)
        elif fault == "batch":
            output = np.zeros((3, 16, 64, 64, 3), dtype=np.uint8)
        elif fault == "length":
            output = np.zeros((2, 20, 64, 64, 3), dtype=np.uint8)
        elif fault == "missing":
            del inputs["zm"]
        elif fault == "read-only":
            output.flags.writeable = False
        else:
            inputs, output = {key: value[:0] for key, value in inputs.items()}, output[:0]
        with pytest.raises(BackendError, match="does not fit"):
            backend.run(inputs, output)
        assert not output.any()


@pytest.mark.parametrize("name", RUNNERS)
def test_a_closed_backend_says_so(name: str, toy: Path, checkpoint: Path) -> None:
    backend = _open(name, toy, checkpoint)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="is closed"):
        _run(backend, range(1))


def test_torch_gives_its_threads_back(checkpoint: Path) -> None:
    import torch

    before = torch.get_num_threads()
    with open_backend(checkpoint, threads=before + 1) as backend:
        assert torch.get_num_threads() == before + 1
        assert backend.describe()["threads"] == str(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_a_device_that_is_not_there_is_an_error(name: str, toy: Path, checkpoint: Path) -> None:
    with pytest.raises(BackendError, match=f"{name} cannot run on tpu"):
        open_backend(checkpoint if name == "torch" else toy, name, device="tpu")


def test_a_provider_that_silently_fell_back_is_an_error(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    # As with missing CUDA libraries: the provider is listed, and the session runs on another one.
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: session(model, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(BackendError, match="CPUExecutionProvider took over, expected CUDAExecutionProvider"):
        open_backend(toy, device="cuda")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_provider_that_is_not_installed_is_an_error(toy: Path, device: str) -> None:
    with pytest.raises(BackendError, match=r"onnxruntime cannot run on (cuda|tensorrt)") as caught:
        open_backend(toy, device=device)
    assert "vidgen[gpu]" in caught.value.fix


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_the_provider_asked_for_comes_first_with_its_device(
    toy: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    import onnxruntime

    name = "TensorrtExecutionProvider" if device == "tensorrt" else "CUDAExecutionProvider"
    seen: list[Any] = []

    class Session:
        def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
            seen.extend(providers)
            self._real = onnxruntime_session(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return [name, "CPUExecutionProvider"]

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._real, attribute)

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name])
    with open_backend(toy, device=device) as backend:
        assert backend.describe()["device"] == f"{name}, pageable memory"
    assert next(first for first, _ in seen) == name
    assert all(options["device_id"] == ("1" if device == "cuda:1" else "0") for _, options in seen)
    # What TensorRT leaves runs on CUDA; in true float32.
    assert seen[-1] == ("CUDAExecutionProvider", {"device_id": seen[-1][1]["device_id"], "use_tf32": "0"})


@pytest.mark.parametrize("pinned", [True, False])
def test_frames_from_memory_of_a_device_are_those_of_a_plain_run(toy: Path, pinned: bool) -> None:
    """The runner for devices, with ONNX Runtime's CPU memory in the place of a device's."""
    import onnxruntime

    class Beside(FakeCuda):
        def bytes_at(self, address: int, nbytes: int) -> Any:
            return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    cuda = Beside() if pinned else None
    session = onnxruntime.InferenceSession(toy.read_bytes(), providers=["CPUExecutionProvider"])
    runner = DeviceRunner(onnxruntime, session, cuda, kind="cpu")
    with open_backend(toy) as backend:
        interface = backend.manifest.interface
        for indices, frames in ((range(2), 16), (range(2, 4), 16), (range(3), 20)):
            output = np.empty(interface.output.resolve(batch=len(indices), frames=frames), np.uint8)
            runner.run(latents(interface, 0, indices, frames=frames), {"video": output})
            assert np.array_equal(output, _run(backend, indices, frames))
    runner.close()
    runner.close()
    assert cuda is None or (cuda.leaks() == {} and not cuda.open)


@pytest.mark.parametrize("error", [RuntimeError("boom at node 7"), MemoryError("bad_alloc")])
def test_a_library_failure_becomes_our_error_with_its_message(toy: Path, error: Exception) -> None:
    class Broken:
        def io_binding(self) -> Any:
            raise error

    with open_backend(toy) as backend:
        backend._session = Broken()  # type: ignore[attr-defined]
        with pytest.raises(BackendError) as caught:
            _run(backend, range(4))
    assert str(error) in caught.value.seen
    assert ("--batch 2" in caught.value.fix) == isinstance(error, MemoryError)


def test_out_of_memory_in_torch_advises_a_smaller_batch(checkpoint: Path) -> None:
    with open_backend(checkpoint) as backend:

        def forward(generator: object, inputs: object) -> None:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

        backend._forward = forward  # type: ignore[attr-defined]
        with pytest.raises(BackendError, match="--batch 2"):
            _run(backend, range(4))


def test_the_fake_counts_runs_and_fails_where_told() -> None:
    backend = FakeBackend(fail_at=1)
    _run(backend, range(3))
    with pytest.raises(BackendError, match="run 1"):
        _run(backend, range(2))
    assert backend.batches == [3, 2]


def test_the_fake_serves_any_interface(labelled: Manifest) -> None:
    backend = FakeBackend(labelled)
    videos = _run(backend, range(3), frames=6)
    assert videos.shape == (3, 6, 8, 10, 3)
    assert len({video.tobytes() for video in videos}) == 3


def test_the_fake_goes_on_where_a_shorter_motion_ends() -> None:
    backend = FakeBackend()
    short, long = _run(backend, range(1), frames=16), _run(backend, range(1), frames=40)
    assert np.array_equal(short[0, :4], long[0, :4])
