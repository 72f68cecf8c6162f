"""Long tests run only when asked for: VIDGEN_SLOW=1."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked slow unless VIDGEN_SLOW=1."""
    if os.environ.get("VIDGEN_SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="slow; runs with VIDGEN_SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
