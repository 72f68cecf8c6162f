"""Runs probes side by side in child processes, with a time limit each; a crash or a hang is an answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vidgen._child import child_command


@dataclass(frozen=True)
class Answer:
    """What a probe said.

    Attributes:
        value: its findings; None when it has none.
        missing: the module that is not installed; "" otherwise.
        error: why there are no findings, in one line; "" otherwise.
        hung: whether its time was up.
    """

    value: Mapping[str, Any] | None = None
    missing: str = ""
    error: str = ""
    hung: bool = False


def ask(probes: Sequence[tuple[str, ...]], timeout: float, module: str = "vidgen.doctor.probes") -> list[Answer]:
    """The answers of probes, each (name, arguments...), in the same order.

    Args:
        timeout: seconds a probe may take; then it is ended with all it has started.
    """
    living: list[subprocess.Popen[str]] = []
    # A few at once: much of their time is reading from disk and waiting, but each is to have a fair share of the rest.
    with ThreadPoolExecutor(max_workers=min(max(1, len(probes)), 2 * (os.cpu_count() or 1))) as pool:
        try:
            return list(pool.map(lambda probe: _ask_one(probe, timeout, module, living), probes))
        except BaseException:
            for process in living:
                _end(process)
            raise


def _ask_one(probe: Sequence[str], timeout: float, module: str, living: list[subprocess.Popen[str]]) -> Answer:
    # A session of its own, so that a hanging compiler it has started can be ended with it.
    process = subprocess.Popen(
        child_command(module, *probe),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    living.append(process)
    try:
        said, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        process.communicate()
        return Answer(error=f"no answer in {timeout:g} s: it hangs, or the machine is busy", hung=True)
    return _read(said, complaints, process.returncode)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _read(said: str, complaints: str, code: int) -> Answer:
    try:
        answer = json.loads(said)
    except ValueError:
        lines = [line.strip() for line in complaints.splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Answer(error=f"crashes when loaded ({how}): {lines[-1][:200] if lines else 'no message'}")
    return Answer(answer.get("value"), answer.get("missing") or "", " ".join(answer.get("error", "").split())[:300])
