"""Tells which network a state dict belongs to, and its sizes, from tensor names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vidgen.errors import CheckpointError, SettingsError
from vidgen.models.config import CONFIGS, G3ANConfig, G3ANDiscriminatorConfig, ModelConfig
from vidgen.models.safe_pickle import shown

Shapes = Mapping[str, tuple[int, ...]]
#: Kernel axes of the first video convolution -> how the video path is factorised (spec g3an 5).
_MODES: dict[tuple[int, ...], Literal["1p2d", "2p1d", "3d"]] = {
    (4, 4, 4): "3d",
    (4, 1, 1): "1p2d",
    (1, 4, 4): "2p1d",
}


def infer_config(shapes: Shapes, *, source: str = "the checkpoint") -> ModelConfig:
    """The configuration of the network that has these tensors.

    Args:
        shapes: state-dict keys of the reference program without ``module.``, and their sizes.
        source: what error messages call the file.

    Raises:
        CheckpointError: it is no known network.
    """
    if any(name.startswith("net.") for name in shapes):
        return infer_g3an_discriminator_config(shapes, source=source)
    return infer_g3an_config(shapes, source=source)


def infer_g3an_config(shapes: Shapes, *, source: str = "the checkpoint") -> G3ANConfig:
    """The sizes of a G3AN generator (spec g3an 5). The merge of attention is always the reference's (1.4).

    Raises:
        CheckpointError: the tensors are not those of a G3AN generator.
    """
    reader = _Reader(shapes, "a G3AN generator", source)
    c_a, wide, *spatial = reader.weight("block1.conv_s.0")
    c_m, wide_t, *temporal = reader.weight("block1.conv_t.0")
    in_video, wide_v, *kernel = reader.weight("block1.conv_v.0")
    if wide % 8 or {wide_t, wide_v} != {wide} or in_video != c_a + c_m:
        raise reader.refusal(
            f"block1 maps {c_a}, {in_video} and {c_m} channels to {wide}, {wide_v} and {wide_t}, expected c_a, "
            "c_a + c_m and c_m channels to 8 ch each"
        )
    if spatial != [1, 4, 4] or temporal != [4, 1, 1] or tuple(kernel) not in _MODES:
        raise reader.refusal(f"block1 has kernels {spatial}, {kernel} and {temporal}, expected some of 1 and 4")
    # The file must hold a second layer of this width: its bytes, not its claims, bound what is built from it.
    reader.expect("block2.conv_s.0", (wide, wide, 1, 4, 4))
    attention = any(name.startswith("fsa.") for name in shapes)
    try:
        return G3ANConfig(c_a, c_m, wide // 8, mode=_MODES[tuple(kernel)], use_attention=attention)
    except SettingsError as error:
        raise reader.refusal(error.seen) from error


def infer_g3an_discriminator_config(shapes: Shapes, *, source: str = "the checkpoint") -> G3ANDiscriminatorConfig:
    """The kind and width of a G3AN discriminator (spec g3an 2).

    Raises:
        CheckpointError: the tensors are not those of a G3AN discriminator.
    """
    reader = _Reader(shapes, "a G3AN discriminator", source)
    first = reader.weight("net.0", None)
    ch = first[0]
    if first == (ch, 3, 1, 4, 4):
        reader.expect("net.12", (8 * ch, 4 * ch, 1, 4, 4))
        return G3ANDiscriminatorConfig("video", ch)
    if first == (ch, 3, 4, 4):
        reader.expect("net.6", (8 * ch, 4 * ch, 4, 4))
        return G3ANDiscriminatorConfig("image", ch)
    raise reader.refusal(f"net.0.weight_orig is {list(first)}, expected [ch, 3, 1, 4, 4] or [ch, 3, 4, 4]")


class _Reader:
    """Looks up weights among the shapes and words the refusals."""

    def __init__(self, shapes: Shapes, network: str, source: str) -> None:
        self._shapes = shapes
        self._network = network
        self._source = source

    def weight(self, layer: str, axes: int | None = 5) -> tuple[int, ...]:
        """The shape of a layer's spectral-norm weight, at least one in every axis."""
        name = f"{layer}.weight_orig"
        shape = self._shapes.get(name)
        if shape is None:
            if f"{layer}.weight" in self._shapes:
                raise self.refusal(f"{layer}.weight without spectral norm, expected {name}, weight_u and weight_v")
            names = ", ".join(shown(found) for found in list(self._shapes)[:3])
            raise self.refusal(f"no tensor {name} among {len(self._shapes)} ({names}, ...)")
        if (axes is not None and len(shape) != axes) or not shape or min(shape) < 1:
            raise self.refusal(f"{name} is {list(shape)}, expected {axes or 'some'} axes of at least 1")
        return shape

    def expect(self, layer: str, shape: tuple[int, ...]) -> None:
        found = self.weight(layer, None)
        if found != shape:
            raise self.refusal(f"{layer}.weight_orig is {list(found)}, expected {list(shape)}")

    def refusal(self, seen: str) -> CheckpointError:
        return CheckpointError(
            f"{self._source} does not hold {self._network}",
            seen=seen,
            cause="it is a checkpoint of another network or program",
            fix="vidgen import G_4900.pth OUT.safetensors   (give the file that the training program saved)",
        )


def model_name(config: ModelConfig) -> str:
    """The name a checkpoint stores for this kind of configuration."""
    return next(name for name, kind in CONFIGS.items() if isinstance(config, kind))


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every state-dict key of a network, in its order, with its size; allocates no weights. Needs torch."""
    import torch

    from vidgen.models.registry import build_network

    with torch.device("meta"):
        network = build_network(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
