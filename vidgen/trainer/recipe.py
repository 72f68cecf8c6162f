"""What the training loop needs to know of a model family: its networks, its data, and how one step goes."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vidgen.data.store import ClipStore
from vidgen.models.checkpoint import DataDescription
from vidgen.models.config import ModelConfig
from vidgen.trainer.distributed import World
from vidgen.trainer.journal import Journal
from vidgen.trainer.run_settings import RunSettings

Settings = TypeVar("Settings", bound=RunSettings)
Net = TypeVar("Net", bound=nn.Module)
Say = Callable[[str], None]
Autocast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Place:
    """Where a run computes: its device, the processes it shares the batch with, and its autocast."""

    device: torch.device
    world: World = World()  # noqa: RUF009 - a frozen value
    autocast: Autocast = contextlib.nullcontext


class Recipe(ABC, Generic[Settings]):
    """A model family under training; the loop (``train.py``), saves and resumption know it only by this.

    Everything random in a step depends on (seed, step) alone, so that a resumed run is the same run.

    Attributes:
        networks: by the names of their files. optimisers: by the names in the state file.
        dataset: addressed by (epoch, number of the clip), 0 <= number < ``clips``.
        description: the data, as a checkpoint tells it.
    """

    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    dataset: Dataset[Any]
    clips: int
    description: DataDescription

    def __init__(self, settings: Settings, store: ClipStore, place: Place, say: Say) -> None:
        self.settings, self.store, self.place, self.say = settings, store, place, say

    @property
    @abstractmethod
    def published(self) -> str:
        """The network whose file a run is known by."""

    @abstractmethod
    def saved_as(self, name: str) -> tuple[str, ModelConfig]:
        """Model name and configuration of a network's checkpoint."""

    @abstractmethod
    def step(self, number: int, batch: Any) -> Mapping[str, Tensor]:
        """Update the networks with a batch (on the CPU); the losses by name, detached scalars on the device.

        Args:
            number: steps made before this one.
        """

    @abstractmethod
    def validate(self, journal: Journal, step: int, epoch: int) -> None:
        """Show what the networks do after this many steps."""

    @abstractmethod
    def headline(self, losses: Mapping[str, float]) -> str:
        """The losses worth a few characters of a progress bar."""

    @property
    def finished(self) -> bool:
        """Whether more training would gain nothing."""
        return False

    def extra_state(self) -> dict[str, Any]:
        """What else a run needs to go on, of types that load with ``weights_only``."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`extra_state` gave."""


def noise_source(seed: int, step: int) -> torch.Generator:
    """The random generator of one step of one run.

    torch's CPU generator looks at 32 bits of its seed, so that seed and step have to be mixed into them.
    """
    mixed = np.random.SeedSequence([seed, step]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


@contextlib.contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of these networks."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


def average_of(network: Net) -> Net:
    """A copy to keep the running average of a network in."""
    copied: Net = copy.deepcopy(network).requires_grad_(False)
    return copied


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged network towards the current one; buffers are copied."""
    for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
    for buffer, value in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(value)
