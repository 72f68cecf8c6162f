"""Random numbers of a clip, which depend on the seed and the clip's index alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

# Streams that share a seed are told apart by a third number of the seed sequence.
_LABELS = 1
_PAIRS = 2
_PEOPLE = 3


def generator(*entropy: int) -> np.random.Generator:
    """A generator that depends on the given non-negative integers alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def clip_generator(seed: int, index: int) -> np.random.Generator:
    """The generator of clip ``index`` of ``seed``."""
    return generator(seed, index)


def person_generator(seed: int, person: int) -> np.random.Generator:
    """The generator of the looks of a person in the cast of ``seed``."""
    return generator(seed, person, _PEOPLE)


def balanced_label(seed: int, index: int, count: int) -> int:
    """Label of clip ``index``: each block of ``count`` clips holds every label once, in a random order."""
    block, position = divmod(index, count)
    return int(generator(seed, block, _LABELS).permutation(count)[position])


def balanced_actor(seed: int, index: int, label: int, labels: int, actors: int) -> int:
    """Actor of clip ``index``: over ``labels * actors`` clips every actor performs every action once."""
    block = index // labels
    cycle, turn = divmod(block, actors)
    offsets = generator(seed, cycle, _PAIRS).permutation(max(labels, actors))
    return int((offsets[label] + turn) % actors)


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A Python float, so that float32 arrays stay float32 when they meet it."""
    return float(rng.uniform(low, high))


def choose(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the options, evenly or by weight."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    shares = np.cumsum(np.asarray(weights, np.float64))
    position = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
    return options[min(position, len(options) - 1)]


def sign(rng: np.random.Generator) -> float:
    """-1.0 or 1.0 with equal chance."""
    return 1.0 if rng.random() < 0.5 else -1.0


def rgb(code: str) -> npt.NDArray[np.float32]:
    """The colour of a code like ``"f2c9a0"``, float32 [3] from 0 to 1."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / np.float32(255)


def vary(rng: np.random.Generator, colour: npt.NDArray[np.float32], amount: float) -> npt.NDArray[np.float32]:
    """A colour near ``colour``: brightness and each channel moved by up to ``amount``."""
    brightness = 1.0 + rng.uniform(-amount, amount)
    tint = 1.0 + rng.uniform(-0.5 * amount, 0.5 * amount, 3)
    return np.clip(colour * brightness * tint, 0.0, 1.0).astype(np.float32)
