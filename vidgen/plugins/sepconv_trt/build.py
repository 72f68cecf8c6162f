"""Builds the C++ kernel into a shared library, once per source, compiler and processor; keeps what is built."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vidgen._files import PARTIAL_PREFIX, atomic_file, remove_partials
from vidgen.errors import MissingDependencyError, StorageError

SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("g++", "c++", "clang++")
BASE_FLAGS = ("-std=c++17", "-pipe", "-fPIC", "-fvisibility=hidden", "-Wno-psabi", "-Wno-unknown-pragmas")
#: Tried in turn until a compiler takes them; no flag that changes the rules of arithmetic is among them.
FLAG_SETS = (
    ("-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-O3", "-march=native", "-fopenmp"),
    ("-O3", "-fopenmp"),
    ("-O3",),
)
#: Seconds after which a compiler is given up.
TIMEOUT = 600
MEND = "apt-get install g++   (or set CXX to a C++17 compiler); VIDGEN_SEPCONV=portable does without, silently"

_log = logging.getLogger(__name__)


def build() -> Path:
    """The shared library, from the cache or freshly compiled.

    It is looked for and kept in ``kernels`` under ``$VIDGEN_CACHE``, ``$XDG_CACHE_HOME/vidgen`` or ``~/.cache/vidgen``,
    and where that cannot be written in a folder of this user under the system's temporary folder.

    Raises:
        MissingDependencyError: there is no working C++ compiler.
        StorageError: neither folder can be written.
    """
    compiler = compiler_command()
    return cached(f"separable-convolution-{_key(compiler)}.so", functools.partial(_compile, compiler))


def cached(
    name: str, make: Callable[[Path], None], *, kind: str = "kernels", usable: Callable[[Path], bool] | None = None
) -> Path:
    """A file of the cache, made where it is missing. Several processes that want it at once make it once.

    Args:
        name: says all that the content depends on, as a hash. make: writes the content to the path it is given.
        kind: folder of the cache. usable: whether a file that is there will do; one that is not empty does when None.

    Raises:
        StorageError: neither the cache folder nor the temporary folder can be written; and what ``make`` raises.
    """
    folder, usable = cache_folder(kind), usable or _usable
    if usable(folder / name):
        return folder / name
    try:
        return _build_into(folder, name, make, usable)
    except (StorageError, OSError) as error:
        _log.info("the cache %s cannot be written: %s", folder, error)
        return _build_into(_temporary_folder(), name, make, usable)


def cache_folder(kind: str = "kernels") -> Path:
    """Where built libraries are kept: ``kernels`` in ``$VIDGEN_CACHE``, else in ``vidgen`` of the user cache folder."""
    if chosen := os.environ.get("VIDGEN_CACHE"):
        return Path(chosen).expanduser().absolute() / kind
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG standard: a relative path is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "vidgen" / kind


def rebuild(broken: Path) -> Path:
    """Build again, in place of a library that does not load.

    Raises:
        MissingDependencyError, StorageError: as ``build``.
    """
    try:
        with _locked(broken.parent):
            broken.unlink(missing_ok=True)
    except OSError:
        return _build_into(_temporary_folder(), broken.name, functools.partial(_compile, compiler_command()), _usable)
    return build()


def _build_into(folder: Path, name: str, make: Callable[[Path], None], usable: Callable[[Path], bool]) -> Path:
    made = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        # Another process may have built it while this one waited.
        if not usable(made):
            remove_partials(folder)
            _log.info("building %s", made)
            with atomic_file(made) as partial:
                make(partial)
    return made


def _usable(library: Path) -> bool:
    try:
        return library.stat().st_size > 0
    except OSError:
        return False


def compiler_command() -> list[str]:
    """The command of the C++ compiler: ``$CXX`` if set, with its arguments, else the first there is.

    Raises:
        MissingDependencyError: there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    if chosen:
        raise _no_compiler(f"no {chosen[0]} on PATH", "CXX does not name an installed compiler")
    raise _no_compiler(f"none of {', '.join(COMPILERS)} on PATH", "no C++ compiler is installed")


def _no_compiler(seen: str, cause: str) -> MissingDependencyError:
    return MissingDependencyError("cannot build the kernel of separable convolution", seen=seen, cause=cause, fix=MEND)


def _key(compiler: Sequence[str]) -> str:
    """Hash of everything that the library depends on."""
    digest = hashlib.sha256()
    for path in _sources("*"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for part in (repr(FLAG_SETS), repr(BASE_FLAGS), repr(list(compiler)), _version(compiler), _processor()):
        digest.update(part.encode(errors="replace") + b"\0")
    return digest.hexdigest()[:20]


def _version(compiler: Sequence[str]) -> str:
    process = _start([*compiler, "--version"], output=subprocess.PIPE)
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise _no_compiler(f"{compiler[0]} --version did not end within 60 s", "it is not a compiler") from None


def _sources(pattern: str) -> list[Path]:
    return sorted(path for path in SOURCES.glob(pattern) if path.suffix in (".cpp", ".h"))


def _processor() -> str:
    """Model and features: a home folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # Up to the first empty line: the first processor.
    first = lines[: lines.index("")] if "" in lines else lines
    features = [line for line in first if line.split(":")[0].strip() in ("flags", "Features", "model name", "CPU part")]
    return "\n".join([platform.machine(), platform.processor(), *features])


def _compile(compiler: Sequence[str], library: Path) -> None:
    _log.info("compiling the kernel takes about 15 seconds, once")
    problem = ""
    for flags in FLAG_SETS:
        # Named as unfinished, so that what a kill leaves is removed by the next build.
        with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=library.parent) as objects:
            problem = _compile_with([*compiler, *BASE_FLAGS, *flags], Path(objects), library)
        if not problem:
            return
        _log.info("%s %s: %s", compiler[0], " ".join(flags), problem)
    raise _no_compiler(problem, f"{compiler[0]} failed with all sets of flags")


def _compile_with(command: Sequence[str], objects: Path, library: Path) -> str:
    """Compile all sources at once and link them; returns what went wrong, or nothing."""
    units = [(path, objects / f"{path.stem}.o") for path in _sources("*.cpp")]
    commands = [[*command, "-c", str(source), "-o", str(target)] for source, target in units]
    running = [_start(command) for command in commands]
    try:
        problems = [_finish(process) for process in running]
        if any(problems):
            return next(problem for problem in problems if problem)
        link = _start([*command, "-shared", *(str(target) for _, target in units), "-o", str(library)])
        running.append(link)
        return _finish(link)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _start(command: Sequence[str], output: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    except OSError as error:
        raise _no_compiler(f"{command[0]}: {error.strerror or error}", "it cannot be run") from error


def run(command: Sequence[str]) -> str:
    """Run a compiler; returns what went wrong, or nothing.

    Raises:
        MissingDependencyError: it cannot be started.
    """
    process = _start(command)
    try:
        return _finish(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _finish(process: subprocess.Popen[str]) -> str:
    try:
        _, text = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIMEOUT} s"
    if process.returncode == 0:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    # The first error says most; without the word, the last line does.
    telling = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
    return f"exit status {process.returncode}: {telling.strip()[:300]}"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends."""
    with open(folder / ".lock", "wb") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError) as error:
            # A file system without locks: two processes may both build, and the last rename wins.
            _log.debug("no lock in %s: %s", folder, error)
        yield


def _temporary_folder() -> Path:
    """A folder that no other user can write to: what lies in it is going to be executed."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"vidgen-cache-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022:
            return folder
        return Path(tempfile.mkdtemp(prefix="vidgen-cache-"))
    except OSError as error:
        raise StorageError(
            "cannot keep the kernel of separable convolution",
            seen=f"{folder}: {error.strerror or error}",
            cause="neither the cache folder nor the temporary folder can be written",
            fix="set VIDGEN_CACHE to a folder that can be written",
        ) from error
