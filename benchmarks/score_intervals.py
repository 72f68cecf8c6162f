"""Do the intervals of scores hold? Sets drawn again and again: the spread told against the spread there is.

    python benchmarks/score_intervals.py --draws 200 --write docs/scores.md

Features are those of a random two-layer network on normal draws, 48 of them, so that they are neither normal nor
independent. In each draw, two artifacts on the same latents (the second a little off) are scored against real clips:
alike to the first artifact, or different from it. For the Fréchet distance the reference stays, as its interval says;
for the others it is drawn again too. Printed for the score itself and for the difference of the two artifacts: the mean
standard error told over the standard deviation of the draws, and how often the 95 % interval holds the mean of all
draws; the table has the latter, of the score and of the difference.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from page import replace_table

from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.frechet_interval import frechet_estimate
from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.kernel_distance import kernel_distance
from vidgen.bench.scores.neighbours import SCORES, neighbour_scores

Floats = NDArray[np.float64]
LATENTS, FEATURES = 24, 48


class Told(NamedTuple):
    """A score as it was told: its value and interval."""

    value: float
    interval: Interval


def features(latents: Floats, shift: float = 0.0) -> Floats:
    """Latents [n, LATENTS] to features [n, FEATURES]; the network is always the same."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((LATENTS, 64)) / LATENTS**0.5, rng.standard_normal((64, FEATURES)) / 8
    hidden: Floats = np.maximum((latents + shift) @ first, 0) @ second
    return np.tanh(hidden) + shift * 0.2


def one_draw(rng: np.random.Generator, n: int, off: float, fixed: FrechetSide) -> Iterator[tuple[str, Told, Told]]:
    """Every score of the first artifact, and its difference to the second's."""
    latents, real = rng.standard_normal((n, LATENTS)), features(rng.standard_normal((n, LATENTS)))
    artifacts = [features(latents, off), features(latents, off + 0.05)]
    distances = [frechet_estimate(rows, fixed) for rows in artifacts]
    difference = distances[1].minus(distances[0])
    if distances[0].interval and difference.interval:
        yield "FID", Told(distances[0].value, distances[0].interval), Told(difference.value, difference.interval)
    kernels = [kernel_distance(rows, real) for rows in artifacts]
    difference = kernels[1].minus(kernels[0])
    if kernels[0].interval and difference.interval:
        yield "KID", Told(kernels[0].value, kernels[0].interval), Told(difference.value, difference.interval)
    near = [neighbour_scores(real, rows) for rows in artifacts]
    for name, difference in near[1].minus(near[0]).items():
        own = near[0].intervals.get(name)
        if own and difference.interval:
            yield name, Told(getattr(near[0], name), own), Told(difference.value, difference.interval)


def held(told: list[Told]) -> tuple[float, float]:
    """The mean error told over the true spread, and how often the interval holds the mean."""
    values = np.array([one.value for one in told])
    error = float(np.mean([one.interval.standard_error for one in told]))
    share = float(np.mean([one.interval.low <= values.mean() <= one.interval.high for one in told]))
    return error / float(values.std(ddof=1) or np.nan), share


def main() -> None:
    """Print the table, and put it into a page if one is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--clips", type=int, nargs="+", default=[32, 96, 480])
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    asked = parser.parse_args()
    columns: dict[str, list[str]] = defaultdict(list)
    for which, off in (("alike", 0.0), ("different", 0.5)):
        for n in asked.clips:
            rng = np.random.default_rng([n, int(10 * off)])
            fixed = FrechetSide.of_features(features(rng.standard_normal((n, LATENTS))))
            alone, paired = defaultdict(list), defaultdict(list)
            for _ in range(asked.draws):
                for name, own, difference in one_draw(rng, n, off, fixed):
                    alone[name].append(own)
                    paired[name].append(difference)
            for name in ("FID", "KID", *SCORES):
                (width, share), (pair_width, pair_share) = held(alone[name]), held(paired[name])
                print(f"{name}, {which}, {n} clips: told / true {width:.2f}, holds {share:.0%}; "
                      f"difference {pair_width:.2f}, {pair_share:.0%}", flush=True)  # fmt: skip
                columns[f"{name}, {which}"].append(f"{share:.0%}, {pair_share:.0%}")
    lines = [f"| sets | {' | '.join(f'{n} clips' for n in asked.clips)} |", "|---|" + "---:|" * len(asked.clips)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in columns.items()]
    if asked.write is not None:
        replace_table(asked.write, "benchmarks/score_intervals.py", "\n".join(lines))


if __name__ == "__main__":
    main()
