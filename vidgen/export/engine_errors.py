"""What TensorRT logs and its parser's errors, as errors that name operator, node and target and say what to do."""

from __future__ import annotations

import re
import threading
from typing import Any

from vidgen.errors import ExportError
from vidgen.runtime.tensorrt_library import TensorRT

ERRORS = ("INTERNAL_ERROR", "ERROR")
#: Messages kept, and of each the first so many characters: a crash of the compiler logs megabytes.
MOST_MESSAGES, LONGEST_MESSAGE = 200, 2000
_REFUSED = re.compile(
    r"Cannot compile operation '(?P<node>[^']+)' for (?P<family>\w+) \((?P<target>SM\d+)\): (?P<reason>.*?)(?: In |$)"
)
_WORKSPACE = re.compile(r"workspace (?:limit|size)", re.IGNORECASE)
_WRITE_AGAIN = "export again with --for tensorrt and --opset 20"
_CODE = re.compile(r"^(?:\w+::\w+: )?(?:Error Code \d+: )?")


class Messages:
    """What TensorRT said, errors and warnings apart; it may speak from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def listen(self, severity: str, message: str) -> None:
        """Take one message, as a logger gives it."""
        kept = {**dict.fromkeys(ERRORS, self.errors), "WARNING": self.warnings}.get(severity)
        with self._lock:
            if kept is not None and len(kept) < MOST_MESSAGES:
                kept.append(message[:LONGEST_MESSAGE])

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self.errors.clear()
            self.warnings.clear()


def parse_error(library: TensorRT, parser: Any, messages: Messages, gpu: tuple[str, ...]) -> ExportError:
    """The error of a graph that the parser did not take."""
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    if not found:
        seen = messages.errors[0] if messages.errors else "no message"
        return _refusal(library, gpu, _short(seen), _WRITE_AGAIN)
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    seen = f"{first.node_operator() or 'operator'} of node {first.node_name() or first.node()}: {_short(first.desc())}"
    return _refusal(library, gpu, seen + more, _WRITE_AGAIN)


def build_error(library: TensorRT, messages: Messages, gpu: tuple[str, ...], workspace: int | None) -> ExportError:
    """The error of a network that was parsed, but that no engine could be built from."""
    said = " ".join(messages.errors) or " ".join(messages.warnings)
    if refused := _REFUSED.search(said):
        target = refused["target"].replace("SM", "sm_")
        node = re.sub(r"_U\d+$", "", refused["node"])
        operator = re.sub(r"[._]\d+$", "", node.rpartition("/")[2])
        half = "fp32" in refused["reason"].lower() or "float" in refused["reason"].lower()
        others = ",".join(name for name in gpu if name != target)
        return ExportError(
            f"cannot build the engine for {target}",
            seen=f"{operator} of node {node}: {refused['reason'].strip()}",
            cause=f"{library.name} {library.version_text} has no such kernel for {refused['family']} GPUs",
            fix=("export with --fp16, or " if half else "")
            + (f"leave {target} out: --gpu {others}" if others else "name another architecture: --gpu sm_86"),
        )
    if _WORKSPACE.search(said):
        limit = f" of {workspace} bytes" if workspace else ""
        return ExportError(
            f"cannot build the engine for {', '.join(gpu)}",
            seen=_short(said),
            cause=f"some operation has no kernel within the workspace limit{limit}",
            fix="leave --workspace out, or give a larger one, such as --workspace 2GiB",
        )
    if "out of memory" in said.lower() or "OutOfMemory" in said:
        return ExportError(
            f"cannot build the engine for {', '.join(gpu)}",
            seen=_short(said),
            cause="memory ran out while kernels were tried",
            fix="use --batch with smaller sizes, such as 1:4:8, or fewer architectures at once",
        )
    fix = f"name one architecture at a time, to see which it is; or pip install -U {library.name}"
    return _refusal(library, gpu, _short(said) if said else "TensorRT gave no reason", fix)


def crash_error(library: str, code: int, said: str, gpu: tuple[str, ...]) -> ExportError:
    """The error of a builder that ended its process.

    Args:
        code: exit code, negative for a signal. said: what it wrote to standard error.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return ExportError(
        f"cannot build the engine for {', '.join(gpu)}",
        seen=f"{library} ended its process ({how}): {lines[-1][:300] if lines else 'no message'}",
        cause="memory ran out (signal 9), or a defect of the library (signal 6 or 11)",
        fix="try one architecture and a smaller --batch; pip install -U " + library,
    )


def _refusal(library: TensorRT, gpu: tuple[str, ...], seen: str, fix: str) -> ExportError:
    return ExportError(
        f"cannot build the engine for {', '.join(gpu)}",
        seen=seen,
        cause=f"{library.name} {library.version_text} does not take this graph for one of these targets",
        fix=fix,
    )


def _short(text: str) -> str:
    """A message in one line, without the parts that only its makers can read."""
    line = " ".join(text.split())
    line = _CODE.sub("", line, count=1)
    return line if len(line) <= 300 else line[:297] + "..."
