"""The torch backend: runs a checkpoint as it is, in plain eager mode; the reference of every comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import BackendError
from vidgen.models.config import WARM_UP_FRAMES
from vidgen.runtime.backends.base import Arrays, Backend
from vidgen.runtime.backends.buffers import check_buffers, closed_error, run_error
from vidgen.runtime.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vidgen.models.twostreamvan import Generator as TwoStreamVAN

    Forward = Callable[[Any, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


def _g3an(generator: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """za [B, c_a], zm [B, c_m, T] -> [B, 3, 4 (T + 3), 64, 64] in (-1, 1)."""
    za, zm = inputs["za"], inputs["zm"]
    return generator(za[:, :, None, None, None], zm[:, :, :, None, None]), {}


def _twostreamvan(generator: TwoStreamVAN, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """z_content [B, cont_dim] (or first_frame [B, 3, 64, 64]), z_motion [B, S, motion_dim], label [B].

    Gives S - 1 frames [B, 3, F, 64, 64] and masks [B, F, R, R]; with a first frame S + 1, beginning with its
    reconstruction, whose masks are zeros (spec twostreamvan 3.3, 3.4).
    """
    import torch

    label, z_motion = inputs["label"], inputs["z_motion"]
    conditional = "first_frame" in inputs
    if conditional:
        first = generator.reconstruct_one_frame(label, inputs["first_frame"]).image
        made = list(generator.continue_from(first, label, z_motion))
        made[0] = (first, {size: torch.zeros_like(mask) for size, mask in made[1][1].items()})
    else:
        # Warm-up: the first frame shows no motion yet, the second none but the recurrent network's first guess.
        made = list(generator.sample(label, inputs["z_content"], z_motion))[WARM_UP_FRAMES:]
    frames, masks = zip(*made, strict=True)
    by_size = {f"mask_{size}": torch.cat([mask[size] for mask in masks], 1) for size in masks[0]}
    return torch.stack(frames, 2), by_size


#: Model family -> how its artifact inputs (contracts 4) become the raw video [B, 3, F, H, W], and extras by name.
FORWARDS: dict[str, Forward] = {"g3an": _g3an, "twostreamvan": _twostreamvan}


class TorchBackend(Backend):
    """A checkpoint's generator in evaluation mode, on the CPU or on a CUDA device without TF32."""

    name: ClassVar[str] = "torch"

    def __init__(self, generator: nn.Module, manifest: Manifest, threads: int | None, device: str) -> None:
        import torch

        self._manifest = manifest
        self._device = torch.device(device)
        self._generator: nn.Module | None = generator.to(self._device).requires_grad_(False)
        self._forward = FORWARDS[manifest.model]
        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        """Load a checkpoint. The thread setting is the process's own until :meth:`close` restores it.

        Raises:
            MissingDependencyError: torch is not installed.
            CheckpointError: truncated, foreign, or its tensors do not fit.
            BackendError: no such device here, or a model that this backend cannot run.
        """
        torch = require("torch", "run a checkpoint")
        if manifest.model not in FORWARDS:
            raise BackendError(
                f"torch cannot run {artifact}",
                seen=f"a {manifest.model} model, expected one of {', '.join(FORWARDS)}",
                cause="sampling this family from its checkpoint is not supported",
                fix=f"vidgen export {artifact} -o {artifact.with_suffix('.onnx')}",
            )
        if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
            raise BackendError(
                f"torch cannot run on {device}",
                seen=f"device {device!r}, expected cpu" + (" or cuda" if torch.cuda.is_available() else ""),
                cause="this torch has no CUDA device here",
                fix="use device cpu, or see: vidgen doctor",
            )
        from vidgen.models.checkpoint import load_generator

        generator, _ = load_generator(artifact)
        return cls(generator, manifest, threads, device)

    @property
    def manifest(self) -> Manifest:
        """What the checkpoint is, with the output this backend was opened for."""
        return self._manifest

    def describe(self) -> dict[str, str]:
        """Library, version, device, threads."""
        import torch

        device = "cpu" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device)
        return {
            "backend": self.name,
            "library": f"torch {torch.__version__}",
            "device": device,
            "threads": str(torch.get_num_threads()),
        }

    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Run one batch; float32 output is the raw video, uint8 is rounded half to even (contracts 4)."""
        import torch

        if self._generator is None:
            raise closed_error(self.name)
        check_buffers(self._manifest.interface, inputs, output, extras)
        batch = output.shape[0]
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                tensors = {
                    name: torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self._device)
                    for name, array in inputs.items()
                }
                video, made = self._forward(self._generator, tensors)
                if output.dtype == np.uint8:
                    video = torch.clamp(torch.round((video + 1) * 127.5), 0, 255).permute(0, 2, 3, 4, 1)
                torch.from_numpy(output).copy_(video)
                for name, array in (extras or {}).items():
                    torch.from_numpy(array).copy_(made[name])
        except (RuntimeError, MemoryError) as error:
            raise run_error("torch", error, batch) from error

    def close(self) -> None:
        """Drop the network and give torch its number of threads back."""
        if self._generator is None:
            return
        import torch

        self._generator = None
        torch.set_num_threads(self._threads_before)
