"""Sizes of a ResNeXt in 3-D from the shapes of its tensors (spec g3an 8.1)."""

from __future__ import annotations

from itertools import count
from typing import Literal

from vidgen.errors import SettingsError
from vidgen.models.config import ResNeXt3DConfig
from vidgen.models.official_reader import ShapeReader, Shapes


def infer_resnext3d_config(shapes: Shapes, *, source: str = "the checkpoint") -> ResNeXt3DConfig:
    """The sizes of a ResNeXt-3D network. Those of its training clips leave no trace and come out as 112 and 16.

    Raises:
        CheckpointError: the tensors are not those of a ResNeXt-3D network.
    """
    reader = ShapeReader(shapes, "a ResNeXt-3D network", source, "resnext-101-kinetics.pth")
    reader.expect("conv1.weight", (64, 3, 7, 7, 7))
    middle, in_group, *_ = reader.shape("layer1.0.conv2.weight", 5)
    if middle % in_group or middle % 4:
        raise reader.refusal(f"layer1.0.conv2.weight is {[middle, in_group]}, expected [4 cardinality, 4, 3, 3, 3]")
    # The file must hold tensors of these sizes: its bytes, not its claims, bound what is built from them.
    cardinality = middle // in_group
    reader.expect("layer1.0.conv2.weight", (4 * cardinality, 4, 3, 3, 3))
    reader.expect("layer4.0.conv2.weight", (32 * cardinality, 32, 3, 3, 3))
    shortcut: Literal["A", "B"] = "B" if reader.has("layer1.0.downsample.") else "A"
    n_class, _ = reader.shape("fc.weight", 2)
    layers = tuple(_blocks(reader, layer) for layer in (1, 2, 3, 4))
    try:
        return ResNeXt3DConfig(layers, cardinality, shortcut, n_class)
    except SettingsError as error:
        raise reader.refusal(error.seen) from error


def _blocks(reader: ShapeReader, layer: int) -> int:
    return next(number for number in count() if not reader.has(f"layer{layer}.{number}."))
