"""The emulation is worth trusting: each of these faults, planted in the kernel text, is found."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from plugins.cuda.emulation.cases import Case, assert_right, run
from plugins.cuda.emulation.emulator import Emulator

FIRST_BARRIER = "        __syncthreads();  // all have read the previous chunk\n        stage(tile, work.input"
LAST_BARRIER = "work.left + first);\n        __syncthreads();\n"
PLAIN_LOAD = "{ return *address; }"
PAIR_LOAD = (
    "{ const long long pair = *reinterpret_cast<const long long*>(address); "
    "return __uint_as_float(static_cast<unsigned int>(pair)); }"
)
SMALL, CHUNKED = (7, 2, 5, 9, 19), (19, 2, 5, 9, 35)


@dataclass(frozen=True)
class Bug:
    """A textual change, the case that shows it, and what the failure says.

    Attributes:
        case: kernel, dtype, then taps, batch, channels, height, width.
        infinite: whether an input holds an infinity.
    """

    name: str
    old: str
    new: str
    kernel: str
    message: str
    sizes: tuple[int, int, int, int, int] = SMALL
    dtype: str = "float32"
    infinite: bool = False


WRONG = r"is \S+, expected|are finite and should not be"
BUGS = (
    Bug(
        "forward: no barrier before staging",
        FIRST_BARRIER,
        FIRST_BARRIER[FIRST_BARRIER.index("\n") + 1 :],
        "forward",
        "order of the threads",
        CHUNKED,
    ),
    Bug("forward: no barrier after staging", LAST_BARRIER, "work.left + first);\n", "forward", "order of the threads"),
    Bug(
        "taps: no barrier before staging",
        "            __syncthreads();  // all have read the previous chunk\n            stage(tile, work.input",
        "            stage(tile, work.input",
        "backward_kernels",
        "order of the threads",
        CHUNKED,
    ),
    Bug(
        "taps: no barrier after staging",
        "work.left + first);\n            __syncthreads();\n",
        "work.left + first);\n",
        "backward_kernels",
        "order of the threads",
    ),
    Bug(
        "input: no barrier before staging",
        "            __syncthreads();  // all have read the previous chunk\n            stage(tile, grads",
        "            stage(tile, grads",
        "backward_input",
        "order of the threads",
        CHUNKED,
    ),
    Bug(
        "input: no barrier after staging",
        "(kChunk - 1));\n            __syncthreads();\n",
        "(kChunk - 1));\n",
        "backward_input",
        "order of the threads",
    ),
    Bug(
        "a thread outside leaves before the barrier",
        "    float sums[kPixels][kChannels] = {};\n",
        "    if (!work.holds(0)) return;\n    float sums[kPixels][kChannels] = {};\n",
        "forward",
        "wait at a barrier",
    ),
    Bug(
        "rows of the tile are too short",
        "[kTileRows][kPitch]",
        "[kTileRows][kTileColumns - 1]",
        "forward",
        "index outside of an array",
    ),
    Bug(
        "the tile has a row too few",
        "kTileRows = kOutputRows + kChunk - 1",
        "kTileRows = kOutputRows + kChunk - 2",
        "backward_kernels",
        "index outside of an array",
    ),
    Bug("no guard below the image", "y >= 0 && y < height &&", "y >= 0 &&", "forward", "an access to byte"),
    Bug(
        "no guard right of the image", " && x >= 0 && x < width", " && x >= 0", "forward", f"an access to byte|{WRONG}"
    ),
    Bug(
        "no guard left of the image", "x >= 0 && x < width", "x < width", "backward_input", f"an access to byte|{WRONG}"
    ),
    Bug("no guard above the image", "y >= 0 && y < height", "y < height", "backward_input", "an access to byte"),
    Bug(
        "taps below the image are read",
        "smaller(y + pixel, planes.height - 1)",
        "y + pixel",
        "forward",
        "an access to byte .* buffer (vertical|horizontal)",
    ),
    Bug(
        "taps right of the image are read",
        "smaller(x, planes.width - 1)",
        "x",
        "forward",
        "an access to byte .* buffer (vertical|horizontal)",
    ),
    Bug(
        "gradients below the image are read",
        "work.y = smaller(work.y, height - 1);",
        "",
        "backward_kernels",
        "an access to byte",
    ),
    Bug(
        "channels that do not exist are staged",
        "inside && channel < present",
        "inside && channel < present + kChannels",
        "forward",
        "an access to byte .* buffer input",
    ),
    Bug(
        "channels that do not exist are stored",
        "channel < work.present && work.holds(pixel)",
        "work.holds(pixel)",
        "forward",
        "of buffer output|wrote beside",
    ),
    Bug(
        "gradients of channels that do not exist are read",
        "offset < present ? load(work.grad",
        "offset < kChannels ? load(work.grad",
        "backward_kernels",
        "buffer grad",
        (7, 2, 9, 9, 19),
    ),
    Bug("the last step of the lower pixel is missing", "step < rows + kPixels - 1", "step < rows", "forward", WRONG),
    Bug(
        "the last chunk starts a tap early",
        "add_taps<kTail>(tile, work, kTaps - kTail, sums)",
        "add_taps<kTail>(tile, work, kTaps - kTail - 1, sums)",
        "forward",
        WRONG,
        CHUNKED,
    ),
    Bug(
        "vertical and horizontal are swapped",
        "work.taps(work.horizontal, first, pixel)",
        "work.taps(work.vertical, first, pixel)",
        "forward",
        WRONG,
    ),
    Bug(
        "the window is not turned round", "[threadIdx.y + kChunk - 1 - j]", "[threadIdx.y + j]", "backward_input", WRONG
    ),
    Bug(
        "a row of sums is overwritten",
        "rows[row + j][work.thread] += dot",
        "rows[row + j][work.thread] = dot",
        "backward_kernels",
        WRONG,
        CHUNKED,
    ),
    Bug(
        "sums start from what memory held",
        "        rows[tap][work.thread] = 0.0f;\n",
        "        (void)tap;\n",
        "backward_kernels",
        WRONG,
    ),
    Bug(
        "threads share a sum",
        "rows[row + j][work.thread] += dot",
        "rows[row + j][work.thread & ~1] += dot",
        "backward_kernels",
        f"order of the threads|{WRONG}",
    ),
    Bug(
        "all samples use the taps of the first",
        "static_cast<long long>(sample) * planes * height * width",
        "static_cast<long long>(sample & 0) * planes * height * width",
        "forward",
        WRONG,
    ),
    Bug(
        "zero times infinity",
        "if (step - pixel >= 0 && step - pixel < rows) {",
        "{",
        "forward",
        WRONG,
        SMALL,
        "float32",
        True,
    ),
    Bug(
        "bfloat16 is cut off, not rounded",
        "bits + 0x7fffu + ((bits >> 16) & 1u)",
        "bits + 0u * ((bits >> 16) & 1u)",
        "forward",
        WRONG,
        SMALL,
        "bfloat16",
    ),
    Bug(
        "float16 is read as bfloat16",
        "return half_to_float(address->bits)",
        "return __uint_as_float(static_cast<unsigned int>(address->bits) << 16)",
        "forward",
        WRONG,
        SMALL,
        "float16",
    ),
    Bug(
        "sums are kept in float16",
        "sums[pixel][channel] += weights[pixel] * dots[pixel];",
        "sums[pixel][channel] = half_to_float(float_to_half(sums[pixel][channel] + weights[pixel] * dots[pixel]));",
        "forward",
        WRONG,
        SMALL,
        "float16",
    ),
    Bug("two values are loaded at once", PLAIN_LOAD, PAIR_LOAD, "forward", "misaligned access"),
    Bug(
        "an input is written to",
        "    float sums[kPixels][kChannels] = {};\n",
        "    const_cast<Stored*>(input)[0] = Stored{};\n    float sums[kPixels][kChannels] = {};\n",
        "forward",
        "a write to byte 0 of buffer input",
    ),
    Bug(
        "the last element is one too far",
        "store(output + work.vertical",
        "store(output + 1 + work.vertical",
        "forward",
        "byte [0-9]+ of buffer output",
    ),
)


def _show(emulator: Emulator, bug: Bug) -> None:
    case = Case(bug.kernel, bug.dtype, *bug.sizes)  # type: ignore[arg-type]
    inputs = case.inputs()
    if bug.infinite:
        inputs["input"][1, 0, 4, 9] = np.inf
    assert_right(case, inputs, run(emulator, case, inputs))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(emulator: Emulator, bug: Bug) -> None:
    assert emulator.text.count(bug.old) >= 1, f"the text has no {bug.old!r} any more: plant this bug elsewhere"
    _show(emulator, bug)  # without the bug the same case passes
    with pytest.raises(AssertionError) as found:
        _show(Emulator(emulator.folder, emulator.text.replace(bug.old, bug.new)), bug)
    assert re.search(bug.message, str(found.value)), f"found, but as: {found.value}"
