"""TwoStreamVAN's sampling path in three parts: what runs once, what runs for each frame, and the video at the end.

The parts are traced one by one; :mod:`vidgen.export.loop` puts the second into an ONNX ``Loop``. What does not change
over time is outside of it: the label's share of each linear layer is a row of a table, the motion latents of all
steps go through their layers together, and two linear layers without anything between them are one.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from vidgen.export.lowering_cpu_deconvolution import lower_deconvolutions
from vidgen.export.onnx_operators import at_step
from vidgen.export.prepare import fold_batch_norms, quantise
from vidgen.models.config import ModelInterface, TensorSpec
from vidgen.models.twostreamvan import Generator
from vidgen.models.twostreamvan_layers import MOTION_CHANNELS, STATE_SIZE, Motion, VideoDecoder

_STATE = (MOTION_CHANNELS, STATE_SIZE, STATE_SIZE)


def _pixels(frame: Tensor, output: str) -> Tensor:
    """A raw frame [B, 3, H, W] in the artifact's type and layout."""
    return quantise(frame).permute(0, 2, 3, 1) if output == "uint8" else frame


# By name, where it is called: otherwise the trace goes into it.
fx.wrap("at_step")


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.float().contiguous(), requires_grad=False)


class LabelledLinear(nn.Module):
    """A linear layer whose input ends with a one-hot class: a product, and a row of a table for each class.

    Args:
        weight: float64 [outputs, inputs + classes]. bias: float64 [outputs]. inputs: without the classes.
    """

    def __init__(self, weight: Tensor, bias: Tensor, inputs: int) -> None:
        super().__init__()
        self.weight = _constant(weight[:, :inputs].T)
        self.table = _constant(weight[:, inputs:].T + bias)

    def rows(self, label: Tensor) -> Tensor:
        """The classes' share [B, outputs], bias included."""
        return functional.embedding(label, self.table)


def _double(linear: nn.Module) -> tuple[Tensor, Tensor]:
    tensors = linear.state_dict()
    return tensors["weight"].double(), tensors["bias"].double()


class Recurrence(nn.Module):
    """The convolutional LSTM on cell and hidden state apart; the forget gate's 1 is in its bias (spec 1.4).

    The convolution of the concatenation is the sum of two, of which that of the input can be done ahead of time.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = _double(convolution)
        bias[2 * MOTION_CHANNELS : 3 * MOTION_CHANNELS] += 1
        self.from_input = nn.Conv2d(MOTION_CHANNELS, 4 * MOTION_CHANNELS, 3, 1, 1, device="meta")
        self.from_hidden = nn.Conv2d(MOTION_CHANNELS, 4 * MOTION_CHANNELS, 3, 1, 1, bias=False, device="meta")
        self.from_input.weight = _constant(weight[:, :MOTION_CHANNELS])
        self.from_input.bias = _constant(bias)
        self.from_hidden.weight = _constant(weight[:, MOTION_CHANNELS:])

    def forward(self, gates: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Cell and hidden state [B, 16, 8, 8] after an input whose share of the gates is [B, 64, 8, 8]."""
        i, j, f, o = (gates + self.from_hidden(hidden)).chunk(4, 1)
        cell = cell * torch.sigmoid(f) + torch.sigmoid(i) * torch.tanh(j)
        return cell, torch.tanh(cell) * torch.sigmoid(o)


class Fusion(nn.Module):
    """Motion applied at one scale (spec 1.8)."""

    def __init__(self, kernel: int, no_mask: bool) -> None:
        super().__init__()
        self.pad = (kernel // 2,) * 4
        self.no_mask = no_mask

    def forward(self, features: Tensor, motion: Motion) -> Tensor:
        """[B, C, R, R] -> the same, moved."""
        padded = functional.pad(features, self.pad, mode="replicate")
        moved: Tensor = torch.ops.vidgen.separable_convolution(padded, motion.vertical, motion.horizontal)
        if self.no_mask:
            return moved
        # m s + (1 - m) f with one product less.
        return features + motion.mask * (moved - features)


class Decoder(nn.Module):
    """The content generator (spec 1.7) on folded blocks; with ``motions`` each scale in it is moved."""

    def __init__(self, decoder: VideoDecoder, kernel: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1_block, self.conv2_block = decoder.conv1_block, decoder.conv2_block
        self.conv3_block = decoder.conv3_block
        for size in scales:
            self.add_module(f"fusion{size}", Fusion(kernel, decoder.no_mask))
        self.scales = scales

    def forward(self, content_state: Tensor, motions: dict[int, Motion]) -> Tensor:
        """[B, gf, 8, 8] -> a frame [B, 3, 64, 64]."""
        x = content_state
        for size, block in ((8, None), (16, self.conv1_block), (32, self.conv2_block), (64, self.conv3_block)):
            x = x if block is None else block(x)
            if size in motions:
                x = self.get_submodule(f"fusion{size}")(x, motions[size])
        return x


class ContentState(nn.Module):
    """The layers from a content latent to what the decoder starts from (spec 1.5)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        state = generator.contMotionStateGen
        self.fc_cont2 = state.fc_cont2
        self.gf = state.gf

    def forward(self, inner: Tensor) -> Tensor:
        """[B, 32 gf] -> [B, gf, 8, 8]."""
        x: Tensor = self.fc_cont2(inner).reshape(-1, self.gf, STATE_SIZE, STATE_SIZE)
        return x


class Encoder(nn.Module):
    """A frame to the layer before the content state, through the mean of its latent (spec 1.1, 1.2, 1.5).

    From the embedding e: ``W2 [W1 [e, c] + b1, c] + b2``, without anything between the two layers: one product.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.contEnc = generator.contEnc
        mean, bias1 = _double(generator.contSampler.mean)
        second, bias2 = _double(generator.contMotionStateGen.fc_cont1[0])
        latent = mean.shape[0]
        weight = second[:, :latent] @ mean
        weight[:, -generator.config.n_cat :] += second[:, latent:]
        self.linear = LabelledLinear(weight, second[:, :latent] @ bias1 + bias2, mean.shape[1] - generator.config.n_cat)

    def forward(self, frame: Tensor, rows: Tensor) -> Tensor:
        """[B, 3, 64, 64] and the label's share -> [B, 32 gf]."""
        return torch.relu(torch.addmm(rows, self.contEnc(frame), self.linear.weight))


class JointState(nn.Module):
    """Motion state conditioned on content (spec 1.5, ``joint``)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        state = generator.contMotionStateGen
        self.fc_motion, self.fc_comb = state.fc_motion, state.fc_comb

    def forward(self, inner: Tensor, hidden: Tensor) -> Tensor:
        """[B, 32 gf], [B, 16, 8, 8] -> [B, 16, 8, 8]."""
        motion = self.fc_motion(hidden.flatten(1))
        product = (inner[:, :, None] * motion[:, None]).flatten(1)
        x: Tensor = self.fc_comb(product).reshape(-1, *_STATE)
        return x


class Carried(NamedTuple):
    """What one step hands to the next: the last frame, the difference to it, and the recurrent state."""

    frame: Tensor
    difference: Tensor
    cell: Tensor
    hidden: Tensor


class Opening(nn.Module):
    """What is done once: the first frame, and all that depends on label and motion latents alone."""

    def __init__(self, parts: Parts, *, conditional: bool) -> None:
        super().__init__()
        generator = parts.generator
        self.content_state, self.decoder, self.encoder = parts.content_state, parts.decoder, parts.encoder
        self.recurrence = parts.recurrence
        self.conditional = conditional
        if not conditional:
            linear = generator.contMotionStateGen.fc_cont1[0]
            self.content = LabelledLinear(*_double(linear), generator.config.cont_dim)
        self.motion = LabelledLinear(*_double(generator.trajGenerator.fc_block[0]), generator.config.motion_dim)

    def forward(self, start: Tensor, z_motion: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Content latent [B, cont_dim] or a frame [B, 3, 64, 64], z_motion [B, S, motion_dim], label [B].

        Returns:
            What the first step needs (:class:`Carried`), the label's share of the encoder [B, 32 gf] and the input's
            share of the gates [S, B, 64, 8, 8].
        """
        batch, steps = z_motion.shape[0], z_motion.shape[1]
        rows = self.encoder.linear.rows(label)
        if self.conditional:
            inner = self.encoder(start, rows)
        else:
            inner = torch.relu(torch.addmm(self.content.rows(label), start, self.content.weight))
        frame = self.decoder(self.content_state(inner), {})
        trajectory = torch.matmul(z_motion.transpose(0, 1), self.motion.weight) + self.motion.rows(label)
        gates = self.recurrence.from_input(torch.relu(trajectory).reshape(-1, *_STATE))
        gates = gates.reshape(steps, batch, 4 * MOTION_CHANNELS, STATE_SIZE, STATE_SIZE)
        ones = frame.new_ones((batch, *_STATE))
        return frame, frame.new_zeros((batch, 3, 64, 64)), ones, ones, rows, gates


class Plane(nn.Module):
    """A mask [B, 1, R, R] without its channel axis.

    A part by itself, so that it has the precision of the mask: TensorRT-RTX 1.7 cannot compile a loop that casts a
    half mask to float32 and then reshapes it.
    """

    def forward(self, mask: Tensor) -> Tensor:
        """[B, 1, R, R] -> [B, R, R]."""
        return mask.squeeze(1)


class Step(nn.Module):
    """One frame from those before (spec 3.3 a-d)."""

    def __init__(self, parts: Parts, output: str, *, masks: bool) -> None:
        super().__init__()
        self.masks = masks
        self.encoder, self.content_state, self.decoder = parts.encoder, parts.content_state, parts.decoder
        self.recurrence, self.motionEnc, self.kernelGen = parts.recurrence, parts.motion_encoder, parts.kernels
        self.joint = parts.joint
        self.plane = Plane()
        self.output = output

    def forward(
        self,
        iteration: Tensor,
        frame: Tensor,
        difference: Tensor,
        cell: Tensor,
        hidden: Tensor,
        rows: Tensor,
        gates: Tensor,
    ) -> tuple[Tensor, ...]:
        """The number of the step (int64 scalar), :class:`Carried`, and the constants of :class:`Opening`.

        Returns:
            :class:`Carried`, the pixels of the new frame in the artifact's layout, and the masks [B, R, R] if wanted.
        """
        # In the first step there is no difference yet, and the state stays what it is.
        started = iteration > 0
        moved = self.recurrence(self.recurrence.from_input(self.motionEnc(difference)), cell, hidden)
        cell, hidden = torch.where(started, moved[0], cell), torch.where(started, moved[1], hidden)
        _, state = self.recurrence(at_step(gates, iteration), cell, hidden)
        inner = self.encoder(frame, rows)
        if self.joint is not None:
            state = self.joint(inner, state)
        motions = self.kernelGen(state)
        image = self.decoder(self.content_state(inner), motions)
        masks = [self.plane(motions[size].mask) for size in sorted(motions)] if self.masks else []
        return image, frame - image, cell, hidden, _pixels(image, self.output), *masks


class VideoLayout(nn.Module):
    """Pixels of all steps to the artifact's video."""

    def __init__(self, made: str, output: str, *, conditional: bool) -> None:
        super().__init__()
        self.made, self.output = made, output
        self.conditional = conditional

    def forward(self, first: Tensor, pixels: Tensor) -> Tensor:
        """The frame before the first step [B, 3, 64, 64] and 8-bit [S, B, H, W, 3] or raw [S, B, 3, H, W].

        The first two frames of a sampled video are warm-up (spec 3.3): that one, and that of step 0.
        """
        pixels = torch.cat((_pixels(first, self.made)[None], pixels)) if self.conditional else pixels[1:]
        if self.made == "uint8":
            return pixels.permute(1, 0, 2, 3, 4)
        if self.output == "uint8":
            return quantise(pixels.permute(1, 0, 3, 4, 2))
        return pixels.permute(1, 2, 0, 3, 4)


class MaskLayout(nn.Module):
    """The masks of one scale of all steps, [S, B, R, R], to the artifact's, [B, F, R, R]."""

    def __init__(self, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, masks: Tensor) -> Tensor:
        """A given first frame, which no motion made, has masks of zeros."""
        masks = functional.pad(masks, (0, 0, 0, 0, 0, 0, 1, 0)) if self.conditional else masks[1:]
        return masks.transpose(0, 1)


class Parts:
    """The modules that the parts of the path share, folded and rewritten; the generator given is not changed."""

    def __init__(self, generator: Generator, lowering: str) -> None:
        config = generator.config
        self.generator = generator = fold_batch_norms(copy.deepcopy(generator)).requires_grad_(False).eval()
        if lowering == "cpu":
            lower_deconvolutions(generator)
        self.encoder = Encoder(generator)
        self.content_state = ContentState(generator)
        self.joint = JointState(generator) if config.joint else None
        self.recurrence = Recurrence(generator.trajGenerator.main.conv)
        self.motion_encoder: nn.Module = generator.motionEnc
        self.kernels: nn.Module = generator.kernelGen
        self.decoder = Decoder(generator.videoDec, config.ac_kernel, config.scales)


class SamplingPath(nn.Module):
    """The whole path; called in plain Python it does what the ONNX graph does.

    Args:
        generator: in evaluation mode; not changed.
        interface: of the artifact: type of the output, masks among the extras, first frame among the inputs.
        lowering: ``cpu`` or ``tensorrt``.
    """

    def __init__(self, generator: Generator, interface: ModelInterface, lowering: str = "tensorrt") -> None:
        super().__init__()
        parts = Parts(generator, lowering)
        config = generator.config
        output = interface.output.dtype
        conditional = interface.inputs[0].kind == "image"
        self.opening = Opening(parts, conditional=conditional)
        # Eight bits inside the loop save memory; TensorRT has them only where a graph ends.
        made = output if lowering == "cpu" else "float32"
        self.step = Step(parts, made, masks=bool(interface.extras))
        self.video_layout = VideoLayout(made, output, conditional=conditional)
        self.mask_layout = MaskLayout(conditional=conditional)
        state = ("batch", *_STATE)
        frame = ("batch", config.n_channels, 64, 64)
        #: Names and shapes of what goes from part to part.
        self.carried = (
            TensorSpec("frame", "float32", frame, "state"),
            TensorSpec("difference", "float32", frame, "state"),
            TensorSpec("cell", "float32", state, "state"),
            TensorSpec("hidden", "float32", state, "state"),
        )
        self.constant = (
            TensorSpec("rows", "float32", ("batch", 32 * config.gf_dim), "state"),
            TensorSpec("gates", "float32", ("steps", "batch", 4 * _STATE[0], *_STATE[1:]), "state"),
        )
        pixels = ("batch", 64, 64, 3) if made == "uint8" else frame
        masks = (
            TensorSpec(f"{spec.name}.step", "float32", ("batch", *spec.shape[2:]), "mask") for spec in interface.extras
        )
        #: Weights of convolutions that the step shares with what is around it are written twice: ONNX Runtime puts
        #: them in vector order only where they are in the same graph.
        self.copied = lowering == "cpu"
        self.scanned = (TensorSpec("pixels", made, pixels, "video"), *masks)

    def forward(self, start: Tensor, z_motion: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """The artifact's outputs: the video, and the masks if they are among them."""
        first, *carried, rows, gates = self.opening(start, z_motion, label)
        carried = [first, *carried]
        scanned = []
        for number in range(z_motion.shape[1]):
            made = self.step(torch.tensor(number), *carried, rows, gates)
            carried = list(made[: len(carried)])
            scanned.append(made[len(carried) :])
        pixels, *masks = (torch.stack(values) for values in zip(*scanned))
        return self.video_layout(first, pixels), *map(self.mask_layout, masks)
