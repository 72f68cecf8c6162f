"""A clip store: one memory-mapped array of frames and an index, opened by any number of workers."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen.data.store_format import (
    FRAMES_FILE,
    HEADER_BYTES,
    INDEX_FILE,
    Clip,
    IndexFormatError,
    StoreInfo,
    hash_prefix,
    hash_suffix,
    npy_header,
    parse_index,
)
from vidgen.data.store_writer import StoreWriter, Window
from vidgen.errors import DataError

__all__ = ["Clip", "ClipStore", "StoreInfo", "StoreWriter", "Window"]

Frames = npt.NDArray[np.uint8]

_BLOCK_BYTES = 1 << 20


class ClipStore:
    """A clip store opened for reading; picklable, and safe in any number of threads and processes.

    Attributes:
        path: the folder.
        info: what it holds as a whole.
        clips: one record a clip, in the order they were added.
    """

    def __init__(self, path: Path, info: StoreInfo, clips: tuple[Clip, ...]) -> None:
        """Use ``ClipStore.open``."""
        self.path = path
        self.info = info
        self.clips = clips
        self._mapped: Frames | None = None
        self._mapped_by = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ClipStore:
        """Open the store in folder ``path`` without reading its frames.

        Raises:
            DataError: there is no store, it is not one, it is truncated, or its index is damaged.
        """
        folder = Path(path)
        index = folder / INDEX_FILE
        try:
            text = index.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            seen = f"it holds no {INDEX_FILE}" if folder.is_dir() else "there is no such folder"
            if folder.is_file():
                seen = "it is a file, a clip store is a folder"
            raise DataError(
                f"cannot open clip store {folder}",
                seen=seen,
                cause="the path is wrong, or the videos there have not been prepared",
                fix=f"vidgen data prepare VIDEOS {folder if not folder.exists() else 'OUT'}",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(folder, f"{INDEX_FILE} cannot be read: {error}") from error
        try:
            info, clips = parse_index(text)
        except IndexFormatError as error:
            raise _damaged(folder, f"{INDEX_FILE}: {error}") from error
        _check_frames_file(folder, info)
        return cls(folder, info, clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return f"ClipStore({str(self.path)!r}, {len(self)} clips, {self.info.height}x{self.info.width})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    def _frames(self) -> Frames:
        # A forked data-loader worker maps the file for itself: it may outlive the parent's mapping.
        if self._mapped is None or self._mapped_by != os.getpid():
            _check_frames_file(self.path, self.info)
            self._mapped = np.asarray(np.load(self.path / FRAMES_FILE, mmap_mode="r", allow_pickle=False))
            self._mapped_by = os.getpid()
        return self._mapped

    def frames(self, index: int, times: Sequence[int] | None = None) -> Frames:
        """Frames of a clip, copied out of the file.

        Args:
            index: which clip; negative counts from the end.
            times: frame numbers inside the clip, 0 .. length - 1, in any order; all of them when None.

        Returns:
            uint8 [T, height, width, 3], RGB.

        Raises:
            IndexError: no such clip or frame.
            DataError: the file was removed or replaced since the store was opened.
        """
        clip = self.clips[operator.index(index)]
        frames = self._frames()
        if times is None:
            return np.array(frames[clip.start : clip.start + clip.length])
        rows = [operator.index(time) for time in times]
        outside = [row for row in rows if not 0 <= row < clip.length]
        if outside:
            raise IndexError(f"frame {outside[0]} of clip {index}, which has frames 0 to {clip.length - 1}")
        return np.asarray(frames[np.asarray(rows, dtype=np.int64) + clip.start])

    def verify(self) -> None:
        """Read every frame and compare the content with the hash in the index.

        Raises:
            DataError: they differ, or the file cannot be read.
        """
        digest = hashlib.sha256(hash_prefix(self.info.height, self.info.width))
        _check_frames_file(self.path, self.info)
        try:
            with (self.path / FRAMES_FILE).open("rb") as stream:
                stream.seek(HEADER_BYTES)
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise _damaged(self.path, f"{FRAMES_FILE} cannot be read: {error}") from error
        for piece in hash_suffix(self.info.labels, self.clips, self.info.crop, self.info.actors):
            digest.update(piece)
        if digest.hexdigest() != self.info.content_hash:
            raise _damaged(
                self.path, f"its content hashes to {digest.hexdigest()}, recorded is {self.info.content_hash}"
            )


def _damaged(folder: Path, seen: str) -> DataError:
    return DataError(
        f"cannot use clip store {folder}",
        seen=seen,
        cause="it was copied in part, edited, or written by another program or version",
        fix=f"prepare it again: vidgen data prepare VIDEOS {folder} --overwrite",
    )


def _check_frames_file(folder: Path, info: StoreInfo) -> None:
    """The header and the size of the frame file must be what the index says."""
    header = npy_header(info.frames, info.height, info.width)
    try:
        with (folder / FRAMES_FILE).open("rb") as stream:
            found = stream.read(HEADER_BYTES)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise _damaged(folder, f"{FRAMES_FILE}: {error.strerror or error}") from error
    if found != header:
        raise _damaged(folder, f"the header of {FRAMES_FILE} does not match {INDEX_FILE}")
    expected = HEADER_BYTES + info.frames * info.height * info.width * 3
    if size != expected:
        raise _damaged(folder, f"{FRAMES_FILE} has {size} bytes, expected {expected}")
