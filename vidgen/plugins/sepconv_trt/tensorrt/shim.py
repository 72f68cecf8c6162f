"""Gives TensorRT-RTX the unversioned name by which its ONNX parser opens it, before a plugin is looked up."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from vidgen._files import PARTIAL_PREFIX
from vidgen.errors import BackendError, MissingDependencyError, StorageError
from vidgen.plugins.sepconv_trt import build

#: What the parser asks the loader for when a node is a plugin's; where that fails it ends the process.
ALIAS = "libtensorrt_rtx.so"
#: Any function of the library: it tells whether two names lead to the same one.
_PROBE = "getPluginRegistry"
#: Linked as C++ but refers to nothing, so that the only thing it needs is the library.
_SOURCE = 'extern "C" { extern const int vidgen_alias; const int vidgen_alias = 1; }\n'


def make_alias(module: ModuleType) -> None:
    """Make ``dlopen("libtensorrt_rtx.so")`` lead to the library that is loaded, whatever its file is called.

    The wheel of TensorRT-RTX has ``libtensorrt_rtx.so.1`` alone, and the parser of 1.7 and earlier opens the other name
    to add a plugin to a network. A shared object of that name which needs the library is linked once (a third of a
    second), kept in the cache, and loaded. Calling it again costs nothing.

    Args:
        module: ``tensorrt_rtx``, imported. Nothing is done for classic TensorRT, which needs no such thing.

    Raises:
        MissingDependencyError: there is no C++ compiler, and no such name.
        BackendError: the name leads to another library, or cannot be made on this system.
    """
    if not is_rtx(module):
        return
    library = _loaded_library(module)
    if _resolves(library):
        return
    try:
        path = build.cached(f"tensorrt-rtx-alias-{_key(module, library)}.so", functools.partial(_link, library))
        _open(path)
    except (MissingDependencyError, StorageError, OSError) as error:
        # A full installation has a link of that name, which needs no help of ours.
        with contextlib.suppress(OSError):
            ctypes.CDLL(ALIAS)
        if not _resolves(library):
            raise _failed(library, error) from error
    _expect_same(library)


def is_rtx(module: ModuleType) -> bool:
    """Whether this is TensorRT-RTX, by the name of the module."""
    return "rtx" in module.__name__


def _loaded_library(module: ModuleType) -> Path:
    """The library that the import of ``module`` loaded."""
    if sys.platform != "linux":
        raise BackendError(
            f"cannot use a plugin with {module.__name__} on {sys.platform}",
            seen="a plugin of TensorRT-RTX was asked for, expected on Linux alone",
            cause="how its parser finds its own library is known for Linux alone",
            fix="use --sepconv custom, which needs no plugin",
        )
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name.startswith(f"{ALIAS}.") or path.name == ALIAS:
            return path
    raise BackendError(
        f"cannot find the library of {module.__name__}",
        seen=f"no {ALIAS}.* among what this process has loaded",
        cause="an installation whose files are called otherwise",
        fix="pip install --force-reinstall tensorrt-rtx, or use --sepconv custom",
    )


def _resolves(library: Path) -> bool:
    """Whether the name is already served in this process; nothing is loaded to find out.

    Raises:
        BackendError: it is, by another library.
    """
    try:
        ctypes.CDLL(ALIAS, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    _expect_same(library)
    return True


def _expect_same(library: Path) -> None:
    """The preflight: the parser must get the library that the bindings use, or it would abort the process."""
    try:
        found, wanted = (_address(name) for name in (ALIAS, str(library)))
    except (OSError, AttributeError) as error:
        raise _failed(library, error) from error
    if found != wanted:
        raise BackendError(
            "cannot use a plugin with TensorRT-RTX",
            seen=f"{ALIAS} is another library than the loaded {library}",
            cause="two installations of TensorRT-RTX, of which the loader finds the one and Python the other",
            fix="start again without the other one in LD_LIBRARY_PATH, or use --sepconv custom",
        )


def _address(library: str) -> int | None:
    return ctypes.cast(ctypes.CDLL(library)[_PROBE], ctypes.c_void_p).value


def _key(module: ModuleType, library: Path) -> str:
    """Hash of all that the file depends on: its name in the cache."""
    parts = (getattr(module, "__version__", ""), library.name, ALIAS, _SOURCE, platform.machine())
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:20]


def _link(library: Path, target: Path) -> None:
    """Link the shared object that is called ``ALIAS`` and needs ``library``."""
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=target.parent) as folder:
        source = Path(folder) / "alias.cpp"
        source.write_text(_SOURCE, encoding="utf-8")
        options = ["-shared", "-fPIC", f"-Wl,-soname,{ALIAS}", "-Wl,--no-as-needed", str(source), str(library)]
        problem = build.run([*build.compiler_command(), *options, "-o", str(target)])
    if problem:
        raise MissingDependencyError("cannot link", seen=problem, cause="the compiler failed", fix=build.MEND)


def _open(path: Path) -> None:
    try:
        # Not for all to see: its symbols would take the place of those of what is loaded later, such as torch.
        ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    except OSError:
        # Damaged since it was made: the next call makes it again.
        path.unlink(missing_ok=True)
        raise


def _failed(library: Path, error: Exception) -> MissingDependencyError:
    folder = "~/.cache/vidgen/tensorrt-rtx"
    return MissingDependencyError(
        "cannot use a plugin with TensorRT-RTX",
        seen=f"{ALIAS}: {error.seen if isinstance(error, (MissingDependencyError, StorageError)) else error}",
        cause=f"its parser opens that name while only {library.name} is installed, and a C++ compiler is needed to "
        "make up for it",
        fix=f"apt-get install g++   or: mkdir -p {folder} && ln -sf {library} {folder}/{ALIAS}, and start again with "
        f"LD_LIBRARY_PATH={folder}:$LD_LIBRARY_PATH",
    )
