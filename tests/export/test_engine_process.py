"""A build has a process of its own: it ends at once, its crash is an error, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from export.engine_support import PROFILE, TARGETS, small_actor, small_g3an, write_actor

from vidgen.errors import ExportError, SettingsError
from vidgen.export import engine
from vidgen.export.engine import EngineSettings, build_engine, check_builder
from vidgen.runtime.manifest import EngineProfile

pytest.importorskip("tensorrt_rtx")
SETTINGS = EngineSettings(gpu=TARGETS, profiles=(PROFILE,))


@pytest.fixture
def processes(monkeypatch):
    """The processes that are started."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(engine.subprocess, "Popen", Recorded)
    return started


def _build(model, interface, settings=SETTINGS, *, half=False, sepconv="", advance=lambda *_: None, say=print):
    content = model.SerializeToString()
    return build_engine(content, interface, settings, half=half, sepconv=sepconv, advance=advance, say=say)


def test_an_engine_is_built_and_described(processes):
    told = []
    model, interface = small_g3an(half=True)
    made = _build(model, interface, half=True, advance=lambda *what: told.append(what))
    assert made.target == TARGETS and made.builder.startswith("tensorrt-rtx 1.")
    assert made.engine.half_layers > 0.8 * made.engine.float_layers
    assert made.engine.seconds > 0 and len(made.plan) > 1e6
    assert told[0][0] == 0 and told[-1][:2] == (100, 100)
    assert [process.poll() for process in processes] == [-signal.SIGKILL]


def test_an_error_comes_back_whole(processes):
    model, interface = small_g3an()
    with pytest.raises(ExportError, match="sm_75") as caught:
        _build(model, interface, EngineSettings(gpu=("sm_75",), profiles=(PROFILE,)))
    assert "--fp16" in caught.value.fix
    assert processes[0].poll() is not None


def test_an_exception_of_the_caller_ends_the_build(processes):
    model, interface = small_actor()

    def advance(*what):
        raise ZeroDivisionError

    settings = EngineSettings(gpu=TARGETS, profiles=(EngineProfile((1, 1, 1), (2, 2, 2)),))
    with pytest.raises(ZeroDivisionError):
        _build(model, interface, settings, sepconv="inlined", advance=advance)
    assert processes[0].poll() is not None


def test_ctrl_c_ends_the_build_within_a_moment(actor, processes):
    """In the middle of the longest phase, of which the builder tells nothing."""
    model, interface = write_actor(actor(), "uint8", masks=True)
    pressed = []

    def press():
        pressed.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def advance(done, total, text):
        if "subgraph" in text and not timers:
            timers.append(threading.Timer(0.2, press))
            timers[0].start()

    timers = []
    settings = EngineSettings(gpu=TARGETS, profiles=(EngineProfile((1, 1, 1), (2, 2, 2)),))
    with pytest.raises(KeyboardInterrupt):
        _build(model, interface, settings, sepconv="inlined", advance=advance)
    assert time.monotonic() - pressed[0] < 1
    assert processes[0].poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, sys; sys.stdin.buffer.read(9); os.write(2, b'terminate called'); os.abort()",
         ("signal 6", "terminate called")),
        ("import os; os.kill(os.getpid(), 9)", ("signal 9", "no message")),
        ("raise SystemExit(3)", ("exit code 3",)),
        ("import sys; sys.stdout.write('not an answer'); sys.stdout.flush(); sys.exit(4)", ("exit code 4",)),
    ],
)  # fmt: skip
def test_a_crash_is_an_error(monkeypatch, code, words):
    monkeypatch.setattr(engine, "child_command", lambda module: [sys.executable, "-c", code])
    model, interface = small_g3an()
    with pytest.raises(ExportError) as caught:
        _build(model, interface)
    assert all(word in caught.value.seen for word in words)


def test_options_that_the_library_lacks_are_refused_before_anything_is_computed(tmp_path):
    for option, value in (
        ("timing_cache", tmp_path / "x"), ("version_compatible", True), ("hardware_compatibility_level", "ampere_plus"),
        ("strip_plan", True), ("refit", True),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match="tensorrt-rtx") as caught:
            check_builder(EngineSettings(gpu=TARGETS, **{option: value}))
        assert f"--{option.replace('_', '-')}" in caught.value.seen
    assert check_builder(SETTINGS)[0] == "tensorrt-rtx"
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_form_is_classic_tensorrts():
    model, interface = small_actor(body=False)
    settings = EngineSettings(gpu=TARGETS, profiles=(EngineProfile((1, 1, 1), (2, 2, 2)),))
    with pytest.raises(SettingsError, match="aot"):
        _build(model, interface, settings, sepconv="aot")


def test_a_timing_cache_of_a_build_is_kept_and_its_hash_recorded(tmp_path, monkeypatch):
    """Classic TensorRT is played in the child too."""
    import hashlib

    from export.engine_support import MADE_BY

    path = tmp_path / "x.cache"
    code = (
        "import sys, tensorrt_rtx; from export.engine_support import classic;"
        "sys.modules['tensorrt'] = classic(tensorrt_rtx);"
        "from vidgen.export.engine_worker import main; main()"
    )
    import_path = [folder for folder in sys.path if folder]
    monkeypatch.setattr(
        engine,
        "child_command",
        lambda module: [sys.executable, "-c", f"import sys; sys.path[:] = {import_path!r}; {code}"],
    )
    monkeypatch.setattr(engine, "check_builder", lambda settings: ("tensorrt", "it is played here"))
    monkeypatch.setattr(engine, "device_architecture", lambda: "sm_89")
    settings = EngineSettings(profiles=(PROFILE,), timing_cache=path)
    model, interface = small_g3an()
    path.write_bytes(f"{MADE_BY}\nfirst 1 us".encode())

    def advance(done, total, text):
        # Another build ends meanwhile.
        path.write_bytes(f"{MADE_BY}\nother 5 us".encode())

    made = _build(model, interface, settings, advance=advance)
    lines = path.read_text().split("\n")
    assert lines == [MADE_BY, "convolution 3 us", "first 1 us", "other 5 us"]
    assert made.engine.timing_cache_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.target == ("sm_89",) and made.builder == "tensorrt 11.4.0.106"


_KILLED = """
import os, sys, subprocess
import vidgen.export.engine as engine
from export.engine_support import TARGETS, small_actor
from vidgen.runtime.manifest import EngineProfile

class Told(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        print(self.pid, flush=True)

engine.subprocess.Popen = Told
model, interface = small_actor()
settings = engine.EngineSettings(gpu=TARGETS, profiles=(EngineProfile((1, 1, 1), (2, 2, 2)),))
engine.build_engine(model.SerializeToString(), interface, settings, half=False, sepconv="inlined",
    advance=lambda *_: os.kill(os.getpid(), 9), say=print)
"""


@pytest.mark.slow
def test_a_build_whose_caller_was_killed_ends_too():
    path = {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    done = subprocess.run(
        [sys.executable, "-c", _KILLED], env={**os.environ, **path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    ends = time.monotonic() + 60
    while _alive(int(done.stdout)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _alive(int(done.stdout))


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            # A zombie has ended; whoever inherited it has not looked yet.
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
