"""A small clip store to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidgen.data.store import StoreWriter


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of moving squares, 16 to 60 frames long."""
    path = tmp_path_factory.mktemp("clips") / "squares"
    generator = np.random.default_rng(0)
    with StoreWriter(path, name="squares", height=64, width=64) as writer:
        for number, length in enumerate((16, 20, 32, 40, 48, 60, 17, 33, 50)):
            frames = np.full((length, 64, 64, 3), 40 + 20 * number, np.uint8)
            x, y = generator.integers(0, 20, 2)
            for t in range(length):
                frames[t, y + t % 20 : y + t % 20 + 20, x : x + 20] = generator.integers(120, 255, 3)
            writer.add(frames, source=f"squares/{number}", fps=25.0)
    return path
