"""Time and interruption of a run: a watch that survives a resume, the pace, and a stop asked for by a signal."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


class Stopwatch:
    """Seconds of this run and of all its parts together."""

    def __init__(self, earlier: float = 0.0) -> None:
        self.earlier = earlier
        self.start = time.monotonic()

    @property
    def here(self) -> float:
        """Seconds since this process began to train."""
        return time.monotonic() - self.start

    @property
    def total(self) -> float:
        """Seconds of training including the parts before a resume."""
        return self.earlier + self.here


class Pace:
    """Samples a second over the last steps, and the time left."""

    def __init__(self, batch_size: int, window: int = 20) -> None:
        self.batch_size = batch_size
        self.window = window
        self.ends = [time.monotonic()]

    def tick(self) -> None:
        """A step ended."""
        self.ends = [*self.ends[-self.window :], time.monotonic()]

    @property
    def samples_a_second(self) -> float:
        """Over the last steps, loading included."""
        span = self.ends[-1] - self.ends[0]
        return self.batch_size * (len(self.ends) - 1) / span if span > 0 else 0.0

    def seconds_left(self, steps: int) -> float:
        """Expected for so many steps more."""
        rate = self.samples_a_second
        return steps * self.batch_size / rate if rate else float("inf")


class StopRequest:
    """Whether Ctrl-C or a polite kill has asked the run to end."""

    def __init__(self) -> None:
        self.asked = False

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request answered after the step; the second one interrupts at once.

    A step stopped half way has updated one network and not the next, which no checkpoint may hold.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.signal(number, request._answer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
