"""The modules of TwoStreamVAN's generator, under the reference's names (Sun et al., WACV 2020; spec twostreamvan 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vidgen.plugins.sepconv_trt.op  # noqa: F401 - registers the operator

#: The motion stream has these widths whatever the width of the content stream is.
MOTION_CHANNELS = 16
MOTION_EMBEDDING = 512
#: Height and width of the states of both streams.
STATE_SIZE = 8
_STATE = MOTION_CHANNELS * STATE_SIZE * STATE_SIZE


class Latent(NamedTuple):
    """A draw from a diagonal normal distribution, [B, d], with the distribution's mean and log variance."""

    sample: Tensor
    mean: Tensor
    logvar: Tensor


class Motion(NamedTuple):
    """Adaptive kernels and mask of one scale: vertical and horizontal [B, K, R, R], mask [B, 1, R, R] in [0, 1]."""

    vertical: Tensor
    horizontal: Tensor
    mask: Tensor


def _linear(inputs: int, outputs: int, use_bn: bool) -> nn.Sequential:
    norm = [nn.BatchNorm1d(outputs)] if use_bn else []
    return nn.Sequential(nn.Linear(inputs, outputs), *norm, nn.ReLU())


def _convolution(inputs: int, outputs: int, size: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, 1, size // 2), nn.BatchNorm2d(outputs), nn.ReLU()]


class ContentEncoder(nn.Module):
    """A frame [B, C, 64, 64] to its embedding [B, 32 gf] (spec 1.1)."""

    def __init__(self, channels: int, gf: int, use_bn: bool) -> None:
        super().__init__()
        widths = ((channels, gf, 1), (gf, gf, 2), (gf, gf, 1), (gf, 2 * gf, 2), (2 * gf, 2 * gf, 1), (2 * gf, gf, 2))
        layers: list[nn.Module] = []
        for inputs, outputs, stride in widths:
            norm = [nn.BatchNorm2d(outputs)] if use_bn else []
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), *norm, nn.ReLU()]
        self.encode_cnn = nn.Sequential(*layers)
        self.fc1_block = _linear(64 * gf, 32 * gf, use_bn)

    def forward(self, frame: Tensor) -> Tensor:
        """Embed frames."""
        embedding: Tensor = self.fc1_block(self.encode_cnn(frame).flatten(1))
        return embedding


class LatentSampler(nn.Module):
    """An embedding and a class to the posterior of a latent (spec 1.2)."""

    def __init__(self, inputs: int, n_cat: int, dimension: int) -> None:
        super().__init__()
        self.mean = nn.Linear(inputs + n_cat, dimension)
        self.logvar = nn.Linear(inputs + n_cat, dimension)

    def forward(self, embedding: Tensor, one_hot: Tensor, noise: Tensor | None = None) -> Latent:
        """The posterior, and a draw from it with this standard normal noise [B, d]; its mean without noise."""
        x = torch.cat((embedding, one_hot), 1)
        mean, logvar = self.mean(x), self.logvar(x)
        sample = mean if noise is None else noise * torch.exp(0.5 * logvar) + mean
        return Latent(sample, mean, logvar)


class MotionEncoder(nn.Module):
    """A difference image [B, C, 64, 64] to motion features [B, 16, 8, 8], and those to an embedding (spec 1.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(channels, 16, 5),
            *_convolution(16, 16, 5),
            nn.MaxPool2d(2),
            *_convolution(16, 32, 5),
            *_convolution(32, 32, 5),
            nn.MaxPool2d(2),
            *_convolution(32, 32, 7),
            *_convolution(32, MOTION_CHANNELS, 7),
            nn.MaxPool2d(2),
        )
        self.fc_block = _linear(_STATE, MOTION_EMBEDDING, use_bn=True)

    def forward(self, difference: Tensor) -> Tensor:
        """Motion features of difference images."""
        features: Tensor = self.main(difference)
        return features

    def embed(self, features: Tensor) -> Tensor:
        """What the posterior of the motion latent is made from, [B, 512]."""
        embedding: Tensor = self.fc_block(features.flatten(1))
        return embedding


class ConvLSTM(nn.Module):
    """A convolutional LSTM of 16 channels; its state is (cell, hidden) joined on channels, [B, 32, 8, 8] (spec 1.4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * MOTION_CHANNELS, 4 * MOTION_CHANNELS, 3, 1, 1)

    @staticmethod
    def first_state(x: Tensor) -> Tensor:
        """The state before the first step: ones, as in the reference, for a batch like ``x`` [B, 16, 8, 8]."""
        return torch.ones_like(torch.cat((x, x), 1))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step: the hidden output [B, 16, 8, 8] and the state after it."""
        cell, hidden = (self.first_state(x) if state is None else state).chunk(2, 1)
        i, j, f, o = self.conv(torch.cat((x, hidden), 1)).chunk(4, 1)
        cell = cell * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
        hidden = torch.tanh(cell) * torch.sigmoid(o)
        return hidden, torch.cat((cell, hidden), 1)


class TrajectoryGenerator(nn.Module):
    """A motion latent and a class to the input of the recurrent network, and that network, ``main`` (spec 1.4)."""

    def __init__(self, motion_dim: int, n_cat: int, use_bn: bool) -> None:
        super().__init__()
        self.fc_block = _linear(motion_dim + n_cat, _STATE, use_bn)
        self.main = ConvLSTM()

    def forward(self, z_motion: Tensor, one_hot: Tensor) -> Tensor:
        """[B, motion_dim], [B, n_cat] -> [B, 16, 8, 8]."""
        flat = self.fc_block(torch.cat((z_motion, one_hot), 1))
        x: Tensor = flat.unflatten(1, (MOTION_CHANNELS, STATE_SIZE, STATE_SIZE))
        return x


class ContentMotionState(nn.Module):
    """Content latent and motion state to the inputs of the two generators (spec 1.5)."""

    def __init__(self, cont_dim: int, n_cat: int, gf: int, joint: bool, use_bn: bool) -> None:
        super().__init__()
        self.gf, self.joint = gf, joint
        self.fc_cont1 = _linear(cont_dim + n_cat, 32 * gf, use_bn)
        self.fc_cont2 = _linear(32 * gf, 64 * gf, use_bn)
        if joint:
            self.fc_motion = _linear(_STATE, 64, use_bn)
            self.fc_comb = _linear(32 * gf * 64, _STATE, use_bn)

    def content(self, z_content: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """The content state [B, gf, 8, 8] and the layer before it, [B, 32 gf]."""
        inner = self.fc_cont1(torch.cat((z_content, one_hot), 1))
        return self.fc_cont2(inner).unflatten(1, (self.gf, STATE_SIZE, STATE_SIZE)), inner

    def forward(self, z_content: Tensor, hidden: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Content state [B, gf, 8, 8] and motion state [B, 16, 8, 8]."""
        content, inner = self.content(z_content, one_hot)
        if not self.joint:
            return content, hidden
        motion = self.fc_motion(hidden.flatten(1))
        product = (inner[:, :, None] * motion[:, None, :]).flatten(1)
        return content, self.fc_comb(product).unflatten(1, (MOTION_CHANNELS, STATE_SIZE, STATE_SIZE))


class _Scale(NamedTuple):
    """One up-block of the motion generator: its number, widths, kernel and stride, and where its channels go."""

    number: int
    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    branch: int


_SCALES = (
    _Scale(2, 8, 16, 128, 3, 1, 32),
    _Scale(3, 16, 96, 64, 4, 2, 22),
    _Scale(4, 32, 42, 32, 4, 2, 16),
    _Scale(5, 64, 16, 16, 4, 2, 16),
)


class KernelGenerator(nn.Module):
    """The motion state [B, 16, 8, 8] to adaptive kernels and masks of each scale (the motion generator, spec 1.6)."""

    def __init__(self, kernel: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        for scale in _SCALES:
            up = nn.ConvTranspose2d(scale.inputs, scale.outputs, scale.kernel, scale.stride, 1)
            first = [up, nn.BatchNorm2d(scale.outputs), nn.ReLU()]
            self._add("block", scale, nn.Sequential(*first, *_convolution(scale.outputs, scale.outputs)))
            if scale.size not in self.sizes:
                continue
            self._add("branch_block", scale, nn.Sequential(*_convolution(scale.branch, 16)))
            for name in ("kernel_h_block", "kernel_v_block"):
                head = nn.Conv2d(kernel, kernel, 3, 1, 1)
                self._add(name, scale, nn.Sequential(*_convolution(16, kernel), head))
            mask = [*_convolution(16, 16), nn.Conv2d(16, 1, 3, 1, 1), nn.Tanh()]
            self._add("mask_block", scale, nn.Sequential(*mask))

    def _add(self, name: str, scale: _Scale, block: nn.Module) -> None:
        self.add_module(f"{name}{scale.number}", block)

    def forward(self, motion_state: Tensor) -> dict[int, Motion]:
        """Kernels and mask by the height of their scale, ascending."""
        motions = {}
        x = motion_state
        for scale in _SCALES:
            number = scale.number
            features = self.get_submodule(f"block{number}")(x)
            if scale.size in self.sizes:
                inner = self.get_submodule(f"branch_block{number}")(features[:, : scale.branch])
                mask = (self.get_submodule(f"mask_block{number}")(inner) + 1) / 2
                horizontal = self.get_submodule(f"kernel_h_block{number}")(inner)
                motions[scale.size] = Motion(self.get_submodule(f"kernel_v_block{number}")(inner), horizontal, mask)
            x = features[:, scale.branch :]
        return motions


def fuse(features: Tensor, motion: Motion, no_mask: bool) -> Tensor:
    """Apply motion to features [B, C, R, R] by separable convolution, where the mask says so (spec 1.8)."""
    pad = motion.vertical.shape[1] // 2
    padded = F.pad(features, (pad, pad, pad, pad), mode="replicate")
    moved: Tensor = torch.ops.vidgen.separable_convolution(padded, motion.vertical, motion.horizontal)
    return moved if no_mask else motion.mask * moved + (1 - motion.mask) * features


class VideoDecoder(nn.Module):
    """The content generator: a content state [B, gf, 8, 8] to a frame, with motion applied on the way (spec 1.7)."""

    def __init__(self, channels: int, gf: int, no_mask: bool, sizes: Sequence[int], use_bn: bool) -> None:
        super().__init__()
        self.no_mask = no_mask
        self.sizes = tuple(size for size in sizes if size < 64)
        self.conv1_block = self._block(((gf, 8 * gf, 2),), use_bn)
        self.conv2_block = self._block(((8 * gf, 4 * gf, 1), (4 * gf, 2 * gf, 2)), use_bn)
        last = nn.ConvTranspose2d(gf, channels, 3, 1, 1, bias=False)
        first = self._block(((2 * gf, 2 * gf, 1), (2 * gf, gf, 2)), use_bn)
        self.conv3_block = nn.Sequential(*first, last, nn.Tanh())

    @staticmethod
    def _block(widths: Sequence[tuple[int, int, int]], use_bn: bool) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs, stride in widths:
            norm = [nn.BatchNorm2d(outputs)] if use_bn else []
            up = nn.ConvTranspose2d(inputs, outputs, 3, stride, 1, output_padding=stride - 1, bias=False)
            layers += [up, *norm, nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, content_state: Tensor, motions: dict[int, Motion] | None = None) -> tuple[Tensor, list[Tensor]]:
        """The frame [B, C, 64, 64], and the features after fusion of each scale below 64, ascending.

        Without motion the frame is in [-1, 1]; motion acts on the pixels too, so that with it a frame may leave it.
        """
        features: list[Tensor] = []
        x = content_state
        for size, block in zip((8, 16, 32, 64), (None, self.conv1_block, self.conv2_block, self.conv3_block)):
            x = x if block is None else block(x)
            if motions and size in motions:
                x = fuse(x, motions[size], self.no_mask)
            if size in self.sizes:
                features.append(x)
        return x, features
