"""The emulator that the tests of this folder share, and why some of them cannot run here."""

from __future__ import annotations

import pytest
from plugins.cuda.emulation.emulator import Emulator, why_not


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """Kernels of the package, unchanged."""
    if reason := why_not():
        pytest.skip(reason)
    return Emulator(tmp_path_factory.mktemp("kernels"))
