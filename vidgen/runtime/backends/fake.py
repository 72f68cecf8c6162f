"""A backend without a device: frames are a smooth, exact function of the latents, of any interface."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError
from vidgen.models.config import G3ANConfig, ModelInterface
from vidgen.runtime.backends.base import Arrays, Backend
from vidgen.runtime.backends.buffers import check_buffers, closed_error
from vidgen.runtime.manifest import DEFAULT_FPS, Manifest
from vidgen.runtime.ranges import to_uint8


def fake_manifest(config: G3ANConfig | None = None, output: str = "uint8", fps: float = DEFAULT_FPS) -> Manifest:
    """A manifest with the interface of a G3AN, for a fake backend that stands for no file."""
    config = config or G3ANConfig()
    return Manifest(model="g3an", config=config, interface=config.interface(output), fps=fps)


class FakeBackend(Backend):
    """Moving waves whose direction, colour and speed come from the latents of each video alone.

    Every video is computed by itself, so results are the same to the bit in any batch. A longer motion latent
    goes on where a shorter one ends.

    Args:
        manifest: what to pretend to be; a G3AN with uint8 output when None.
        delay: seconds that each run takes longer.
        fail_at: number of the run, from 0, that fails with a BackendError; None never fails.
    """

    name: ClassVar[str] = "fake"

    def __init__(self, manifest: Manifest | None = None, *, delay: float = 0.0, fail_at: int | None = None) -> None:
        self._manifest = manifest or fake_manifest()
        self._delay = delay
        self._fail_at = fail_at
        self._open = True
        #: Batch sizes of the runs so far, for tests of the batching.
        self.batches: list[int] = []

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        """Pretend to run an artifact: only its manifest is used."""
        return cls(manifest)

    @property
    def manifest(self) -> Manifest:
        """What it pretends to be."""
        return self._manifest

    def describe(self) -> dict[str, str]:
        """Says that nothing real runs."""
        return {
            "backend": self.name,
            "library": f"numpy {np.__version__}",
            "device": "none: a function of the latents",
            "threads": "1",
        }

    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Fill ``output`` with waves, and ``extras`` (masks) with how bright they are.

        Raises:
            BackendError: this is the run that was to fail, or a buffer does not fit.
        """
        if not self._open:
            raise closed_error(self.name)
        interface = self._manifest.interface
        check_buffers(interface, inputs, output, extras)
        number = len(self.batches)
        self.batches.append(len(output))
        if self._delay:
            time.sleep(self._delay)
        if number == self._fail_at:
            raise BackendError(
                f"the fake backend failed in run {number}",
                seen=f"run {number}",
                cause="it was told to fail there",
                fix="run it again with --resume",
            )
        for row in range(len(output)):
            video = _waves(interface, {name: array[row] for name, array in inputs.items()}, output.shape)
            output[row] = to_uint8(video)[0] if output.dtype == np.uint8 else video[0]
            for array in (extras or {}).values():
                step = video.shape[-1] // array.shape[-1]
                array[row] = (video[0, 0, :, ::step, ::step] + 1) / 2

    def close(self) -> None:
        """Refuse further runs."""
        self._open = False


def _waves(interface: ModelInterface, row: Arrays, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One video, float32 [1, 3, F, H, W] in [-1, 1], of the inputs of one row."""
    rule = interface.frames
    frames, height, width = shape[1:4] if shape[-1] == 3 else shape[2:5]
    still = np.concatenate([np.ravel(row[spec.name]) for spec in interface.inputs if spec.name != rule.input])
    moving = np.moveaxis(row[rule.input], rule.axis - 1, 0)
    moving = moving.reshape(len(moving), -1).astype(np.float64)
    # Fixed weights without a random stream; every latent value counts.
    look = np.cos(np.outer(np.arange(1, 9), np.arange(1, still.size + 1))) @ still.astype(np.float64)
    drift = np.sum(moving * np.sin(np.arange(1, moving.shape[1] + 1)), axis=1)
    steps = np.minimum(np.arange(frames) // rule.scale, len(moving) - 1)
    phase = np.cumsum(0.15 + 0.1 * np.tanh(drift[steps]))
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = np.arctan2(look[0], look[1])
    distance = (np.cos(angle) * x + np.sin(angle) * y) * (2.0 + np.tanh(look[2]))
    wave = 2 * np.pi * (distance[None, None] - phase[None, :, None, None])
    colours = look[3:6, None, None, None]
    video: NDArray[np.float32] = np.sin(wave + colours)[None].astype(np.float32)
    return video
