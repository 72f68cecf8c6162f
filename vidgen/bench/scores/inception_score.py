"""Inception Score of any network with classes: how sure it is of each clip, and how varied over all clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.classifier_metrics import ClassifierStatistics, classifier_metrics
from vidgen.bench.scores.features import Floats, checked_features
from vidgen.bench.scores.intervals import REPLICATES, Interval
from vidgen.errors import SettingsError

#: Parts that papers cut the clips into.
SPLITS = 10
#: With fewer clips than this for each class, the mean of the answers is far from what many clips would give.
_CLIPS_A_CLASS = 10


@dataclass(frozen=True)
class InceptionScore:
    """exp(mean KL(p_i || P)), P the mean of the p_i; 1 to the number of classes, higher is better.

    Attributes:
        value: of all clips together. interval: of it, by a bootstrap over clips; None with too few clips.
        split_mean, split_deviation: mean and standard deviation of the scores of the splits, the figures that papers
            print; fewer clips score lower, so they compare with equal n and splits alone.
        n: clips. classes: of the network. splits: as used.
        warnings: sentences.
    """

    value: float
    interval: Interval | None
    split_mean: float
    split_deviation: float
    n: int
    classes: int
    splits: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = None if self.interval is None else vars(self.interval)
        return {**vars(self), "interval": interval, "warnings": list(self.warnings)}


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
    """Score the answers of a network, with the sums and the bootstrap of the classifier's metrics.

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
    whole = classifier_metrics(_sums(answers, range(n) if indices is None else indices, replicates, seed))
    parts = [_score(part) for part in np.array_split(answers, splits)]
    warnings = []
    if n < _CLIPS_A_CLASS * classes:
        warnings.append(f"{n} clips for {classes} classes: the score grows with more clips; compare equal n only")
    return InceptionScore(
        value=whole.inception_score,
        interval=whole.intervals.get("inception_score"),
        split_mean=float(np.mean(parts)),
        split_deviation=float(np.std(parts)),
        n=n,
        classes=classes,
        splits=splits,
        warnings=tuple(warnings),
    )


def _score(answers: Floats) -> float:
    return classifier_metrics(_sums(answers, range(len(answers)), 0, 0)).inception_score


def _sums(answers: Floats, indices: Sequence[int], replicates: int, seed: int) -> ClassifierStatistics:
    """The sums of one action, since nobody asked for any."""
    empty = ClassifierStatistics.empty(answers.shape[1], 1, replicates)
    return empty.with_clips(answers, [0] * len(answers), indices, seed)
