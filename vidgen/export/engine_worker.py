"""The child process that an engine is built in: ``vidgen.export.engine`` talks to it over its pipes."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from typing import Any, BinaryIO

from vidgen._child import take_stdout

#: In front of every value: what it is, and how many bytes follow.
_HEAD = struct.Struct("<4sQ")
_MARK = b"vgn1"


def send(stream: BinaryIO, value: Any) -> None:
    """Write one value. Both ends are this program: nothing else is ever read."""
    content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_HEAD.pack(_MARK, len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one value.

    Raises:
        EOFError: the other end is gone, or something else was written to the pipe.
    """
    mark, count = _HEAD.unpack(_read(stream, _HEAD.size))
    if mark != _MARK:
        raise EOFError("the other process wrote something else")
    return pickle.loads(_read(stream, count))


def _read(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError("the other process is gone")
    return content


def main() -> None:
    """Take one request, tell of its progress, and answer with ("done", result) or ("error", VidgenError).

    Afterwards further timing caches may be sent, to be merged into the one that was made; each is answered with
    ("merged", content).
    """
    # The terminal sends Ctrl-C to both; the parent ends this process when it wants to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdout = take_stdout()
    replies = stdout.buffer
    requests = sys.stdin.buffer
    from vidgen.export.engine_build import Builder, named

    try:
        builder = Builder(
            receive(requests),
            lambda done, total, text: send(replies, ("advance", (done, total, text))),
            lambda text: send(replies, ("say", text)),
        )
        result = builder.build()
    except BrokenPipeError:
        _end()
    except Exception as error:
        # Whatever it is, the parent must hear of it: it knows no other language than errors of ours.
        send(replies, ("error", named(error)))
        _end()
    send(replies, ("done", result))
    while True:
        try:
            content = receive(requests)
        except EOFError:
            _end()
        send(replies, ("merged", builder.merge(content)))


def _end() -> None:
    """Leave at once: taking TensorRT down in order can take longer than the build."""
    os._exit(0)


if __name__ == "__main__":
    main()
