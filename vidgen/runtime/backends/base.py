"""The interface that runs an artifact; every backend, the sampler, scores and bench meet here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vidgen.runtime.manifest import Manifest

Arrays = Mapping[str, NDArray[Any]]


class Batch(NamedTuple):
    """The arguments of one :meth:`Backend.run`."""

    inputs: Arrays
    output: NDArray[Any]
    extras: Arrays | None = None


class Backend(ABC):
    """A loaded artifact, ready to turn latents into frames.

    A backend belongs to one thread at a time. It is a context manager: leaving closes it.
    """

    #: The name users type, e.g. ``"onnxruntime"``.
    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        """Load an artifact.

        Args:
            threads: CPU threads to use; None leaves the library's choice.
            device: ``"cpu"``, ``"cuda"``, or what else a backend names; a device that is not there is an error, never
                a silent fall-back.

        Raises:
            MissingDependencyError: the library is not installed.
            BackendError: the library cannot load the file, or has no such device here.
        """

    @property
    @abstractmethod
    def manifest(self) -> Manifest:
        """What the artifact is: inputs, output, frame rule, fps, labels."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Library, version, device, threads: what a report needs to make a timing mean something."""

    @abstractmethod
    def run(self, inputs: Arrays, output: NDArray[Any], extras: Arrays | None = None) -> None:
        """Run one batch into buffers the caller owns.

        Args:
            inputs: one C-contiguous array for each input of the manifest.
            output: C-contiguous, of the manifest's output dtype and the full output shape; overwritten.
            extras: like ``output``, for those of the manifest's extra outputs (masks) that are wanted, by name.

        Raises:
            BackendError: the library failed, with its own message.
        """

    def run_many(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Run batches one after the other; the frames are those of :meth:`run`.

        A device takes the next batch while the caller works with the last: batches are asked for ahead, by as many as
        the backend likes, and given back in order. Leaving early is allowed.

        Yields:
            Each batch, once its output and extras are filled. Its buffers are the caller's again.

        Raises:
            BackendError: as :meth:`run`, in place of the first batch that failed.
        """
        for batch in batches:
            if batch.extras:
                self.run(batch.inputs, batch.output, batch.extras)
            else:
                self.run(batch.inputs, batch.output)
            yield batch

    def device_milliseconds(self) -> float | None:
        """Time that the device computed for the last finished batch, copies left out; None where nobody measures it."""
        return None

    def warm_up(self, batch: int, length: int) -> None:
        """Run once on zeros with this batch and this length of the motion latent."""
        interface = self.manifest.interface
        sizes = {
            "batch": batch,
            interface.frames.dimension: length,
            "frames": interface.frames.frames(length),
        }
        inputs = {spec.name: np.zeros(spec.resolve(**sizes), dtype=spec.dtype) for spec in interface.inputs}
        self.run(inputs, np.empty(interface.output.resolve(**sizes), dtype=interface.output.dtype))

    @abstractmethod
    def close(self) -> None:
        """Release the library's resources; the backend cannot be used afterwards. Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
