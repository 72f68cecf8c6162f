"""What every backend checks before it runs: the caller's buffers fit the artifact's interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError
from vidgen.models.config import ModelInterface, TensorSpec
from vidgen.runtime.backends.base import Arrays


def check_buffers(
    interface: ModelInterface, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None
) -> None:
    """Raise unless inputs, output and extras have the names, dtypes, layout and agreeing shapes of an interface.

    Native libraries write through a bare pointer, so a wrong buffer must be stopped before them.

    Raises:
        BackendError: the first buffer that does not fit, with what was expected.
    """
    names = [spec.name for spec in interface.inputs]
    if sorted(inputs) != sorted(names):
        raise _misfit("the inputs", f"{sorted(inputs)}", f"{names}")
    sizes: dict[str, int] = {}
    for spec in interface.inputs:
        _check(spec, inputs[spec.name], sizes)
    length = sizes.get(interface.frames.dimension)
    if length is not None:
        sizes["frames"] = interface.frames.frames(length)
    known = {spec.name: spec for spec in interface.extras}
    if extras and not set(extras) <= set(known):
        raise _misfit("the extras", f"{sorted(extras)}", f"some of {sorted(known)}" if known else "none")
    for spec, array in ((interface.output, output), *((known[name], array) for name, array in (extras or {}).items())):
        _check(spec, array, sizes)
        if not array.flags.writeable:
            raise _misfit(spec.name, "a read-only buffer", "a writable one")


def _check(spec: TensorSpec, array: NDArray[Any], sizes: dict[str, int]) -> None:
    """Check one buffer; sizes of dynamic axes are noted when first met."""
    seen = f"{array.dtype} {list(array.shape)}"
    expected = f"{spec.dtype} {[sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape]}"
    if array.dtype != np.dtype(spec.dtype) or array.ndim != len(spec.shape):
        raise _misfit(spec.name, seen, expected)
    for size, dimension in zip(array.shape, spec.shape, strict=True):
        wanted = sizes.setdefault(dimension, size) if isinstance(dimension, str) else dimension
        if size != wanted or size < 1:
            raise _misfit(spec.name, seen, expected)
    if not array.flags.c_contiguous:
        raise _misfit(spec.name, f"{seen}, strided", "C-contiguous memory")


def _misfit(name: str, seen: str, expected: str) -> BackendError:
    return BackendError(
        f"cannot run: buffer {name} does not fit the artifact",
        seen=f"{seen}, expected {expected}",
        cause="the buffers were made for another artifact, batch or motion length",
        fix="make them with vidgen.runtime.latents.latents(manifest.interface, ...) and interface.output.resolve(...)",
    )


def run_error(backend: str, error: BaseException, batch: int) -> BackendError:
    """A library's failure during a run as our error; a lack of memory is told apart."""
    message = " ".join(str(error).split()) or type(error).__name__
    words = message.lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "allocate" in words or "bad_alloc" in words:
        return BackendError(
            f"{backend} ran out of memory on a batch of {batch}",
            seen=message[:400],
            cause="the batch, or the number of frames, is too large for this device",
            fix=f"use --batch {max(1, batch // 2)}",
        )
    return BackendError(
        f"{backend} failed on a batch of {batch}",
        seen=message[:400],
        cause="the library cannot run this artifact as asked",
        fix="vidgen doctor   (shows what works here), or another --backend",
    )


def closed_error(backend: str) -> BackendError:
    """The error of a run after close()."""
    return BackendError(
        f"cannot run: the {backend} backend is closed",
        seen="run() after close()",
        cause="the backend was left before its last use",
        fix="open it again with open_backend",
    )


def load_error(backend: str, artifact: object, error: BaseException) -> BackendError:
    """A library's failure to load an artifact as our error."""
    return BackendError(
        f"{backend} cannot load {artifact}",
        seen=(" ".join(str(error).split()) or type(error).__name__)[:400],
        cause="this version of the library does not know something in the file, or memory is short",
        fix="vidgen doctor   (shows the versions), or another --backend",
    )
