"""The overview images of a job: the sheet of a grid, or one video at all lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen.models.config import TensorSpec
from vidgen.runtime.plan import PlannedVideo
from vidgen.runtime.settings import SampleSettings
from vidgen.runtime.sinks.sheet import Captions, Sheet, SheetLayout, write_lengths

GRID_FILES = ("grid.png", "grid.webp")
LENGTHS_FILES = ("lengths.png",)


class Overview:
    """Collects the videos that the overview shows and writes it at the end.

    A shard draws none, as it does not make all cells; nor does a job whose overview is there already.

    Args:
        output: the video's. frames: of each video in a grid.
        classes: names of the classes of a grid's rows, or of its columns where these are motions; none if the model
            has none.

    Raises:
        SettingsError: a grid too large to draw.
    """

    def __init__(
        self, settings: SampleSettings, output: TensorSpec, frames: int, classes: tuple[str, ...] = ()
    ) -> None:
        self._settings = settings
        appearance = "first frame" if settings.first_frame else "appearance"
        self._captions = Captions(classes or "motion", appearance)
        if settings.by_class:
            self._captions = Captions("first frame" if settings.first_frame else "sample", classes)
        self._sheet: Sheet | None = None
        self._layout: SheetLayout | None = None
        self._videos: dict[int, NDArray[np.uint8]] = {}
        self.names: tuple[str, ...] = ()
        if not settings.sheet:
            return
        if settings.grid_size:
            height, width = _frame_size(output)
            self._layout = SheetLayout(*settings.grid_size, frames, height, width)
            self.names = GRID_FILES
        elif settings.several_lengths:
            self.names = LENGTHS_FILES

    @property
    def wanted(self) -> bool:
        """Whether this job must draw it now."""
        return self._settings.shard is None and not all(path.exists() for path in self.paths)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, existing or not."""
        return tuple(self._settings.out / name for name in self.names)

    def shows(self, video: PlannedVideo) -> bool:
        """Whether a video is needed to draw it."""
        return bool(self.names) and (self._layout is not None or video.index == 0)

    def put(self, video: PlannedVideo, frames: NDArray[np.uint8]) -> None:
        """Take a video; others than shown are ignored."""
        if not self.shows(video):
            return
        if self._layout is None:
            self._videos[video.frames] = frames.copy()
            return
        self._sheet = self._sheet or Sheet(self._layout, self._captions)
        assert video.cell is not None
        self._sheet.put(*video.cell, frames)

    def write(self, fps: float) -> None:
        """Write the files, atomically each.

        Raises:
            StorageError: a file cannot be written.
        """
        if self._sheet is not None:
            png, webp = self.paths
            self._sheet.write(png, webp, fps, self._settings.quality)
        elif self._videos:
            write_lengths(self.paths[0], [self._videos[frames] for frames in sorted(self._videos)])


def _frame_size(output: TensorSpec) -> tuple[int, int]:
    sizes = output.shape[2:4] if output.dtype == "uint8" else output.shape[3:5]
    height, width = (int(size) for size in sizes)
    return height, width
