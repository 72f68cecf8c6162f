"""Which files a video becomes: itself and, where they are asked for, its masks and its frames as strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.runtime.plan import PlannedVideo
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks import PngSink, Sink
from vidgen.runtime.sinks.masks import mask_frames

#: Sub-folders of the strips, so that a folder of videos holds videos.
MASKS, STRIPS = "masks", "strips"


@dataclass(frozen=True)
class OutputFiles:
    """The files of the videos of a job.

    A video is made when all of its files are there; each of them appears whole or not at all.
    """

    settings: SampleSettings
    sink: Sink

    def video(self, video: PlannedVideo) -> Path:
        """The video itself."""
        return self.settings.out / f"{video.name}.{self.sink.extension}"

    def masks(self, video: PlannedVideo) -> Path | None:
        """Its masks; None if they are not asked for."""
        return self.settings.out / MASKS / f"{video.name}.png" if self.settings.masks else None

    def strip(self, video: PlannedVideo) -> Path | None:
        """Its frames side by side; None if they are not asked for."""
        return self.settings.out / STRIPS / f"{video.name}.png" if self.settings.strips else None

    def of(self, video: PlannedVideo) -> list[Path]:
        """All of them."""
        paths = (self.video(video), self.masks(video), self.strip(video))
        return [path for path in paths if path is not None]

    def names(self, video: PlannedVideo) -> list[str]:
        """Their names in the output folder."""
        return [path.relative_to(self.settings.out).as_posix() for path in self.of(video)]

    def content(
        self, video: PlannedVideo, frames: NDArray[np.uint8], masks: Mapping[str, NDArray[Any]]
    ) -> Iterator[tuple[Path, NDArray[np.uint8], Sink]]:
        """What to write: each file, its frames, and how.

        Args:
            frames: uint8 [F, height, width, 3]. masks: by name, [F, R, R] in [0, 1].
        """
        yield self.video(video), frames, self.sink
        if masks_path := self.masks(video):
            yield masks_path, mask_frames(masks), PngSink()
        if strip := self.strip(video):
            yield strip, frames, PngSink()
