"""Videos kept as ``.npy`` arrays: memory-mapped, checked by their header, never unpickled."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

_MAGIC = b"\x93NUMPY"
_BLOCK_FRAMES = 64


class NpyVideoError(ValueError):
    """A file is no video of the expected arrangement: what was seen, and the likely cause."""

    def __init__(self, seen: str, cause: str) -> None:
        super().__init__(seen, cause)
        self.seen, self.cause = seen, cause


@dataclass(frozen=True)
class NpyVideo:
    """A video in an ``.npy`` file whose header was read.

    Args:
        path: the file.
        length: frames.
        height: pixels.
        width: pixels.
        time_last: whether the array is [height, width, 3, T] instead of [T, height, width, 3].
    """

    path: Path
    length: int
    height: int
    width: int
    time_last: bool

    @classmethod
    def open(cls, path: Path, *, time_last: bool, max_frames: int, max_pixels: int) -> NpyVideo:
        """Read the header of ``path`` and refuse what cannot be a video.

        Raises:
            NpyVideoError: it is not an array, is cut short, not uint8, of another arrangement, or too large.
        """
        array = _map(path)
        if array.dtype != np.uint8:
            raise NpyVideoError(
                f"it holds {array.dtype}, expected uint8", "pixels are kept as whole numbers from 0 to 255"
            )
        expected = "height x width x 3 x time" if time_last else "time x height x width x 3"
        held = "x".join(map(str, array.shape)) or "a single number"
        if array.ndim != 4 or array.shape[2 if time_last else 3] != 3:
            turned = array.ndim == 4 and array.shape[3 if time_last else 2] == 3
            cause = "it is the arrangement of another data set: choose its --layout" if turned else "it is no RGB video"
            raise NpyVideoError(f"its shape is {held}, expected {expected}", cause)
        length, (height, width) = (array.shape[3], array.shape[:2]) if time_last else (array.shape[0], array.shape[1:3])
        if length > max_frames or height * width > max_pixels:
            raise NpyVideoError(
                f"it has {length} frames of {width}x{height}, at most {max_frames} of {max_pixels} pixels are read",
                "a larger video than is read without being told to (--max-frames, --max-pixels)",
            )
        return cls(path, length, height, width, time_last)

    def blocks(self, first: int, stop: int) -> Iterator[Frames]:
        """Frames ``first`` .. ``stop - 1`` as uint8 [t, height, width, 3], a block at a time.

        Raises:
            NpyVideoError: the file was removed or changed since its header was read.
        """
        array = _map(self.path)
        shape = (
            (self.height, self.width, 3, self.length) if self.time_last else (self.length, self.height, self.width, 3)
        )
        if array.dtype != np.uint8 or array.shape != shape:
            raise NpyVideoError(f"its shape is {array.shape}, was {shape}", "it was replaced while it was read")
        frames = np.moveaxis(array, -1, 0) if self.time_last else array
        for start in range(first, stop, _BLOCK_FRAMES):
            yield np.ascontiguousarray(frames[start : min(stop, start + _BLOCK_FRAMES)])


def _map(path: Path) -> npt.NDArray[np.generic]:
    """The array of a file, memory-mapped and with plain elements.

    Raises:
        NpyVideoError: there is none.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise NpyVideoError(
                    "it does not start as an .npy file", "it is of another format, e.g. pickled, or empty"
                )
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise NpyVideoError(error.strerror or str(error), "it cannot be read, or holds no data") from error
    # NumPy parses headers as Python text and reports damage with whatever that raises.
    except (ValueError, TypeError, SyntaxError, EOFError, OverflowError, RecursionError, tokenize.TokenError) as error:
        if isinstance(error, NpyVideoError):
            raise
        text = str(error)
        if "object" in text.lower():
            raise NpyVideoError(
                "it holds pickled Python objects", "such files can run code when they are read, and are refused"
            ) from error
        seen = text.splitlines()[0][:200] if text else type(error).__name__
        raise NpyVideoError(seen, "it is damaged or cut short") from error
    return np.asarray(mapped)
