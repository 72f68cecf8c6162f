"""Separable convolution on this CPU: the C++ kernel beside plain torch forms, forward and with gradients, in one run.

    python benchmarks/sepconv.py --threads 2

All forms take turns in one process, so that a busy machine slows them alike; the smallest and the median time of
each are printed, and how often the kernel fits into each of the others, by the smallest. Then K = 51 on 256 x 256
pixels, with the memory that one call needs beyond its arguments, each form in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import vidgen.plugins.sepconv_trt.op  # noqa: F401  (registers the operator)
from vidgen.plugins.sepconv_trt import native, portable

#: channels, height, width of TwoStreamVAN's fusions; K = 5, batch 16.
SHAPES = ((16, 8, 8), (128, 16, 16), (32, 32, 32), (3, 64, 64))
BATCH, TAPS = 16, 5
LARGE = (1, 3, 256, 256, 51)
#: Threads of one contender go on spinning for a moment; the next one waits that long.
PAUSE = 0.005
ROOT = Path(__file__).resolve().parents[1]

FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kernel": torch.ops.vidgen.separable_convolution,
    "shifts": portable.by_shifts,
    "rows": portable.by_rows,
    "unfold": portable.by_unfold,
}


@dataclasses.dataclass(frozen=True)
class Times:
    """Milliseconds of one form: smallest and median."""

    smallest: float
    median: float


def arguments(batch: int, channels: int, height: int, width: int, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random input, vertical and horizontal kernels, with gradients wanted."""
    torch.manual_seed(0)
    shapes = ((batch, channels, height + taps - 1, width + taps - 1), *((batch, taps, height, width),) * 2)
    first, second, third = (torch.randn(shape, requires_grad=True) for shape in shapes)
    return first, second, third


def forward(form: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """One call without gradients."""
    with torch.no_grad():
        FORMS[form](*tensors)


def both(form: str, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """One call and the gradients of all three arguments."""
    output = FORMS[form](*tensors)
    torch.autograd.grad(output, tensors, torch.ones_like(output))


def own_gradient(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    """The form that machines without a compiler run: shifts, with a gradient that is written out, not recorded."""
    with torch.no_grad():
        output = portable.forward(*tensors)
        portable.backward(torch.ones_like(output), *tensors, need_input=True, need_kernels=True)


def measure(calls: dict[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, Times]:
    """Time calls in turns; quick ones are repeated within a turn, for at most ``seconds`` each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            end = time.perf_counter() + seconds
            while True:
                start = time.perf_counter()
                call()
                stop = time.perf_counter()
                times[name].append((stop - start) * 1e3)
                if stop > end:
                    break
    return {name: Times(min(values), statistics.median(values)) for name, values in times.items()}


def table(title: str, rows: dict[str, Times]) -> None:
    """Print one comparison."""
    kernel = rows["kernel"].smallest
    print(title)
    for name, each in rows.items():
        print(f"  {name:22s} {each.smallest:9.3f} {each.median:9.3f} ms  {each.smallest / kernel:8.1f} x")


def bind(call: Callable[..., None], *values: object) -> Callable[[], None]:
    """``call`` with its arguments."""
    return lambda: call(*values)


def large_memory(form: str, gradients: bool) -> float:
    """MiB beyond the arguments that one call at K = 51 needs, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", form, *(["--gradients"] if gradients else [])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    return float(done.stdout)


def print_memory(form: str, gradients: bool) -> None:
    """For ``large_memory``: warm up on a small image, then one call, and the growth of the peak of resident memory."""
    call = both if gradients else forward
    call(form, arguments(1, 3, 4, 4, 51))
    tensors = arguments(*LARGE)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    call(form, tensors)
    print((_status("VmHWM") - before) / 1024)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="turns of each form")
    parser.add_argument("--seconds", type=float, default=0.3, help="longest turn of a quick form")
    parser.add_argument("--unfold-large", action="store_true", help="unfold at K = 51 too: minutes and 4 GiB")
    parser.add_argument("--memory-of", choices=sorted(FORMS), help=argparse.SUPPRESS)
    parser.add_argument("--gradients", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of, options.gradients)
        return
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads; kernel: {native.library_path() or 'none'}")
    print("columns: smallest and median time, and how many times the kernel's\n")
    for shape in SHAPES:
        tensors, label = arguments(BATCH, *shape, TAPS), "x".join(map(str, shape))
        for call, title in ((forward, "forward"), (both, "forward + backward")):
            calls = {form: bind(call, form, tensors) for form in ("kernel", "shifts", "unfold")}
            if call is both:
                calls["shifts, own gradient"] = bind(own_gradient, tensors)
            table(f"{label}, batch {BATCH}, K = {TAPS}, {title}", measure(calls, options.rounds, options.seconds))
    tensors = arguments(*LARGE)
    forms = ["kernel", "shifts", "rows", *(["unfold"] if options.unfold_large else [])]
    calls = {form: bind(forward, form, tensors) for form in forms}
    table("\n3x256x256, K = 51, forward", measure(calls, options.rounds, 0))
    for form in forms:
        print(f"  {form:22s} {large_memory(form, False):9.1f} MiB beyond the arguments, output included")
    table(
        "3x256x256, K = 51, forward + backward", measure({"kernel": bind(both, "kernel", tensors)}, options.rounds, 0)
    )
    print(f"  {'kernel':22s} {large_memory('kernel', True):9.1f} MiB beyond the arguments, gradients included")


if __name__ == "__main__":
    main()
