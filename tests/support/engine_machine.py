"""A machine with a fake GPU, a fake TensorRT and an engine on its disk, and what the engine should make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_cuda import FakeCuda
from support.fake_tensorrt import FakeTensorRT, write_engine

from vidgen.models.config import G3ANConfig
from vidgen.runtime.backends.base import Batch
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import Manifest
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
