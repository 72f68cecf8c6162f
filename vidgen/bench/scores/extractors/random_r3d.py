"""A 3-D network with fixed random weights: a smoke test of all that is around an extractor, no measure of quality."""

from __future__ import annotations

import functools
import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.clips import ClipExtractor
from vidgen.bench.scores.extractors.network import PRECISION, Artifact, Graph, cached_graph, open_network, write_graph

if TYPE_CHECKING:
    from torch import nn

NAME = "random-r3d"
SEED = 20200614
SIZE = 64
WIDTHS = (16, 32, 64, 128)
BATCH = 8


def opens(*, size: int = SIZE, threads: int | None, device: str, backend: str | None = None) -> Extractor:
    """Open it; ``size`` is the height and width it works at. Needs no weights."""
    network = open_network(graph(size), threads=threads, device=device, backend=backend)
    facts = {
        "name": NAME,
        "backend": network.description,
        "spaces": ("features",),
        "frames": None,
        "size": (size, size),
        "weight_sha256": weight_hash(),
        "licence": "none needed: random numbers",
    }
    said = {"note": "smoke test: random weights", "resize": "PIL bilinear", "batch": BATCH, **PRECISION}
    return ClipExtractor(network, facts, said, classes=False)


def graph(size: int = SIZE) -> Artifact:
    """The network for clips of this height and width, in the user's cache."""
    return cached_graph(NAME, weight_hash(), lambda: _write(size), batch=BATCH, size=size)


def weight_hash() -> str:
    """Hex SHA-256 of the weights."""
    return hashlib.sha256(b"".join(weight.tobytes() for weight in random_weights().values())).hexdigest()


def _shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every convolution: a stem, and per stage two convolutions beside a shortcut."""
    shapes: dict[str, tuple[int, ...]] = {"stem": (WIDTHS[0], 3, 3, 7, 7)}
    before = WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        shapes[f"stages.{stage}.first"] = (width, before, 3, 3, 3)
        shapes[f"stages.{stage}.second"] = (width, width, 3, 3, 3)
        shapes[f"stages.{stage}.shortcut"] = (width, before, 1, 1, 1)
        before = width
    return shapes


@functools.cache
def random_weights() -> dict[str, NDArray[np.float32]]:
    """The weights: uniform, of variance 2 / fan-in, from the raw bits of PCG64.

    Of NumPy's generators only the raw stream is the same for ever; its distributions may change between versions.
    """
    stream = np.random.PCG64(SEED)
    weights = {}
    for name, shape in _shapes().items():
        raw = stream.random_raw(math.prod(shape)) >> np.uint64(40)
        unit = raw.astype(np.float64) * 2.0**-23 - 1.0
        weights[name] = (unit * math.sqrt(6.0 / math.prod(shape[1:]))).astype(np.float32).reshape(shape)
    return weights


def _write(size: int) -> Graph:
    require("torch", f"prepare {NAME} for its first use")
    return write_graph(_network(), ("batch", "frames", size, size, 3), {"features": WIDTHS[-1]}, NAME)


def _network() -> nn.Module:
    import torch
    from torch import Tensor, nn

    class Stage(nn.Module):
        """Two convolutions beside a shortcut; the first stage keeps the size, the others halve it."""

        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv3d(before, width, 3, stride, 1, bias=False)
            self.second = nn.Conv3d(width, width, 3, 1, 1, bias=False)
            self.shortcut = nn.Conv3d(before, width, 1, stride, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))

    class Network(nn.Module):
        """8-bit clips to features."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv3d(3, WIDTHS[0], (3, 7, 7), (2, 4, 4), (1, 3, 3), bias=False)
            widths = zip((WIDTHS[0], *WIDTHS), WIDTHS)
            stages = [Stage(before, width, 2 if number else 1) for number, (before, width) in enumerate(widths)]
            self.stages = nn.Sequential(*stages)

        def forward(self, clips: Tensor) -> Tensor:
            pixels = (clips.to(torch.float32) - 127.5) / 127.5
            features: Tensor = self.stages(torch.relu(self.stem(pixels.permute(0, 4, 1, 2, 3)))).mean((2, 3, 4))
            return features

    network = Network()
    weights = {f"{name}.weight": torch.from_numpy(value.copy()) for name, value in random_weights().items()}
    network.load_state_dict(weights)
    return network
