"""A contender in a process of its own: its memory is its own, and its crash is a row of the table."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from vidgen import errors
from vidgen._child import child_command
from vidgen.bench.worker import Loaded, Slice, WarmUp
from vidgen.errors import BackendError, VidgenError

#: Read by the libraries when they start, before anyone can call them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessWorker:
    """The same calls as :class:`vidgen.bench.worker.Worker`, answered by a child process."""

    def __init__(self, label: str, threads: int | None) -> None:
        self._label = label
        environment = dict(os.environ)
        if threads is not None:
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the child; close() closes it
        self._process = subprocess.Popen(
            child_command("vidgen.bench.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def load(self, artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Loaded:
        """See :meth:`Worker.load`."""
        asked = {"artifact": str(artifact), "backend": backend, "threads": threads, "device": device, "trust": trust}
        value = self._ask("load", **asked)
        return Loaded(**value)

    def prepare(self, batch: int, frames: int | None, seed: int, output: Path) -> int:
        """See :meth:`Worker.prepare`."""
        return int(self._ask("prepare", batch=batch, frames=frames, seed=seed, output=str(output)))

    def warm_up(self, limit: float) -> WarmUp:
        """See :meth:`Worker.warm_up`."""
        return WarmUp(**self._ask("warm_up", limit=limit))

    def measure(self, seconds: float, least: int, limit: float) -> Slice:
        """See :meth:`Worker.measure`."""
        value = self._ask("measure", seconds=seconds, least=least, limit=limit)
        return Slice(tuple(value["compute"]), tuple(value["end_to_end"]), tuple(value["device"]))

    def peak_memory(self) -> int | None:
        """See :meth:`Worker.peak_memory`."""
        value = self._ask("peak_memory")
        return None if value is None else int(value)

    def close(self) -> None:
        """End the child; it gets five seconds to go by itself."""
        if self._log.closed:
            return
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        except BaseException:
            self._process.kill()
            raise
        finally:
            if self._process.stdout:
                self._process.stdout.close()
            self._log.close()

    def kill(self) -> None:
        """End the child at once, in the middle of whatever it does."""
        self._process.kill()
        self.close()

    def _ask(self, method: str, **arguments: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps([method, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise self._crash(method)
        reply = json.loads(line)
        if "error" in reply:
            raise _error(reply["error"])
        return reply["value"]

    def _crash(self, method: str) -> BackendError:
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read()[-2000:].decode(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return BackendError(
            f"{self._label} crashed in {method}",
            seen=f"{how}: {said[-1][:300] if said else 'no message'}",
            cause="memory ran out (signal 9), or a bug in the library",
            fix="try a smaller --batch, or another backend; vidgen doctor shows what works here",
        )


def _error(told: dict[str, str]) -> VidgenError:
    kind = getattr(errors, told.pop("type"), BackendError)
    error: VidgenError = kind(told.pop("what"), **told)
    return error
