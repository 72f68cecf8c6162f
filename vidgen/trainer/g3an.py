"""Training G3AN: the networks, what is random, and one step of the three-player game (spec g3an 3)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen.models.config import G3ANConfig
from vidgen.models.g3an import Generator, ImageDiscriminator, VideoDiscriminator
from vidgen.trainer.clips import WINDOW
from vidgen.trainer.distributed import World, average_gradients


@dataclass(frozen=True)
class Losses:
    """The four losses of a step, named as the reference logs them."""

    D_vid_loss: float
    D_img_loss: float
    G_vid_loss: float
    G_img_loss: float


@dataclass
class Networks:
    """The three networks, and the averaged generator where one is kept."""

    generator: Generator
    video_discriminator: VideoDiscriminator
    image_discriminator: ImageDiscriminator
    average: Generator | None = None

    @classmethod
    def create(cls, config: G3ANConfig, ch_d: int, *, averaged: bool) -> Networks:
        """Freshly initialised networks in training mode, from torch's global generator."""
        generator = Generator(config)
        average = copy.deepcopy(generator).requires_grad_(False) if averaged else None
        return cls(generator, VideoDiscriminator(ch_d), ImageDiscriminator(ch_d), average)

    def named(self) -> dict[str, nn.Module]:
        """By the reference's file names: G, VD, ID, and G_ema."""
        networks = {"G": self.generator, "VD": self.video_discriminator, "ID": self.image_discriminator}
        return networks | ({"G_ema": self.average} if self.average else {})

    def to(self, device: torch.device) -> None:
        """Move all networks."""
        for network in self.named().values():
            network.to(device)


@dataclass
class Optimisers:
    """Adam for each network: betas (0.5, 0.999), no weight decay, no schedule."""

    generator: torch.optim.Adam
    video_discriminator: torch.optim.Adam
    image_discriminator: torch.optim.Adam

    @classmethod
    def create(cls, networks: Networks, g_lr: float, d_lr: float) -> Optimisers:
        """One optimiser a network; call after the networks are on their device."""

        def adam(network: nn.Module, rate: float) -> torch.optim.Adam:
            return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999))

        return cls(
            adam(networks.generator, g_lr),
            adam(networks.video_discriminator, d_lr),
            adam(networks.image_discriminator, d_lr),
        )

    def named(self) -> dict[str, torch.optim.Adam]:
        """By the names of the networks."""
        return {"G": self.generator, "VD": self.video_discriminator, "ID": self.image_discriminator}


@dataclass(frozen=True)
class Draws:
    """All that is random in one step.

    Attributes:
        za: [B, c_a, 1, 1, 1]. zm: [B, c_m, T, 1, 1].
        real_frame, fake_frame: the frame index the image discriminator sees, one for the whole batch.
    """

    za: Tensor
    zm: Tensor
    real_frame: int
    fake_frame: int

    @classmethod
    def of_step(cls, seed: int, step: int, batch_size: int, config: G3ANConfig, world: World) -> Draws:
        """The draws of a step: they depend on (seed, step) alone, so that a resumed run is the same run.

        Noise is drawn for the batch of all processes, of which this one takes its share.
        """
        source = torch.Generator().manual_seed((seed << 32) + step)
        real_frame, fake_frame = (int(torch.randint(WINDOW, (1,), generator=source)) for _ in range(2))
        za = torch.randn(batch_size, config.c_a, 1, 1, 1, generator=source)
        zm = torch.randn(batch_size, config.c_m, 1, 1, 1, generator=source)
        mine = slice(world.rank, None, world.size)
        return cls(za[mine], zm[mine], real_frame, fake_frame)

    def to(self, device: torch.device) -> Draws:
        """The same draws with the noise on a device."""
        return Draws(self.za.to(device), self.zm.to(device), self.real_frame, self.fake_frame)


def adversarial_loss(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy with logits against all ones or all zeros, mean over the batch."""
    logits = logits.float()
    target = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, target)


def train_step(
    networks: Networks,
    optimisers: Optimisers,
    real: Tensor,
    draws: Draws,
    world: World = World(),  # noqa: B008 - a frozen value
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Tensor:
    """One iteration: both discriminators, then the generator against the updated discriminators.

    Args:
        real: clips, [B, 3, 16, 64, 64] in [-1, 1].

    Returns:
        The losses VD, ID, VG, IG as a tensor [4], detached, on the device.
    """
    judge_video, judge_image = networks.video_discriminator, networks.image_discriminator
    optimisers.video_discriminator.zero_grad()
    optimisers.image_discriminator.zero_grad()
    with autocast():
        real_video_logits = judge_video(real)
        real_image_logits = judge_image(real[:, :, draws.real_frame])
        fake = networks.generator(draws.za, draws.zm)
        fake_image = fake[:, :, draws.fake_frame]
        fake_video_logits = judge_video(fake.detach())
        fake_image_logits = judge_image(fake_image.detach())
    video_loss = adversarial_loss(real_video_logits, True) + adversarial_loss(fake_video_logits, False)
    image_loss = adversarial_loss(real_image_logits, True) + adversarial_loss(fake_image_logits, False)
    video_loss.backward()
    average_gradients(judge_video.parameters(), world)
    optimisers.video_discriminator.step()
    image_loss.backward()
    average_gradients(judge_image.parameters(), world)
    optimisers.image_discriminator.step()

    optimisers.generator.zero_grad()
    # The discriminators' own gradients would be thrown away: do not compute them.
    with _frozen(judge_video), _frozen(judge_image):
        with autocast():
            video_logits, image_logits = judge_video(fake), judge_image(fake_image)
        generator_video = adversarial_loss(video_logits, True)
        generator_image = adversarial_loss(image_logits, True)
        (generator_video + generator_image).backward()
    average_gradients(networks.generator.parameters(), world)
    optimisers.generator.step()
    return torch.stack((video_loss, image_loss, generator_video, generator_image)).detach()


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


@torch.no_grad()
def update_average(average: Generator, generator: Generator, decay: float) -> None:
    """Move the averaged generator towards the current one; buffers are copied."""
    for mean, parameter in zip(average.parameters(), generator.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
    for buffer, value in zip(average.buffers(), generator.buffers(), strict=True):
        buffer.copy_(value)


def validation_noise(seed: int, config: G3ANConfig, n_za: int, n_zm: int) -> tuple[Tensor, Tensor]:
    """Noise of the validation grid, the same throughout a run: row i * n_zm + j is appearance i, motion j."""
    source = torch.Generator().manual_seed((seed << 32) + 0xFFFFFFFF)
    za = torch.randn(n_za, config.c_a, 1, 1, 1, generator=source)
    zm = torch.randn(n_zm, config.c_m, 1, 1, 1, generator=source)
    return za.repeat_interleave(n_zm, dim=0), zm.repeat(n_za, 1, 1, 1, 1)


@torch.no_grad()
def validation_videos(generator: Generator, za: Tensor, zm: Tensor, chunk: int = 16) -> Tensor:
    """Videos of the validation grid in evaluation mode, [n * m, 3, 16, 64, 64] on the CPU."""
    device = next(generator.parameters()).device
    training = generator.training
    generator.eval()
    try:
        parts = [
            generator(a.to(device), m.to(device)).cpu() for a, m in zip(za.split(chunk), zm.split(chunk), strict=True)
        ]
    finally:
        generator.train(training)
    return torch.cat(parts)
