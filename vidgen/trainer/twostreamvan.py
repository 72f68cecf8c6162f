"""Training TwoStreamVAN: its networks and optimisers, what is random, and one step of each task (spec 4-5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from vidgen.bench.scores.classifier import classifier_info
from vidgen.data.store import ClipStore
from vidgen.models.classifier import ImageDiscriminator, VideoDiscriminator
from vidgen.models.config import ModelConfig, TwoStreamVANConfig, TwoStreamVANDiscriminatorConfig
from vidgen.models.twostreamvan import Generator, Reconstruction, halved_differences
from vidgen.trainer.clips import check_store, describe, network_input
from vidgen.trainer.distributed import World, average_gradients, mean_over_world
from vidgen.trainer.initialise import initialise, start_from_stills
from vidgen.trainer.journal import Journal
from vidgen.trainer.labelled_clips import LabelledBatch, LabelledWindows, WindowShape, split_store
from vidgen.trainer.recipe import Place, Recipe, Say, average_of, frozen, noise_source, update_average
from vidgen.trainer.twostreamvan_losses import (
    MARGINS,
    ClipVerdicts,
    LossWeights,
    TaskLosses,
    Verdicts,
    content_losses,
    prediction_losses,
    pretraining_losses,
    video_losses,
    who_learns,
)
from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings
from vidgen.trainer.twostreamvan_validation import Validation, judged_actions

#: Submodules of the generator that the content tasks train.
CONTENT_MODULES = (
    "contEnc",
    "contSampler",
    "videoDec",
    "contMotionStateGen.fc_cont1",
    "contMotionStateGen.fc_cont2",
)


@dataclass
class Networks:
    """The generator and its two discriminators."""

    generator: Generator
    image_discriminator: ImageDiscriminator
    video_discriminator: VideoDiscriminator

    @classmethod
    def create(cls, config: TwoStreamVANConfig, ndf_image: int = 16, ndf_video: int = 64) -> Networks:
        """Freshly initialised networks in training mode, from torch's global generator."""
        image = ImageDiscriminator(TwoStreamVANDiscriminatorConfig("image", ndf=ndf_image))
        video = VideoDiscriminator(TwoStreamVANDiscriminatorConfig("video", config.n_cat, ndf_video))
        networks = cls(Generator(config), image, video)
        for network in networks.named().values():
            initialise(network)
        return networks

    def named(self) -> dict[str, nn.Module]:
        """By the names of the reference's checkpoint."""
        return {
            "generator": self.generator,
            "img_discriminator": self.image_discriminator,
            "vid_discriminator": self.video_discriminator,
        }

    @property
    def content_modules(self) -> tuple[nn.Module, ...]:
        """What learns in the content task alone, and is frozen in the others."""
        return tuple(self.generator.get_submodule(name) for name in CONTENT_MODULES)

    @property
    def motion_modules(self) -> tuple[str, ...]:
        """Names of what learns in the motion tasks alone."""
        names = ("motionEnc", "motionSampler", "trajGenerator", "kernelGen")
        joint = ("contMotionStateGen.fc_motion", "contMotionStateGen.fc_comb")
        return names + (joint if self.generator.contMotionStateGen.joint else ())

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each optimiser, by the names and in the order of the reference's checkpoint (spec 4.2)."""
        net = self.generator
        state = net.contMotionStateGen
        joint = (state.fc_motion, state.fc_comb) if state.joint else ()
        groups: dict[str, Iterable[nn.Module]] = {
            "optimize_contEnc": (net.contEnc, net.contSampler),
            "optimize_motionEnc": (net.motionEnc, net.motionSampler),
            "optimize_motionDec": (net.trajGenerator, net.kernelGen, *joint),
            "optimize_contDec": (net.videoDec, state.fc_cont1, state.fc_cont2),
            "optimize_d_img": (self.image_discriminator,),
            "optimize_d_vid": (self.video_discriminator,),
        }
        return {name: list(chain(*(part.parameters() for part in parts))) for name, parts in groups.items()}


@dataclass(frozen=True)
class Task:
    """A task's name in the logs and the optimisers of its three roles; no discriminator in pre-training."""

    name: str
    encoder: str
    decoder: str
    discriminator: str | None
    margin: float = 0.0


PRETRAINING = Task("recons", "optimize_contEnc", "optimize_contDec", None)
CONTENT = Task("recons", "optimize_contEnc", "optimize_contDec", "optimize_d_img", MARGINS["recons"])
EASY = Task("pred", "optimize_motionEnc", "optimize_motionDec", "optimize_d_img", MARGINS["pred"])
HARD = Task("video", "optimize_motionEnc", "optimize_motionDec", "optimize_d_vid", MARGINS["video"])


@dataclass(frozen=True)
class Draws:
    """All that is random in one step; noise of this process's share of the batch.

    Attributes:
        choices: two uniforms that choose the task. frame: target of the content task. time: of the easier motion.
        content_noise, content_prior: [B, cont_dim]. motion_noise, motion_prior: [B, motion_dim].
        clip_noise, clip_prior: [B (T - 1), motion_dim], sample by sample.
        uniforms: of scheduled sampling, [2, 2 (T - 1) - 1]: the posterior's pass, the prior's pass.
    """

    choices: tuple[float, float]
    frame: int
    time: int
    content_noise: Tensor
    content_prior: Tensor
    motion_noise: Tensor
    motion_prior: Tensor
    clip_noise: Tensor
    clip_prior: Tensor
    uniforms: Tensor

    @classmethod
    def of_step(cls, settings: TwoStreamVANTrainSettings, step: int, world: World, device: torch.device) -> Draws:
        """The draws of a step: they depend on (seed, step) alone."""
        source = noise_source(settings.random_seed, step)
        steps, batch = settings.video_length - 1, settings.batch_size
        last = settings.video_length if settings.last_frame else settings.video_length - 1  # exclusive: a quirk
        u1, u2 = torch.rand(2, generator=source).tolist()
        frame = int(torch.randint(last, (1,), generator=source))
        time = int(torch.randint(1, last, (1,), generator=source))
        mine = slice(world.rank, None, world.size)

        def noise(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=source)[mine].to(device)

        content, motion = settings.cont_dim, settings.motion_dim
        return cls(
            choices=(u1, u2),
            frame=frame,
            time=time,
            content_noise=noise(content),
            content_prior=noise(content),
            motion_noise=noise(motion),
            motion_prior=noise(motion),
            clip_noise=noise(steps, motion).flatten(0, 1),
            clip_prior=noise(steps, motion).flatten(0, 1),
            uniforms=torch.rand(2, 2 * steps - 1, generator=source),
        )


class Game:
    """One step of each task on a batch: forward passes and losses (spec 4), without updates.

    Args:
        clip: [B, 3, T, 64, 64] in [-1, 1]. category: int64 [B].
    """

    def __init__(self, networks: Networks, clip: Tensor, category: Tensor, draws: Draws) -> None:
        self.networks, self.clip, self.category, self.draws = networks, clip, category, draws

    def content(self, weights: LossWeights, *, pretraining: bool = False) -> TaskLosses:
        """A still frame, reconstructed and imagined."""
        net, draws = self.networks.generator, self.draws
        target = self.clip[:, :, draws.frame]
        made = net.reconstruct_one_frame(self.category, target, noise=draws.content_noise)
        if pretraining:
            return pretraining_losses(made, target, weights)
        imagined = net.reconstruct_one_frame(self.category, prior=draws.content_prior)
        return content_losses(made, target, self._judge_frames(made, imagined, target), weights)

    def easy(self, weights: LossWeights) -> TaskLosses:
        """The next frame from the real frames before it."""
        net, draws, t = self.networks.generator, self.draws, self.draws.time
        target = self.clip[:, :, t]
        known = (self.clip[:, :, t - 1], halved_differences(self.clip)[:, :, :t], self.category)
        made = net.predict_next_frame(*known, noise=draws.motion_noise)
        imagined = net.predict_next_frame(*known, prior=draws.motion_prior)
        with torch.no_grad():
            still = net.reconstruct_one_frame(self.category, target).features
        return prediction_losses(made, target, still, self._judge_frames(made, imagined, target), weights)

    def hard(self, weights: LossWeights, epsilon: float) -> TaskLosses:
        """A whole clip, from real frames with probability ``epsilon``."""
        net, draws, clip, category = self.networks.generator, self.draws, self.clip, self.category
        known = (clip, category, halved_differences(clip), epsilon)
        made = net.reconstruct_seq(*known, draws.uniforms[0], noise=draws.clip_noise)
        imagined = net.reconstruct_seq(*known, draws.uniforms[1], prior=draws.clip_prior)
        return video_losses(made, clip, self._still_features(), category, self._judge_clips(made, imagined), weights)

    def _judge_clips(self, made: Reconstruction, imagined: Reconstruction) -> ClipVerdicts:
        judge = self.networks.video_discriminator
        # In float32 always: bfloat16 gradients of 3-D convolutions were seen to come out as NaN on a CPU, now and then.
        with torch.autocast(self.clip.device.type, enabled=False):
            posterior, prior = made.image.float(), imagined.image.float()
            with frozen(judge):
                fooled = judge(posterior), judge(prior)
            return ClipVerdicts(*fooled, judge(posterior.detach()), judge(prior.detach()), judge(self.clip))

    def _judge_frames(self, made: Reconstruction, imagined: Reconstruction, target: Tensor) -> Verdicts:
        judge = self.networks.image_discriminator
        with frozen(judge):
            fooled = judge(made.image), judge(imagined.image)
        return Verdicts(*fooled, judge(made.image.detach()), judge(imagined.image.detach()), judge(target))

    @torch.no_grad()
    def _still_features(self) -> list[Tensor]:
        """Decoder features of the real frames from the second on, frame by frame, without motion."""
        net, frames = self.networks.generator, self.clip.shape[2]
        if net.config.use_bn:  # batch statistics are those of one frame's batch
            made = (net.reconstruct_one_frame(self.category, self.clip[:, :, t]) for t in range(1, frames))
            return [feature for one in made for feature in one.features]
        flat = self.clip[:, :, 1:].transpose(0, 2).transpose(1, 2).flatten(0, 1)
        features = net.reconstruct_one_frame(self.category.repeat(frames - 1), flat).features
        return [part for parts in zip(*(feature.chunk(frames - 1) for feature in features)) for part in parts]


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter], *, retain: bool) -> list[Tensor | None]:
    """Of one loss by its own optimiser's parameters: no other loss leaks in."""
    return list(torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True))


class TwoStreamVANRecipe(Recipe[TwoStreamVANTrainSettings]):
    """TwoStreamVAN for the training loop."""

    def __init__(self, settings: TwoStreamVANTrainSettings, store: ClipStore, place: Place, say: Say) -> None:
        super().__init__(settings, store, place, say)
        self.split = split_store(store, settings.held_out, settings.classes)
        length = settings.video_length
        train, test = self.split.train, self.split.test
        check_store(store, train, length, settings.batch_size, held_out=test, cropping=True)
        if settings.classifier:
            # Now, and not at the first validation.
            judged_actions(classifier_info(settings.classifier), self.split.action_names)
        self.config = settings.generator_config(len(self.split.action_names))
        self.nets = Networks.create(self.config, settings.ndf_image, settings.ndf_video)
        if settings.start_from_stills:
            start_from_stills(self.nets.generator)
        self.networks = self.nets.named()
        self.average = average_of(self.nets.generator) if settings.ema else None
        if self.average:
            self.networks["generator_ema"] = self.average
        for network in self.networks.values():
            network.to(place.device)
        self.parameters = self.nets.parameters()
        self.optimisers = {
            name: torch.optim.Adam(group, lr=settings.lr, betas=(0.5, 0.999), weight_decay=1e-5)
            for name, group in self.parameters.items()
        }
        shape = WindowShape(length, settings.every_nth, settings.crop, settings.class_steps)
        self.dataset = LabelledWindows(store, self.split, self.split.train, shape, seed=settings.random_seed)
        self.held_out = LabelledWindows(store, self.split, self.split.test, shape, test=True)
        self.clips = len(self.split.train)
        self.description = describe(store, settings.every_nth, self.split.action_names)

    @property
    def published(self) -> str:
        """The averaged generator where one is kept."""
        return "generator_ema" if self.average else "generator"

    def saved_as(self, name: str) -> tuple[str, ModelConfig]:
        """Model name and configuration of a network's checkpoint."""
        if name in ("generator", "generator_ema"):
            return "twostreamvan", self.config
        network = self.networks[name]
        assert isinstance(network, ImageDiscriminator | VideoDiscriminator)
        return "twostreamvan_discriminator", network.config

    def choose(self, number: int, draws: Draws) -> Task:
        """The task of a step: its iteration counts from 1 (spec 5)."""
        settings, iteration = self.settings, number + 1
        if iteration < settings.pretrain_iters:
            return PRETRAINING
        lines = settings.schedules
        u1, u2 = draws.choices
        if u1 > lines["cont_ratio"].at(iteration):
            return CONTENT
        return EASY if u2 > lines["motion_ratio"].at(iteration) else HARD

    def step(self, number: int, batch: LabelledBatch) -> Mapping[str, Tensor]:
        """One task, chosen by its schedule."""
        settings, device = self.settings, self.place.device
        clip = network_input(batch["frames"].to(device, non_blocking=True))
        draws = Draws.of_step(settings, number, self.place.world, device)
        task = self.choose(number, draws)
        game = Game(self.nets, clip, batch["action"].to(device), draws)
        content = task in (PRETRAINING, CONTENT)
        with frozen(*(() if content else self.nets.content_modules)):
            with self.place.autocast():
                losses = self._losses(game, task, number + 1)
            self._update(task, losses)
        if self.average:
            # Only what this task has moved: most of the weights are the motion stream's, and most steps content's.
            for name in CONTENT_MODULES if content else self.nets.motion_modules:
                now, mean = (network.get_submodule(name) for network in (self.nets.generator, self.average))
                update_average(mean, now, settings.ema)
        return {f"{task.name}/{name}": value.detach() for name, value in losses.parts.items()}

    def _losses(self, game: Game, task: Task, iteration: int) -> TaskLosses:
        settings, lines = self.settings, self.settings.schedules
        if task in (PRETRAINING, CONTENT):
            kl = lines["c_kl"].at(iteration)
            weights = LossWeights(kl, settings.c_img_dis, prior_share=settings.xp_vs_xtilde)
            return game.content(weights, pretraining=task is PRETRAINING)
        if task is EASY:
            return game.easy(LossWeights(settings.img_m_kl, scale_features=settings.pred_scale_feat))
        weights = LossWeights(lines["m_kl"].at(iteration), scale_features=settings.video_scale_feat)
        return game.hard(weights, lines["epsilon"].at(iteration))

    def _update(self, task: Task, losses: TaskLosses) -> None:
        """Encoder, decoder, discriminator, each by its own loss at the weights of the forward pass (spec 4.1, 4.2)."""
        decoder = discriminator = True
        if losses.real is not None and losses.fake is not None:
            both = torch.stack((losses.real, losses.fake)).detach()
            real, fake = mean_over_world(both, self.place.world).tolist()
            decoder, discriminator = who_learns(real, fake, task.margin)
        roles: list[tuple[str, Tensor]] = [(task.encoder, losses.encoder)]
        if decoder:
            roles.append((task.decoder, losses.decoder))
        if task.discriminator and discriminator and losses.discriminator is not None:
            roles.append((task.discriminator, losses.discriminator))
        for i, (name, loss) in enumerate(roles):
            found = gradients(loss, self.parameters[name], retain=i < len(roles) - 1)
            for parameter, gradient in zip(self.parameters[name], found, strict=True):
                parameter.grad = gradient
        for name, _ in roles:
            average_gradients(self.parameters[name], self.place.world)
            self.optimisers[name].step()
            self.optimisers[name].zero_grad(set_to_none=True)

    def validate(self, journal: Journal, step: int, epoch: int) -> None:
        """Losses and pictures of held-out clips, samples of every class with their masks (spec 5)."""
        generator = self.average or self.nets.generator
        Validation(self.settings, generator, self.held_out, self.split, self.place).show(
            journal, step, content_only=step < self.settings.pretrain_iters
        )

    def headline(self, losses: Mapping[str, float]) -> str:
        """The squared error of the step's task."""
        name = next(name for name in losses if name.endswith("_mse"))
        return f"{name.split('/')[0]} {losses[name]:.4f}"
