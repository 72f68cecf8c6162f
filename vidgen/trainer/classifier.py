"""Training the classifier that scores samples of TwoStreamVAN (spec twostreamvan 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen.bench.scores.classifier import ClassifierInfo, TorchClassifier
from vidgen.bench.scores.classifier_metrics import ClassifierMetrics, ClassifierStatistics, classifier_metrics
from vidgen.data.store import ClipStore
from vidgen.errors import DataError
from vidgen.models.classifier import Classifier
from vidgen.models.config import ClassifierConfig, ModelConfig
from vidgen.trainer.classifier_settings import ClassifierTrainSettings
from vidgen.trainer.clips import check_store, describe, network_input
from vidgen.trainer.distributed import average_gradients
from vidgen.trainer.initialise import initialise
from vidgen.trainer.journal import Journal
from vidgen.trainer.labelled_clips import LabelledBatch, LabelledWindows, WindowShape, split_store
from vidgen.trainer.recipe import Place, Recipe, Say

#: Clips of a validation that are classified at once.
_CHUNK = 32


class ClassifierRecipe(Recipe[ClassifierTrainSettings]):
    """The classifier for the training loop.

    ``network`` is the one under training; ``best`` is, from the first validation on, the one a run is known by: the
    network of the last validation at which neither accuracy nor Inception Score fell below the best so far.
    """

    def __init__(self, settings: ClassifierTrainSettings, store: ClipStore, place: Place, say: Say) -> None:
        super().__init__(settings, store, place, say)
        self.split = split_store(store, settings.held_out, settings.classes)
        length = settings.video_length
        train, test = self.split.train, self.split.test
        check_store(store, train, length, settings.batch_size, held_out=test, cropping=True)
        self.actions = len(self.split.action_names)
        self.config = ClassifierConfig(self.actions * self._actors(store), settings.ndf, self.actions)
        self.network, self.best = Classifier(self.config), Classifier(self.config)
        initialise(self.network)
        self.best.load_state_dict(self.network.state_dict())
        self.networks = {"network": self.network, "best": self.best}
        for network in self.networks.values():
            network.to(place.device)
        self.best.requires_grad_(False).eval()
        self.adam = torch.optim.Adam(self.network.parameters(), settings.lr, (0.5, 0.999), weight_decay=1e-5)
        self.optimisers = {"optimizer": self.adam}
        shape = WindowShape(length, settings.every_nth, settings.crop, settings.class_steps)
        self.dataset = LabelledWindows(store, self.split, self.split.train, shape, seed=settings.random_seed)
        self.held_out = LabelledWindows(store, self.split, self.split.test, shape, test=True)
        self.clips = len(self.split.train)
        self.description = describe(store, settings.every_nth, self.split.action_names)
        self.reached = {"accuracy": 0.0, "inception_score": 0.0}
        self.idle = 0

    def _actors(self, store: ClipStore) -> int:
        """Actors to tell apart; one where actions alone are."""
        if not self.settings.is_actor:
            return 1
        chosen = [*self.split.train, *self.split.test]
        if min(self.split.actors[clip] for clip in chosen) < 0:
            raise DataError(
                f"cannot train a classifier of actors on {store.path}",
                seen="clips without an actor",
                cause="the clips were prepared without the attribute actor",
                fix="--set is_actor=false, or prepare them with the layout of their data set",
            )
        return len(self.split.actor_names)

    @property
    def published(self) -> str:
        """The best one; before the first validation there is none, and it is the one under training."""
        return "best" if self.reached["inception_score"] else "network"

    def saved_as(self, name: str) -> tuple[str, ModelConfig]:
        """Both are classifiers."""
        return "classifier", self.config

    def _classes(self, batch: LabelledBatch) -> Tensor:
        """class = action + actions * actor."""
        if not self.settings.is_actor:
            return batch["action"]
        return batch["action"] + self.actions * batch["actor"]

    def step(self, number: int, batch: LabelledBatch) -> Mapping[str, Tensor]:
        """One update; the learning rate decays every epoch."""
        settings, device = self.settings, self.place.device
        epoch = number // max(1, self.clips // settings.batch_size)
        for group in self.adam.param_groups:
            group["lr"] = settings.lr * settings.decay**epoch
        clip = network_input(batch["frames"].to(device, non_blocking=True))
        target = self._classes(batch).to(device)
        self.adam.zero_grad()
        logits = self.network(clip)
        loss = F.cross_entropy(logits, target)
        loss.backward()
        average_gradients(self.network.parameters(), self.place.world)
        self.adam.step()
        right = (logits.argmax(1) % self.actions == target % self.actions).float().mean()
        return {"loss": loss.detach(), "accuracy": right}

    def validate(self, journal: Journal, step: int, epoch: int) -> None:
        """Score the held-out clips; keep the network if accuracy and Inception Score did not fall."""
        found = self._score()
        scores = {name: float(getattr(found, name)) for name in self.reached}
        better = all(scores[name] >= self.reached[name] for name in scores)
        if better:
            self.reached, self.idle = scores, 0
            self.best.load_state_dict(self.network.state_dict())
        else:
            self.idle += 1
        journal.scalars({f"val/{name}": value for name, value in scores.items()}, step)
        self.say(
            f"step {step} held-out accuracy {scores['accuracy']:.1f} %, Inception Score "
            f"{scores['inception_score']:.2f} of {self.config.n_class}" + ("" if better else "; not better")
        )

    def _score(self) -> ClassifierMetrics:
        info = ClassifierInfo(self.config.n_class, self.actions, self.split.action_names)
        judge = TorchClassifier(self.network, info, device=self.place.device.type)
        statistics = ClassifierStatistics.empty(self.config.n_class, self.actions, replicates=0)
        for first in range(0, len(self.held_out), _CHUNK):
            numbers = range(first, min(first + _CHUNK, len(self.held_out)))
            batch = self.held_out.batch(numbers)
            probabilities = judge.probabilities(batch["frames"].numpy())
            statistics = statistics.with_clips(probabilities, batch["action"].tolist(), list(numbers), seed=0)
        self.network.train()
        return classifier_metrics(statistics)

    def headline(self, losses: Mapping[str, float]) -> str:
        """Loss and accuracy on the batch."""
        return f"loss {losses['loss']:.3f} accuracy {100 * losses['accuracy']:.0f} %"

    @property
    def finished(self) -> bool:
        """Whether validations have stopped getting better."""
        return 0 < self.settings.patience <= self.idle

    def extra_state(self) -> dict[str, Any]:
        """What the best network reached."""
        return {"reached": dict(self.reached), "idle": self.idle}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.reached, self.idle = dict(state["reached"]), int(state["idle"])
