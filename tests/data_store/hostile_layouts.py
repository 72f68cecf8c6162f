"""Layouts whose readers misbehave as a damaged or hostile file can make a decoder do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from vidgen.data.layouts import Frame, Listing, Reading, ReadOptions, SourceClip


class Mixed:
    """Every file is a clip; its name says how reading it goes, and its label and range are the layout's."""

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        clips = [SourceClip(file.stem, root / file, label="odd", first=2, attributes={"actor": "x"}) for file in files]
        return Listing(tuple(clips), labels=("even", "odd"))

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        print("a library that prints to stdout")
        return Reading(self.frames(clip), rates=(10.0,))

    def frames(self, clip: SourceClip) -> Iterator[Frame]:
        for number in range(22):
            if number == 7:
                self.misbehave(clip.name)
            yield Frame(np.full((8, 8, 3), number, np.uint8))

    def misbehave(self, name: str) -> None:
        if name == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif name == "aborts":
            os.abort()
        elif name == "exits":
            os._exit(3)
        elif name == "hangs":
            time.sleep(1000)
        elif name == "bloats":
            hoard = []
            while True:
                hoard.append(bytearray(1 << 26))
        elif name == "raises":
            raise ZeroDivisionError("in a decoder")
        elif name == "spins":
            while True:
                pass


class Slow(Mixed):
    """Frames come one by one, for ever, until the process is told to end."""

    def frames(self, clip: SourceClip) -> Iterator[Frame]:
        Path(clip.path.parent / f"pid-{os.getpid()}").touch()
        while True:
            time.sleep(0.05)
            yield Frame(np.zeros((8, 8, 3), np.uint8))
