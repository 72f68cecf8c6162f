"""Factorised self-attention (spec g3an 1.4) on [B, T, P, C] rows, with what softmax cancels left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidgen.export.lowering_cpu_layers import frozen
from vidgen.models.g3an import FactorisedSelfAttention, SpatialSelfAttention, TemporalSelfAttention

#: Positions whose scores are held at once: 128 x 1024 floats a frame stay in a CPU's cache.
QUERY_CHUNK = 128


def _projection(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight [C, D] and bias [D] of a 1x1x1 convolution."""
    tensors = convolution.state_dict()
    return tensors["weight"].flatten(1).t(), tensors["bias"]


class _Attention(nn.Module):
    """Folded projections. ``gamma`` is folded into the values; it commutes with attention.

    The key's bias adds the same number to all scores of a query, which softmax cancels: it is left out.
    """

    def __init__(self, source: TemporalSelfAttention | SpatialSelfAttention, positions: int) -> None:
        super().__init__()
        self.merge = source.merge
        self.positions = positions
        query, query_bias = _projection(source.q_conv)
        key, _ = _projection(source.k_conv)
        value, value_bias = _projection(source.v_conv)
        self.query, self.query_bias = frozen(query), frozen(query_bias)
        self.key = frozen(key)
        self.value, self.value_bias = frozen(value * source.gamma), frozen(value_bias * source.gamma)

    def reference_merge(self, attended: Tensor, length: int) -> Tensor:
        """Read the memory of ``attended`` as [B, P, C, T] and return it as [B, T, P, C].

        As a transposition of two axes ([P C, T] to [T, P C]), which runtimes do in blocks.
        """
        batch, channels = attended.shape[0], self.value_bias.shape[0]
        memory = attended.reshape(batch, self.positions * channels, length)
        return memory.transpose(1, 2).reshape(batch, length, self.positions, channels)


class TemporalAttention(_Attention):
    """Attention over time at each position of concat(still, moving).

    The still half of the channels is the same at all times: in keys softmax cancels it, in values attention leaves
    it as it is (its weights add up to 1), in queries it is projected once a video.
    """

    def __init__(self, source: TemporalSelfAttention, positions: int) -> None:
        super().__init__(source, positions)
        still = self.query.shape[0] // 2
        self.query_still, self.query_moving = frozen(self.query[:still]), frozen(self.query[still:])
        self.value_still, self.value_moving = frozen(self.value[:still]), frozen(self.value[still:])
        self.key_moving = frozen(self.key[still:])
        del self.query, self.key, self.value

    def forward(self, still: Tensor, moving: Tensor) -> Tensor:
        """still [B, P, C / 2] and moving [B, T, P, C / 2] to [B, T, P, C]."""
        length = moving.shape[1]
        steps = moving.transpose(1, 2)  # B P T C/2
        shared = still[:, :, None]
        query = steps @ self.query_moving + (shared @ self.query_still + self.query_bias)
        key = steps @ self.key_moving
        weights = torch.softmax(query @ key.transpose(-1, -2), dim=-1)
        attended = (weights @ steps) @ self.value_moving + (shared @ self.value_still + self.value_bias)
        merged = self.reference_merge(attended, length) if self.merge == "reference" else attended.transpose(1, 2)
        return merged + torch.cat((still[:, None].expand(-1, length, -1, -1), moving), dim=-1)


class SpatialAttention(_Attention):
    """Attention over positions in each frame, some queries at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, P, C] to the same."""
        query = x @ self.query + self.query_bias
        key = (x @ self.key).transpose(-1, -2)
        value = x @ self.value + self.value_bias
        starts = range(0, self.positions, QUERY_CHUNK)
        parts = [torch.softmax(query[:, :, i : i + QUERY_CHUNK] @ key, dim=-1) @ value for i in starts]
        attended = torch.cat(parts, dim=2)
        if self.merge == "reference":
            attended = self.reference_merge(attended, x.shape[1])
        return attended + x


class Attention(nn.Module):
    """Temporal, then spatial attention: still [B, P, C / 2], moving [B, T, P, C / 2] -> [B, T, P, C]."""

    def __init__(self, source: FactorisedSelfAttention, positions: int) -> None:
        super().__init__()
        self.tsa = TemporalAttention(source.tsa, positions)
        self.ssa = SpatialAttention(source.ssa, positions)

    def forward(self, still: Tensor, moving: Tensor) -> Tensor:
        """The video stream after both attentions."""
        out: Tensor = self.ssa(self.tsa(still, moving))
        return out
