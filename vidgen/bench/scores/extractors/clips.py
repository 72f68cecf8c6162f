"""Extractors of whole clips and of single frames: what happens to clips before the network sees them, and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.extractors.base import Description, Extractor
from vidgen.bench.scores.extractors.network import Network, Outputs
from vidgen.bench.scores.extractors.resize import resize_bilinear
from vidgen.bench.scores.temporal_consistency import frame_changes
from vidgen.errors import ScoreError

#: The output of a network that is no space of features.
LOGITS = "logits"


def middle_frames(clips: NDArray[np.uint8], frames: int | None, name: str, *, least: int = 1) -> NDArray[np.uint8]:
    """Clips of the number of frames that an extractor looks at: from ``T // 2 - frames // 2`` on (spec g3an 8.2).

    Args:
        clips: uint8 [k, T, H, W, 3]. frames: None keeps all. name: of the extractor. least: frames that it needs.

    Raises:
        ScoreError: not such clips, or too short ones.
    """
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3 or not all(clips.shape[1:]):
        raise ScoreError(
            f"cannot describe clips with {name}",
            seen=f"{clips.dtype} {list(clips.shape)}, expected uint8 [clips, frames, height, width, 3]",
            cause="the clips are in another layout, or not quantised",
            fix="pass whole clips of 8-bit RGB frames",
        )
    count = clips.shape[1]
    if count < max(least, frames or 1):
        raise ScoreError(
            f"cannot describe clips of {count} frames with {name}",
            seen=f"{count} frames, expected at least {max(least, frames or 1)}",
            cause="the clips are shorter than what the network looks at",
            fix="sample longer videos (--frames), or use another --extractor",
        )
    if frames is None:
        return clips
    start = count // 2 - frames // 2
    return clips[:, start : start + frames]


class ClipExtractor(Extractor):
    """A network of clips: its outputs are the feature spaces, but ``logits``.

    Args:
        network: uint8 [n, frames, height, width, 3] to its outputs.
        facts: the attributes of :class:`Extractor`.
        said: what :meth:`settings` says.
    """

    def __init__(
        self, network: Network, facts: Mapping[str, Any], said: Mapping[str, object], *, classes: bool
    ) -> None:
        self._network = network
        self._said = dict(said)
        self._classes = classes
        for name, value in facts.items():
            setattr(self, name, value)

    def features(self, clips: NDArray[np.uint8]) -> Outputs:
        """Describe clips; see :class:`Extractor`."""
        found = self._run(clips)
        return {space: found[space] for space in self.spaces}

    @property
    def has_logits(self) -> bool:
        """Whether the network has classes."""
        return self._classes

    def logits(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores before the softmax; see :class:`Extractor`."""
        return self.features_and_logits(clips)[1]

    def features_and_logits(self, clips: NDArray[np.uint8]) -> tuple[Outputs, NDArray[np.float32]]:
        """Both, in one pass."""
        if not self._classes:
            raise NotImplementedError(f"{self.name} has no classes")
        found = self._run(clips)
        return {space: found[space] for space in self.spaces}, found[LOGITS]

    def _run(self, clips: NDArray[np.uint8]) -> Outputs:
        chosen = middle_frames(clips, self.frames, self.name)
        return self._network.run(chosen if self.size is None else resize_bilinear(chosen, self.size))

    def settings(self) -> dict[str, object]:
        """What the features depend on besides the weights."""
        return {"size": list(self.size) if self.size else None, **self._said}

    def close(self) -> None:
        """Give back what it runs on. Closing twice is allowed."""
        self._network.close()


class FrameExtractor(Extractor):
    """A network of single frames, which describes a clip twice.

    ``appearance`` is the mean of its frames' features. ``motion`` is the mean size of the change from each frame to the
    next: it depends on their order, and is zero where nothing moves.

    Args:
        network: uint8 [n, height, width, 3] to ``features``.
        facts, said: as of :class:`ClipExtractor`.
    """

    spaces = ("appearance", "motion")
    frame_spaces = ("appearance",)
    frames = None

    def __init__(self, network: Network, facts: Mapping[str, Any], said: Mapping[str, object]) -> None:
        self._network = network
        self._said = dict(said)
        for name, value in facts.items():
            setattr(self, name, value)

    def features(self, clips: NDArray[np.uint8]) -> Outputs:
        """Describe clips; see :class:`Extractor`."""
        return dict(self.describe(clips).features)

    def describe(self, clips: NDArray[np.uint8], *, logits: bool = False) -> Description:
        """Features, and how far apart the frames of each clip are, in one pass; see :class:`Extractor`."""
        if logits:
            raise NotImplementedError(f"{self.name} has no classes")
        chosen = middle_frames(clips, self.frames, self.name, least=2)
        count, frames = chosen.shape[:2]
        single = chosen.reshape(-1, *chosen.shape[2:])
        sized = single if self.size is None else resize_bilinear(single, self.size)
        (found,) = self._network.run(sized).values()
        over_time = found.reshape(count, frames, found.shape[-1]).astype(np.float64)
        # Clip by clip: how a sum is taken may depend on the shape of what is summed.
        appearance = [clip.mean(axis=0) for clip in over_time]
        motion = [np.abs(np.diff(clip, axis=0)).mean(axis=0) for clip in over_time]
        # In float64: of frames that are nearly equal, float32 would leave rounding.
        changes = [frame_changes(clip) for clip in over_time]
        empty = np.empty((0, found.shape[-1]))
        features = {
            "appearance": np.array(appearance or empty, dtype=np.float32),
            "motion": np.array(motion or empty, dtype=np.float32),
        }
        return Description(features, changes={"appearance": np.array(changes or np.empty((0, 3)))})

    def settings(self) -> dict[str, object]:
        """What the features depend on besides the weights."""
        return {"size": list(self.size) if self.size else None, **self._said}

    def close(self) -> None:
        """Give back what it runs on. Closing twice is allowed."""
        self._network.close()
