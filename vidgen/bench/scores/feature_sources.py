"""Which kind of source a path is, opened with the settings of statistics and scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vidgen.bench.scores.clip_sources import ClipSource, EngineClips, FolderClips, StoreClips, StoreSelection
from vidgen.bench.scores.feature_settings import VIDEOS, ClipSettings
from vidgen.bench.scores.protocols.base import ClipProtocol
from vidgen.data.store_format import INDEX_FILE
from vidgen.errors import ScoreError
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
    if (path / INDEX_FILE).exists():
        chosen = StoreSelection(settings.split, settings.held_out, settings.split_seed, settings.frame_step)
        return StoreClips(path, chosen, n=settings.n, seed=settings.seed)
    if path.is_file():
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
