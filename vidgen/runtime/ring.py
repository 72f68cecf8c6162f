"""A ring of places for device work: given in turn, taken in the same order, none given again before it was taken."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError
from vidgen.runtime.cuda import Cuda, DeviceMemory, Event, PinnedMemory


class Closable(Protocol):
    """What can be given back."""

    def close(self) -> None:
        """Give it back."""


def close_all(things: Iterable[Closable]) -> None:
    """Close each in turn, whatever becomes of those before: of a device that failed, every part complains.

    Raises:
        BackendError: of the last one that failed.
    """
    with contextlib.ExitStack() as stack:
        for thing in reversed(list(things)):
            stack.callback(thing.close)


class Place(Closable, Protocol):
    """What a ring holds: ``finished`` is passed once the last work given to the place is done."""

    finished: Event


P = TypeVar("P", bound=Place)


class Ring(Generic[P]):
    """Up to ``size`` places, each made when it is first needed.

    Blocks the host in one way only: on the event of the place whose results are asked for.
    """

    def __init__(self, size: int, make: Callable[[], P]) -> None:
        self._size = size
        self._make = make
        self._places: list[P] = []
        self._full: deque[P] = deque()

    @property
    def full(self) -> bool:
        """Whether results must be taken before more work is given."""
        return len(self._full) == self._size

    def free(self) -> P:
        """A place whose results were taken.

        Raises:
            RuntimeError: there is none; giving one would overwrite frames that nobody has seen.
        """
        if self.full:
            raise RuntimeError(f"all {self._size} places of the ring hold results that were not taken")
        for place in self._places:
            if place not in self._full:
                return place
        self._places.append(self._make())
        return self._places[-1]

    def give(self, place: P) -> None:
        """The place was given work, ``finished`` is recorded after it."""
        self._full.append(place)

    def oldest(self) -> P:
        """The place given first, once its work is done; it stays full until :meth:`taken`."""
        place = self._full[0]
        place.finished.synchronize()
        return place

    def taken(self) -> None:
        """The results of the oldest place are in other memory now, or lost."""
        self._full.popleft()

    def close(self) -> None:
        """Wait for all work, whatever became of it, and give all places back."""
        while self._full:
            # A device that failed says so at the first wait; the memory is given back all the same.
            with contextlib.suppress(BackendError):
                self._full.popleft().finished.synchronize()
        places, self._places = self._places, []
        close_all(places)


class Buffers:
    """Device memory and pinned memory for tensors by name, which grow and never shrink."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._device: dict[str, DeviceMemory] = {}
        self._pinned: dict[str, PinnedMemory] = {}

    def address(self, name: str, nbytes: int) -> int:
        """Address of at least so many bytes on the device; the same one for as long as they suffice."""
        held = self._device.get(name)
        if held is None or held.nbytes < nbytes:
            if held is not None:
                self._device.pop(name).close()
            held = self._device[name] = self._cuda.allocate(nbytes)
        return held.address

    def pinned(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A C-contiguous array in page-locked memory, uninitialised, valid until the next call with this name."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        held = self._pinned.get(name)
        if held is None or held.nbytes < nbytes:
            if held is not None:
                self._pinned.pop(name).close()
            held = self._pinned[name] = self._cuda.pinned(nbytes)
        return held.array[:nbytes].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give all memory back."""
        held = [*self._device.values(), *self._pinned.values()]
        self._device.clear()
        self._pinned.clear()
        close_all(held)
