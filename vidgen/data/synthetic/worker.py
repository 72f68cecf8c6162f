"""A drawing process: writes every n-th clip to standard output, for the process that fills the store."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import IO

import numpy as np

from vidgen.data.synthetic.render import SyntheticClip, render_clip


@dataclass(frozen=True)
class Share:
    """The clips that one process draws: ``first``, ``first + step``, ... below ``stop``."""

    kind: str
    seed: int
    frames: int
    size: int
    fps: float
    first: int
    step: int
    stop: int

    def to_json(self) -> str:
        """The share as a command-line argument."""
        return json.dumps(asdict(self))

    def draw(self, index: int) -> SyntheticClip:
        """Clip ``index`` of the set that the share belongs to."""
        return render_clip(self.kind, self.seed, index, frames=self.frames, size=self.size, fps=self.fps)


def write_clip(stream: IO[bytes], clip: SyntheticClip) -> None:
    """A line of JSON with label and attributes, then the frames."""
    head = json.dumps({"label": clip.label, "attributes": clip.attributes})
    stream.write(head.encode("ascii") + b"\n")
    stream.write(clip.frames.tobytes())
    stream.flush()


def read_clip(stream: IO[bytes], frames: int, size: int) -> SyntheticClip | None:
    """The next clip, or None if the stream ends before it does."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    content = stream.read(frames * size * size * 3)
    if len(content) < frames * size * size * 3:
        return None
    head = json.loads(line)
    video = np.frombuffer(content, np.uint8).reshape(frames, size, size, 3)
    return SyntheticClip(video, head["label"], head["attributes"])


def main() -> None:
    """Draw the share that the first argument describes."""
    share = Share(**json.loads(sys.argv[1]))
    # Whatever a library prints must not end up between the clips.
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)
        try:
            for index in range(share.first, share.stop, share.step):
                write_clip(stream, share.draw(index))
        except BrokenPipeError:
            # Nobody reads any more: the other process was ended. What is buffered has nowhere to go.
            os._exit(1)


if __name__ == "__main__":
    main()
