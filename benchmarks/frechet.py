"""Fréchet distance of 2048 features at 5000 clips, beside the general matrix square root of scipy, in one run.

    python benchmarks/frechet.py --threads 2

Both take the same two means and covariances and take turns in one process; wall and processor time of each turn are
printed, the ratio of the smallest, and how far the values lie apart. Then the memory that one call needs beyond its
arguments, each form in a process of its own. With ``--clips`` below ``--features`` the covariances are singular, and
the distance from the features themselves is a third contender.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.frechet import FrechetSide, frechet_distance
from vidgen.bench.scores.moments import Moments

Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Turn:
    """Seconds of one call, and what it found."""

    wall: float
    processor: float
    value: float


def features(seed: int, clips: int, width: int) -> NDArray[np.float32]:
    """Features like those of a network: not negative, mixed, and of variances that fall over three decades."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32) / np.float32(np.sqrt(width))
    scales = np.geomspace(1, 1e-3, width).astype(np.float32) ** np.float32(0.5)
    made = (rng.standard_normal((clips, width)).astype(np.float32) + np.float32(0.1 * seed)) * scales @ mixing
    return np.maximum(made, 0)


def with_sqrtm(
    mu1: NDArray[np.float64], s1: NDArray[np.float64], mu2: NDArray[np.float64], s2: NDArray[np.float64]
) -> float:
    """The form of the public programs: a Schur decomposition of the product."""
    import scipy.linalg

    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(np.square(mu1 - mu2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def arguments(clips: int, width: int) -> Arrays:
    """Means and covariances of two sets."""
    sides = [Moments.of(features(seed, clips, width)).gaussian() for seed in (1, 2)]
    return sides[0].mean, sides[0].covariance, sides[1].mean, sides[1].covariance


FORMS: dict[str, Callable[..., float]] = {"vidgen": frechet_distance, "scipy.linalg.sqrtm": with_sqrtm}


def turn(call: Callable[[], float]) -> Turn:
    """One call, timed."""
    wall, processor = time.perf_counter(), time.process_time()
    value = call()
    return Turn(time.perf_counter() - wall, time.process_time() - processor, value)


def compare(clips: int, width: int, rounds: int) -> dict[str, list[Turn]]:
    """Turns of each form, printed as they come."""
    given = arguments(clips, width)
    calls: dict[str, Callable[[], float]] = {name: _bound(form, given) for name, form in FORMS.items()}
    if clips < width:
        sets = [features(seed, clips, width) for seed in (1, 2)]
        calls["vidgen, from features"] = lambda: _from_features(sets)
    FORMS["vidgen"](*arguments(64, 32))  # loads what the first call loads
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            one = turn(call)
            turns[name].append(one)
            print(f"  round {number}  {name:22s} {one.wall:8.2f} s wall  {one.processor:8.2f} s cpu  {one.value:.9g}")
            sys.stdout.flush()
    return turns


def _bound(form: Callable[..., float], given: Arrays) -> Callable[[], float]:
    return lambda: form(*given)


def _from_features(sets: list[NDArray[np.float32]]) -> float:
    first, second = (FrechetSide.of_features(rows) for rows in sets)
    return first.to(second).value


def memory(form: str, clips: int, width: int) -> float:
    """MiB beyond the arguments that one call needs, in a fresh process."""
    sizes = ["--clips", str(clips), "--features", str(width)]
    command = [sys.executable, __file__, "--memory-of", form, *sizes]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    return float(done.stdout)


def print_memory(form: str, clips: int, width: int) -> None:
    """For ``memory``: a small call first, then the growth of the peak of resident memory in one call."""
    FORMS[form](*arguments(64, 32))
    given = arguments(clips, width)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    FORMS[form](*given)
    print((_status("VmHWM") - before) / 1024)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="turns of each form")
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--memory-of", choices=list(FORMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    threads = str(options.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    if any(os.environ.get(name) != threads for name in names):
        # The libraries read these when they load.
        os.environ.update(dict.fromkeys(names, threads))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if options.memory_of:
        print_memory(options.memory_of, options.clips, options.features)
        return
    print(f"{options.features} features, {options.clips} clips a side, {threads} threads, numpy {np.__version__}")
    turns = compare(options.clips, options.features, options.rounds)
    ours, theirs = turns["vidgen"], turns["scipy.linalg.sqrtm"]
    for kind in ("wall", "processor"):
        ratio = min(getattr(one, kind) for one in theirs) / min(getattr(one, kind) for one in ours)
        print(f"  {kind} time of sqrtm over ours: {ratio:.1f} x")
    print(f"  relative difference of the values: {abs(ours[0].value / theirs[0].value - 1):.1e}")
    if not options.no_memory:
        for form in FORMS:
            grown = memory(form, options.clips, options.features)
            print(f"  peak memory beyond the arguments, {form}: {grown:.0f} MiB")


if __name__ == "__main__":
    main()
