"""Quality scores of generated videos: one file a score, one a protocol, and `score` that runs a protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidgen.bench.scores.frechet import frechet_distance

__all__ = ["frechet_distance"]


def __getattr__(name: str) -> Any:
    # Importing the package loads nothing; the function brings numpy when it is asked for.
    if name == "frechet_distance":
        from vidgen.bench.scores.frechet import frechet_distance

        return frechet_distance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
