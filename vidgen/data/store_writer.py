"""Writes a clip store in a stream: frames go to disk as they come, the folder appears whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from vidgen._files import atomic_directory, storage_error
from vidgen.data.store_format import (
    FRAMES_FILE,
    HEADER_BYTES,
    INDEX_FILE,
    AttributeValue,
    Clip,
    StoreInfo,
    clean_attributes,
    common_fps,
    hash_prefix,
    hash_suffix,
    index_lines,
    npy_header,
)
from vidgen.data.windows import NO_CROP, Crop
from vidgen.errors import DataError, StorageError

Frames = npt.NDArray[np.uint8]

_BLOCK_BYTES = 1 << 20


def _blocks_of(frames: Frames) -> Iterator[Frames]:
    step = max(1, _BLOCK_BYTES // max(1, frames[0].nbytes))
    for first in range(0, len(frames), step):
        yield np.ascontiguousarray(frames[first : first + step])


@dataclass(frozen=True)
class Window:
    """A clip cut out of a longer run of frames: ``length`` frames from ``start``, with attributes of its own."""

    start: int
    length: int
    attributes: Mapping[str, object] = field(default_factory=dict)


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


class _AbandonedError(Exception):
    """Thrown into ``atomic_directory`` so that it cleans up without judging the caller's exception."""


class StoreWriter:
    """Writes a clip store as a context manager; memory does not grow with the number of frames.

    The folder appears at ``path`` when the block ends well. On any exception nothing is left, and a store
    that was there stays as it was.

    Args:
        path: folder to create.
        name: name of the data set.
        height: pixels of every frame.
        width: pixels of every frame.
        labels: names of the classes.
        overwrite: replace a clip store that is there. Nothing but a clip store is ever replaced.
        crop: the part of a frame that training is to see.
        actors: names of all actors in their order, where the data set fixes it.

    Raises:
        DataError: a size, a label, or a frame array is not acceptable; or no clip was added.
        StorageError: the folder exists, or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        height: int,
        width: int,
        labels: Sequence[str] = (),
        overwrite: bool = False,
        crop: Crop = NO_CROP,
        actors: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.clips: list[Clip] = []
        #: The finished store's info, once the block has ended well.
        self.info: StoreInfo | None = None
        self._name, self._height, self._width = str(name), operator.index(height), operator.index(width)
        self._labels = tuple(str(label) for label in labels)
        self._actors = tuple(str(actor) for actor in actors)
        self._crop, self._overwrite = crop, overwrite
        #: Frames written so far.
        self.frames = 0
        self._stream: IO[bytes] | None = None
        self._digest = hashlib.sha256(hash_prefix(self._height, self._width))
        if self._height < 1 or self._width < 1:
            raise self._refusal(f"frames of {height}x{width}", "a side is not positive")
        for what, names in (("label", self._labels), ("actor", self._actors)):
            if len(set(names)) != len(names):
                raise self._refusal(f"{what}s {', '.join(names)}", f"one {what} is there twice")

    def __enter__(self) -> StoreWriter:
        if self._overwrite and self.path.exists() and not self._replaceable():
            raise StorageError(
                f"cannot replace {self.path}",
                seen="it is not a clip store, or holds other files too",
                cause="only a clip store is overwritten, so that no other data is lost",
                fix="choose another output path",
            )
        self._folder = atomic_directory(self.path, replace=self._overwrite)
        self._partial = self._folder.__enter__()
        try:
            with _storing(self.path):
                self._stream = (self._partial / FRAMES_FILE).open("xb")
                self._stream.write(npy_header(0, self._height, self._width))
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            info = self._finish()
        except BaseException:
            self._abandon()
            raise
        self._folder.__exit__(None, None, None)
        self.info = info

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""
        return self._height, self._width

    def add(
        self,
        frames: Frames,
        *,
        source: str,
        fps: float,
        label: int | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Append one clip.

        Args:
            frames: uint8 [T, height, width, 3], T >= 1; may be a memory map larger than memory.
            source: where it came from.
            fps: frames a second, above 0.
            label: index into ``labels``.
            attributes: text and numbers by name.

        Raises:
            DataError: an argument is not acceptable; nothing was added.
            StorageError: the disk is full or failed.
        """
        self._check_frames(frames, source)
        whole = [Window(0, len(frames))]
        self.extend(_blocks_of(frames), whole, source=source, fps=fps, label=label, attributes=attributes)

    def extend(
        self,
        blocks: Iterable[Frames],
        windows: Sequence[Window],
        *,
        source: str,
        fps: float,
        label: int | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Append a run of frames given in blocks, and one clip for each window of it.

        Windows may overlap: their frames are stored once. When ``blocks`` raises, nothing was added.

        Args:
            blocks: uint8 arrays [t, height, width, 3].
            windows: where in the run the clips lie.
            source, fps, label, attributes: as in ``add``, for all of them; a window's own attributes are
                put on top.

        Raises:
            DataError: an argument is not acceptable; nothing was added.
            StorageError: the disk is full or failed.
        """
        if self._stream is None:
            raise RuntimeError("StoreWriter is a context manager: add clips inside its with block")
        shared = self._check_record(source, fps, label, attributes, windows)
        before, digest = self.frames, self._digest.copy()
        try:
            for block in blocks:
                self._check_frames(block, source)
                self._append(block)
            length = self.frames - before
            for window in windows:
                if not (window.start >= 0 and 1 <= window.length <= length - window.start):
                    raise self._refusal(
                        f"a window of {window.length} frames at {window.start}", f"{source} has {length}"
                    )
        except BaseException:
            self.frames, self._digest = before, digest
            with _storing(self.path):
                self._stream.seek(HEADER_BYTES + before * self._height * self._width * 3)
                self._stream.truncate()
            raise
        number = None if label is None else operator.index(label)
        for window, own in zip(windows, shared, strict=True):
            clip = Clip(str(source), before + window.start, window.length, float(fps), number, own)
            self.clips.append(clip)

    def _append(self, block: Frames) -> None:
        assert self._stream is not None
        with _storing(self.path):
            for part in _blocks_of(block):
                self._stream.write(part.data)
                self._digest.update(part.data)
                self.frames += len(part)

    def _check_record(
        self,
        source: str,
        fps: float,
        label: int | None,
        attributes: Mapping[str, object] | None,
        windows: Sequence[Window],
    ) -> list[dict[str, AttributeValue]]:
        if not windows:
            raise self._refusal(f"no window for {source}", "frames that no clip shows are not stored")
        if not (math.isfinite(fps) and fps > 0):
            raise self._refusal(f"{source} at {fps} frames a second", "the rate is not above 0")
        if label is not None and not 0 <= operator.index(label) < len(self._labels):
            raise self._refusal(f"label {label} for {source}", f"the store has {len(self._labels)} labels")
        try:
            return [clean_attributes({**(attributes or {}), **window.attributes}) for window in windows]
        except (TypeError, ValueError) as error:
            raise self._refusal(f"the attributes of {source}", str(error)) from error

    def _check_frames(self, frames: Frames, source: str) -> None:
        wanted = (self._height, self._width, 3)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            found = getattr(frames, "dtype", type(frames).__name__)
            raise self._refusal(f"frames of {source} are {found}", "frames are uint8 arrays")
        if frames.ndim != 4 or frames.shape[1:] != wanted or not len(frames):
            raise self._refusal(f"frames of {source} have shape {frames.shape}", f"expected (T, *{wanted}), T >= 1")

    def _finish(self) -> StoreInfo:
        if not self.clips:
            raise self._refusal("no clip was added", "a store holds at least one")
        assert self._stream is not None
        for piece in hash_suffix(self._labels, self.clips, self._crop, self._actors):
            self._digest.update(piece)
        info = StoreInfo(
            name=self._name,
            fps=common_fps(self.clips),
            height=self._height,
            width=self._width,
            labels=self._labels,
            content_hash=self._digest.hexdigest(),
            clips=len(self.clips),
            frames=self.frames,
            crop=self._crop,
            actors=self._actors,
        )
        with _storing(self.path):
            self._stream.seek(0)
            self._stream.write(npy_header(self.frames, self._height, self._width))
            self._stream.close()
            with (self._partial / INDEX_FILE).open("w", encoding="utf-8") as index:
                index.writelines(index_lines(info, self.clips))
        self._stream = None
        return info

    def _abandon(self) -> None:
        if self._stream is not None:
            # Closing flushes, and that fails again on a full disk; the file is removed in any case.
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None
        self._folder.__exit__(_AbandonedError, _AbandonedError(), None)

    def _replaceable(self) -> bool:
        if not self.path.is_dir():
            return False
        names = {child.name for child in self.path.iterdir()}
        return not names or names == {FRAMES_FILE, INDEX_FILE}

    def _refusal(self, seen: str, cause: str) -> DataError:
        return DataError(
            f"cannot write clip store {self.path}", seen=seen, cause=cause, fix="correct the value that is passed"
        )
