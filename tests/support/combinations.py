"""Combinations of what tests vary: half of them every day, all when there is time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def chequered(*axes: Iterable[Any]) -> list[Any]:
    """Every combination of the axes' values for ``parametrize``, every second one marked slow.

    The others lie like the squares of one colour of a chequerboard: if there are three axes or more, each value of an
    axis meets each value of any other.
    """
    return [
        pytest.param(*(value for _, value in combination), marks=pytest.mark.slow if odd else ())
        for combination in itertools.product(*(tuple(enumerate(axis)) for axis in axes))
        for odd in [sum(place for place, _ in combination) % 2]
    ]
