"""The process that runs functions under the host driver: it imports once, and forks a child for each function.

Reads pickled requests from standard input and answers each with the child's wait status.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

#: Imported before the first fork. None of them loads libcuda before it is used.
PRELOADED = ("numpy", "vidgen.runtime.cuda", "cuda.bindings.driver", "host_cuda.inside")


def main() -> None:
    """Serve until standard input ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    while head := requests.read(4):
        request = pickle.loads(requests.read(struct.unpack("<I", head)[0]))
        try:
            load(request["module"], request["path"])
        except BaseException:
            Path(request["stderr"]).write_text(traceback.format_exc(), encoding="utf-8")
            status = 1
        else:
            child = os.fork()
            if child == 0:
                answers.close()
                run(request)
                return
            status = os.waitpid(child, 0)[1]
        answers.write(struct.pack("<i", status))
        answers.flush()


def load(name: str, path: str) -> ModuleType:
    """The module that the function is in: by name if it is known, from its file otherwise."""
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def run(request: dict[str, Any]) -> None:
    """In the child: call the function and leave its result, or what it raised, in a file."""
    stderr = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    os.environ.update(request["environment"])
    signal.alarm(request["timeout"])
    function: Callable[..., Any] = load(request["module"], request["path"])  # type: ignore[assignment]
    for part in request["function"].split("."):
        function = getattr(function, part)
    result: dict[str, Any] = {"value": None, "error": None}
    try:
        result["value"] = function(*request["arguments"])
        from host_cuda import inside

        inside.raise_failure()
    except BaseException as error:
        traceback.print_exc()
        result["error"] = error
    try:
        content = pickle.dumps(result)
    except Exception as error:
        content = pickle.dumps({"value": None, "error": AssertionError(f"cannot be pickled: {error}: {result}")})
    Path(request["result"]).write_bytes(content)
    if not request["whole_exit"]:
        leave()


def leave() -> NoReturn:
    """End the child without taking the interpreter apart, which takes longer than the test."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    ctypes.CDLL("libcuda.so.1").hostCudaFinish()
    os._exit(0)


if __name__ == "__main__":
    main()
