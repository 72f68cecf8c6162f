"""The project's own classifier of actions as an extractor: what its last layer sees, averaged over the clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidgen._imports import require
from vidgen.bench.scores.classifier import FRAMES, SIDE, classifier_info
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.clips import LOGITS, ClipExtractor
from vidgen.bench.scores.extractors.network import PRECISION, Artifact, Graph, cached_graph, open_network, write_graph
from vidgen.errors import SettingsError
from vidgen.models.checkpoint import load_into, load_tensors, read_info
from vidgen.models.config import ClassifierConfig

if TYPE_CHECKING:
    from torch import nn

NAME = "classifier"
BATCH = 8


def opens(weights: Path | None, *, threads: int | None, device: str, backend: str | None = None) -> Extractor:
    """Open it.

    Args:
        weights: a checkpoint of `vidgen train classifier`, or an imported one.

    Raises:
        SettingsError: no weights were given.
        CheckpointError: they are missing, or of another network.
    """
    made = graph(weights)
    network = open_network(made, threads=threads, device=device, backend=backend)
    facts = {
        "name": NAME,
        "backend": network.description,
        "spaces": ("features",),
        "frames": FRAMES,
        "size": (SIDE, SIDE),
        "weight_sha256": made.manifest.checkpoint_sha256,
        "licence": "of the weights: that of the data it was trained on",
    }
    said = {"range": [-1.0, 1.0], "resize": "PIL bilinear", "batch": BATCH, **PRECISION}
    return ClipExtractor(network, facts, said, classes=True)


def graph(weights: Path | None) -> Artifact:
    """The network of a checkpoint, in the user's cache; raises as opening does."""
    if weights is None:
        raise SettingsError(
            f"no weights for the extractor {NAME}",
            seen="--weights was left out, expected the checkpoint of a classifier",
            cause="this extractor is trained on your own data",
            fix="vidgen train classifier --data STORE --out RUN, then --weights RUN/classifier.safetensors",
        )
    info = classifier_info(weights)
    config = read_info(weights).config
    assert isinstance(config, ClassifierConfig)
    return cached_graph(NAME, info.sha256, lambda: _write(weights, config), batch=BATCH)


def _write(weights: Path, config: ClassifierConfig) -> Graph:
    require("torch", "prepare the classifier for its first use")
    from vidgen.models.classifier import Classifier

    network = Classifier(config)
    load_into(network, load_tensors(weights), weights)
    outputs = {"features": 8 * config.ndf, LOGITS: config.n_class}
    return write_graph(_prepared(network), ("batch", FRAMES, SIDE, SIDE, 3), outputs, NAME)


def _prepared(network: nn.Module) -> nn.Module:
    import torch

    class Prepared(torch.nn.Module):
        """8-bit clips to the mean of the last hidden layer over time and place, and to logits."""

        def __init__(self) -> None:
            super().__init__()
            layers = network.get_submodule("main")
            assert isinstance(layers, torch.nn.Sequential)
            self.hidden, self.last = layers[:-1], layers[-1]

        def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pixels = (clips.to(torch.float32) / 255.0 - 0.5) / 0.5
            hidden = self.hidden(pixels.permute(0, 4, 1, 2, 3))
            return hidden.mean((2, 3, 4)), self.last(hidden).flatten(1)

    return Prepared()
