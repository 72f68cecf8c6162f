"""The name that TensorRT-RTX's parser opens: made where it is missing, and a reason where it cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
from plugins.tensorrt.models import node_model

from vidgen.plugins.sepconv_trt.tensorrt import shim

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
pytest.importorskip("tensorrt_rtx")

#: Registers, says what was refused, then parses: by then a missing name would end the process.
PROGRAM = """
import sys, tensorrt_rtx
from vidgen.errors import VidgenError
from vidgen.plugins.sepconv_trt.tensorrt import prepare
try:
    prepare(tensorrt_rtx, "python", taps=5, dtypes=["float32"])
    prepare(tensorrt_rtx, "python", taps=5, dtypes=["float32"])
except VidgenError as error:
    print(type(error).__name__, error)
logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.INTERNAL_ERROR)
network = tensorrt_rtx.Builder(logger).create_network(0)
parsed = tensorrt_rtx.OnnxParser(network, logger).parse(sys.stdin.buffer.read())
print("parsed", parsed)
"""


def run(cache: Path, **environment: str) -> str:
    """What a process of its own prints; it must end well."""
    root = Path(__file__).parents[3]
    known = {"VIDGEN_CACHE": str(cache), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        input=node_model(5),
        capture_output=True,
        env={**os.environ, **known, **environment},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


@needs_compiler
def test_it_is_linked_once_and_found_in_the_cache_without_a_compiler(tmp_path):
    assert run(tmp_path) == "parsed True\n"
    (made,) = (tmp_path / "kernels").glob("tensorrt-rtx-alias-*.so")
    assert made.stat().st_size < 100_000
    assert run(tmp_path, CXX="none-such") == "parsed True\n"
    # What is damaged is told, and made again the next time.
    made.write_bytes(b"\x7fELF")
    assert "BackendError" in (told := run(tmp_path)) or "MissingDependencyError" in told
    assert run(tmp_path) == "parsed True\n"


@pytest.mark.parametrize("compiler", ["none-such", "false"])
def test_without_a_compiler_there_is_a_reason_and_no_abort(tmp_path, compiler):
    told = run(tmp_path, CXX=compiler)
    assert told.startswith("MissingDependencyError cannot use a plugin with TensorRT-RTX - libtensorrt_rtx.so")
    assert "apt-get install g++" in told and "LD_LIBRARY_PATH" in told and told.endswith("parsed False\n")


def test_a_link_of_that_name_is_enough(tmp_path):
    library = shim._loaded_library(_rtx())
    (tmp_path / shim.ALIAS).symlink_to(library)
    assert run(tmp_path / "cache", CXX="none-such", LD_LIBRARY_PATH=str(tmp_path)) == "parsed True\n"


@needs_compiler
def test_another_installation_of_that_name_is_not_taken_for_it(tmp_path):
    source = tmp_path / "other.c"
    source.write_text("int getPluginRegistry(void) { return 0; }\n")
    subprocess.run(["g++", "-shared", "-fPIC", "-xc", str(source), "-o", str(tmp_path / shim.ALIAS)], check=True)
    told = run(tmp_path / "cache", CXX="none-such", LD_LIBRARY_PATH=str(tmp_path))
    assert told.startswith("BackendError") and "another library" in told and "parsed False" in told
    # With a compiler ours is there first.
    assert run(tmp_path / "cache", LD_LIBRARY_PATH=str(tmp_path)) == "parsed True\n"


def test_classic_tensorrt_needs_none(monkeypatch):
    looked_for = []
    monkeypatch.setattr(shim, "_loaded_library", looked_for.append)
    shim.make_alias(ModuleType("tensorrt"))
    assert not looked_for


def _rtx() -> ModuleType:
    import tensorrt_rtx

    return tensorrt_rtx
