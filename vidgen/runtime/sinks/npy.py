"""Frames as they are, in a NumPy file."""

from __future__ import annotations

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
        with atomic_file(path) as partial, open(partial, "wb") as stream:
            np.save(stream, np.ascontiguousarray(frames), allow_pickle=False)
