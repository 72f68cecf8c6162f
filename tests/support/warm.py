"""``vidgen`` commands forked from a process that has loaded the heavy libraries, for tests of what a command does.

Loading torch takes most of the time of a short command. What a command loads, and that it starts from nothing, is
tested elsewhere with commands started the usual way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

#: All but onnxruntime, which starts a thread: a process with threads cannot be forked safely.
LIBRARIES = "torch torch._dynamo torch.utils.tensorboard onnx av PIL.Image pydantic safetensors.torch"

#: The command line's stand-in: hands its words, folder, environment and streams on, ends with the command's exit code.
SHIM = """#!{python} -IS
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(request)
    sys.exit(int(server.recv(4) or b"70"))
"""


@contextlib.contextmanager
def commands() -> Iterator[Path]:
    """A folder with an executable ``vidgen``; its commands run one at a time, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        address = str(Path(folder) / "socket")
        command = [sys.executable, __file__, address]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # more would be threads of their own
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            shim = Path(folder) / "bin" / "vidgen"
            shim.parent.mkdir()
            shim.write_text(SHIM.format(python=sys.executable, address=address))
            shim.chmod(0o755)
            yield shim.parent


def _serve(address: str) -> None:
    """Answer requests until the parent closes our stdin, or is gone."""
    for name in LIBRARIES.split():
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "loading the libraries started a thread"
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while listener in (ready := select.select([listener, sys.stdin], [], [])[0]) or sys.stdin not in ready:
            connection, _ = listener.accept()
            with connection:
                _answer(connection, listener)


def _answer(connection: socket.socket, listener: socket.socket) -> None:
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += connection.recv(1 << 20)
    words, folder, environment = json.loads(request)
    child = os.fork()
    if child:
        for stream in streams:
            os.close(stream)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # who asked may have been killed
            connection.sendall(str(code if code >= 0 else 128 - code).encode())
        return
    listener.close()
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    _exit(_run(words))


def _run(words: list[str]) -> int:
    """Be the command; its exit code."""
    from vidgen.cli import main

    sys.argv = ["vidgen", *words]
    sys.path[0] = ""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _exit(code: int) -> None:
    """End this process without freeing every object of the libraries, which takes as long as a short command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
