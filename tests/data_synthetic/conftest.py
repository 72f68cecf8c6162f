"""Clips that several tests look at, drawn once."""

from __future__ import annotations

import pytest

from vidgen.data.synthetic import DRAWN_KINDS, SyntheticClip, labels, render_clip


@pytest.fixture(scope="session")
def clips_of() -> dict[str, list[SyntheticClip]]:
    """By kind, 60 clips of 32 frames at 32x32: six of each label."""
    counts = {kind: 6 * len(labels(kind)) for kind in DRAWN_KINDS}
    return {kind: [render_clip(kind, 21, i, size=32) for i in range(count)] for kind, count in counts.items()}
