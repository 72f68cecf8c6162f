"""The losses of TwoStreamVAN's training tasks, and the rule of who learns from them (spec twostreamvan 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen.models.classifier import Judgement
from vidgen.models.twostreamvan import Reconstruction

#: Weight of the squared error in every loss.
RECONSTRUCTION = 10000.0
#: Weight of the adversarial terms in the easier motion task, fixed in the reference.
PREDICTION_ADVERSARIAL = 10.0
#: The update rule compares losses with this, about the cross-entropy of a guess (4.1).
GUESS = 0.68
MARGINS = {"recons": 0.5, "pred": 0.4, "video": 0.5}


@dataclass(frozen=True)
class LossWeights:
    """Weights at one iteration, after the schedules.

    Attributes:
        kl: of the task's latent. adversarial: of the content task's image discriminator (``c_img_dis``).
        scale_features: of the decoder features. prior_share: share of the prior's output, r = ``xp_vs_xtilde``.
    """

    kl: float
    adversarial: float = PREDICTION_ADVERSARIAL
    scale_features: float = 0.0
    prior_share: float = 1.0


@dataclass(frozen=True)
class TaskLosses:
    """The losses of one task.

    Attributes:
        encoder, decoder: of the two halves of the generator. discriminator: None in pre-training.
        parts: everything logged, by ``group/name`` as in the reference.
        real, fake: what the update rule looks at; None in pre-training.
    """

    encoder: Tensor
    decoder: Tensor
    discriminator: Tensor | None
    parts: dict[str, Tensor]
    real: Tensor | None = None
    fake: Tensor | None = None


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Of a diagonal normal distribution from the standard one: the mean over rows of the sum over dimensions."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1).mean()


def realness_loss(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy with logits against all ones or zeros, mean over all elements."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def scale_feature_loss(made: Reconstruction, real: Sequence[Tensor], steps: int = 1) -> Tensor:
    """Squared errors of decoder features, mean over elements, summed over scales (and frames), over ``steps``.

    Zero, on the device of the images, where motion acts on pixels alone and there are no features.
    """
    terms = [F.mse_loss(a.float(), b.float()) for a, b in zip(made.features, real, strict=True)]
    return torch.stack(terms).sum() / steps if terms else torch.zeros((), device=made.image.device)


def _posterior(made: Reconstruction) -> tuple[Tensor, Tensor]:
    assert made.mean is not None and made.logvar is not None
    return made.mean.float(), made.logvar.float()


def pretraining_losses(made: Reconstruction, target: Tensor, weights: LossWeights) -> TaskLosses:
    """Content alone, without a discriminator."""
    divergence = kl_divergence(*_posterior(made))
    error = F.mse_loss(made.image.float(), target)
    encoder, decoder = weights.kl * divergence + RECONSTRUCTION * error, RECONSTRUCTION * error
    parts = {
        "cont_enc/kld": divergence,
        "cont_enc/recons_mse": error,
        "cont_enc/l_enc_recons": encoder,
        "cont_dec/recons_mse": error,
        "cont_dec/l_dec_recons": decoder,
    }
    return TaskLosses(encoder, decoder, None, parts)


@dataclass(frozen=True)
class Verdicts:
    """Logits of a discriminator on x~ and xp for the decoder, then on x~, xp (both detached) and x for itself."""

    decoder_posterior: Tensor
    decoder_prior: Tensor
    posterior: Tensor
    prior: Tensor
    real: Tensor

    def decoder_costs(self) -> tuple[Tensor, Tensor]:
        """What the decoder pays for x~ and xp not being taken for real."""
        return realness_loss(self.decoder_posterior, True), realness_loss(self.decoder_prior, True)

    def discriminator_costs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the discriminator pays on x~, xp and x."""
        return realness_loss(self.posterior, False), realness_loss(self.prior, False), realness_loss(self.real, True)


def content_losses(made: Reconstruction, target: Tensor, verdicts: Verdicts, weights: LossWeights) -> TaskLosses:
    """Content: a still frame against the image discriminator."""
    base = pretraining_losses(made, target, weights)
    r = weights.prior_share
    posterior, prior = verdicts.decoder_costs()
    decoder = base.decoder + weights.adversarial * (posterior + r * prior)
    d_posterior, d_prior, d_real = verdicts.discriminator_costs()
    discriminator = d_posterior + r * d_prior + d_real
    parts = base.parts | {
        "cont_dec/recons_gan_x_tilde": posterior,
        "cont_dec/recons_gan_x_p": prior,
        "cont_dec/l_dec_recons": decoder,
        "img_dis/recons_gan_x_tilde": d_posterior,
        "img_dis/recons_gan_x_p": d_prior,
        "img_dis/gan_x": d_real,
        "img_dis/l_dis_recons": discriminator,
    }
    fake = (1 - r) * d_posterior + r * d_prior
    return TaskLosses(base.encoder, decoder, discriminator, parts, d_real, fake)


def prediction_losses(
    made: Reconstruction, target: Tensor, still: Sequence[Tensor], verdicts: Verdicts, weights: LossWeights
) -> TaskLosses:
    """Easier motion: the next frame, with ``still`` the decoder features of the target without motion."""
    divergence = kl_divergence(*_posterior(made))
    error = F.mse_loss(made.image.float(), target)
    features = scale_feature_loss(made, still)
    common = RECONSTRUCTION * error + weights.scale_features * features
    posterior, prior = verdicts.decoder_costs()
    d_posterior, d_prior, d_real = verdicts.discriminator_costs()
    encoder = weights.kl * divergence + common
    decoder = common + PREDICTION_ADVERSARIAL * (posterior + prior)
    discriminator = d_posterior + d_prior + d_real
    parts = {
        "motion_enc/kld": divergence,
        "motion_enc/pred_mse": error,
        "motion_enc/scale_feat_loss": features,
        "motion_enc/l_enc_pred": encoder,
        "motion_dec/pred_mse": error,
        "motion_dec/scale_feat_loss": features,
        "motion_dec/pred_gan_x_tilde": posterior,
        "motion_dec/pred_gan_x_p": prior,
        "motion_dec/l_dec_pred": decoder,
        "img_dis/pred_gan_x_tilde": d_posterior,
        "img_dis/pred_gan_x_p": d_prior,
        "img_dis/gan_x": d_real,
        "img_dis/l_dis_pred": discriminator,
    }
    return TaskLosses(encoder, decoder, discriminator, parts, d_real, (d_posterior + d_prior) / 2)


@dataclass(frozen=True)
class ClipVerdicts:
    """The same as :class:`Verdicts` for clips, with classes."""

    decoder_posterior: Judgement
    decoder_prior: Judgement
    posterior: Judgement
    prior: Judgement
    real: Judgement

    @property
    def realness(self) -> Verdicts:
        """Without the classes."""
        both = (self.decoder_posterior, self.decoder_prior, self.posterior, self.prior, self.real)
        return Verdicts(*(judgement.realness for judgement in both))


def video_losses(
    made: Reconstruction,
    clip: Tensor,
    still: Sequence[Tensor],
    category: Tensor,
    verdicts: ClipVerdicts,
    weights: LossWeights,
) -> TaskLosses:
    """Harder motion: a whole clip [B, C, T, H, W], with ``still`` the features of its real frames without motion."""
    divergence = kl_divergence(*_posterior(made))
    error = F.mse_loss(made.image.float(), clip)
    features = scale_feature_loss(made, still, clip.shape[2] - 1)
    common = RECONSTRUCTION * error + weights.scale_features * features
    posterior, prior = verdicts.realness.decoder_costs()
    class_posterior, class_prior, class_real = (
        F.cross_entropy(judgement.categories.float(), category)
        for judgement in (verdicts.decoder_posterior, verdicts.decoder_prior, verdicts.real)
    )
    d_posterior, d_prior, d_real = verdicts.realness.discriminator_costs()
    encoder = weights.kl * divergence + common
    decoder = common + posterior + prior + class_posterior + class_prior
    discriminator = d_posterior + d_prior + d_real + class_real
    parts = {
        "vid_motion_enc/kld": divergence,
        "vid_motion_enc/pred_mse": error,
        "vid_motion_enc/scale_feat_loss": features,
        "vid_motion_enc/l_enc": encoder,
        "vid_dec/pred_mse": error,
        "vid_dec/scale_feat_loss": features,
        "vid_dec/vid_gan_x_tilde": posterior,
        "vid_dec/vid_cat_x_tilde": class_posterior,
        "vid_dec/vid_gan_x_p": prior,
        "vid_dec/vid_cat_x_p": class_prior,
        "vid_dec/l_dec": decoder,
        "vid_dis/vid_gan_x_tilde": d_posterior,
        "vid_dis/vid_gan_x_p": d_prior,
        "vid_dis/vid_gan_x": d_real,
        "vid_dis/vid_cat_x": class_real,
        "vid_dis/l_dis": discriminator,
    }
    return TaskLosses(encoder, decoder, discriminator, parts, d_real, (d_posterior + d_prior) / 2)


def who_learns(real: float, fake: float, margin: float) -> tuple[bool, bool]:
    """Whether the decoder and the discriminator are updated (4.1): neither may run too far ahead.

    Args:
        real, fake: the discriminator's losses on real and on made data.
    """
    discriminator = not (real < GUESS - margin or fake < GUESS - margin)
    decoder = not (real > GUESS + margin or fake > GUESS + margin)
    return (True, True) if not decoder and not discriminator else (decoder, discriminator)
