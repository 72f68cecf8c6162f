"""What the real TensorRT bindings offer, read in child processes: classes and their attributes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Listing = dict[str, list[str]]

#: The bindings of classic TensorRT load over libraries that have their entry points and nothing in them.
_ENTRY_POINTS = (
    "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL "
    "createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion "
    "getPluginRegistry initLibNvInferPlugins"
).split()
_LIST = """
import json, MODULE as module
print(json.dumps({name: dir(value) for name, value in vars(module).items() if isinstance(value, type)}))
"""


def rtx_listing() -> Listing | None:
    """Of TensorRT-RTX; None where it is not installed."""
    return None if importlib.util.find_spec("tensorrt_rtx") is None else _listed("tensorrt_rtx", {})


def classic_listing(folder: Path) -> Listing | None:
    """Of classic TensorRT's bindings alone; None where they, or a C compiler for the empty libraries, are missing.

    Args:
        folder: to build in.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    major = _major()
    if major is None or compiler is None or sys.platform != "linux":
        return None
    (folder / "stub.c").write_text("\n".join(f"void *{name}() {{ return 0; }}" for name in _ENTRY_POINTS))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.{major}"
        command = [compiler, "-shared", "-fPIC", str(folder / "stub.c"), "-o", str(folder / library)]
        subprocess.run([*command, f"-Wl,-soname,{library}"], check=True)
    return _listed("tensorrt_bindings", {"LD_LIBRARY_PATH": str(folder)})


def _major() -> str | None:
    if importlib.util.find_spec("tensorrt_bindings") is None:
        return None
    for name in ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings"):
        try:
            return version(name).split(".")[0]
        except PackageNotFoundError:
            continue
    return None


def _listed(module: str, more: dict[str, str]) -> Listing:
    command = [sys.executable, "-c", _LIST.replace("MODULE", module)]
    done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: Listing = json.loads(done.stdout)
    return found
