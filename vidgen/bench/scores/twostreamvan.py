"""The protocol of TwoStreamVAN: what a classifier of actions makes of a generator's videos (spec twostreamvan 7)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from vidgen._files import write_json
from vidgen.bench.environment import versions
from vidgen.bench.scores.classifier import FRAMES, SIDE, Classifier, ClassifierInfo, TorchClassifier
from vidgen.bench.scores.classifier_metrics import REPLICATES, ClassifierStatistics, classifier_metrics
from vidgen.bench.scores.conditional import ConditionalSource
from vidgen.bench.scores.protocols.twostreamvan import TwoStreamVANProtocol
from vidgen.bench.scores.real_clips import SPLITS, Selection, StoreClips, StoreSource
from vidgen.bench.scores.report import ScoreReport, SourceScore
from vidgen.bench.scores.sources import (
    Batch,
    EngineSource,
    FolderSource,
    Source,
    engine_classes,
    match_actions,
)
from vidgen.bench.scores.writable import check_writable
from vidgen.data.store_format import INDEX_FILE
from vidgen.errors import ScoreError, SettingsError
from vidgen.runtime.backends import manifest_of, open_backend
from vidgen.runtime.latents import LIMIT

#: Videos of each class, and passes over the test clips, of the reference.
PER_CLASS, PASSES = 900, 100

#: Called with (clips done, clips in all, what is being scored).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TwoStreamVANScoreSettings:
    """What to score by the protocol ``twostreamvan``.

    Attributes:
        classifier: checkpoint of the classifier of actions, or of actions x actors.
        engines: artifacts (.onnx or .safetensors); all get the same latents.
        videos: folders of sampled videos, or clip stores, whose scores are the ceiling.
        n: clips of EACH CLASS. Artifacts: 900 when None, as the reference. Folders, stores and first frames: the
            first n of each class, all when None.
        seed: of the latents and of the intervals' resampling.
        batch: clips generated and classified together.
        first_frames: clip store: the artifacts go on from the first frames of its held-out clips, instead of making
            videos by class; .onnx files must be exported with ``--conditional``. passes: videos from each of them.
        labels: class names in the classifier's order, where its checkpoint does not have them (official ones).
        split: clips of a store to take: ``held-out``, ``train`` or ``all``.
        held_out, split_seed: share of a store to hold out, and which, where its clips do not say; give what the
            training was given.
        frame_step: distance of the frames taken from a store's clip; None for what the classifier was trained with.
        replicates: resamplings behind the intervals; 0 gives none.
        backend, device, threads: as for sampling; device and threads are the classifier's too.
        trust: run an engine without a manifest.
        out: JSON file to write.

    Raises:
        SettingsError: a value out of range, or nothing to score.
    """

    protocol: ClassVar[str] = "twostreamvan"

    classifier: Path
    engines: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    n: int | None = None
    seed: int = 0
    batch: int = 32
    first_frames: Path | None = None
    passes: int = PASSES
    labels: tuple[str, ...] = ()
    split: str = "held-out"
    held_out: float = 0.1
    split_seed: int = 0
    frame_step: int | None = None
    replicates: int = REPLICATES
    backend: str | None = None
    device: str = "cpu"
    threads: int | None = None
    trust: bool = False
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("engines", "videos"):
            object.__setattr__(self, name, tuple(Path(path) for path in getattr(self, name)))
        object.__setattr__(self, "classifier", Path(self.classifier))
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        for name in ("n", "batch", "passes", "frame_step", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise _bad(name, value, "at least 1")
        if not 0 <= self.seed < LIMIT:
            raise _bad("seed", self.seed, f"0 to {LIMIT - 1}")
        if self.replicates < 0:
            raise _bad("replicates", self.replicates, "0 or more")
        if self.split not in SPLITS:
            raise _bad("split", self.split, "one of " + ", ".join(SPLITS))
        if not 0 < self.held_out < 1:
            raise _bad("held_out", self.held_out, "above 0 and below 1")
        if len(set(self.labels)) != len(self.labels):
            raise _bad("labels", ",".join(self.labels), "different names")
        if not self.engines and not self.videos:
            raise SettingsError(
                "nothing to score",
                seen="neither an artifact nor videos",
                cause="both --engine and --videos were left out",
                fix="vidgen score --protocol twostreamvan --classifier CLASSIFIER.safetensors --engine MODEL.onnx",
            )


def _bad(name: str, value: object, expected: str) -> SettingsError:
    option = "-n" if name == "n" else "--" + name.replace("_", "-")
    return SettingsError(
        f"cannot score with {option} {value}",
        seen=f"{value!r}, expected {expected}",
        cause="the option is out of range",
        fix=f"see vidgen score --help about {option}",
    )


def score_twostreamvan(
    settings: TwoStreamVANScoreSettings, progress: Progress | None = None, *, classifier: Classifier | None = None
) -> ScoreReport:
    """Score artifacts, folders and stores with one classifier, a batch at a time; only sums are kept.

    Everything is checked before the first video is made.

    Args:
        progress: called at the start and after each batch.
        classifier: used instead of loading the settings' one.

    Raises:
        ScoreError: the classes of a source and of the classifier differ, there are too few clips, or no labels.
        StorageError: the report cannot be written.
        VidgenError: a file cannot be used.
    """
    start = time.perf_counter()
    if settings.out is not None:
        check_writable(settings.out)
    with contextlib.ExitStack() as stack:
        if classifier is None:
            loaded = TorchClassifier.load(settings.classifier, device=settings.device, threads=settings.threads)
            classifier = stack.enter_context(loaded)
        labels = _labels(settings, classifier)
        sources = _sources(settings, labels, classifier.info)
        total, before = sum(source.clips for source in sources), 0
        scores = []
        for source in sources:
            listen = partial(_tell, progress, before, total, source.name)
            scores.append(_score(source, classifier, settings, listen))
            before += source.clips
    report = ScoreReport(
        protocol=_protocol(settings).to_dict(),
        classifier={**classifier.info.to_dict(), "labels": list(labels)},
        scores=tuple(scores),
        versions=versions(),
        seconds=time.perf_counter() - start,
    )
    if settings.out is not None:
        write_json(settings.out, report.to_dict())
    return report


def _tell(progress: Progress | None, before: int, total: int, name: str, done: int) -> None:
    if progress:
        progress(before + done, total, name)


def _labels(settings: TwoStreamVANScoreSettings, classifier: Classifier) -> tuple[str, ...]:
    """The names of the classifier's actions: its own, else those of the settings, else none."""
    own, given = classifier.info.labels, settings.labels
    if not given or given == own:
        return own
    if own or len(given) != classifier.info.n_actions:
        raise ScoreError(
            "cannot name the classifier's classes so",
            seen=f"{', '.join(given)}; the classifier has {', '.join(own) or f'{classifier.info.n_actions} actions'}",
            cause="its checkpoint has names already" if own else "there is another number of classes",
            fix="drop --labels" if own else f"give {classifier.info.n_actions} names in the order of its training",
        )
    return given


def _sources(settings: TwoStreamVANScoreSettings, labels: tuple[str, ...], judge: ClassifierInfo) -> list[Source]:
    """Everything to score, checked."""
    n_actions, fps = judge.n_actions, (judge.data or {}).get("fps")
    selection = Selection(settings.split, settings.held_out, settings.split_seed, settings.frame_step, fps)
    sources: list[Source] = [_engine(settings, path, labels, n_actions, selection) for path in settings.engines]
    for path in settings.videos:
        if (path / INDEX_FILE).is_file():
            sources.append(StoreSource(StoreClips(path, labels, n_actions, selection, settings.n)))
        else:
            sources.append(FolderSource(path, labels, n_actions, settings.n))
    return sources


def _engine(
    settings: TwoStreamVANScoreSettings, path: Path, labels: tuple[str, ...], n_actions: int, selection: Selection
) -> Source:
    conditional = settings.first_frames is not None
    manifest = manifest_of(path, conditional=conditional)
    if not conditional and any(spec.kind == "image" for spec in manifest.interface.inputs):
        raise ScoreError(
            f"cannot score {path} without first frames",
            seen="an artifact that goes on from a first frame, and no clips to take it from",
            cause="it was exported with --conditional",
            fix="add --first-frames STORE, or score one that was exported without --conditional",
        )
    actions = match_actions(str(path), manifest.labels, engine_classes(manifest, path), labels, n_actions)
    opener = partial(
        open_backend,
        path,
        settings.backend,
        threads=settings.threads,
        device=settings.device,
        conditional=conditional,
        trust=settings.trust,
    )
    if settings.first_frames is None:
        per_class = settings.n or PER_CLASS
        return EngineSource(path, manifest, opener, actions=actions, per_class=per_class, seed=settings.seed)
    real = StoreClips(settings.first_frames, labels, n_actions, selection, settings.n)
    return ConditionalSource(
        path, manifest, opener, actions=actions, real=real, passes=settings.passes, seed=settings.seed
    )


def _score(
    source: Source, classifier: Classifier, settings: TwoStreamVANScoreSettings, listen: Callable[[int], None]
) -> SourceScore:
    start = time.perf_counter()
    listen(0)
    sums = gather(classifier, source.batches(settings.batch), settings.seed, settings.replicates, listen)
    metrics = {kind: classifier_metrics(statistics) for kind, statistics in sums.items()}
    return SourceScore(source.name, source.facts(), metrics, time.perf_counter() - start)


def gather(
    classifier: Classifier,
    batches: Iterable[Batch],
    seed: int = 0,
    replicates: int = REPLICATES,
    listen: Callable[[int], None] = lambda done: None,
) -> dict[str, ClassifierStatistics]:
    """Classify batches and sum up the answers, a sum for each set.

    Args:
        seed, replicates: of the resampling behind the intervals.
        listen: called with the number of clips so far.
    """
    info = classifier.info
    sums: dict[str, ClassifierStatistics] = {}
    done = 0
    for batch in batches:
        sofar = sums.get(batch.kind) or ClassifierStatistics.empty(info.n_class, info.n_actions, replicates)
        answers = classifier.probabilities(batch.clips)
        sums[batch.kind] = sofar.with_clips(answers, batch.actions.tolist(), batch.indices, seed)
        done += len(batch.indices)
        listen(done)
    return sums


def _protocol(settings: TwoStreamVANScoreSettings) -> TwoStreamVANProtocol:
    return TwoStreamVANProtocol(
        frames=FRAMES,
        size=SIDE,
        n_per_class=settings.n,
        n_per_class_of_engines=settings.n or PER_CLASS,
        passes=settings.passes if settings.first_frames else None,
        seed=settings.seed,
        batch=settings.batch,
        split=settings.split,
        held_out=settings.held_out,
        split_seed=settings.split_seed,
        frame_step=settings.frame_step,
        intervals=f"95 %, Poisson bootstrap of {settings.replicates}" if settings.replicates else None,
    )
