"""Python child processes that find the same modules as this process, and that can answer undisturbed."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

_CODE = (
    "import json, runpy, sys; path, module = json.loads(sys.argv.pop(1)); sys.path[:] = path; "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def child_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` as ``__main__`` in a fresh interpreter.

    ``python -m`` would put the current folder first on the path, where a stray ``random.py`` changes what is
    imported; a child must see what its parent sees.
    """
    return [sys.executable, "-P", "-c", _CODE, json.dumps([sys.path, module]), *arguments]


def take_stdout() -> TextIO:
    """In a child: the stream to answer on. Whatever libraries print from now on goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies
