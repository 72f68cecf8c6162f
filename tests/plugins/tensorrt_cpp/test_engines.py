"""TensorRT-RTX itself takes the library: it parses a node without a body and builds engines for three GPUs.

The stand-in for NvInferRuntime.h is thereby shown to be laid out as the real library is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugins.tensorrt_cpp.conftest import Library

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CASES: list[tuple[int | str, str, int, str]] = [
    (5, "float32", 0, ""),
    (5, "float16", 0, ""),
    (51, "float32", 0, ""),
    (63, "float32", 0, "this library has no kernel for 63 taps"),
    (4, "float32", 0, "4 taps, expected an odd number"),
    ("taps", "float32", 0, "the number of taps K (axis 1 of vertical) is dynamic"),
    (5, "int32", 0, "input is neither float32 nor float16 nor bfloat16"),
    (5, "float32", 1, "input has 21 on axis 2, expected 20"),
]


def built(library: Path, cases: list[tuple[int | str, str, int]]) -> list[dict[str, Any]]:
    """What each build gave, with the library named as users name it, in a child: an abort ends that alone."""
    done = subprocess.run(
        [sys.executable, str(HERE / "build_engines.py"), json.dumps(cases)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VIDGEN_TENSORRT_LIBRARY": str(library)},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_engines_are_built_and_mistakes_are_told(library: Library) -> None:
    results = built(library.path, [(taps, dtype, excess) for taps, dtype, excess, _ in CASES])
    assert len(results) == len(CASES)
    for case, result in zip(CASES, results, strict=True):
        if case[3]:
            assert result["size"] == 0, case
            assert any(f"vidgen::SeparableConvolution: {case[3]}" in one for one in result["errors"]), (case, result)
        else:
            assert result["size"] > 0, (case, result)
