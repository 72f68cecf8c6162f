"""Inception Score and entropies of any network with classes: how sure it is of a clip, and how varied over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.classifier_metrics import entropy
from vidgen.bench.scores.features import Floats, checked_features
from vidgen.bench.scores.intervals import (
    CLIPS_FOR_INTERVAL,
    REPLICATES,
    Difference,
    Interval,
    bootstrap_interval,
    clip_weights,
)
from vidgen.errors import SettingsError

#: Parts that papers cut the clips into.
SPLITS = 10
#: With fewer clips than this for each class, the mean of the answers is far from what many clips would give.
_CLIPS_A_CLASS = 10
#: Clips that are resampled together.
_ROWS = 2048
#: The figures with an interval: the score itself, and the entropies that it is made of.
FIGURES = ("value", "inter_entropy", "intra_entropy")


@dataclass(frozen=True)
class InceptionScore:
    """exp(mean KL(p_i || P)), P the mean of the p_i; 1 to the number of classes, higher is better.

    Attributes:
        value: of all clips together, exp(H(y) - H(y|x)).
        inter_entropy: H(y) = H(P), in nats: how varied; higher is better. intra_entropy: H(y|x), the mean of H(p_i):
            how unsure; lower is better.
        intervals: of the three, by a bootstrap over clips; empty with too few clips, or no resampling.
        split_mean, split_deviation: mean and standard deviation of the scores of the splits, the figures that papers
            print; fewer clips score lower, so they compare with equal n and splits alone.
        n: clips. classes: of the network. splits: as used.
        warnings: sentences.
        replicates: by figure, float64 [R], those of the resamplings; empty where there is no interval.
    """

    value: float
    inter_entropy: float
    intra_entropy: float
    intervals: dict[str, Interval]
    split_mean: float
    split_deviation: float
    n: int
    classes: int
    splits: int
    warnings: tuple[str, ...]
    replicates: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    @property
    def interval(self) -> Interval | None:
        """The interval of the value."""
        return self.intervals.get("value")

    def minus(self, other: InceptionScore) -> dict[str, Difference]:
        """The differences of the three figures, with intervals.

        Where both were made from the same latents, with the same indices and seed, the replicates are paired.
        """
        found = {}
        for name in FIGURES:
            difference = getattr(self, name) - getattr(other, name)
            mine, theirs = (one.replicates.get(name, np.zeros(0)) for one in (self, other))
            interval = bootstrap_interval(difference, mine - theirs) if len(mine) == len(theirs) else None
            found[name] = Difference(difference, interval)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "replicates"}
        intervals = {name: vars(interval) for name, interval in self.intervals.items()}
        return {**values, "intervals": intervals, "warnings": list(self.warnings)}


def probabilities_of(logits: NDArray[np.floating]) -> Floats:
    """Softmax along the last axis in float64; large logits do not overflow."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    answers: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return answers


def inception_score(
    logits: NDArray[np.floating],
    *,
    splits: int = SPLITS,
    replicates: int = REPLICATES,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> InceptionScore:
    """Score the answers of a network.

    In a resampling each clip counts Poisson(1) times, by a weight that depends on (seed, its index) alone: intervals
    depend on neither the order nor the sharding.

    Args:
        logits: [n, classes], before the softmax.
        splits: consecutive parts of as equal a size as can be; fewer where there are fewer clips.
        replicates: resamplings behind the interval; 0 gives none. seed: of them.
        indices: the number of each row in its set; 0, 1, ... when None.

    Raises:
        ScoreError: logits that are not finite, or no clip.
        SettingsError: fewer than one split.
    """
    answers = probabilities_of(checked_features(logits, least=1))
    if splits < 1:
        raise SettingsError(
            f"cannot cut clips into {splits} parts",
            seen=f"{splits}, expected at least 1",
            cause="the number of splits is out of range",
            fix="choose 1 or more splits",
        )
    n, classes = answers.shape
    splits = min(splits, n)
    whole = _figures(answers.mean(axis=0), entropy(answers).mean())
    parts = [_figures(part.mean(axis=0), entropy(part).mean())["value"] for part in np.array_split(answers, splits)]
    resampled: dict[str, Floats] = {}
    if replicates >= 2 and n >= CLIPS_FOR_INTERVAL:
        resampled = _resampled(answers, range(n) if indices is None else indices, replicates, seed)
    largest = {"value": float(classes), "inter_entropy": np.log(classes), "intra_entropy": np.log(classes)}
    intervals = {}
    for name, values in resampled.items():
        interval = bootstrap_interval(float(whole[name]), values, float(name == "value"), float(largest[name]))
        if interval is not None:
            intervals[name] = interval
    warnings = []
    if n < _CLIPS_A_CLASS * classes:
        warnings.append(f"{n} clips for {classes} classes: the score grows with more clips; compare equal n only")
    return InceptionScore(
        **{name: float(whole[name]) for name in FIGURES},
        intervals=intervals,
        split_mean=float(np.mean(parts)),
        split_deviation=float(np.std(parts)),
        n=n,
        classes=classes,
        splits=splits,
        warnings=tuple(warnings),
        replicates=resampled,
    )


def _figures(marginal: Floats, intra: Floats) -> dict[str, Floats]:
    """The figures from the mean of the answers, [..., classes], and the mean of their entropies, [...]."""
    inter = entropy(marginal)
    # mean KL(p_i || P) = H(P) - mean H(p_i); it is never negative, but its rounding is.
    return {"value": np.exp(np.maximum(inter - intra, 0.0)), "inter_entropy": inter, "intra_entropy": intra}


def _resampled(answers: Floats, indices: Sequence[int], replicates: int, seed: int) -> dict[str, Floats]:
    """The figures of each resampling, float64 [R] each."""
    count, intra, marginal = np.zeros(replicates), np.zeros(replicates), np.zeros((replicates, answers.shape[1]))
    for start in range(0, len(answers), _ROWS):
        block = slice(start, start + _ROWS)
        weights = clip_weights(seed, indices[block], replicates)[1:]
        count += weights.sum(axis=1)
        intra += weights @ entropy(answers[block])
        marginal += weights @ answers[block]
    # A handful of clips may leave a resampling with none; it stands for itself then.
    empty = count == 0
    count[empty], intra[empty], marginal[empty] = len(answers), entropy(answers).sum(), answers.sum(axis=0)
    return _figures(marginal / count[:, None], intra / count)
