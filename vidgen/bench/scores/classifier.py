"""A clip classifier as the scores see it: 8-bit or float clips in, class probabilities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.errors import BackendError, CheckpointError
from vidgen.models.checkpoint import CheckpointInfo, load_into, load_tensors, read_info
from vidgen.models.config import ClassifierConfig

if TYPE_CHECKING:
    from torch import nn

#: Frames and side of the clips that the reference's classifier takes (spec twostreamvan 7).
FRAMES, SIDE = 10, 64
#: uint8, or float32 in about [-1, 1]; [N, FRAMES, SIDE, SIDE, 3].
Clips = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class ClassifierInfo:
    """What a classifier is.

    Attributes:
        n_class: outputs; class = action + n_actions * actor. n_actions: actions among them.
        labels: names of the actions in their order; empty where not known (imported checkpoints).
        sha256: of its checkpoint; "" for a network in memory. path: of its checkpoint.
        data: what it was trained on, as its checkpoint says.
    """

    n_class: int
    n_actions: int
    labels: tuple[str, ...] = ()
    sha256: str = ""
    path: str = ""
    step: int = 0
    data: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}


class Classifier(Protocol):
    """Anything that classifies clips."""

    @property
    def info(self) -> ClassifierInfo:
        """What it is."""

    def probabilities(self, clips: Clips) -> NDArray[np.float64]:
        """The answers for some clips.

        Args:
            clips: uint8 or float32 [N, 10, 64, 64, 3], see :data:`Clips`.

        Returns:
            float64 [N, n_class]; each row sums to 1.
        """


class TorchClassifier:
    """A classifier network in evaluation mode; a context manager where threads were set.

    Args:
        network: float32 [N, 3, 10, 64, 64] in [-1, 1] to logits [N, n_class]; it is put into evaluation mode.
        info: what it is.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads of torch until :meth:`close`; None leaves them.
    """

    def __init__(
        self, network: nn.Module, info: ClassifierInfo, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        import torch

        self._network = network.eval().to(device)
        self._info = info
        self._device = device
        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", threads: int | None = None) -> Self:
        """Load a classifier's checkpoint.

        Raises:
            CheckpointError: missing, truncated, foreign, of another network, or its tensors do not fit.
            BackendError: no such device here.
            MissingDependencyError: torch is not installed.
        """
        info = classifier_info(path)
        torch = require("torch", "classify clips")
        if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
            raise BackendError(
                f"cannot classify on {device}",
                seen=f"device {device!r}, expected cpu" + (" or cuda" if torch.cuda.is_available() else ""),
                cause="this torch has no CUDA device here",
                fix="use device cpu, or see: vidgen doctor",
            )
        from vidgen.models.registry import build_network

        network = build_network(read_info(path).config)
        load_into(network, load_tensors(path), path)
        return cls(network, info, device=device, threads=threads)

    @property
    def info(self) -> ClassifierInfo:
        """What it is."""
        return self._info

    def probabilities(self, clips: Clips) -> NDArray[np.float64]:
        """The answers for some clips; see :class:`Classifier`.

        Raises:
            BackendError: torch failed.
        """
        import torch

        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                given = torch.from_numpy(np.ascontiguousarray(clips)).to(self._device).permute(0, 4, 1, 2, 3)
                if given.dtype == torch.uint8:
                    given = given.float().div(255.0).sub(0.5).div(0.5)
                logits = self._network(given.float().contiguous()).double()
                answers: NDArray[np.float64] = torch.softmax(logits, dim=1).cpu().numpy()
                return answers
        except (RuntimeError, MemoryError) as error:
            raise BackendError(
                f"torch cannot classify {len(clips)} clips",
                seen=str(error).strip().splitlines()[0][:300] if str(error) else type(error).__name__,
                cause="the machine ran out of memory, or the network is none for clips of 10 frames of 64x64",
                fix="use a smaller --batch",
            ) from error

    def close(self) -> None:
        """Give torch its number of threads back."""
        import torch

        torch.set_num_threads(self._threads_before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def classifier_info(path: str | Path) -> ClassifierInfo:
    """What a classifier's checkpoint says of itself, without loading its tensors and without torch.

    Raises:
        CheckpointError: missing, truncated, foreign, of another network, or its labels do not fit its outputs.
    """
    path = Path(path)
    found = read_info(path)
    config = found.config
    if not isinstance(config, ClassifierConfig):
        raise CheckpointError(
            f"cannot classify with {path}",
            seen=f"a {found.model} checkpoint, expected a classifier",
            cause="the checkpoint of another network was given",
            fix="vidgen train classifier --data STORE --out RUN   (or import the official one: vidgen import)",
        )
    labels = _action_labels(path, found, config)
    data = dataclasses.asdict(found.data) if found.data else None
    return ClassifierInfo(config.n_class, config.n_actions, labels, sha256(path), str(path), found.step, data)


def _action_labels(path: Path, found: CheckpointInfo, config: ClassifierConfig) -> tuple[str, ...]:
    labels = found.data.labels if found.data else ()
    if labels and len(labels) != config.n_actions:
        raise CheckpointError(
            f"cannot classify with {path}",
            seen=f"{len(labels)} labels for {config.n_actions} actions ({config.n_class} outputs)",
            cause="the file was edited, or written by another program",
            fix="vidgen train classifier --data STORE --out RUN",
        )
    return labels
