"""vidgen: from a PyTorch training run to a verified ONNX file and engine, then samples, scores and timings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from vidgen.runtime.sampler import Sampler

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path, backend: str | None = None, **options: Any) -> Sampler:
    """Open any artifact (.onnx, .safetensors checkpoint, .plan) as a sampler.

    Args:
        path: the artifact.
        backend: ``"onnxruntime"``, ``"torch"``, ...; None picks by the file's kind.
        options: forwarded to :class:`vidgen.runtime.sampler.Sampler`.

    Raises:
        vidgen.errors.VidgenError: the artifact is missing, altered or cannot run here.
    """
    from vidgen.runtime.sampler import Sampler

    return Sampler.open(path, backend=backend, **options)
