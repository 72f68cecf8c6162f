"""Accuracy, Inception Score and the entropies of a classifier's answers, from sums that merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.intervals import CLIPS_FOR_INTERVAL as CLIPS_FOR_INTERVAL
from vidgen.bench.scores.intervals import REPLICATES as REPLICATES
from vidgen.bench.scores.intervals import Floats, Interval, bootstrap_interval
from vidgen.bench.scores.intervals import clip_weights as clip_weights
from vidgen.errors import ScoreError


@dataclass(frozen=True)
class ClassifierStatistics:
    """Sums over clips, from which every metric follows; sums of two sets of clips add up to those of their union.

    The first axis of the weighted sums is one set of weights: row 0 counts every clip once, the others are the
    resamplings of a bootstrap, in which clip i has a Poisson(1) weight that depends on (seed, i) alone. So intervals
    too do not depend on the order, the batch size or the sharding.

    Attributes:
        weights: float64 [1 + R, A]: number of clips of each requested action.
        correct: float64 [1 + R, A]: of those that the classifier gives the requested action.
        entropy: float64 [1 + R, A]: sum of H(p_i), in nats.
        probability: float64 [1 + R, A, C]: sum of p_i.
        confusion: int64 [A, A]: clips by requested and by predicted action.
        predicted_entropy: float64 [A]: sum of H(p_i) by predicted action.
    """

    weights: Floats
    correct: Floats
    entropy: Floats
    probability: Floats
    confusion: NDArray[np.int64]
    predicted_entropy: Floats

    @classmethod
    def empty(cls, n_class: int, n_actions: int, replicates: int = REPLICATES) -> Self:
        """The sums of no clip.

        Args:
            n_class: classes C of the classifier.
            n_actions: actions A among them; class = action + n_actions * actor.
            replicates: resamplings R; 0 gives no intervals.
        """
        if n_actions < 1 or n_class < 1 or n_class % n_actions or replicates < 0:
            raise ValueError(f"{n_class} classes of {n_actions} actions, {replicates} replicates")
        rows = 1 + replicates
        return cls(
            weights=np.zeros((rows, n_actions)),
            correct=np.zeros((rows, n_actions)),
            entropy=np.zeros((rows, n_actions)),
            probability=np.zeros((rows, n_actions, n_class)),
            confusion=np.zeros((n_actions, n_actions), dtype=np.int64),
            predicted_entropy=np.zeros(n_actions),
        )

    @property
    def clips(self) -> int:
        """Number of clips."""
        return int(self.confusion.sum())

    def merged(self, other: ClassifierStatistics) -> ClassifierStatistics:
        """The sums of the clips of both; they must share no clip."""
        return ClassifierStatistics(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        )

    def with_clips(
        self, probabilities: Floats, requested: Sequence[int], indices: Sequence[int], seed: int = 0
    ) -> ClassifierStatistics:
        """The sums with some more clips.

        Args:
            probabilities: float64 [N, C]: the classifier's answers p_i; each row sums to 1.
            requested: the action that each clip was to show, in [0, A).
            indices: a number of its own for each clip of the set; its resampling weights come from it.
            seed: of the resampling.

        Raises:
            ScoreError: answers that are no probabilities.
        """
        rows, n_actions, n_class = self.probability.shape
        p = _checked(probabilities, n_class)
        actions = np.asarray(requested, dtype=np.int64)
        if len(actions) != len(p) or len(indices) != len(p):
            raise ValueError(f"{len(p)} answers, {len(actions)} requests and {len(indices)} indices")
        if len(actions) and not (actions.min() >= 0 and actions.max() < n_actions):
            raise ValueError(f"requested actions {actions.min()} to {actions.max()} of {n_actions}")
        entropies, predicted = entropy(p), p.argmax(axis=1) % n_actions
        weights = clip_weights(seed, indices, rows - 1)
        member = np.zeros((len(p), n_actions))
        member[np.arange(len(p)), actions] = 1
        more = ClassifierStatistics(
            weights=weights @ member,
            correct=weights @ (member * (predicted == actions)[:, None]),
            entropy=weights @ (member * entropies[:, None]),
            probability=np.zeros_like(self.probability),
            confusion=np.zeros_like(self.confusion),
            predicted_entropy=np.bincount(predicted, entropies, n_actions).astype(np.float64),
        )
        for action in np.unique(actions):
            more.probability[:, action] = weights[:, actions == action] @ p[actions == action]
        np.add.at(more.confusion, (actions, predicted), 1)
        return self.merged(more)


@dataclass(frozen=True)
class ClassifierMetrics:
    """What the classifier's answers to a set of clips say (spec twostreamvan 7); entropies in nats.

    Attributes:
        clips: number of clips.
        accuracy: percent of clips whose arg max, modulo the actions, is the requested action. Higher is better.
        inception_score: exp(mean KL(p_i || P)) with P the mean of the p_i; 1 to C, higher is better.
        intra_entropy: H(y|x), the mean of H(p_i); lower is better. inter_entropy: H(y) = H(P); higher is better.
        per_class_intra_entropy: [A] mean H(p_i) of the clips whose PREDICTED action this is; NaN where there is none.
        per_class_accuracy: [A] percent, of the clips that were to show this action; NaN where there is none.
        confusion: [A][A] clips by requested and predicted action.
        intervals: by metric; empty where there are too few clips, or no resampling.
    """

    clips: int
    accuracy: float
    inception_score: float
    intra_entropy: float
    inter_entropy: float
    per_class_intra_entropy: tuple[float, ...]
    per_class_accuracy: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    intervals: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None stands for NaN."""
        values: dict[str, Any] = dict(vars(self))
        for name in ("per_class_intra_entropy", "per_class_accuracy"):
            values[name] = [None if np.isnan(value) else value for value in values[name]]
        values["confusion"] = [list(row) for row in self.confusion]
        values["intervals"] = {name: vars(interval) for name, interval in self.intervals.items()}
        return values


def entropy(p: Floats) -> Floats:
    """H(p) in nats along the last axis; terms with p = 0 are 0."""
    nats: Floats = -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1)
    return nats


def classifier_metrics(statistics: ClassifierStatistics) -> ClassifierMetrics:
    """The metrics of some clips.

    A resampling keeps the number of clips of every requested action, as the protocol does.

    Raises:
        ScoreError: there is no clip.
    """
    if not statistics.clips:
        raise ScoreError(
            "cannot score an empty set",
            seen="no clip, expected at least one",
            cause="nothing was sampled or read",
            fix="give clips of every class",
        )
    values = _rowwise(statistics)
    n_class = statistics.probability.shape[2]
    ranges = {
        "accuracy": (0.0, 100.0),
        "inception_score": (1.0, float(n_class)),
        "intra_entropy": (0.0, float(np.log(n_class))),
        "inter_entropy": (0.0, float(np.log(n_class))),
    }
    requested, predicted = statistics.confusion.sum(axis=1), statistics.confusion.sum(axis=0)
    smallest = requested[requested > 0].min()
    intervals = {}
    if statistics.weights.shape[0] > 2 and smallest >= CLIPS_FOR_INTERVAL:
        found = {name: bootstrap_interval(values[name][0], values[name][1:], *ranges[name]) for name in ranges}
        intervals = {name: interval for name, interval in found.items() if interval is not None}
    return ClassifierMetrics(
        clips=statistics.clips,
        **{name: float(values[name][0]) for name in ranges},
        per_class_intra_entropy=_shares(statistics.predicted_entropy, predicted),
        per_class_accuracy=_shares(100.0 * np.diagonal(statistics.confusion), requested),
        confusion=tuple(tuple(int(count) for count in row) for row in statistics.confusion),
        intervals=intervals,
    )


def _rowwise(statistics: ClassifierStatistics) -> dict[str, Floats]:
    """The four metrics under each set of weights, float64 [1 + R] each."""
    counts = statistics.weights[0]
    # A class that a resampling left out altogether stands in it as it is.
    absent = statistics.weights == 0
    scale = np.where(absent, 1.0, counts / np.where(absent, 1.0, statistics.weights))

    def mean(sums: Floats) -> Floats:
        shape = (..., *(None for _ in sums.shape[2:]))
        left_out = absent[shape] & (counts > 0)[shape]
        filled: Floats = np.where(left_out, sums[:1], sums * scale[shape]).sum(axis=1) / counts.sum()
        return filled

    intra, marginal = mean(statistics.entropy), mean(statistics.probability)
    inter = entropy(marginal)
    # mean KL(p_i || P) = H(P) - mean H(p_i); it is never negative, but its rounding is.
    divergence = np.maximum(inter - intra, 0.0)
    return {
        "accuracy": 100.0 * mean(statistics.correct),
        "inception_score": np.exp(divergence),
        "intra_entropy": intra,
        "inter_entropy": inter,
    }


def _shares(sums: NDArray[Any], counts: NDArray[np.int64]) -> tuple[float, ...]:
    """sums / counts, NaN where a count is 0."""
    return tuple(float(total) / int(count) if count else float("nan") for total, count in zip(sums, counts))


def _checked(probabilities: Floats, n_class: int) -> Floats:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != n_class:
        raise ScoreError(
            "cannot use the classifier's answers",
            seen=f"an array {list(p.shape)}, expected [clips, {n_class}]",
            cause="the classifier has other classes than it says",
            fix="use the checkpoint of a classifier: vidgen train classifier",
        )
    good = np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-4)
    if not good.all():
        worst = int(np.argmin(good))
        raise ScoreError(
            "cannot use the classifier's answers",
            seen=f"clip {worst} of the batch has {p[worst][:4]}..., expected probabilities that sum to 1",
            cause="the classifier's weights are not finite, or its answers are no probabilities",
            fix="use an earlier checkpoint of the classifier",
        )
    return p
