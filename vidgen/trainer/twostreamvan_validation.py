"""What a TwoStreamVAN run shows of itself: held-out clips reconstructed, classes sampled, masks, scores (spec 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgen.errors import SettingsError
from vidgen.models.config import WARM_UP_FRAMES
from vidgen.models.twostreamvan import Generator, halved_differences
from vidgen.runtime.ranges import to_uint8
from vidgen.trainer.clips import network_input
from vidgen.trainer.journal import Journal
from vidgen.trainer.labelled_clips import LabelledWindows, Split
from vidgen.trainer.recipe import Place, noise_source
from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings

if TYPE_CHECKING:
    from vidgen.bench.scores.classifier import ClassifierInfo
    from vidgen.bench.scores.classifier_metrics import ClassifierMetrics

#: Stands for a step in the noise of validations: the same throughout a run.
_VALIDATION = 2**32 - 1
#: Samples of each class in the picture of samples, clips in the pictures of reconstructions.
_SHOWN_SAMPLES, _SHOWN_CLIPS = 6, 6
_CHUNK = 16


class Validation:
    """One validation of a generator; it is left in the mode it was in."""

    def __init__(
        self,
        settings: TwoStreamVANTrainSettings,
        generator: Generator,
        held_out: LabelledWindows,
        split: Split,
        place: Place,
    ) -> None:
        self.settings, self.generator, self.held_out, self.split = settings, generator, held_out, split
        self.device = place.device

    @torch.no_grad()
    def show(self, journal: Journal, step: int, *, content_only: bool) -> None:
        """Write scores and pictures of this step; in pre-training only stills are worth a look."""
        training = self.generator.training
        self.generator.eval()
        try:
            values = self._held_out(journal, step, content_only)
            if not content_only:
                values |= self._samples(journal, step)
        finally:
            self.generator.train(training)
        journal.scalars(values, step)

    def _held_out(self, journal: Journal, step: int, content_only: bool) -> dict[str, float]:
        """Squared errors of the three tasks on held-out clips by the mean latents, the first batch as pictures."""
        count = min(self.settings.val_clips or len(self.held_out), len(self.held_out))
        sums = {"val_recons": 0.0, "val_pred": 0.0, "val_video": 0.0}
        if content_only:
            del sums["val_pred"], sums["val_video"]
        for first in range(0, count, _CHUNK):
            numbers = range(first, min(first + _CHUNK, count))
            batch = self.held_out.batch(numbers)
            clip, category = network_input(batch["frames"]).to(self.device), batch["action"].to(self.device)
            for name in sums:
                target, made = self._task(name, clip, category)
                sums[name] += float((made - target).square().mean()) * len(numbers)
                if first == 0:
                    self._picture(journal, name, step, target, made)
        return {f"{name}/mse": total / count for name, total in sums.items()}

    def _task(self, name: str, clip: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        """What a task should make of clips, and what it makes, by mean latents and without real frames."""
        net, last = self.generator, clip.shape[2] - 1
        if name == "val_recons":
            return clip[:, :, 0], net.reconstruct_one_frame(category, clip[:, :, 0]).image
        differences = halved_differences(clip)
        if name == "val_pred":
            return clip[:, :, last], net.predict_next_frame(clip[:, :, last - 1], differences, category).image
        uniforms = torch.zeros(2 * last - 1)
        return clip, net.reconstruct_seq(clip, category, differences, 0.0, uniforms).image

    def _picture(self, journal: Journal, name: str, step: int, target: Tensor, made: Tensor) -> None:
        """Targets above what was made of them."""
        rows = torch.cat((target[:_SHOWN_CLIPS], made[:_SHOWN_CLIPS]))
        journal.videos(name, name, pixels(rows), len(rows) // 2, step, step - 1, self.fps)

    @property
    def fps(self) -> float:
        """Frames a second that the model's videos play at."""
        return self.held_out.store.info.fps / self.settings.every_nth

    def _samples(self, journal: Journal, step: int) -> dict[str, float]:
        """Samples of every class, a row each, with their masks; scored where a classifier is given."""
        settings, classes = self.settings, len(self.split.action_names)
        each = max(_SHOWN_SAMPLES, settings.val_samples if settings.classifier else 0)
        source = noise_source(settings.random_seed, _VALIDATION)
        z_content = torch.randn(classes, each, settings.cont_dim, generator=source).to(self.device)
        length = settings.video_length + WARM_UP_FRAMES - 1
        z_motion = torch.randn(classes, each, length, settings.motion_dim, generator=source).to(self.device)
        videos, masks = [], []
        for number in range(classes):
            category = torch.full((each,), number, device=self.device)
            made = list(self.generator.sample(category, z_content[number], z_motion[number]))[WARM_UP_FRAMES:]
            videos.append(pixels(torch.stack([frame for frame, _ in made], 2)))
            masks.append(_mask_pictures([mask for _, mask in made], self.generator.config.scales))
        shown = np.concatenate([part[:_SHOWN_SAMPLES] for part in videos])
        journal.videos("val_samples", "samples", shown, _SHOWN_SAMPLES, step, step - 1, self.fps)
        shown = np.concatenate([part[:1] for part in masks])
        journal.videos("val_masks", "masks", shown, 1, step, step - 1, self.fps)
        if not settings.classifier:
            return {}
        found = self._score(np.stack(videos)[:, : settings.val_samples])
        names = ("accuracy", "inception_score", "inter_entropy", "intra_entropy")
        return {f"samples/{name}": float(getattr(found, name)) for name in names}

    def _score(self, videos: NDArray[np.uint8]) -> ClassifierMetrics:
        """By the classifier; videos [classes, n, T, 64, 64, 3]."""
        from vidgen.bench.scores.classifier import TorchClassifier
        from vidgen.bench.scores.classifier_metrics import ClassifierStatistics, classifier_metrics

        judge = TorchClassifier.load(self.settings.classifier, device=self.device.type)
        statistics = ClassifierStatistics.empty(judge.info.n_class, judge.info.n_actions, replicates=0)
        for number, action in enumerate(judged_actions(judge.info, self.split.action_names)):
            wanted = [action] * len(videos[number])
            probabilities = judge.probabilities(videos[number])
            indices = list(range(number * len(wanted), (number + 1) * len(wanted)))
            statistics = statistics.with_clips(probabilities, wanted, indices, seed=0)
        return classifier_metrics(statistics)


def judged_actions(judge: ClassifierInfo, names: Sequence[str]) -> list[int]:
    """The classifier's action for each of these classes; its own may be more.

    Raises:
        SettingsError: it does not know one of them.
    """
    if not judge.labels and judge.n_actions == len(names):
        return list(range(len(names)))
    unknown = [name for name in names if name not in judge.labels]
    if unknown:
        known = ", ".join(judge.labels) or f"{judge.n_actions} without names"
        raise SettingsError(
            f"cannot score samples with {judge.path}",
            seen=f"the class {unknown[0]!r}; the classifier has {known}",
            cause="it was trained on other data, or on other classes of it",
            fix="vidgen train classifier --data STORE --out RUN, or leave classifier out",
        )
    return [judge.labels.index(name) for name in names]


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Frames [B, 3, H, W] or clips [B, 3, T, H, W], about [-1, 1], to uint8 [B, T, H, W, 3]."""
    clips = images if images.dim() == 5 else images.unsqueeze(2)
    return to_uint8(clips.float().cpu().numpy())


def _mask_pictures(masks: list[Mapping[int, Tensor]], sizes: tuple[int, ...]) -> NDArray[np.uint8]:
    """The masks of each scale side by side, 64 pixels high, white where motion acts: [B, T, 64, 64 scales, 3]."""
    frames = []
    for step in masks:
        scales = [torch.nn.functional.interpolate(step[size], size=64) for size in sizes]
        frames.append(torch.cat(scales, 3))
    grey = torch.stack(frames, 1).mul(255).round().to(torch.uint8).squeeze(2).cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=-1)
