"""How far a build is, from TensorRT's nested phases; and the way to end it early."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

Advance = Callable[[int, int | None, str], None]
#: What a build is divided into for whoever shows its progress.
TOTAL = 100


@dataclass
class _Phase:
    name: str
    steps: int
    done: int = 0


class Progress:
    """Turns phases and steps into ``advance(done, TOTAL, phase)``, never going back; made for an IProgressMonitor.

    Args:
        advance: told of progress, from the builder's threads, one call at a time. An exception that it raises, such as
            KeyboardInterrupt, ends the build: :attr:`failure` holds it, and every later step is answered False.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._lock = threading.Lock()
        self._open: list[_Phase] = []
        self._told: tuple[int, str] = (0, "")
        self.failure: BaseException | None = None

    def step(self, event: str, phase: str, steps: int | None, index: int) -> bool:
        """Take one call of the builder; see :meth:`vidgen.runtime.tensorrt_library.TensorRT.progress_monitor`.

        Returns:
            Whether the build goes on.
        """
        with self._lock:
            if event == "start":
                self._open.append(_Phase(phase, max(1, steps or 1)))
            else:
                self._close(phase, event, index)
            if self.failure is None:
                self._tell()
            return self.failure is None

    def finish(self) -> None:
        """The engine is there; what ``advance`` raises now is raised here."""
        self._advance(TOTAL, TOTAL, "Building engine")

    def _close(self, name: str, event: str, index: int) -> None:
        for place in reversed(range(len(self._open))):
            if self._open[place].name == name:
                if event == "finish":
                    del self._open[place]
                else:
                    self._open[place].done = min(index + 1, self._open[place].steps)
                return

    def _tell(self) -> None:
        inside = 0.0
        for phase in reversed(self._open):
            inside = min(1.0, (phase.done + inside) / phase.steps)
        done = max(self._told[0], int(inside * TOTAL))
        told = done, self._open[-1].name if self._open else self._told[1]
        if told == self._told:
            return
        self._told = told
        try:
            self._advance(done, TOTAL, told[1])
        except BaseException as error:  # it is raised again when the builder has come back
            self.failure = error
