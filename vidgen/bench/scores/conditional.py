"""Videos that go on from a real first frame: the second half of the protocol, through an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.classifier import FRAMES
from vidgen.bench.scores.real_clips import StoreClips
from vidgen.bench.scores.sources import Batch, Opener, engine_facts, enough_frames
from vidgen.bench.scores.video_folder import BY_FIRST_FRAME
from vidgen.runtime.first_frames import as_input
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.sampler import Sampler


class ConditionalSource:
    """Each real clip's first frame, ``passes`` times with other motion (spec twostreamvan 7, protocol 2).

    Video ``pass * clips + clip`` has the motion latent of that index; its label is the clip's. The first frames, and
    they alone, are all held in memory.

    Args:
        open_backend: opens the backend when the first batch is taken; it is closed after the last.
        actions: the classifier's action of each class of the artifact.
        real: where the first frames come from.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        open_backend: Opener,
        *,
        actions: NDArray[np.int64],
        real: StoreClips,
        passes: int,
        seed: int,
    ) -> None:
        self.name = str(path)
        self.clips = passes * len(real)
        self._path, self._manifest, self._open = path, manifest, open_backend
        self._real, self._passes, self._seed = real, passes, seed
        self._class_of_action = np.argsort(actions)
        self._frames = enough_frames(manifest)
        self._ran: dict[str, str] = {}

    def batches(self, size: int) -> Iterator[Batch]:
        """See :class:`vidgen.bench.scores.sources.Source`."""
        frames = np.stack([self._real.clip(position)[0] for position in range(len(self._real))])
        # The number of first frames is the period of labels and frames alike.
        labels = self._class_of_action[self._real.actions].tolist()
        with Sampler(self._open(), batch=min(size, self.clips)) as sampler:
            self._ran = sampler.backend.describe()
            made = sampler.batches(self.clips, self._seed, labels, frames=self._frames, first_frames=as_input(frames))
            for indices, videos in made:
                actions = self._real.actions[indices % len(labels)]
                yield Batch(BY_FIRST_FRAME, indices.tolist(), actions, videos[:, :FRAMES])

    def facts(self) -> dict[str, Any]:
        """See :class:`vidgen.bench.scores.sources.Source`."""
        return {
            **engine_facts(self._path, self._manifest),
            "frames_made": self._frames,
            "first_frames": self._real.facts(),
            "passes": self._passes,
            "backend": self._ran,
        }
