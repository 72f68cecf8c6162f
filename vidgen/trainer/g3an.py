"""Training G3AN: the networks, what is random, and one step of the three-player game (spec g3an 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen.data.store import ClipStore
from vidgen.models.config import G3ANConfig, G3ANDiscriminatorConfig, ModelConfig
from vidgen.models.g3an import Generator, ImageDiscriminator, VideoDiscriminator
from vidgen.trainer.clips import WINDOW, WindowDataset, check_store, describe, mean_step, network_input
from vidgen.trainer.distributed import World, average_gradients
from vidgen.trainer.g3an_settings import G3ANTrainSettings
from vidgen.trainer.journal import Journal
from vidgen.trainer.recipe import Autocast, Place, Recipe, Say, average_of, frozen, noise_source, update_average

#: Stands for a step in the noise of the validation grid.
_VALIDATION = 2**32 - 1
#: The four losses of a step, named as the reference logs them.
LOSSES = ("D_vid_loss", "D_img_loss", "G_vid_loss", "G_img_loss")


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
        average = average_of(generator) if averaged else None
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
        source = noise_source(seed, step)
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
    autocast: Autocast = contextlib.nullcontext,
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
    with frozen(judge_video, judge_image):
        with autocast():
            video_logits, image_logits = judge_video(fake), judge_image(fake_image)
        generator_video = adversarial_loss(video_logits, True)
        generator_image = adversarial_loss(image_logits, True)
        (generator_video + generator_image).backward()
    average_gradients(networks.generator.parameters(), world)
    optimisers.generator.step()
    return torch.stack((video_loss, image_loss, generator_video, generator_image)).detach()


def validation_noise(seed: int, config: G3ANConfig, n_za: int, n_zm: int) -> tuple[Tensor, Tensor]:
    """Noise of the validation grid, the same throughout a run: row i * n_zm + j is appearance i, motion j."""
    source = noise_source(seed, _VALIDATION)
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


class G3ANRecipe(Recipe[G3ANTrainSettings]):
    """G3AN for the training loop."""

    def __init__(self, settings: G3ANTrainSettings, store: ClipStore, place: Place, say: Say) -> None:
        super().__init__(settings, store, place, say)
        check_store(store, range(len(store)), WINDOW, settings.batch_size)
        _mention_short_clips(store, settings, say)
        config = settings.generator_config
        self.nets = Networks.create(config, settings.ch_d, averaged=settings.ema > 0)
        self.nets.to(place.device)
        self.adams = Optimisers.create(self.nets, settings.g_lr, settings.d_lr)
        self.networks, self.optimisers = self.nets.named(), dict(self.adams.named())
        self.dataset = WindowDataset(store.path, settings.random_seed, settings.frame_steps)
        self.clips = len(store)
        self.description = describe(store, mean_step(store, settings.frame_steps))
        self.noise = validation_noise(settings.random_seed, config, settings.n_za_test, settings.n_zm_test)

    @property
    def published(self) -> str:
        """The averaged generator where one is kept."""
        return "G_ema" if self.nets.average else "G"

    def saved_as(self, name: str) -> tuple[str, ModelConfig]:
        """Model name and configuration of a network's checkpoint."""
        if name in ("G", "G_ema"):
            return "g3an", self.settings.generator_config
        return "g3an_discriminator", G3ANDiscriminatorConfig("video" if name == "VD" else "image", self.settings.ch_d)

    def step(self, number: int, batch: Tensor) -> Mapping[str, Tensor]:
        """Update the three networks; ``batch`` is uint8 [B, 16, 64, 64, 3]."""
        settings, place = self.settings, self.place
        real = network_input(batch.to(place.device, non_blocking=True))
        config = settings.generator_config
        draws = Draws.of_step(settings.random_seed, number, settings.batch_size, config, place.world)
        values = train_step(self.nets, self.adams, real, draws.to(place.device), place.world, place.autocast)
        if self.nets.average:
            update_average(self.nets.average, self.nets.generator, settings.ema)
        return dict(zip(LOSSES, values, strict=True))

    def validate(self, journal: Journal, step: int, epoch: int) -> None:
        """Draw the grid of appearances and motions, min-max normalised as a whole as in the reference (spec g3an 3)."""
        from vidgen.runtime.ranges import batch_minmax

        videos = validation_videos(self.nets.average or self.nets.generator, *self.noise)
        frames = batch_minmax(videos.float().numpy())
        journal.videos("generated_videos", "grid", frames, self.settings.n_zm_test, step, epoch, self.description.fps)

    def headline(self, losses: Mapping[str, float]) -> str:
        """The two losses of the video game."""
        return f"D {losses['D_vid_loss']:.2f} G {losses['G_vid_loss']:.2f}"


def _mention_short_clips(store: ClipStore, settings: G3ANTrainSettings, say: Say) -> None:
    longest = max(settings.frame_steps)
    short = sum(clip.length < WINDOW * longest for clip in store.clips)
    if short:
        say(
            f"{short} of {len(store)} clips have fewer than {WINDOW * longest} frames: "
            f"where a step of {longest} does not fit, their windows take the largest that does"
        )
