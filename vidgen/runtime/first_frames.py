"""Real first frames that videos go on from: images, clips, folders of these and clip stores, scaled to the model."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgen.data.images import cut_strip, read_image
from vidgen.data.layouts import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frame, ReadOptions, SourceClip, is_video, printable
from vidgen.data.npy_video import NpyVideo, NpyVideoError
from vidgen.data.store import ClipStore
from vidgen.data.store_format import INDEX_FILE
from vidgen.data.transform import resize
from vidgen.data.video import VideoFiles
from vidgen.data.windows import crop_and_resize, labels_of
from vidgen.errors import DataError

#: First frames that are held in memory at once, 48 KiB each.
MOST = 1 << 14
#: An image so many times as wide as high (or the reverse), in whole squares, is a strip of frames.
STRIP_RATIO = 4
_LIMITS = ReadOptions(max_pixels=1 << 25, max_frames=1 << 30)
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".npy"}


@dataclass(frozen=True)
class FirstFrames:
    """First frames as a model takes them.

    Attributes:
        source: where they come from.
        frames: float32 [k, 3, side, side] in [-1, 1].
        names: of each: its file, or the source of its clip.
        labels: class names of each; empty where the source names none.
    """

    source: Path
    frames: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of number, size and pixels: the same frames are the same wherever they lie."""
        digest = hashlib.sha256(repr(self.frames.shape).encode())
        digest.update(np.ascontiguousarray(self.frames).data)
        return digest.hexdigest()


def as_input(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [k, height, width, 3] to float32 [k, 3, height, width] in [-1, 1], as in training."""
    scaled = (frames.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def read_first_frames(source: Path, side: int) -> FirstFrames:
    """Read the first frames of a source.

    Args:
        source: an image (of a strip of frames the first); a video or ``.npy`` array (uint8 [T, H, W, 3], or
            [H, W, 3, T]); a folder of any of these, sorted by name, sub-folders left out; or a clip store, all its
            clips in order, with their classes.
        side: the model's frames are ``side`` x ``side``. Of files the largest square in the middle is resized to it as
            ``vidgen data prepare`` does; of a store what its crop rule takes in a test.

    Raises:
        DataError: there is none, one cannot be read, or there are more than fit in memory.
    """
    if source.is_dir() and (source / INDEX_FILE).exists():
        return _of_store(source, side)
    files = _files(source)
    _check_number(source, len(files))
    frames = np.stack([_square(file, side) for file in files])
    return FirstFrames(source, as_input(frames), tuple(printable(Path(file.name)) for file in files))


def _of_store(path: Path, side: int) -> FirstFrames:
    store = ClipStore.open(path)
    _check_number(path, len(store))
    box = store.info.crop.box(store.info.height, store.info.width, test=True)
    frames = np.stack([crop_and_resize(store.frames(i, [0]), box, side)[0] for i in range(len(store))])
    names = tuple(clip.source for clip in store.clips)
    classified = all(clip.label is not None or "action" in clip.attributes for clip in store.clips)
    labels: tuple[str, ...] = ()
    if classified:
        numbers, _, actions, _ = labels_of(store)
        labels = tuple(actions[number] for number in numbers)
    return FirstFrames(path, as_input(frames), names, labels)


def _check_number(source: Path, number: int) -> None:
    if 0 < number <= MOST:
        return
    raise DataError(
        f"cannot take first frames from {source}",
        seen=f"{number} of them, expected 1 to {MOST}" if number else "no clip in it",
        cause="they are all held in memory" if number else "nothing was prepared into it",
        fix="use a part of them: put those into a folder, or prepare fewer clips"
        if number
        else "use --first-frame IMAGE",
    )


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    try:
        files = sorted(
            (path for path in source.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")),
            key=lambda path: path.name,
        )
    except OSError as error:
        raise _unusable(source, error.strerror or str(error), "the folder may not be read") from error
    if not files:
        raise _unusable(
            source, "a folder without images, videos or .npy arrays", "a wrong path; sub-folders are not read"
        )
    return files


def _square(path: Path, side: int) -> NDArray[np.uint8]:
    """The first frame of a file, uint8 [side, side, 3]."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return resize(_first_frame(path), side, "center")
    except DataError as error:
        raise _unusable(path, error.seen, error.cause) from error
    except NpyVideoError as error:
        raise _unusable(path, error.seen, error.cause) from error
    except Image.DecompressionBombError as error:
        raise _unusable(path, str(error), "it is far larger than any frame") from error


def _first_frame(path: Path) -> Frame:
    clip = SourceClip(printable(Path(path.name)), path)
    if not path.exists():
        raise _unusable(path, "no such file", "a wrong path")
    if path.suffix.lower() == ".npy":
        return Frame(_first_of_array(path))
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_video(path):
        pixels = read_image(clip, _LIMITS)
        short, long = sorted(pixels.shape[:2])
        strip = long >= STRIP_RATIO * short and long % short == 0
        return Frame(cut_strip(clip, pixels)[0] if strip else pixels)
    frames: Iterator[Frame] = VideoFiles().read(clip, _LIMITS).frames
    for frame in frames:
        return frame
    raise _unusable(path, "no frame in it", "the video is empty, or cut short before its first frame")


def _first_of_array(path: Path) -> NDArray[np.uint8]:
    try:
        video = NpyVideo.open(path, time_last=False, max_frames=_LIMITS.max_frames, max_pixels=_LIMITS.max_pixels)
    except NpyVideoError as first:
        try:
            video = NpyVideo.open(path, time_last=True, max_frames=_LIMITS.max_frames, max_pixels=_LIMITS.max_pixels)
        except NpyVideoError:
            raise first from None
    if not video.length or not video.height or not video.width:
        raise NpyVideoError(f"{video.length} frames of {video.width}x{video.height} pixels", "it is empty")
    (block,) = video.blocks(0, 1)
    frame: NDArray[np.uint8] = block[0]
    return frame


def _unusable(path: Path, seen: str, cause: str) -> DataError:
    return DataError(
        f"cannot take a first frame from {path}",
        seen=seen,
        cause=cause,
        fix="use --first-frame with an image, a video, a .npy array, a folder of these, or a clip store",
    )
