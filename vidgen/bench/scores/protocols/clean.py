"""The protocol `clean`: frames as they were made, 8-bit, straight from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.protocols.base import Clip, ClipProtocol, middle_frames, together


@dataclass(frozen=True)
class CleanProtocol(ClipProtocol):
    """Nothing but the frames: the true range rounded to 8 bits, no codec, no resize but the extractor's own.

    Every video is scored as itself, so a score does not depend on batches or shards. Videos in files are taken as
    they decode; the protocol cannot undo what wrote them, and the score of a folder says which formats it held.
    """

    name: ClassVar[str] = "clean"

    def prepare(self, clips: Sequence[Clip], *, from_files: bool) -> NDArray[np.uint8]:
        """See :meth:`ClipProtocol.prepare`."""
        return together(middle_frames(clips, self.frames))
