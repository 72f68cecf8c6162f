"""What the tests of scores share: artifacts without weights, and classifiers whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from vidgen._files import sha256
from vidgen.bench.scores.classifier import ClassifierInfo
from vidgen.data.store import StoreWriter
from vidgen.models.config import FramesRule, G3ANConfig, ModelInterface, TensorSpec
from vidgen.runtime.backends.base import Arrays, Backend
from vidgen.runtime.backends.buffers import check_buffers
from vidgen.runtime.manifest import Manifest, write_manifest

LABELS = ("walk", "wave", "jump")
#: Level that stands for class k in painted frames: LEVEL * (k + 1).
LEVEL = 50


def interface(size: int = 64, classes: int = 3, conditional: bool = False, output: str = "uint8") -> ModelInterface:
    """The interface of a TwoStreamVAN (contracts 4), small."""
    content = TensorSpec("z_content", "float32", ("batch", 5), "normal")
    if conditional:
        content = TensorSpec("first_frame", "float32", ("batch", 3, size, size), "image", (-1.0, 1.0))
    video = TensorSpec("video", "uint8", ("batch", "frames", size, size, 3), "video", (0, 255))
    if output == "float32":
        video = TensorSpec("video", "float32", ("batch", 3, "frames", size, size), "video", None)
    return ModelInterface(
        inputs=(
            content,
            TensorSpec("z_motion", "float32", ("batch", "steps", 3), "normal"),
            TensorSpec("label", "int64", ("batch",), "label", (0, classes - 1)),
        ),
        output=video,
        frames=FramesRule("z_motion", 1, "steps", scale=1, offset=1 if conditional else -1, default=10),
    )


def artifact(path: Path, made: ModelInterface | None = None, labels: tuple[str, ...] = LABELS) -> Path:
    """A file that only backends without a device can run, with its manifest."""
    path.write_bytes(b"not a network: " + path.name.encode())
    config = G3ANConfig(c_a=6, c_m=4, ch=2)
    manifest = Manifest("g3an", config, made or interface(), fps=10.0, labels=labels, sha256=sha256(path))
    write_manifest(path, manifest)
    return path


class PaintingBackend(Backend):
    """Videos that begin with the grey level of their class in LABELS, one level more in each frame.

    A first frame must have the level of the class that is asked for.
    """

    name: ClassVar[str] = "painting"

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Self:
        return cls(manifest)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def describe(self) -> dict[str, str]:
        return {"backend": self.name}

    def run(self, inputs: Arrays, output: np.ndarray[Any, Any], extras: Arrays | None = None) -> None:
        check_buffers(self._manifest.interface, inputs, output)
        names = self._manifest.labels or LABELS
        levels = np.array([LEVEL * (LABELS.index(name) + 1) for name in names])
        level = levels[inputs["label"]]
        if "first_frame" in inputs:
            given = np.rint((inputs["first_frame"].mean(axis=(1, 2, 3)) + 1) * 127.5)
            np.testing.assert_array_equal(given, level)
        if output.dtype == np.uint8:
            output[:] = level[:, None, None, None, None] + np.arange(output.shape[1])[:, None, None, None]
        else:
            output[:] = level[:, None, None, None, None] / 127.5 - 1

    def close(self) -> None:
        pass


class SteppingBackend(PaintingBackend):
    """The same, with frames 3 to 6 thirty levels brighter and those from 7 on sixty."""

    name: ClassVar[str] = "steps"

    def run(self, inputs: Arrays, output: np.ndarray[Any, Any], extras: Arrays | None = None) -> None:
        super().run(inputs, output)
        output[:] = output[:, :1]
        output[:, 3:] += 30
        output[:, 7:] += 30


class LevelClassifier:
    """Tells a painted clip's class from its first frame.

    Args:
        actors: actors of the classifier, which it tells in turn, whatever the clip.
        certainty: probability of the class it tells; the others share the rest.
    """

    def __init__(self, actors: int = 1, labels: tuple[str, ...] = LABELS, certainty: float = 1.0) -> None:
        self.info = ClassifierInfo(3 * actors, 3, labels)
        self.certainty = certainty
        self.seen: list[tuple[int, ...]] = []

    def probabilities(self, clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.seen.append(clips.shape)
        levels = clips if clips.dtype == np.uint8 else (clips + 1) * 127.5
        actions = np.rint(levels[:, 0].mean(axis=(1, 2, 3)) / LEVEL).astype(int) - 1
        answers = np.full((len(clips), self.info.n_class), (1 - self.certainty) / (self.info.n_class - 1))
        actors = np.arange(len(clips)) % (self.info.n_class // 3)
        answers[np.arange(len(clips)), actions.clip(0, 2) + 3 * actors] = self.certainty
        return answers


class SoftClassifier:
    """Answers that depend smoothly on every pixel of a clip, and on nothing else."""

    def __init__(self, labels: tuple[str, ...] = LABELS) -> None:
        self.info = ClassifierInfo(3, 3, labels)

    def probabilities(self, clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = clips.astype(np.float64).mean(axis=(2, 3)) / 20
        logits = np.stack([np.sin(values[:, :, c] + np.arange(10)).sum(axis=1) for c in range(3)], axis=1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def painted(label: int, frames: int = 10, size: int = 64) -> np.ndarray[Any, Any]:
    """uint8 [frames, size, size, 3] of a class."""
    return np.full((frames, size, size, 3), LEVEL * (label + 1), np.uint8)


def painted_store(
    path: Path,
    counts: tuple[int, ...] = (4, 4, 4),
    labels: tuple[str, ...] = LABELS,
    *,
    frames: int = 12,
    size: int = 64,
    test_every: int = 2,
) -> Path:
    """A clip store of painted clips; every ``test_every``-th is held out, and the others lie in their colour."""
    with StoreWriter(path, name="paint", height=size, width=size, labels=labels) as writer:
        for label, count in enumerate(counts):
            for number in range(count):
                held_out = number % test_every == 0
                clip = painted(label if held_out else (label + 1) % len(counts), frames, size)
                split = {"split": "test" if held_out else "train", "actor": f"actor{number % 2}"}
                writer.add(clip, source=f"{labels[label]}/{number}", fps=10, label=label, attributes=split)
    return path
