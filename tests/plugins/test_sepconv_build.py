"""Building the kernel: once, by many at a time, where nothing can be written, and without a compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidgen.errors import MissingDependencyError, StorageError
from vidgen.plugins.sepconv_trt import build

ROOT = Path(__file__).resolve().parents[2]
#: A source that compiles in no time; the real one is built by every other test of the operator.
SOURCE = 'extern "C" __attribute__((visibility("default"))) int answer() { return %d; }\n'
#: Builds with the small source and prints what came of it.
BUILDER = """
import sys
from pathlib import Path
from vidgen.plugins.sepconv_trt import build
build.SOURCES = Path(sys.argv[1])
print(build.build())
"""
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


class Workshop:
    """A small source, a cache, a private temporary folder, and a compiler that counts its calls."""

    def __init__(self, folder: Path) -> None:
        self.source, self.cache, self.temporary = folder / "source", folder / "cache", folder / "temporary"
        self.kernels = self.cache / "kernels"
        self.calls, self.compiler = folder / "calls", folder / "compiler"
        for each in (self.source, self.temporary):
            each.mkdir()
        (self.source / "answer.cpp").write_text(SOURCE % 42)
        self.write_compiler()

    def write_compiler(self, before: str = "") -> None:
        text = f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo "$*" >> {self.calls}; {before or ":"};; esac\n'
        self.compiler.write_text(text + 'exec g++ "$@"\n')
        self.compiler.chmod(0o755)

    def environment(self) -> dict[str, str]:
        changed = {"CXX": str(self.compiler), "VIDGEN_CACHE": str(self.cache), "TMPDIR": str(self.temporary)}
        return os.environ | changed | {"PYTHONPATH": str(ROOT)}

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(self.source)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def links(self) -> int:
        """How many libraries were made."""
        return sum("-shared" in line for line in self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def libraries(self) -> list[Path]:
        return sorted(self.kernels.glob("*.so"))


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setattr(build, "SOURCES", made.source)
    for name in ("CXX", "VIDGEN_CACHE", "TMPDIR"):
        monkeypatch.setenv(name, made.environment()[name])
    monkeypatch.setattr("tempfile.tempdir", None)
    return made


def answer(library: Path) -> int:
    return int(ctypes.CDLL(str(library)).answer())


@needs_compiler
def test_built_once_and_found_again(workshop: Workshop) -> None:
    first = build.build()
    assert first.parent == workshop.kernels
    assert answer(first) == 42
    assert build.build() == first
    assert workshop.links() == 1
    assert {path.name for path in workshop.kernels.iterdir()} == {first.name, ".lock"}


@needs_compiler
def test_another_source_compiler_or_processor_is_another_library(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {build.build()}
    (workshop.source / "answer.cpp").write_text(SOURCE % 43)
    libraries.add(build.build())
    (workshop.source / "numbers.h").write_text("// nothing\n")
    libraries.add(build.build())
    monkeypatch.setenv("CXX", f"{workshop.compiler} -DNOTHING=1")
    libraries.add(build.build())
    monkeypatch.setattr(build, "_processor", lambda: "another")
    libraries.add(build.build())
    assert len(libraries) == 5


@needs_compiler
def test_many_at_once_build_one(workshop: Workshop) -> None:
    workshop.write_compiler("sleep 0.3")
    running = [workshop.start() for _ in range(4)]
    printed = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert printed == {str(workshop.libraries()[0])}
    assert workshop.links() == 1
    assert answer(workshop.libraries()[0]) == 42


@needs_compiler
def test_killed_in_the_middle_leaves_nothing_that_counts(workshop: Workshop) -> None:
    workshop.write_compiler("sleep 60")
    process = workshop.start()
    end = time.monotonic() + 60
    while not workshop.calls.exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert any(path.name.startswith(".partial-") for path in workshop.kernels.iterdir())
    assert workshop.libraries() == []
    workshop.write_compiler()
    # The compiler's text is part of no key, so this is the same library.
    library = build.build()
    assert answer(library) == 42
    assert {path.name for path in workshop.kernels.iterdir()} == {library.name, ".lock"}


@needs_compiler
def test_a_library_that_does_not_load_is_built_again(workshop: Workshop) -> None:
    library = build.build()
    library.write_bytes(library.read_bytes()[:100])
    with pytest.raises(OSError, match=library.name):
        ctypes.CDLL(str(library))
    assert answer(build.rebuild(library)) == 42
    assert workshop.links() == 2


@needs_compiler
def test_read_only_cache_that_has_it_is_used(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build.build()

    def refuse(*_: object) -> None:
        raise AssertionError("a file that is there needs no writing")

    monkeypatch.setattr(build, "_build_into", refuse)
    assert build.build() == library


@needs_compiler
@pytest.mark.parametrize("kind", ["a file", "under a file", "no permission"])
def test_cache_that_cannot_be_written(workshop: Workshop, kind: str) -> None:
    if kind == "no permission":
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only for root")
        workshop.cache.mkdir(mode=0o500)
    else:
        workshop.cache.write_text("in the way")
    if kind == "under a file":
        os.environ["VIDGEN_CACHE"] = str(workshop.cache / "below")  # put back by the fixture's monkeypatch
    library = build.build()
    assert library.parent == workshop.temporary / f"vidgen-cache-{os.getuid()}"
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    assert answer(library) == 42
    assert build.build() == library
    assert workshop.links() == 1


@needs_compiler
def test_a_temporary_folder_that_others_can_write_to_is_not_trusted(workshop: Workshop) -> None:
    workshop.cache.write_text("in the way")
    planted = workshop.temporary / f"vidgen-cache-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    library = build.build()
    assert library.parent != planted
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700


def test_nowhere_to_write(workshop: Workshop) -> None:
    workshop.cache.write_text("in the way")
    (workshop.temporary / f"vidgen-cache-{os.getuid()}").write_text("in the way")
    with pytest.raises(StorageError, match="VIDGEN_CACHE"):
        build.build()


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIDGEN_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert build.cache_folder() == Path("/some/cache/vidgen/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert build.cache_folder() == tmp_path / ".cache" / "vidgen" / "kernels"
    monkeypatch.setenv("VIDGEN_CACHE", "~/mine")
    assert build.cache_folder() == tmp_path / "mine" / "kernels"


@needs_compiler
def test_flags_that_a_compiler_refuses_are_left_out(workshop: Workshop) -> None:
    refuse = 'case "$*" in *native*|*openmp*) echo "error: unknown flag" >&2; exit 1;; esac'
    workshop.write_compiler(refuse)
    assert answer(build.build()) == 42


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("/nowhere/g++", "no /nowhere/g\\+\\+ on PATH"),
        ("false", "exit status 1: no message"),
        ("FAILING", "exit status 3: x.cpp:1: error: no such thing"),
        ("DATA", "DATA: "),
    ],
)
def test_compiler_that_cannot_do_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    failing, data = workshop.source.parent / "FAILING", workshop.source.parent / "DATA"
    failing.write_text("#!/bin/sh\necho 'x.cpp: In function' >&2; echo 'x.cpp:1: error: no such thing' >&2; exit 3\n")
    data.write_bytes(b"\x7fELF is not a program")
    for path in (failing, data):
        path.chmod(0o755)
    monkeypatch.setenv("CXX", str({"FAILING": failing, "DATA": data}.get(compiler, compiler)))
    with pytest.raises(MissingDependencyError, match=message) as caught:
        build.build()
    assert "apt-get install g++" in caught.value.fix
    assert workshop.libraries() == []


#: Runs the operator twice and the library of ONNX Runtime once, counting what is said.
USER = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch
    import vidgen.plugins.sepconv_trt.op
    from vidgen.plugins.sepconv_trt.ort_library import custom_op_library
    for _ in range(2):
        output = torch.ops.vidgen.separable_convolution(torch.ones(1, 1, 3, 3), *torch.ones(2, 1, 3, 1, 1).unbind())
    assert output.item() == 9
    assert custom_op_library() is None
print([str(each.message) for each in said if issubclass(each.category, RuntimeWarning)])
"""


def run_user(**environment: str) -> str:
    command = [sys.executable, "-c", USER]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_compiler_the_portable_form_runs_and_says_so_once(tmp_path: Path) -> None:
    printed = run_user(CXX="/nowhere/g++", VIDGEN_CACHE=str(tmp_path))
    assert printed.count("separable convolution runs without its kernel") == 1
    assert "apt-get install g++" in printed
    assert "VIDGEN_SEPCONV=portable" in printed


def test_the_portable_form_can_be_asked_for_in_silence(tmp_path: Path) -> None:
    assert run_user(VIDGEN_SEPCONV="portable", CXX="/nowhere/g++", VIDGEN_CACHE=str(tmp_path)) == "[]"


def test_imports_build_nothing(tmp_path: Path) -> None:
    program = "import vidgen, vidgen.plugins.sepconv_trt.op, vidgen.plugins.sepconv_trt.ort_library"
    environment = os.environ | {"VIDGEN_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)
    assert not (tmp_path / "cache").exists()


def test_the_library_is_found_without_torch() -> None:
    program = (
        "import sys; from vidgen.plugins.sepconv_trt.ort_library import custom_op_library; "
        "custom_op_library(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
