"""Long tests run only when asked for (VIDGEN_SLOW=1), and Ctrl-C reaches what tests start."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest


def pytest_configure() -> None:
    """Give hypothesis all the time it needs on a busy machine, and undo an ignored SIGINT.

    A shell ignores it for what it starts in the background, and every child inherits that: tests of Ctrl-C would fail.
    """
    hypothesis.settings.register_profile("vidgen", deadline=None)
    hypothesis.settings.load_profile("vidgen")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked slow unless VIDGEN_SLOW=1."""
    if os.environ.get("VIDGEN_SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="slow; runs with VIDGEN_SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
