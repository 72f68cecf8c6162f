"""What a run tells the world: stats.jsonl, TensorBoard scalars and videos, validation grids, printed lines."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import atomic_file, storage_error
from vidgen._imports import require

#: TensorBoard's default speed of videos.
_TENSORBOARD_FPS = 4


class Journal:
    """Writes the record of a run; a continued run drops what was written after the step it resumes from.

    Args:
        run: the run's folder. step: steps already made; later lines are dropped.
    """

    def __init__(self, run: Path, step: int) -> None:
        require("tensorboard", "log training curves")
        from torch.utils.tensorboard import SummaryWriter

        self.run = run
        self.path, self.scores = run / "stats.jsonl", run / "val" / "scores.jsonl"
        for path in (self.path, self.scores):
            _cut_back(path, step)
        with self._writing():
            self.stream = self.path.open("a", encoding="utf-8")
            # TensorBoard counts iterations from 0, as the reference does: the next one has the number ``step``.
            self.tensorboard = SummaryWriter(str(run / "log"), purge_step=step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.path, error) from error

    def record(
        self, step: int, epoch: int, losses: Mapping[str, float], samples_a_second: float, seconds: float
    ) -> None:
        """One line for a step: its losses, speed, and seconds of training so far."""
        line = {"step": step, "epoch": epoch, **losses, "samples_per_second": round(samples_a_second, 3)}
        with self._writing():
            self.stream.write(json.dumps({**line, "seconds": round(seconds, 3)}) + "\n")
            self.stream.flush()
            for name, value in losses.items():
                self.tensorboard.add_scalar(name, value, step - 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a validation after ``step`` steps: a line of ``val/scores.jsonl``, and TensorBoard."""
        with self._writing():
            self.scores.parent.mkdir(parents=True, exist_ok=True)
            with self.scores.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                # As in ``record``: what belongs to the last step before a resume is kept.
                self.tensorboard.add_scalar(name, value, step - 1)

    def videos(
        self, tag: str, stem: str, videos: NDArray[np.uint8], columns: int, step: int, number: int, fps: float
    ) -> Path:
        """Show videos side by side: ``tag`` in TensorBoard at ``number``, and the file ``val/STEM_STEP.webp``.

        Args:
            videos: [rows * columns, T, H, W, 3]; with T = 1 the file is a still picture.
        """
        from vidgen.runtime.sinks.images import WebpSink

        sheet = tile(videos, columns)
        path = self.run / "val" / f"{stem}_{step:08d}.webp"
        WebpSink().write(path, sheet, fps)
        with self._writing():
            self._tensorboard_video(tag, sheet, number)
        return path

    def _tensorboard_video(self, tag: str, frames: NDArray[np.uint8], step: int) -> None:
        """A video as the animated image that TensorBoard shows; its own writer needs a package for no more."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        images = [Image.fromarray(frame) for frame in frames]
        buffer = io.BytesIO()
        images[0].save(
            buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 // _TENSORBOARD_FPS, loop=0
        )
        height, width = frames.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self.tensorboard._get_file_writer().add_summary(summary, step)

    def note(self, settings: Mapping[str, Any]) -> None:
        """Record the settings of this part of the run as TensorBoard text."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
        self.tensorboard.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)

    def close(self) -> None:
        """Flush and close everything; what can no longer be written is not worth another error."""
        for part in (self.stream, self.tensorboard):
            with contextlib.suppress(OSError):
                part.close()


def _cut_back(path: Path, step: int) -> None:
    """Drop the lines of later steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the half line of a kill
    with atomic_file(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


def tile(videos: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Videos [n, T, H, W, 3] side by side as one video [T, rows H, columns W, 3], row by row."""
    n, t, h, w, c = videos.shape
    rows = n // columns
    return videos.reshape(rows, columns, t, h, w, c).transpose(2, 0, 3, 1, 4, 5).reshape(t, rows * h, columns * w, c)
