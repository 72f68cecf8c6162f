"""Sizes of G3AN's networks from the shapes of their tensors (spec g3an 2 and 5)."""

from __future__ import annotations

from typing import Literal

from vidgen.errors import SettingsError
from vidgen.models.config import G3ANConfig, G3ANDiscriminatorConfig
from vidgen.models.official_reader import ShapeReader, Shapes

#: Kernel axes of the first video convolution -> how the video path is factorised (spec g3an 5).
_MODES: dict[tuple[int, ...], Literal["1p2d", "2p1d", "3d"]] = {
    (4, 4, 4): "3d",
    (4, 1, 1): "1p2d",
    (1, 4, 4): "2p1d",
}


def infer_g3an_config(shapes: Shapes, *, source: str = "the checkpoint") -> G3ANConfig:
    """The sizes of a G3AN generator (spec g3an 5). The merge of attention is always the reference's (1.4).

    Raises:
        CheckpointError: the tensors are not those of a G3AN generator.
    """
    reader = ShapeReader(shapes, "a G3AN generator", source, "G_4900.pth")
    c_a, wide, *spatial = _spectral(reader, "block1.conv_s.0", 5)
    c_m, wide_t, *temporal = _spectral(reader, "block1.conv_t.0", 5)
    in_video, wide_v, *kernel = _spectral(reader, "block1.conv_v.0", 5)
    if wide % 8 or {wide_t, wide_v} != {wide} or in_video != c_a + c_m:
        raise reader.refusal(
            f"block1 maps {c_a}, {in_video} and {c_m} channels to {wide}, {wide_v} and {wide_t}, expected c_a, "
            "c_a + c_m and c_m channels to 8 ch each"
        )
    if spatial != [1, 4, 4] or temporal != [4, 1, 1] or tuple(kernel) not in _MODES:
        raise reader.refusal(f"block1 has kernels {spatial}, {kernel} and {temporal}, expected some of 1 and 4")
    # The file must hold a second layer of this width: its bytes, not its claims, bound what is built from it.
    reader.expect("block2.conv_s.0.weight_orig", (wide, wide, 1, 4, 4))
    try:
        return G3ANConfig(c_a, c_m, wide // 8, mode=_MODES[tuple(kernel)], use_attention=reader.has("fsa."))
    except SettingsError as error:
        raise reader.refusal(error.seen) from error


def infer_g3an_discriminator_config(shapes: Shapes, *, source: str = "the checkpoint") -> G3ANDiscriminatorConfig:
    """The kind and width of a G3AN discriminator (spec g3an 2).

    Raises:
        CheckpointError: the tensors are not those of a G3AN discriminator.
    """
    reader = ShapeReader(shapes, "a G3AN discriminator", source, "VD_4900.pth")
    first = _spectral(reader, "net.0")
    ch = first[0]
    if first == (ch, 3, 1, 4, 4):
        reader.expect("net.12.weight_orig", (8 * ch, 4 * ch, 1, 4, 4))
        return G3ANDiscriminatorConfig("video", ch)
    if first == (ch, 3, 4, 4):
        reader.expect("net.6.weight_orig", (8 * ch, 4 * ch, 4, 4))
        return G3ANDiscriminatorConfig("image", ch)
    raise reader.refusal(f"net.0.weight_orig is {list(first)}, expected [ch, 3, 1, 4, 4] or [ch, 3, 4, 4]")


def _spectral(reader: ShapeReader, layer: str, axes: int | None = None) -> tuple[int, ...]:
    """The shape of a layer's weight under spectral norm."""
    name = f"{layer}.weight_orig"
    if name not in reader.shapes and f"{layer}.weight" in reader.shapes:
        raise reader.refusal(f"{layer}.weight without spectral norm, expected {name}, weight_u and weight_v")
    return reader.shape(name, axes)
