"""G3AN: a three-stream video generator and its two discriminators (Wang et al., CVPR 2020; spec g3an 1-2)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from vidgen.models.config import G3ANConfig


class BlockShape(NamedTuple):
    """One row of the table of blocks (spec 1.2): widths as multiples of ch, then kernel, stride, padding."""

    out: int
    spatial: tuple[int, int, int]
    temporal: tuple[int, int, int]


BLOCKS = (
    BlockShape(8, (4, 1, 0), (4, 1, 0)),
    BlockShape(8, (4, 2, 1), (4, 2, 1)),
    BlockShape(4, (4, 2, 1), (4, 2, 1)),
    BlockShape(2, (4, 2, 1), (1, 1, 0)),
    BlockShape(1, (4, 2, 1), (1, 1, 0)),
)


class Streams(NamedTuple):
    """The three streams between blocks.

    Attributes:
        spatial: [B, C_s, 1, H, W]. video: [B, C_v, T, H, W]. temporal: [B, C_t, T, 1, 1].
    """

    spatial: Tensor
    video: Tensor
    temporal: Tensor


def _deconvolution(
    in_channels: int, out_channels: int, spatial: tuple[int, int, int], temporal: tuple[int, int, int]
) -> list[nn.Module]:
    """Transposed convolution with spectral norm, batch norm, ReLU; each triple is kernel, stride, padding."""
    (k_s, s_s, p_s), (k_t, s_t, p_t) = spatial, temporal
    convolution = nn.ConvTranspose3d(in_channels, out_channels, (k_t, k_s, k_s), (s_t, s_s, s_s), (p_t, p_s, p_s))
    return [spectral_norm(convolution), nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True)]


class G3Block(nn.Module):
    """One block: a deconvolution path per stream, then fusion (spec 1.2).

    Args:
        in_spatial, in_video, in_temporal: input channels of the streams.
        out: output channels of each path; the video stream leaves with 2 ``out``.
        spatial, temporal: kernel, stride, padding of the height/width axes and of the time axis.
        mode: factorisation of the video path: ``1p2d``, ``2p1d`` or ``3d``.
    """

    def __init__(
        self,
        in_spatial: int,
        in_video: int,
        in_temporal: int,
        out: int,
        spatial: tuple[int, int, int],
        temporal: tuple[int, int, int],
        mode: str,
    ) -> None:
        super().__init__()
        still = (1, 1, 0)
        steps = {
            "3d": [(spatial, temporal)],
            "1p2d": [(still, temporal), (spatial, still)],
            "2p1d": [(spatial, still), (still, temporal)],
        }[mode]
        layers: list[nn.Module] = []
        for i, (along_space, along_time) in enumerate(steps):
            layers += _deconvolution(in_video if i == 0 else out, out, along_space, along_time)
        self.conv_v = nn.Sequential(*layers)
        self.conv_s = nn.Sequential(*_deconvolution(in_spatial, out, spatial, still))
        self.conv_t = nn.Sequential(*_deconvolution(in_temporal, out, still, temporal))

    def forward(self, streams: Streams) -> Streams:
        """Double (or keep) the sizes of all streams and fuse them into the video stream."""
        video = self.conv_v(streams.video)
        spatial = self.conv_s(streams.spatial)
        temporal = self.conv_t(streams.temporal)
        moving = video + temporal
        appearance = spatial.expand(-1, -1, video.shape[2], -1, -1)
        return Streams(spatial, torch.cat((appearance, moving), dim=1), temporal)


class _SelfAttention(nn.Module):
    """Query, key and value projections shared by both attentions; ``gamma`` starts at 0 (spec 1.4)."""

    def __init__(self, channels: int, merge: str = "reference") -> None:
        super().__init__()
        self.merge = merge
        self.q_conv = spectral_norm(nn.Conv3d(channels, channels // 8, 1))
        self.k_conv = spectral_norm(nn.Conv3d(channels, channels // 8, 1))
        self.v_conv = spectral_norm(nn.Conv3d(channels, channels, 1))
        self.gamma = nn.Parameter(torch.zeros(1))

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """softmax(Q K^T) V over the last two axes, without a scale."""
        scores = torch.matmul(query, key.transpose(-1, -2))
        return torch.matmul(torch.softmax(scores, dim=-1), value)


class TemporalSelfAttention(_SelfAttention):
    """Attention over time at each position: [B, C, T, H, W] -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        """gamma * merged attention + x."""
        b, c, t, h, w = x.shape
        query, key, value = (conv(x).permute(0, 3, 4, 2, 1) for conv in (self.q_conv, self.k_conv, self.v_conv))
        attended = self.attend(query, key, value)  # b h w t c
        if self.merge == "reference":
            merged = attended.contiguous().view(b, h, w, c, t).permute(0, 3, 4, 1, 2)
        else:
            merged = attended.permute(0, 4, 3, 1, 2)
        return self.gamma * merged + x


class SpatialSelfAttention(_SelfAttention):
    """Attention over positions in each frame: [B, C, T, H, W] -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        """gamma * merged attention + x."""
        b, c, t, h, w = x.shape
        query, key, value = (
            conv(x).permute(0, 2, 3, 4, 1).reshape(b, t, h * w, -1) for conv in (self.q_conv, self.k_conv, self.v_conv)
        )
        attended = self.attend(query, key, value)  # b t hw c
        if self.merge == "reference":
            merged = attended.contiguous().view(b, h, w, c, t).permute(0, 3, 4, 1, 2)
        else:
            merged = attended.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3)
        return self.gamma * merged + x


class FactorisedSelfAttention(nn.Module):
    """Temporal, then spatial self-attention.

    ``merge="reference"`` reinterprets the memory of the attended values as the official program does, which
    scrambles axes; official checkpoints were trained with it (spec 1.4, Quirk).
    """

    def __init__(self, channels: int, merge: str = "reference") -> None:
        super().__init__()
        self.tsa = TemporalSelfAttention(channels, merge)
        self.ssa = SpatialSelfAttention(channels, merge)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the same; C must be a multiple of 8."""
        out: Tensor = self.ssa(self.tsa(x))
        return out


class Generator(nn.Module):
    """Noise to video: za [B, c_a, 1, 1, 1] and zm [B, c_m, T, 1, 1] -> [B, 3, 4 (T + 3), 64, 64] in (-1, 1)."""

    def __init__(self, config: G3ANConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or G3ANConfig()
        spatial, video, temporal = config.c_a, config.c_a + config.c_m, config.c_m
        for number, shape in enumerate(BLOCKS, start=1):
            out = shape.out * config.ch
            block = G3Block(spatial, video, temporal, out, shape.spatial, shape.temporal, config.mode)
            self.add_module(f"block{number}", block)
            spatial, video, temporal = out, 2 * out, out
        if config.use_attention:
            self.fsa = FactorisedSelfAttention(4 * config.ch, config.attention_merge)
        self.to_rgb = nn.Sequential(nn.Conv3d(2 * config.ch, 3, (1, 3, 3), padding=(0, 1, 1)), nn.Tanh())
        self.apply(_initialise)

    def start(self, za: Tensor, zm: Tensor) -> Streams:
        """The streams that enter block1: za repeated over time comes before zm in the video stream."""
        video = torch.cat((za.expand(-1, -1, zm.shape[2], -1, -1), zm), dim=1)
        return Streams(za, video, zm)

    def forward(self, za: Tensor, zm: Tensor) -> Tensor:
        """Generate videos, [B, 3, 4 (T + 3), 64, 64]."""
        streams = self.start(za, zm)
        for number in range(1, len(BLOCKS) + 1):
            if number == len(BLOCKS) and self.config.use_attention:
                streams = streams._replace(video=self.fsa(streams.video))
            streams = self.get_submodule(f"block{number}")(streams)
        video: Tensor = self.to_rgb(streams.video)
        return video


class _Discriminator(nn.Module):
    """A stack of spectral-norm convolutions with LeakyReLU(0.2) between them, ending in one logit a sample."""

    def __init__(self, ch: int, convolutions: list[nn.Module]) -> None:
        super().__init__()
        self.ch = ch
        layers: list[nn.Module] = []
        for convolution in convolutions:
            layers += [spectral_norm(convolution), nn.LeakyReLU(0.2, inplace=True)]
        self.net = nn.Sequential(*layers[:-1])
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, [B]."""
        logits: Tensor = self.net(x)
        return logits.flatten(1).squeeze(1)


class VideoDiscriminator(_Discriminator):
    """(2+1)D discriminator: [B, 3, 16, 64, 64] -> [B] logits (spec 2.1)."""

    def __init__(self, ch: int = 64) -> None:
        widths = [3, ch, 2 * ch, 4 * ch, 8 * ch]
        convolutions: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            convolutions += [
                nn.Conv3d(before, after, (1, 4, 4), (1, 2, 2), (0, 1, 1)),
                nn.Conv3d(after, after, (4, 1, 1)),
            ]
        convolutions += [nn.Conv3d(8 * ch, 8 * ch, (1, 4, 4)), nn.Conv3d(8 * ch, 1, (4, 1, 1))]
        super().__init__(ch, convolutions)


class ImageDiscriminator(_Discriminator):
    """Frame discriminator: [B, 3, 64, 64] -> [B] logits (spec 2.2)."""

    def __init__(self, ch: int = 64) -> None:
        widths = [3, ch, 2 * ch, 4 * ch, 8 * ch]
        convolutions: list[nn.Module] = [
            nn.Conv2d(before, after, 4, 2, 1) for before, after in itertools.pairwise(widths)
        ]
        super().__init__(ch, [*convolutions, nn.Conv2d(8 * ch, 1, 4)])


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for ordinary convolutions, N(1, 0.02) for batch norms (spec 1.6, 2).

    Transposed convolutions keep the library's default, as in the reference (Quirk).
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        parameters = dict(module.named_parameters(recurse=False))
        # Spectral norm keeps the trained weight under another name.
        nn.init.normal_(parameters.get("weight_orig", parameters.get("weight")), 0.0, 0.02)  # type: ignore[arg-type]
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
