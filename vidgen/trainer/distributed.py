"""What changes when a run is spread over processes by torchrun: ranks, averaged gradients, one voice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vidgen.errors import SettingsError


@dataclass(frozen=True)
class World:
    """This process among all: rank 0 speaks and writes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0


@contextlib.contextmanager
def join_world(device_type: str) -> Iterator[World]:
    """Join the process group that torchrun announces in the environment; alone without one.

    Raises:
        SettingsError: more processes than GPUs on this machine.
    """
    # Batch systems set WORLD_SIZE alone; torchrun sets all of these.
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device_type == "cuda":
        _take_gpu(local_rank)
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        dist.destroy_process_group()


def _take_gpu(local_rank: int) -> None:
    # Without a device of its own each process would meet the others on the first GPU, and wait for ever.
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise SettingsError(
            "cannot give every process a GPU",
            seen=f"process {local_rank} of this machine, expected at most {count} processes",
            cause="torchrun was asked for more processes than there are GPUs",
            fix=f"torchrun --nproc_per_node={count} -m vidgen train ...",
        )
    torch.cuda.set_device(local_rank)


def check_divides(batch_size: int, world: World) -> None:
    """The batch is split evenly over processes.

    Raises:
        SettingsError: it does not divide.
    """
    if batch_size % world.size:
        raise SettingsError(
            "cannot split the batch over processes",
            seen=f"batch_size {batch_size} over {world.size} processes, expected a multiple of {world.size}",
            cause="batch_size counts the samples of all processes together",
            fix=f"--set batch_size={-(-batch_size // world.size) * world.size}",
        )


def average_gradients(parameters: Iterable[Tensor], world: World) -> None:
    """Replace each gradient by its mean over processes.

    One flat all-reduce after the backward pass rather than DistributedDataParallel: the loop runs a network
    several times between updates and spectral norm rewrites its buffers in place, which DDP's own hooks forbid.
    """
    if world.size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world.size
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def mean_over_world(values: Tensor, world: World) -> Tensor:
    """Mean of a small tensor over processes."""
    if world.size > 1:
        dist.all_reduce(values)
        values = values / world.size
    return values


def any_over_world(flag: bool, world: World, device: torch.device) -> bool:
    """Whether any process raises the flag, so that all of them stop at the same step."""
    if world.size == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def wait_for_all(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        dist.barrier()
