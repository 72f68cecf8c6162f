"""Long tests run only when asked for (VIDGEN_SLOW=1), long files come first, and Ctrl-C reaches what tests start."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support import warm

#: Files that take longest, longest first: started last, one would keep one process busy while the others wait.
LONGEST = (
    "docs/test_readme.py",
    "trainer/test_train.py",
    "export/test_twostreamvan.py",
    "export/test_official_artifacts.py",
    "export/test_twostreamvan_artifact.py",
    "export/test_per_layer.py",
    "export/test_to_onnx.py",
    "runtime/test_resume.py",
    "plugins/cuda/test_kernels.py",
    "export/test_export.py",
    "export/test_verify.py",
    "cli/test_cli.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Give hypothesis all the time it needs on a busy machine, and undo an ignored SIGINT.

    It draws the same cases every time, so that a red build means a change; fresh ones are drawn with VIDGEN_SLOW=1.
    A shell ignores it for what it starts in the background, and every child inherits that: tests of Ctrl-C would fail.
    """
    hypothesis.settings.register_profile("vidgen", deadline=None, derandomize=os.environ.get("VIDGEN_SLOW") != "1")
    hypothesis.settings.load_profile("vidgen")
    config.option.loadscopereorder = False  # pytest-xdist: keep the order below instead of one by numbers of tests
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def warm_commands() -> Iterator[Path]:
    """A folder with a ``vidgen`` that need not load the libraries first."""
    with warm.commands() as folder:
        yield folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; skip tests marked slow unless VIDGEN_SLOW=1."""
    places = {str(Path(__file__).parent / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))
    if os.environ.get("VIDGEN_SLOW") == "1":
        return
    skip = pytest.mark.skip(reason="slow; runs with VIDGEN_SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
