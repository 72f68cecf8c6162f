"""Builds TensorRT engines, each in a process of its own: it can be ended at once, and its crash is an error here."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vidgen._child import child_command
from vidgen.errors import SettingsError
from vidgen.export.engine_build import BuildRequest, BuildResult
from vidgen.export.engine_errors import crash_error
from vidgen.export.engine_graph import read_graph
from vidgen.export.engine_progress import Advance
from vidgen.export.engine_settings import EngineSettings, parse_gpu, parse_workspace
from vidgen.export.engine_timing_cache import read_cache, write_cache
from vidgen.export.engine_worker import receive, send
from vidgen.models.config import ModelInterface
from vidgen.runtime.manifest import Engine
from vidgen.runtime.tensorrt_library import CURRENT, choose_builder, device_architecture, load_tensorrt

__all__ = ["BuiltEngine", "EngineSettings", "build_engine", "check_builder", "parse_gpu", "parse_workspace"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built.

    Attributes:
        plan: the file's content. engine: what is known of it.
        target: the architectures it is for, by name. builder: library and version, e.g. ``"tensorrt-rtx 1.7.1.116"``.
    """

    plan: bytes
    engine: Engine
    target: tuple[str, ...]
    builder: str


def build_engine(
    onnx: bytes,
    interface: ModelInterface,
    settings: EngineSettings,
    *,
    half: bool,
    sepconv: str,
    advance: Advance,
    say: Say,
) -> BuiltEngine:
    """Build an engine from a graph that was written for TensorRT.

    The build runs in a child process. Ctrl-C ends it at once; nothing is written but the timing cache, which is
    replaced whole after a build that succeeded.

    Args:
        onnx: the serialised model. interface: of the artifact: the graph's inputs and outputs.
        half: the graph is half precision, which is proven on the parsed network.
        sepconv: form of the separable convolution: ``""`` (the model has none), ``inlined`` (its body is in the file),
            ``python`` or ``library`` (TensorRT-RTX, and classic TensorRT), ``aot`` (classic TensorRT).
        advance: told of progress as (done, total, phase); what it raises ends the build. say: told what is done.

    Raises:
        SettingsError: an option is one that the library or the model does not have, or no builder serves the targets.
        MissingDependencyError, BackendError: the library is not installed, not whole, or too old.
        ExportError: the graph has an operator without a body, a target refuses the graph, it is not half, or the
            builder crashed. StorageError: the timing cache cannot be read or written.
    """
    settings.check_profiles(interface)
    builder, _ = check_builder(settings)
    _check_form(builder, sepconv)
    device = device_architecture()
    given = None if settings.timing_cache is None else read_cache(settings.timing_cache)
    facts = read_graph(onnx, sepconv)
    request = BuildRequest(onnx, facts, interface, settings, builder, half, sepconv, device, given)
    with _child(request) as child:
        result = child.result(advance, say)
        engine = result.engine
        if settings.timing_cache is not None and given is not None and result.timing_cache is not None:
            written = write_cache(settings.timing_cache, given, result.timing_cache, child.merge)
            engine = dataclasses.replace(engine, timing_cache_sha256=written)
    target = tuple(device if name == CURRENT and device else name for name in settings.gpu)
    return BuiltEngine(result.plan, engine, target, f"{engine.library} {engine.version}")


def check_builder(settings: EngineSettings) -> tuple[str, str]:
    """The library that will build, and why; raises before anything is computed.

    Raises:
        SettingsError: no builder here serves the targets, or it lacks an option.
        MissingDependencyError, BackendError: it is not installed, not whole, or too old.
    """
    builder, why = choose_builder(settings.builder, settings.gpu)
    load_tensorrt(builder, "build engines").check_options(settings.optional(), device=device_architecture())
    return builder, why


def _check_form(builder: str, sepconv: str) -> None:
    if builder == "tensorrt-rtx" and sepconv == "aot":
        raise SettingsError(
            "cannot embed the separable convolution's kernel in this engine",
            seen="the aot form with tensorrt-rtx, expected inlined, python or library",
            cause="kernels are embedded by classic TensorRT alone",
            fix="leave --sepconv out, or use --builder tensorrt where there is a GPU",
        )


class _Child:
    """The process of one build."""

    def __init__(self, request: BuildRequest, process: subprocess.Popen[bytes], log: Any) -> None:
        self._request = request
        self._process = process
        self._log = log

    def result(self, advance: Advance, say: Say) -> BuildResult:
        """Send the request, pass on what is told, and return the result."""
        reply = self._ask(self._request)
        while reply[0] in ("advance", "say"):
            if reply[0] == "advance":
                advance(*reply[1])
            else:
                say(reply[1])
            reply = self._answer()
        if reply[0] == "error":
            raise reply[1]
        made: BuildResult = reply[1]
        return made

    def merge(self, content: bytes) -> bytes:
        """The timings of the build and those of another cache."""
        merged: bytes = self._ask(content)[1]
        return merged

    def _ask(self, value: Any) -> Any:
        assert self._process.stdin
        # A child that is gone says so when it is asked for its answer.
        with contextlib.suppress(OSError):
            send(self._process.stdin, value)  # type: ignore[arg-type]  # Popen's pipes are binary streams
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        try:
            return receive(self._process.stdout)  # type: ignore[arg-type]
        except EOFError:
            self._process.stdout.close()
            code = self._process.wait()
            self._log.seek(0)
            said = self._log.read()[-4000:].decode(errors="replace")
            raise crash_error(self._request.builder, code, said, self._request.settings.gpu) from None


@contextlib.contextmanager
def _child(request: BuildRequest) -> Iterator[_Child]:
    """A child process for one build, that is gone when the block is left, however it is left."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            child_command("vidgen.export.engine_worker"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        try:
            yield _Child(request, process, log)
        finally:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()
