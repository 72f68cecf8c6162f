"""TwoStreamVAN: content and motion streams, motion applied by adaptive separable convolution (spec twostreamvan 1-3).

No random number is drawn here: noise and the uniforms of scheduled sampling are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan_layers import (
    MOTION_EMBEDDING,
    ContentEncoder,
    ContentMotionState,
    KernelGenerator,
    LatentSampler,
    MotionEncoder,
    TrajectoryGenerator,
    VideoDecoder,
)


class Reconstruction(NamedTuple):
    """A frame or a clip with what its losses need.

    Attributes:
        image: [B, C, 64, 64], or [B, C, T, 64, 64].
        mean, logvar: of the latent's posterior; None where it was drawn from the prior.
        features: of the decoder at each scale below 64; those of a clip frame by frame from the second frame on.
    """

    image: Tensor
    mean: Tensor | None
    logvar: Tensor | None
    features: list[Tensor]


class MovedFrame(NamedTuple):
    """A frame made with motion: [B, C, 64, 64], decoder features, and masks [B, 1, R, R] by R."""

    image: Tensor
    features: list[Tensor]
    masks: dict[int, Tensor]


class Generator(nn.Module):
    """The generator with its encoders; submodule names are the reference's state-dict prefixes.

    ``category`` is int64 [B] everywhere; frames are float [B, C, 64, 64] in [-1, 1].
    """

    def __init__(self, config: TwoStreamVANConfig) -> None:
        super().__init__()
        self.config = config
        gf, n_cat, use_bn = config.gf_dim, config.n_cat, config.use_bn
        self.contEnc = ContentEncoder(config.n_channels, gf, use_bn)
        self.contSampler = LatentSampler(32 * gf, n_cat, config.cont_dim)
        self.motionEnc = MotionEncoder(config.n_channels)
        self.motionSampler = LatentSampler(MOTION_EMBEDDING, n_cat, config.motion_dim)
        self.trajGenerator = TrajectoryGenerator(config.motion_dim, n_cat, use_bn)
        self.contMotionStateGen = ContentMotionState(config.cont_dim, n_cat, gf, config.joint, use_bn)
        self.kernelGen = KernelGenerator(config.ac_kernel, config.scales)
        self.videoDec = VideoDecoder(config.n_channels, gf, config.no_mask, config.scales, use_bn)

    def one_hot(self, category: Tensor) -> Tensor:
        """Class indices [B] as float rows [B, n_cat]."""
        return F.one_hot(category, self.config.n_cat).to(self.contSampler.mean.weight.dtype)

    def reconstruct_one_frame(
        self, category: Tensor, frame: Tensor | None = None, *, noise: Tensor | None = None, prior: Tensor | None = None
    ) -> Reconstruction:
        """A still frame from content alone (spec 3.1).

        Args:
            frame: to encode. noise: [B, cont_dim] for a draw from the posterior; its mean without it.
            prior: [B, cont_dim], the content latent itself, in place of ``frame``.
        """
        one_hot = self.one_hot(category)
        mean = logvar = None
        if prior is None:
            prior, mean, logvar = self.contSampler(self.contEnc(frame), one_hot, noise)
        image, features = self.videoDec(self.contMotionStateGen.content(prior, one_hot)[0])
        return Reconstruction(image, mean, logvar, features)

    def predict_next_frame(
        self,
        previous: Tensor,
        differences: Tensor,
        category: Tensor,
        *,
        noise: Tensor | None = None,
        prior: Tensor | None = None,
    ) -> Reconstruction:
        """The frame after ``previous`` (spec 3.2).

        Args:
            differences: halved differences of the frames so far and of the step to make, [B, C, t, H, W], t >= 1.
            noise: [B, motion_dim] for a draw from the posterior of the last difference; its mean without it.
            prior: [B, motion_dim], the motion latent itself, in place of the last difference.
        """
        one_hot = self.one_hot(category)
        motions = self._motion_features(differences)
        mean = logvar = None
        if prior is None:
            prior, mean, logvar = self.motionSampler(self.motionEnc.embed(motions[:, -1]), one_hot, noise)
        state = None
        for t in range(motions.shape[1] - 1):
            _, state = self.trajGenerator.main(motions[:, t], state)
        moved = self.next_frame(previous, self.trajGenerator(prior, one_hot), state, one_hot)
        return Reconstruction(moved.image, mean, logvar, moved.features)

    def reconstruct_seq(
        self,
        images: Tensor,
        category: Tensor,
        differences: Tensor,
        epsilon: float,
        uniforms: Tensor,
        *,
        noise: Tensor | None = None,
        prior: Tensor | None = None,
    ) -> Reconstruction:
        """A whole clip, frame by frame, by scheduled sampling (spec 3.4).

        Args:
            images: [B, C, T, H, W]. differences: halved, [B, C, T - 1, H, W].
            epsilon: probability of going on from the real frame, and from the real motion, instead of the generated.
            uniforms: [2 (T - 1) - 1] in [0, 1): for the content of step 0, then content and motion of each step.
            noise: [B (T - 1), motion_dim], sample by sample, for draws from the posterior; its means without it.
            prior: the motion latents themselves, of the same shape.
        """
        one_hot = self.one_hot(category)
        steps = differences.shape[2]
        motions = self._motion_features(differences)
        mean = logvar = None
        repeated = one_hot.repeat_interleave(steps, 0)
        if prior is None:
            prior, mean, logvar = self.motionSampler(self.motionEnc.embed(motions.flatten(0, 1)), repeated, noise)
        trajectory = self.trajGenerator(prior, repeated).unflatten(0, (-1, steps))
        real = iter((uniforms > 1 - epsilon).tolist())
        frames = [self.reconstruct_one_frame(category, images[:, :, 0]).image]
        features: list[Tensor] = []
        state = None
        for t in range(steps):
            source = images[:, :, t] if next(real) else frames[-1]
            if t > 0:
                motion = motions[:, t - 1] if next(real) else self.motionEnc(frames[-2] - frames[-1])
                _, state = self.trajGenerator.main(motion, state)
            moved = self.next_frame(source, trajectory[:, t], state, one_hot)
            frames.append(moved.image)
            features += moved.features
        return Reconstruction(torch.stack(frames, 2), mean, logvar, features)

    def sample(
        self, category: Tensor, z_content: Tensor, z_motion: Tensor
    ) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
        """The frames of a sampled video, one by one, with their masks (full_test, spec 3.3).

        The reference's driver drops the first two frames and clips the rest to [-1, 1].

        Args:
            z_content: [B, cont_dim]. z_motion: [B, L - 1, motion_dim].

        Yields:
            L frames [B, C, 64, 64]; the first has no masks.
        """
        return self.continue_from(self.reconstruct_one_frame(category, prior=z_content).image, category, z_motion)

    def continue_from(
        self, frame: Tensor, category: Tensor, z_motion: Tensor
    ) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
        """The given frame and as many after it as there are motion latents [B, L - 1, motion_dim] (spec 3.3)."""
        one_hot = self.one_hot(category)
        before: Tensor | None = None
        state = None
        yield frame, {}
        for t in range(z_motion.shape[1]):
            if before is not None:
                # Not halved, unlike in training: a quirk that checkpoints have learnt to live with.
                _, state = self.trajGenerator.main(self.motionEnc(before - frame), state)
            moved = self.next_frame(frame, self.trajGenerator(z_motion[:, t], one_hot), state, one_hot)
            before, frame = frame, moved.image
            yield frame, moved.masks

    def next_frame(self, source: Tensor, trajectory: Tensor, state: Tensor | None, one_hot: Tensor) -> MovedFrame:
        """One frame: content of ``source``, motion of ``trajectory`` [B, 16, 8, 8] after ``state`` (3.3 a, c, d)."""
        content_latent = self.contSampler(self.contEnc(source), one_hot).mean
        hidden, _ = self.trajGenerator.main(trajectory, state)
        content, motion = self.contMotionStateGen(content_latent, hidden, one_hot)
        motions = self.kernelGen(motion)
        image, features = self.videoDec(content, motions)
        return MovedFrame(image, features, {size: motion.mask for size, motion in motions.items()})

    def _motion_features(self, differences: Tensor) -> Tensor:
        """[B, C, t, H, W] -> [B, t, 16, 8, 8], all in one batch."""
        flat = differences.transpose(1, 2).flatten(0, 1)
        features: Tensor = self.motionEnc(flat).unflatten(0, (differences.shape[0], -1))
        return features


def halved_differences(images: Tensor) -> Tensor:
    """What the motion encoder sees in training: (x_t - x_{t+1}) / 2, [B, C, T, H, W] -> [B, C, T - 1, H, W]."""
    return (images[:, :, :-1] - images[:, :, 1:]) / 2
