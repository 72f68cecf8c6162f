"""Statistics over the processes of a torchrun: each takes its share of the clips, and one gathers the sums."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from vidgen._imports import require

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work; rank 0 writes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def device(self, device: str) -> str:
        """The device of this process where ``cuda`` was asked for all of them."""
        return f"cuda:{self.local_rank}" if device == "cuda" and self.size > 1 else device

    def gather(self, value: T) -> list[T]:
        """What every process has, in the order of ranks; empty in all but the first."""
        if self.size == 1:
            return [value]
        dist = require("torch.distributed", "gather the sums of processes")
        values: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, values)
        return values or []

    def share(self, value: T | None) -> T:
        """What the first process has, in all of them."""
        values = [value]
        if self.size > 1:
            require("torch.distributed", "share a result").broadcast_object_list(values)
        assert values[0] is not None
        return values[0]


@contextlib.contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun announces in the environment; alone without one."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        yield Ranks()
        return
    dist = require("torch.distributed", "work with the other processes of torchrun")
    # Only sums on the CPU travel, once: gloo is enough beside any device.
    dist.init_process_group("gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
