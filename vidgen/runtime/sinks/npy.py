"""Frames as they are, in a NumPy file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file


class NpySink:
    """uint8 [F, height, width, 3] as ``numpy.load(path, allow_pickle=False)`` reads it; the frame rate is not kept."""

    extension: ClassVar[str] = "npy"

    def write(self, path: Path, frames: NDArray[np.uint8], fps: float) -> None:
        """Write the array; see :class:`vidgen.runtime.sinks.Sink`."""
        # Through memory: NumPy's own writing to a full disk gives an error without its cause.
        memory = io.BytesIO()
        np.save(memory, np.ascontiguousarray(frames), allow_pickle=False)
        with atomic_file(path) as partial:
            partial.write_bytes(memory.getbuffer())
