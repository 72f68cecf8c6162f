"""float16 on the CPU is float16: every value, and every rounding between two of them."""

from __future__ import annotations

import ctypes
import subprocess

import numpy as np
import pytest
from plugins.cuda.emulation.emulator import HERE, Emulator


@pytest.fixture(scope="module")
def conversions(emulator: Emulator) -> ctypes.CDLL:
    """The two functions, over arrays."""
    library = emulator.folder / "half.so"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", str(HERE / "half_on_cpu.cpp"), "-o", str(library)], check=True
    )
    return ctypes.CDLL(str(library))


def _to_halves(conversions: ctypes.CDLL, floats: np.ndarray) -> np.ndarray:
    halves = np.empty(floats.size, np.uint16)
    conversions.floats_to_halves(
        floats.ctypes.data_as(ctypes.c_void_p), halves.ctypes.data_as(ctypes.c_void_p), floats.size
    )
    return halves.view(np.float16)


def test_every_half_becomes_the_float_it_is(conversions: ctypes.CDLL) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    floats = np.empty(65536, np.float32)
    conversions.halves_to_floats(halves.ctypes.data_as(ctypes.c_void_p), floats.ctypes.data_as(ctypes.c_void_p), 65536)
    np.testing.assert_array_equal(floats, halves.view(np.float16).astype(np.float32))


def test_floats_round_to_the_nearest_half(conversions: ctypes.CDLL) -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    floats = np.concatenate(
        [halves, middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf)),
         np.array([65519.99, 65520, 65536, 1e30, np.inf, np.nan, 1e-30], np.float32)]
    )  # fmt: skip
    both = np.concatenate([floats, -floats]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = both.astype(np.float16)
    np.testing.assert_array_equal(_to_halves(conversions, both), expected)
