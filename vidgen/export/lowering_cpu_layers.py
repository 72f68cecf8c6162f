"""Deconvolutions of G3AN rewritten as the small convolutions and products that CPU runtimes do fast.

Maps are [N, H, W, C]. A deconvolution that doubles the sides leaves *rows* [N, 4 h w, C]: the 2h x 2w positions in
the order (h, w, row parity, column parity). Steps that act on each position alone work on rows as they are, and
``interleave`` turns rows into a map only where neighbours are needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Kernel indices of a 4/2/1 deconvolution, by output parity: those that meet x[i - 1], x[i] and x[i], x[i + 1].
TAPS = ((3, 1), (2, 0))
#: Row and column parity of the four output phases.
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


def frozen(tensor: Tensor) -> nn.Parameter:
    """A contiguous float32 parameter that is not trained."""
    return nn.Parameter(tensor.detach().float().contiguous(), requires_grad=False)


def interleave(rows: Tensor, side: int) -> Tensor:
    """Rows [N, side * side, C] to the map [N, side, side, C]."""
    half = side // 2
    blocks = rows.reshape(-1, half, half, 2, 2, rows.shape[-1])
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(-1, side, side, rows.shape[-1])


def previous(x: Tensor) -> Tensor:
    """[B, T, R, C] delayed by one frame; the first becomes zero."""
    return functional.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))


def following(x: Tensor) -> Tensor:
    """[B, T, R, C] advanced by one frame; the last becomes zero."""
    return functional.pad(x[:, 1:], (0, 0, 0, 0, 0, 1))


def _convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    out_channels, in_channels, height, width = weight.shape
    convolution = nn.Conv2d(in_channels, out_channels, (height, width), bias=bias is not None, device="meta")
    convolution.weight = frozen(weight)
    if bias is not None:
        convolution.bias = frozen(bias)
    return convolution


class SpatialDeconvolution(nn.Module):
    """A 4x4, stride 2, padding 1 deconvolution as four 2x2 convolutions, one for each output phase.

    Nothing is computed that is cropped later, and each is an ordinary convolution, for which runtimes have blocked
    layouts and fused activations.

    Args:
        weight: [C, D, 4, 4], as in a transposed convolution. bias: [D] or None. relu: apply ReLU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool) -> None:
        super().__init__()
        self.relu = relu
        kernel = weight.transpose(0, 1)
        self.phases = nn.ModuleList(
            _convolution(kernel[:, :, TAPS[row], :][:, :, :, TAPS[column]], bias) for row, column in PHASES
        )

    def maps(self, x: Tensor) -> list[Tensor]:
        """The map [N, h, w, C] to its four output phases, [N, D, h, w] each."""
        channels_first = x.permute(0, 3, 1, 2)
        results = []
        for (row, column), phase in zip(PHASES, self.phases):
            result = phase(functional.pad(channels_first, (1 - column, column, 1 - row, row)))
            results.append(torch.relu(result) if self.relu else result)
        return results

    def forward(self, x: Tensor) -> Tensor:
        """The map [N, h, w, C] to rows [N, 4 h w, D]."""
        stacked = torch.cat(self.maps(x), dim=1).permute(0, 2, 3, 1)
        return stacked.reshape(-1, 4 * x.shape[1] * x.shape[2], stacked.shape[-1] // 4)


class TimeGrowth(nn.Module):
    """A deconvolution over time of kernel 4, stride 1, no padding: [B, T, R, C] -> [B, T + 3, R, D].

    Args:
        weight: [C, D, 4]. bias: [D].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.convolution = _convolution(weight.flip(2).transpose(0, 1)[..., None], bias)
        self.convolution.padding = (3, 0)

    def forward(self, x: Tensor) -> Tensor:
        """The deconvolution, without activation."""
        result: Tensor = self.convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return result


class TimePointwise(nn.Module):
    """A deconvolution over time of kernel 1: one product for each position.

    Args:
        weight: [S + C, D, 1], the first ``still`` input channels not changing over time. bias: [D].
        still: S.
    """

    def __init__(self, weight: Tensor, bias: Tensor, still: int = 0) -> None:
        super().__init__()
        self.still = frozen(weight[:still, :, 0]) if still else None
        self.moving = frozen(weight[still:, :, 0])
        self.bias = frozen(bias)

    def forward(self, moving: Tensor, still: Tensor | None = None, temporal: Tensor | None = None) -> Tensor:
        """The deconvolution of concat(still, moving + temporal), without activation.

        Args:
            moving: [B, T, R, C]. still: [B, R, S], the same for all frames. temporal: [B, T, C], the same for all
                positions.
        """
        product = moving @ self.moving
        if temporal is None:
            return product + self.bias
        shared = (temporal @ self.moving + self.bias)[:, :, None]
        if still is not None and self.still is not None:
            shared = shared + (still @ self.still)[:, None]
        return product + shared


class TimeDoubling(nn.Module):
    """A deconvolution over time of kernel 4, stride 2, padding 1: even frames and odd frames as convolutions.

    Args: as of TimePointwise, weight [S + C, D, 4].
    """

    def __init__(self, weight: Tensor, bias: Tensor, still: int = 0) -> None:
        super().__init__()
        kernel = weight[still:].transpose(0, 1)[..., None]
        self.even = _convolution(kernel[:, :, TAPS[0]], None)
        self.odd = _convolution(kernel[:, :, TAPS[1]], None)
        taps = [weight[:still, :, tap] for parity in TAPS for tap in parity]
        self.still = frozen(torch.cat(taps, dim=1)) if still else None
        self.bias = frozen(bias)

    def _frames(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd output frames, [B, T, R, D] each."""
        channels_first = x.permute(0, 3, 1, 2)
        even = self.even(functional.pad(channels_first, (0, 0, 1, 0)))
        odd = self.odd(functional.pad(channels_first, (0, 0, 0, 1)))
        return even.permute(0, 2, 3, 1), odd.permute(0, 2, 3, 1)

    def forward(self, moving: Tensor, still: Tensor | None = None, temporal: Tensor | None = None) -> Tensor:
        """As of TimePointwise, with twice the frames."""
        even, odd = self._frames(moving)
        if temporal is None:
            return alternate(even + self.bias, odd + self.bias)
        even_shared, odd_shared = self._frames(temporal[:, :, None])
        even_shared, odd_shared = even_shared + self.bias, odd_shared + self.bias
        if still is not None and self.still is not None:
            even_still, odd_still = still_frames(still @ self.still, moving.shape[1])
            even_shared, odd_shared = even_shared + even_still, odd_shared + odd_still
        return alternate(even + even_shared, odd + odd_shared)


def still_frames(taps: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Even and odd frames of a doubled signal that does not change over time.

    Args:
        taps: [B, R, 4 D], the signal times each kernel tap in the order of TAPS. length: frames before doubling.

    Returns:
        [B, length, R, D] each; a tap that would meet the padding is left out.
    """
    inside = torch.ones(1, length, 1, 1)
    before, here, same, after = taps[:, None].chunk(4, dim=-1)
    return here + previous(inside) * before, same + following(inside) * after


def alternate(even: Tensor, odd: Tensor) -> Tensor:
    """[B, T, R, D] twice to [B, 2 T, R, D]: even, odd, even, ..."""
    return torch.stack((even, odd), dim=2).flatten(1, 2)
