"""What every extractor of features does: whole clips of 8 bits in, a row of features a clip out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Description:
    """What one pass over some clips found.

    Attributes:
        features: for each space, float32 [k, d].
        logits: class scores before the softmax, float32 [k, classes]; None where nobody asked.
        changes: for each of :attr:`Extractor.frame_spaces`, float64 [k, 3]: how far apart a clip's frames are, as
            :func:`~vidgen.bench.scores.temporal_consistency.frame_changes` says.
    """

    features: Mapping[str, NDArray[np.float32]]
    logits: NDArray[np.float32] | None = None
    changes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Extractor(ABC):
    """A network that describes clips by features, the same however the clips are grouped.

    An extractor owns what it runs on and is a context manager: leaving closes it. It belongs to one thread at a time.

    Attributes:
        name: as in the registry, or of the file it was opened from; goes into the protocol of statistics.
        spaces: names of the feature spaces, e.g. ``("features",)`` or ``("appearance", "motion")``.
        frame_spaces: those whose features are the mean of features of a clip's single frames; none of a network that
            sees whole clips.
        frames: frames it looks at; a longer clip gives its middle ones, a shorter one is refused. None: any number.
        size: height and width it works at; clips of another size are resized inside. None: any size.
        weight_sha256: hex SHA-256 of the weights, or of the file that holds them.
        licence: of the weights.
        backend: name and version of what computes, and where; told in statistics, without making a difference there.
    """

    name: str
    spaces: tuple[str, ...]
    frame_spaces: tuple[str, ...] = ()
    frames: int | None
    size: tuple[int, int] | None
    weight_sha256: str
    licence: str
    backend: str = ""

    @abstractmethod
    def features(self, clips: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Describe clips.

        Args:
            clips: uint8 [k, T, H, W, 3], RGB.

        Returns:
            For each of :attr:`spaces`, float32 [k, d].

        Raises:
            ScoreError: clips of a size or length it cannot take.
        """

    @property
    def has_logits(self) -> bool:
        """Whether :meth:`logits` can be asked for."""
        return False

    def logits(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores before the softmax, float32 [k, classes].

        Raises:
            NotImplementedError: the network has no classes (:attr:`has_logits` is false).
        """
        raise NotImplementedError(f"{self.name} has no classes")

    def features_and_logits(
        self, clips: NDArray[np.uint8]
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
        """Both of the same clips; networks that find them in one pass override this."""
        return self.features(clips), self.logits(clips)

    def describe(self, clips: NDArray[np.uint8], *, logits: bool = False) -> Description:
        """Everything that one pass over the network finds; what scores call.

        Args:
            clips: as of :meth:`features`. logits: also the class scores.
        """
        return Description(*self.features_and_logits(clips)) if logits else Description(self.features(clips))

    def settings(self) -> dict[str, object]:
        """Whatever else its features depend on (resize, batch, dtype), as JSON; part of the protocol of statistics."""
        return {}

    def close(self) -> None:
        """Give back what it runs on. Closing twice is allowed."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
