"""The ring gives no place twice before its results were taken, and buffers stay where they are while they suffice."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_cuda import FakeCuda

from vidgen.errors import BackendError
from vidgen.runtime.cuda import Event
from vidgen.runtime.ring import Buffers, Ring, close_all


class Place:
    """A place whose event passes when told."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.finished: Event = cuda.event()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        self.finished.close()


def test_a_full_ring_gives_no_place() -> None:
    cuda = FakeCuda()
    ring = Ring(2, lambda: Place(cuda))
    first = ring.free()
    assert ring.free() is first, "nothing was given to it yet"
    ring.give(first)
    second = ring.free()
    assert second is not first
    ring.give(second)
    assert ring.full
    with pytest.raises(RuntimeError, match="not taken"):
        ring.free()
    assert ring.oldest() is first
    with pytest.raises(RuntimeError, match="not taken"):
        ring.free()
    ring.taken()
    assert ring.free() is first and ring.oldest() is second
    ring.close()
    assert (first.closed, second.closed) == (1, 1) and cuda.leaks() == {}


def test_places_are_made_when_they_are_needed() -> None:
    cuda, made = FakeCuda(), []
    ring = Ring(8, lambda: made.append(Place(cuda)) or made[-1])
    for _ in range(5):
        ring.give(ring.free())
        ring.oldest()
        ring.taken()
    assert len(made) == 1
    ring.close()


def test_buffers_move_only_to_grow() -> None:
    cuda = FakeCuda()
    buffers = Buffers(cuda)
    large = buffers.address("x", 100)
    assert buffers.address("x", 40) == buffers.address("x", 100) == large
    assert buffers.address("y", 40) != large
    assert buffers.address("x", 101) and cuda.held["device"] == 141
    pinned = buffers.pinned("x", (2, 3), "float32")
    assert (pinned.shape, pinned.dtype, pinned.flags.c_contiguous) == ((2, 3), np.float32, True)
    assert np.shares_memory(pinned, buffers.pinned("x", (4,), "uint8"))
    assert cuda.held["pinned"] == 24
    buffers.close()
    buffers.close()
    assert cuda.leaks() == {}


def test_all_are_closed_though_one_fails() -> None:
    cuda = FakeCuda()
    places = [Place(cuda) for _ in range(3)]

    class Broken:
        def close(self) -> None:
            raise BackendError("x", seen="lost", cause="x", fix="x")

    with pytest.raises(BackendError, match="lost"):
        close_all([places[0], Broken(), *places[1:]])
    assert [place.closed for place in places] == [1, 1, 1]
