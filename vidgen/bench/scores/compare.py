"""The features of one source beside those of the reference: every score that they allow, with what to warn of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.fid_infinity import FidInfinity, fid_infinity
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.frechet_interval import FrechetEstimate, frechet_estimate
from vidgen.bench.scores.inception_score import InceptionScore, inception_score
from vidgen.bench.scores.intervals import REPLICATES, Difference
from vidgen.bench.scores.kernel_distance import KernelDistance, kernel_distance
from vidgen.bench.scores.neighbours import K_DENSITY, NeighbourScores, neighbour_scores
from vidgen.bench.scores.statistics_file import Statistics, check_same_protocol
from vidgen.errors import ScoreError

#: Clips below which a line through the distances of subsets says nothing.
_CLIPS_FOR_LINE = 40


@dataclass(frozen=True, eq=False)
class SpaceScore:
    """The scores of one source in one feature space.

    Attributes:
        frechet: the distance to the reference, with its interval where features were kept.
        kernel, neighbours, infinity: None where features are missing on a side, or nobody asked.
        n, reference_n: clips of the two sides; the latter None where a file does not say.
        warnings: sentences.
        to_first: by score (frechet, kernel, precision, recall, density, coverage), how much it differs from that of
            the first source, with the interval of pairs; empty for the first itself.
    """

    frechet: FrechetEstimate
    kernel: KernelDistance | None
    neighbours: NeighbourScores | None
    infinity: FidInfinity | None
    n: int
    reference_n: int | None
    warnings: tuple[str, ...]
    to_first: Mapping[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {name: getattr(self, name) for name in ("frechet", "kernel", "neighbours", "infinity")}
        return {
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "to_first": {name: difference.to_dict() for name, difference in self.to_first.items()},
            "n": self.n,
            "reference_n": self.reference_n,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Comparison:
    """How sources are compared with a reference.

    Attributes:
        replicates: resamplings behind the intervals that need them; 0 leaves out that of the Fréchet distance too.
        seed: of them and of subsets. infinity: extrapolate the distance to infinitely many clips.
        say: called with what is being computed, as it may take a while.
    """

    replicates: int = REPLICATES
    seed: int = 0
    infinity: bool = False
    say: Callable[[str], None] = lambda what: None

    def space(
        self,
        scored: Statistics,
        reference: Statistics,
        side: FrechetSide,
        first: SpaceScore | None,
        names: tuple[str, str],
    ) -> SpaceScore:
        """Score one source in one space.

        Args:
            side: of the reference, prepared once for all sources.
            first: the scores of the first source; None for that one itself.
            names: of the source and the reference, for messages.

        Raises:
            ScoreError: the two were made by different protocols, or features that cannot be used.
        """
        warnings = check_same_protocol(scored, reference, names)
        self.say("Fréchet distance")
        frechet = self._frechet(scored, side)
        a, b = reference.features, scored.features
        kernel = neighbours = infinity = None
        if a is not None and b is not None:
            self.say("kernel distance")
            kernel = kernel_distance(b, a, seed=self.seed)
            if min(len(a), len(b)) > K_DENSITY:
                self.say("precision and recall")
                neighbours = neighbour_scores(a, b)
        elif a is None:
            warnings.append(f"{names[1]} holds no features: no kernel distance, precision or recall")
        if self.infinity and b is not None and len(b) >= _CLIPS_FOR_LINE:
            self.say("Fréchet distance of infinitely many clips")
            infinity = fid_infinity(b, side, seed=self.seed)
        elif self.infinity:
            warnings.append(f"no FID of infinitely many clips: it takes {_CLIPS_FOR_LINE} clips, with features")
        for part in (frechet.distance, kernel, neighbours, infinity):
            warnings += part.warnings if part is not None else ()
        score = SpaceScore(
            frechet=frechet,
            kernel=kernel,
            neighbours=neighbours,
            infinity=infinity,
            n=scored.n or 0,
            reference_n=reference.n,
            warnings=tuple(dict.fromkeys(warnings)),
            to_first={},
        )
        return score if first is None else replace(score, to_first=_differences(score, first))

    def _frechet(self, scored: Statistics, side: FrechetSide) -> FrechetEstimate:
        if scored.features is None or not self.replicates:
            return FrechetEstimate(scored.side().to(side))
        return frechet_estimate(scored.features, side)

    def answers(self, logits: NDArray[np.float32] | None, indices: list[int]) -> InceptionScore | None:
        """The Inception Score and entropies of an extractor with classes."""
        if logits is None:
            return None
        self.say("Inception Score")
        return inception_score(logits, replicates=self.replicates, seed=self.seed, indices=indices)


def _differences(score: SpaceScore, first: SpaceScore) -> dict[str, Difference]:
    """How much the scores of a source differ from those of the first one."""
    found = {"frechet": score.frechet.minus(first.frechet)}
    if score.kernel is not None and first.kernel is not None:
        found["kernel"] = score.kernel.minus(first.kernel)
    if score.neighbours is not None and first.neighbours is not None:
        found |= score.neighbours.minus(first.neighbours)
    return found


def psnr(first: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio over all pixels of the same videos, dB; infinite where they are equal.

    Raises:
        ScoreError: they are of different sizes.
    """
    if first.shape != other.shape:
        raise ScoreError(
            "cannot compare pixels",
            seen=f"videos {list(first.shape[1:])} and {list(other.shape[1:])}",
            cause="the artifacts make frames of different sizes or numbers",
            fix="use --compared 0",
        )
    square = np.mean([np.square(a.astype(np.float64) - b).mean() for a, b in zip(first, other)])
    return float(10 * np.log10(255**2 / square)) if square else float("inf")
