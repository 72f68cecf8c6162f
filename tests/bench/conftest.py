"""Benchmarks of the backend that needs no device."""

from __future__ import annotations

import pytest

from vidgen.runtime.backends import ALLOWS_FAKE


@pytest.fixture(autouse=True)
def fake_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let settings name the backend ``fake``, in child processes too."""
    monkeypatch.setenv(ALLOWS_FAKE, "1")
