"""A machine with an engine, for the tests of the TensorRT backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """With an engine of a small G3AN, and nothing of the device held at the end."""
    made = Machine(tmp_path, monkeypatch)
    made.write()
    yield made
    assert made.cuda.leaks() == {}
