"""Which kind of source a path is, opened with the settings of statistics and scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vidgen.bench.scores.clip_sources import ClipSource, EngineClips, FolderClips, StoreClips, StoreSelection
from vidgen.bench.scores.feature_settings import VIDEOS, ClipSettings
from vidgen.bench.scores.protocols.base import ClipProtocol
from vidgen.data.store_format import INDEX_FILE
from vidgen.errors import ScoreError, SettingsError
from vidgen.runtime.backends import RUNS, manifest_of, open_backend
from vidgen.runtime.sampler import output_for


def open_source(path: Path, protocol: ClipProtocol, settings: ClipSettings, device: str | None = None) -> ClipSource:
    """The clips of an artifact, a clip store or a folder of videos; none is made or decoded yet.

    Args:
        device: that artifacts run on, where it is not the settings' one.

    Raises:
        VidgenError: the path is none of these, or its clips do not suit the settings.
    """
    if path.suffix in RUNS:
        return _engine(path, protocol, settings, device or settings.device)
    # Not those of pathlib, which raise where a name is too long or a folder may not be looked into.
    if os.path.exists(path / INDEX_FILE):
        chosen = StoreSelection(settings.split, settings.held_out, settings.split_seed, settings.frame_step)
        return StoreClips(path, chosen, n=settings.n, seed=settings.seed)
    if os.path.isfile(path):
        raise ScoreError(
            f"cannot take clips from {path}",
            seen=f"a file *{path.suffix}, expected {', '.join(RUNS)}, a clip store, or a folder of videos",
            cause="a single video, or statistics where clips were expected",
            fix=f"name the folder: {path.parent}",
        )
    if settings.split != "all":
        raise ScoreError(
            f"cannot take the {settings.split} clips of {path}",
            seen="a folder of videos, expected a clip store",
            cause="only a clip store says which of its clips are held out",
            fix=f"drop --split, or: vidgen data prepare {path} STORE",
        )
    return FolderClips(path, protocol, n=settings.n, seed=settings.seed, frame_step=settings.frame_step)


def check_sources(sources: Sequence[ClipSource], settings: ClipSettings) -> None:
    """Refuse options that choose among clips where no source has what they choose by.

    Raises:
        SettingsError: labels without an artifact, or a split without a clip store.
    """
    for option, given, kind, wanted in (
        ("--labels", ",".join(settings.labels), EngineClips, "an artifact, which is asked for classes"),
        ("--split", settings.split if settings.split != "all" else "", StoreClips, "a clip store, which has parts"),
    ):
        if given and not any(isinstance(source, kind) for source in sources):
            raise SettingsError(
                f"cannot use {option} {given} here",
                seen=f"{', '.join(source.name for source in sources)}, expected {wanted}",
                cause="the option would do nothing, and all clips would be taken",
                fix=f"drop {option}",
            )


def check_counts(sources: Sequence[ClipSource]) -> None:
    """Refuse sets that no distance can be taken of, before the others are worked on.

    Raises:
        ScoreError: a source has a single clip.
    """
    for source in sources:
        if source.clips < 2:
            raise ScoreError(
                f"cannot score {source.name}",
                seen=f"{source.clips} clip, expected at least 2",
                cause="one clip has no covariance",
                fix="add videos, or leave it out",
            )


def _engine(path: Path, protocol: ClipProtocol, settings: ClipSettings, device: str) -> EngineClips:
    output = output_for(path, protocol.range)
    manifest = manifest_of(path, output=output, trust=settings.trust)
    opener = partial(
        open_backend,
        path,
        settings.backend,
        threads=settings.threads,
        device=device,
        output=output,
        trust=settings.trust,
    )
    return EngineClips(
        path,
        manifest,
        opener,
        protocol,
        n=settings.n or VIDEOS,
        seed=settings.seed,
        labels=settings.labels,
        batch=settings.batch,
    )
