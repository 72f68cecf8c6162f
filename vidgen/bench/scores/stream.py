"""From clips to sums of features: generator, protocol, extractor and tally at work at the same time."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vidgen.bench.scores.clip_sources import ClipSource
from vidgen.bench.scores.extractors.base import Description, Extractor
from vidgen.bench.scores.protocols.base import Clip, ClipProtocol, check_one_size
from vidgen.bench.scores.tally import Tally, cannot_resume
from vidgen.errors import SettingsError, StorageError

#: Clips whose features are added at a time.
PART = 32
#: Parts that wait for the extractor while the next is made.
AHEAD = 2
_log = logging.getLogger(__name__)
#: Seconds between two saves of an unfinished run, at least; and as a multiple of what a save takes.
SAVE_SECONDS, SAVE_SHARE = 20.0, 20


def parts_of(clips: int, protocol: ClipProtocol, shard: tuple[int, int] = (0, 1)) -> list[Sequence[int]]:
    """The positions of a shard's clips, in the parts that are always taken together.

    A shard takes every n-th clip; where videos are normalised together, every n-th group of the whole set.

    Raises:
        SettingsError: nothing is left for this shard.
    """
    number, shards = shard
    if protocol.batch > 1:
        groups = [range(at, min(at + protocol.batch, clips)) for at in range(0, clips, protocol.batch)]
        parts: list[Sequence[int]] = list(groups[number::shards])
    else:
        mine = range(number, clips, shards)
        parts = [mine[at : at + PART] for at in range(0, len(mine), PART)]
    if not parts:
        units = -(-clips // protocol.batch)
        raise SettingsError(
            f"nothing to do for shard {number}/{shards}",
            seen=f"{clips} clips in {units} units, expected at least {shards}",
            cause="there are more shards, or processes, than "
            + ("groups of videos" if protocol.batch > 1 else "clips"),
            fix=f"use at most {units} shards, or processes of torchrun",
        )
    return parts


def collect(
    source: ClipSource,
    protocol: ClipProtocol,
    extractor: Extractor,
    *,
    shard: tuple[int, int] = (0, 1),
    keep_features: bool = True,
    logits: bool = False,
    state: Path | None = None,
    key: Mapping[str, Any] | None = None,
    resume: bool = False,
    cached: bool = False,
    listen: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Take the features of a source's clips, or of a shard of them.

    Features are added in a fixed order and in fixed parts, so that an interrupted run that goes on ends with the same
    sums to the bit. While the extractor works on one part, the source makes the next.

    Args:
        keep_features: keep the features beside their sums. logits: keep the extractor's class scores too.
        state: file an unfinished run is kept in: written every now and then and when it is interrupted, left for the
            caller to remove when all is done. key: what a run must agree in to go on from it.
        resume: go on from ``state`` where it is there.
        cached: the state is in the cache: it is written when all is done too, as other sources may fail yet; and a
            cache that cannot be written costs the run nothing.
        listen: called with the number of clips done so far.

    Raises:
        ScoreError: clips or features that cannot be used, or a state of another run.
        VidgenError: as the source says.
    """
    parts = parts_of(source.clips, protocol, shard)
    tally = Tally(keep_features)
    if resume and state is not None and state.exists():
        tally = Tally.load(state, key or {})
    left = _left(parts, tally)
    if left is None:
        assert state is not None
        seen = f"{len(tally.positions)} clips that are not the first of this run"
        raise cannot_resume(state, seen, "another version wrote it, or it is damaged")
    listen(len(tally.positions))
    began, before, saver = time.perf_counter(), tally.seconds, _Saver(state, key or {}, optional=cached)
    with contextlib.ExitStack() as stack:
        stack.callback(saver.save, tally)
        for part, found in _overlapped(source, protocol, extractor, left, logits):
            tally.add(part, found)
            tally.seconds = before + time.perf_counter() - began
            listen(len(tally.positions))
            saver.save_now_and_then(tally)
        if not cached:
            stack.pop_all()
    return tally


def _left(parts: list[Sequence[int]], tally: Tally) -> list[Sequence[int]] | None:
    """The parts that a tally does not have yet; None where what it has is not the first of them."""
    done: list[int] = []
    for number, part in enumerate(parts):
        if len(done) == len(tally.positions):
            return parts[number:] if done == tally.positions else None
        done += part
    return [] if done == tally.positions else None


def _overlapped(
    source: ClipSource, protocol: ClipProtocol, extractor: Extractor, parts: list[Sequence[int]], logits: bool
) -> Iterator[tuple[Sequence[int], Description]]:
    """Each part with its features; one thread extracts them while this one makes clips."""

    sizes: set[tuple[int, ...]] = set()

    def extract(clips: Sequence[Clip]) -> Description:
        prepared = protocol.prepare(clips, from_files=source.from_files)
        sizes.add(prepared.shape[2:4])
        check_one_size(sizes)
        return extractor.describe(prepared, logits=logits)

    if not parts:
        return
    waiting: deque[tuple[Sequence[int], Future[Description]]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="extractor") as worker:
        try:
            for part, clips in zip(parts, source.read(parts), strict=True):
                waiting.append((part, worker.submit(extract, clips)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


class _Saver:
    """Keeps the file an unfinished run goes on from."""

    def __init__(self, path: Path | None, key: Mapping[str, Any], *, optional: bool) -> None:
        self._path, self._key, self._optional = path, key, optional
        self._due = time.perf_counter() + SAVE_SECONDS

    def save_now_and_then(self, tally: Tally) -> None:
        if time.perf_counter() >= self._due:
            self.save(tally)

    def save(self, tally: Tally) -> None:
        if self._path is None or not tally.positions:
            return
        start = time.perf_counter()
        try:
            tally.save(self._path, self._key)
        except StorageError as error:
            if not self._optional:
                raise
            _log.warning("%s: an interruption would lose what was done (%s)", error.what, error.seen)
            self._path = None
        end = time.perf_counter()
        self._due = end + max(SAVE_SECONDS, SAVE_SHARE * (end - start))
