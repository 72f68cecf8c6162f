"""Scores beside the timings of a bench: what each artifact's videos are worth against reference statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vidgen.bench.settings import BenchSettings, Contender
from vidgen.errors import SettingsError

if TYPE_CHECKING:
    from vidgen.bench.scores.feature_settings import FeatureScoreSettings


def score_settings_of(settings: BenchSettings, wanted: Sequence[Contender]) -> FeatureScoreSettings:
    """How the artifacts of a bench are scored: as many videos as the reference has, by its protocol and extractor.

    A score belongs to the artifact; what another backend changes of it, the agreement tells. So each artifact is scored
    once, on the backend that all contenders have in common, or else on its usual one.

    Raises:
        ScoreError: the reference is missing, damaged, or says too little of how it was made.
        SettingsError: the options make no sense.
    """
    from vidgen.bench.scores.feature_settings import VIDEOS, FeatureScoreSettings
    from vidgen.bench.scores.feature_statistics import no_extractor
    from vidgen.bench.scores.reference_file import extractor_of, read_reference

    assert settings.score is not None
    found = read_reference(settings.score)
    if not found:
        raise SettingsError(
            f"cannot score against {settings.score}",
            seen=f"{settings.score.name}, expected a .npz file of statistics",
            cause="a bench takes its protocol and extractor from a statistics file",
            fix=f"vidgen stats {settings.score} --extractor EXTRACTOR -o STATS.npz, then --score STATS.npz",
        )
    stored = next(iter(found.values()))
    named = settings.extractor or extractor_of(stored.protocol, settings.weights)
    if named is None and settings.weights is None:
        raise no_extractor()
    backends = {contender.backend for contender in wanted}
    return FeatureScoreSettings(
        protocol=str(stored.protocol.get("protocol", "clean")),
        weights=settings.weights,
        extractor=settings.extractor,
        n=settings.videos or min(stored.n or VIDEOS, VIDEOS),
        seed=settings.seed,
        backend=backends.pop() if len(backends) == 1 else None,
        device=settings.device,
        threads=settings.threads,
        trust=settings.trust,
        reference=settings.score,
        engines=tuple(dict.fromkeys(contender.artifact for contender in wanted)),
        compared=0,
    )
