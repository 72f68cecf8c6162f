"""Values that change over a run: straight lines between two iterations, constant outside (spec twostreamvan 4.3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """``start`` up to iteration ``begin``, ``end`` from iteration ``finish`` on, a straight line between."""

    start: float
    end: float
    begin: int
    finish: int

    def at(self, iteration: int) -> float:
        """The value at an iteration."""
        if self.finish <= self.begin:
            return self.end if iteration >= self.finish else self.start
        clamped = min(max(iteration, self.begin), self.finish)
        return self.start + (clamped - self.begin) / (self.finish - self.begin) * (self.end - self.start)
