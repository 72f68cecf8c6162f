"""Jobs of a pretended model with three classes, with masks or going on from first frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from PIL import Image

from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.first_frames import as_input
from vidgen.runtime.jobs import SampleReport, sample
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.settings import SampleSettings

CONFIG = TwoStreamVANConfig(n_cat=3, gf_dim=2, cont_dim=4, motion_dim=3)
LABELS = ("walk", "wave", "jump")
SMALL = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def backend_of(*, masks: bool = False, conditional: bool = False, delay: float = 0.0) -> FakeBackend:
    """A backend that pretends; ``delay`` in seconds a batch."""
    interface = CONFIG.interface(masks=masks, conditional=conditional)
    return FakeBackend(Manifest("twostreamvan", CONFIG, interface, fps=10.0, labels=LABELS), delay=delay)


def run(out: Path, backend: FakeBackend | None = None, **options: Any) -> SampleReport:
    """Sample into a folder: 3 frames a video as .npy unless told otherwise."""
    chosen = SampleSettings(Path("fake.onnx"), out, **{"format": "npy", "frames": "3", **options})
    if backend is None:
        backend = backend_of(masks=chosen.masks, conditional=chosen.first_frame is not None)
    return sample(chosen, backend=backend)


def record_of(folder: Path) -> dict[str, Any]:
    """What a job wrote down about itself."""
    record: dict[str, Any] = json.loads((folder / "samples.json").read_text())
    return record


def content_of(folder: Path) -> dict[str, bytes]:
    """What a job made, by name: videos, masks and strips."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("samples")
    }


def as_given(folder: Path) -> np.ndarray:
    """The images of a folder as a model takes them."""
    return as_input(np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]))
