"""G3AN for CPU runtimes: the same function as the reference, in operations that they do fast.

Time is merged into the batch or the positions, so that every deconvolution becomes 2-D convolutions and matrix
products; what does not change over time is computed once a video; the last stage works on quarter-resolution phases
and only the finished RGB values are put in order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidgen.export.lowering_cpu_attention import Attention
from vidgen.export.lowering_cpu_layers import (
    PHASES,
    TAPS,
    SpatialDeconvolution,
    TimeDoubling,
    TimeGrowth,
    TimePointwise,
    alternate,
    following,
    frozen,
    interleave,
    previous,
    still_frames,
)
from vidgen.export.prepare import PlainGenerator, quantise
from vidgen.models.g3an import BLOCKS, Generator

#: Height and width of the video stream that enters each block after the first.
SIDES = (4, 8, 16, 32)


def _weight(layers: nn.Module, index: int = 0) -> tuple[Tensor, Tensor]:
    """Folded weight [C, D, kt, kh, kw] and bias [D] of one deconvolution of a path."""
    tensors = layers.state_dict()
    return tensors[f"{index}.weight"], tensors[f"{index}.bias"]


def _over_time(weight: Tensor) -> Tensor:
    return weight[:, :, :, 0, 0]


def _over_space(weight: Tensor) -> Tensor:
    return weight[:, :, 0]


def _spread(weight: Tensor) -> Tensor:
    """[..., 4, 4] kernel over one position to [..., 16] rows: (h, w, row parity, column parity)."""
    blocks = weight.reshape(*weight.shape[:-2], 2, 2, 2, 2)  # ... h py w px
    return blocks.transpose(-2, -3).flatten(-4)


def _time_step(weight: Tensor, bias: Tensor, still: int = 0) -> TimePointwise | TimeDoubling:
    kind = TimePointwise if weight.shape[2] == 1 else TimeDoubling
    return kind(weight, bias, still)


class FirstBlock(nn.Module):
    """Block 1: noise to 4x4 rows and T + 3 frames."""

    def __init__(self, block: nn.Module, mode: str) -> None:
        super().__init__()
        self.mode = mode
        weight, bias = _weight(block.get_submodule("conv_s"))
        self.spatial, self.spatial_bias = self._grid(weight, bias)
        weight, bias = _weight(block.get_submodule("conv_t"))
        self.temporal = TimeGrowth(_over_time(weight), bias)
        weight, bias = _weight(block.get_submodule("conv_v"))
        if mode == "3d":
            rows = _spread(weight).permute(0, 3, 1, 2).flatten(1, 2)  # C, 16 D, 4
            self.time = TimeGrowth(rows, bias.repeat(16))
            return
        space, time = (_weight(block.get_submodule("conv_v"), 3), (weight, bias))
        if mode == "2p1d":
            space, time = time, space
        self.space, self.space_bias = self._grid(*space)
        self.time = TimeGrowth(_over_time(time[0]), time[1])

    @staticmethod
    def _grid(weight: Tensor, bias: Tensor) -> tuple[nn.Parameter, nn.Parameter]:
        """The 4/1/0 deconvolution of a single position as a product: [C, 16 D] and [16 D]."""
        return frozen(_spread(_over_space(weight)).transpose(1, 2).flatten(1)), frozen(bias.repeat(16))

    def forward(self, za: Tensor, zm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spatial rows [B, 16, D], video rows [B, T + 3, 16, D] and temporal [B, T + 3, D] streams."""
        batch, length = zm.shape[0], zm.shape[2]
        motion = zm.transpose(1, 2)
        spatial = torch.relu(za @ self.spatial + self.spatial_bias).reshape(batch, 16, -1)
        temporal = torch.relu(self.temporal(motion[:, :, None])).squeeze(2)
        video = torch.cat((za[:, None].expand(-1, length, -1), motion), dim=2)[:, :, None]
        if self.mode == "2p1d":
            video = torch.relu(video @ self.space + self.space_bias).reshape(batch, length, 16, -1)
            return spatial, torch.relu(self.time(video)), temporal
        video = torch.relu(self.time(video))
        if self.mode == "1p2d":
            video = torch.relu(video @ self.space + self.space_bias)
        return spatial, video.reshape(batch, length + 3, 16, -1), temporal


class _VideoPath(nn.Module):
    """The video path of a block: rows [B, T, R, C], [B, R, S], [B, T, C] of the streams to rows [B, T', 4 R, D].

    Args:
        side: height and width of what comes in.
        whole: it comes from attention: in order, and with the spatial and temporal streams in it.
    """

    def __init__(self, side: int, whole: bool) -> None:
        super().__init__()
        self.side = side
        self.whole = whole

    def _arrange(self, rows: Tensor) -> Tensor:
        """Rows [B, T, R, C] to a map [B T, side, side, C]."""
        frames = rows.flatten(0, 1)
        if self.whole:
            return frames.reshape(-1, self.side, self.side, frames.shape[-1])
        return interleave(frames, self.side)

    def maps(self, moving: Tensor, still: Tensor, temporal: Tensor) -> list[Tensor]:
        """The four output phases, [B T', D, side, side] each."""
        rows: Tensor = self(moving, still, temporal)
        phases = rows.reshape(-1, self.side, self.side, 4, rows.shape[-1])
        return [phases[:, :, :, phase].permute(0, 3, 1, 2) for phase in range(4)]


class TimeThenSpace(_VideoPath):
    """Mode 1p2d. The still half and the temporal stream join after the first product, where channels are fewest."""

    def __init__(self, layers: nn.Module, still: int, side: int, whole: bool) -> None:
        super().__init__(side, whole)
        weight, bias = _weight(layers)
        self.time = _time_step(_over_time(weight), bias, still)
        weight, bias = _weight(layers, 3)
        self.space = SpatialDeconvolution(_over_space(weight), bias, relu=True)

    def _steps(self, moving: Tensor, still: Tensor, temporal: Tensor) -> Tensor:
        return torch.relu(self.time(moving) if self.whole else self.time(moving, still, temporal))

    def maps(self, moving: Tensor, still: Tensor, temporal: Tensor) -> list[Tensor]:
        """As of the base class, without a detour through rows."""
        return self.space.maps(self._arrange(self._steps(moving, still, temporal)))

    def forward(self, moving: Tensor, still: Tensor, temporal: Tensor) -> Tensor:
        """The rows of the next stream."""
        steps = self._steps(moving, still, temporal)
        rows: Tensor = self.space(self._arrange(steps))
        return rows.reshape(steps.shape[0], steps.shape[1], 4 * self.side**2, -1)


class Space(_VideoPath):
    """Mode 3d where the number of frames stays."""

    def __init__(self, layers: nn.Module, still: int, side: int, whole: bool) -> None:
        super().__init__(side, whole)
        weight, bias = _weight(layers)
        weight = _over_space(weight)
        self.space = SpatialDeconvolution(weight[still:], bias, relu=False)
        self.still = None if whole else SpatialDeconvolution(weight[:still], None, relu=False)

    def forward(self, moving: Tensor, still: Tensor, temporal: Tensor) -> Tensor:
        """The rows of the next stream."""
        batch, length = moving.shape[0], moving.shape[1]
        if self.still is None:
            return torch.relu(self.space(self._arrange(moving)).reshape(batch, length, 4 * self.side**2, -1))
        rows = self.space(self._arrange(moving + temporal[:, :, None]))
        shared = self.still(interleave(still, self.side))[:, None]
        return torch.relu(rows.reshape(batch, length, 4 * self.side**2, -1) + shared)


class SpaceThenTime(Space):
    """Mode 2p1d."""

    def __init__(self, layers: nn.Module, still: int, side: int, whole: bool) -> None:
        super().__init__(layers, still, side, whole)
        weight, bias = _weight(layers, 3)
        self.time = _time_step(_over_time(weight), bias)

    def forward(self, moving: Tensor, still: Tensor, temporal: Tensor) -> Tensor:
        """The rows of the next stream."""
        return torch.relu(self.time(super().forward(moving, still, temporal)))


class SpaceTime(_VideoPath):
    """Mode 3d where time is doubled: each output frame is a 2-D deconvolution of two input frames."""

    def __init__(self, layers: nn.Module, still: int, side: int, whole: bool) -> None:
        super().__init__(side, whole)
        weight, bias = _weight(layers)
        moving = weight[still:]
        self.even, self.odd = (
            SpatialDeconvolution(torch.cat([moving[:, :, tap] for tap in taps]), bias, relu=False) for taps in TAPS
        )
        taps = torch.cat([weight[:still, :, tap] for parity in TAPS for tap in parity], dim=1)
        self.still = SpatialDeconvolution(taps, None, relu=False)

    def forward(self, moving: Tensor, still: Tensor, temporal: Tensor) -> Tensor:
        """The rows of the next stream."""
        batch, length = moving.shape[0], moving.shape[1]
        moving = moving + temporal[:, :, None]
        pairs = (torch.cat((previous(moving), moving), dim=3), torch.cat((moving, following(moving)), dim=3))
        even, odd = (
            space(self._arrange(pair)).reshape(batch, length, 4 * self.side**2, -1)
            for space, pair in zip((self.even, self.odd), pairs)
        )
        even_still, odd_still = still_frames(self.still(interleave(still, self.side)), length)
        return torch.relu(alternate(even + even_still, odd + odd_still))


def _video_path(layers: nn.Module, mode: str, still: int, side: int, whole: bool) -> _VideoPath:
    if mode == "1p2d":
        return TimeThenSpace(layers, still, side, whole)
    if mode == "2p1d":
        return SpaceThenTime(layers, still, side, whole)
    doubling = _weight(layers)[0].shape[2] == 4
    return (SpaceTime if doubling else Space)(layers, still, side, whole)


class Block(nn.Module):
    """Blocks 2 to 5; ``whole`` as of the video path."""

    def __init__(self, block: nn.Module, mode: str, side: int, *, whole: bool) -> None:
        super().__init__()
        self.side = side
        weight, bias = _weight(block.get_submodule("conv_s"))
        self.conv_s = SpatialDeconvolution(_over_space(weight), bias, relu=True)
        self.conv_v = _video_path(block.get_submodule("conv_v"), mode, 0 if whole else weight.shape[0], side, whole)
        weight, bias = _weight(block.get_submodule("conv_t"))
        self.conv_t = _time_step(_over_time(weight), bias)

    def _temporal(self, temporal: Tensor) -> Tensor:
        return torch.relu(self.conv_t(temporal[:, :, None])).squeeze(2)

    def forward(self, spatial: Tensor, video: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [B, R, S], [B, T, R, C] and [B, T, C] of the three streams to those of twice the sides."""
        rows = self.conv_v(video, spatial, temporal)
        return self.conv_s(interleave(spatial, self.side)), rows, self._temporal(temporal)

    def maps(self, spatial: Tensor, video: Tensor, temporal: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """As ``forward``, with the spatial and video streams as phase maps for ToRGB."""
        maps = self.conv_v.maps(video, spatial, temporal)
        return self.conv_s.maps(interleave(spatial, self.side)), maps, self._temporal(temporal)


class ToRGB(nn.Module):
    """The 3x3 head on phases: each of the four input phases adds to all four output phases through a 2x2 kernel.

    12 output channels instead of 3 fill the vector lanes that 3 leave empty, and nothing of full resolution is
    stored but the RGB values. The temporal stream, the same at all positions but cut off by the zero padding at the
    border, is added through one small matrix for each kernel tap.
    """

    def __init__(self, convolution: nn.Module, side: int) -> None:
        super().__init__()
        tensors = convolution.state_dict()
        weight, bias = tensors["weight"][:, :, 0], tensors["bias"]
        channels = weight.shape[1] // 2
        self.side = side
        self.spatial = nn.ModuleList(self._phase(weight[:, :channels], row, column) for row, column in PHASES)
        self.moving = nn.ModuleList(self._phase(weight[:, channels:], row, column) for row, column in PHASES)
        self.temporal = frozen(weight[:, channels:].permute(1, 0, 2, 3).flatten(1))  # C, 3 x 9
        self.bias = frozen(bias[:, None])
        inside = functional.pad(torch.ones(2 * side, 2 * side), (1, 1, 1, 1))
        reach = torch.stack([inside[row : row + 2 * side, column : column + 2 * side] for row, column in _TAPS_3X3])
        self.inside = frozen(reach.reshape(9, side, 2, side, 2).permute(0, 2, 4, 1, 3).flatten(1))

    @staticmethod
    def _phase(weight: Tensor, row: int, column: int) -> nn.Conv2d:
        """The 2x2 kernel from one input phase to all output phases, [12, C, 2, 2], channels (rgb, py, px)."""
        channels = weight.shape[1]
        kernel = weight.new_zeros(3, 2, 2, channels, 2, 2)
        for out_row, out_column in PHASES:
            for tap_row, tap_column in PHASES:
                # Where the tap lies in the 3x3 kernel: full-resolution offset from the output position, plus 1.
                y = 2 * (tap_row - row) + row - out_row + 1
                x = 2 * (tap_column - column) + column - out_column + 1
                if 0 <= y <= 2 and 0 <= x <= 2:
                    kernel[:, out_row, out_column, :, tap_row, tap_column] = weight[:, :, y, x]
        convolution = nn.Conv2d(channels, 12, 2, bias=False, device="meta")
        convolution.weight = frozen(kernel.reshape(12, channels, 2, 2))
        return convolution

    @staticmethod
    def _sum(maps: list[Tensor], convolutions: nn.ModuleList) -> Tensor:
        total: Tensor | None = None
        for (row, column), x, convolution in zip(PHASES, maps, convolutions):
            part = convolution(functional.pad(x, (column, 1 - column, row, 1 - row)))
            total = part if total is None else total + part
        assert total is not None
        return total

    def forward(self, spatial: list[Tensor], moving: list[Tensor], temporal: Tensor, output: str) -> Tensor:
        """Phase maps and the temporal stream [B, T, C] to the video in the artifact's layout."""
        batch, length, side = temporal.shape[0], temporal.shape[1], self.side
        still = self._sum(spatial, self.spatial).reshape(batch, 1, 3, 4 * side * side) + self.bias
        taps = (temporal @ self.temporal).reshape(batch, length, 3, 9)
        video = self._sum(moving, self.moving).reshape(batch, length, 3, 4 * side * side)
        video = torch.tanh(video + (taps @ self.inside + still)).reshape(batch, length, 3, 2, 2, side, side)
        if output == "uint8":
            # Quantised before the pixels are put in order: a quarter of the bytes move.
            frames = quantise(video).permute(0, 1, 5, 3, 6, 4, 2)
            return frames.reshape(batch, length, 2 * side, 2 * side, 3)
        return video.permute(0, 2, 1, 5, 3, 6, 4).reshape(batch, 3, length, 2 * side, 2 * side)


_TAPS_3X3 = tuple((row, column) for row in range(3) for column in range(3))


class CpuGenerator(nn.Module):
    """The CPU lowering of a G3AN generator; inputs and output as of PlainGenerator."""

    def __init__(self, generator: Generator, output: str = "float32") -> None:
        super().__init__()
        config = generator.config
        plain = generator if isinstance(generator, PlainGenerator) else PlainGenerator(generator)
        self.output = output
        self.block1 = FirstBlock(plain.get_submodule("block1"), config.mode)
        for number, side in enumerate(SIDES, start=2):
            whole = config.use_attention and number == len(BLOCKS)
            block = plain.get_submodule(f"block{number}")
            self.add_module(f"block{number}", Block(block, config.mode, side, whole=whole))
        self.fsa = Attention(plain.fsa, SIDES[-1] ** 2) if config.use_attention else None
        self.to_rgb = ToRGB(plain.to_rgb[0], SIDES[-1])
        self.eval()

    @staticmethod
    def _in_order(spatial: Tensor, video: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor]:
        """Still [B, P, C] and moving [B, T, P, C] halves of the video stream, positions in order."""
        side = SIDES[-1]
        moving = interleave(video.flatten(0, 1), side).reshape(video.shape[0], video.shape[1], side * side, -1)
        return interleave(spatial, side).flatten(1, 2), moving + temporal[:, :, None]

    def forward(self, za: Tensor, zm: Tensor) -> Tensor:
        """Generate videos in the artifact's layout."""
        spatial, video, temporal = self.block1(za, zm)
        for number in range(2, len(BLOCKS)):
            spatial, video, temporal = self.get_submodule(f"block{number}")(spatial, video, temporal)
        last = self.get_submodule(f"block{len(BLOCKS)}")
        assert isinstance(last, Block)
        if self.fsa is not None:
            video = self.fsa(*self._in_order(spatial, video, temporal))
        result: Tensor = self.to_rgb(*last.maps(spatial, video, temporal), self.output)
        return result
