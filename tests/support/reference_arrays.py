"""TwoStreamVAN's arrays, made up, and what becomes of them in a clip store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vidgen.data.prepare import PrepareReport, PrepareSettings, prepare
from vidgen.data.store import ClipStore


def video(length: int, height: int = 12, width: int = 14, number: int = 0) -> np.ndarray:
    """uint8 [length, height, width, 3], every frame and pixel different."""
    return np.random.default_rng(number).integers(0, 256, (length, height, width, 3), dtype=np.uint8)


def save(folder: Path, name: str, frames: np.ndarray, *, time_last: bool = False) -> np.ndarray:
    """Write frames as an array file and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", np.moveaxis(frames, 0, -1) if time_last else frames)
    return frames


def run(source: Path, layout: str, **options: Any) -> tuple[PrepareReport, ClipStore]:
    """Prepare a folder, replacing an earlier store, and check what was made."""
    out = source.parent / f"{source.name}-store"
    report = prepare(PrepareSettings(source, out, layout, **{"overwrite": True, **options}))
    store = ClipStore.open(out)
    store.verify()
    assert report.info == store.info and json.loads(json.dumps(report.to_dict()))["layout"] == layout
    return report, store


def spans(store: ClipStore) -> list[tuple[str, str, int, int]]:
    """(name, split, first frame, length) of every clip."""
    return [
        (str(c.attributes["name"]), str(c.attributes["split"]), int(c.attributes["first_frame"]), c.length)
        for c in store.clips
    ]
