"""Videos in a folder: which there are, which class each was to show, and its frames as scores take them."""

from __future__ import annotations

import itertools
import json
import operator
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._files import sha256
from vidgen.bench.scores.classifier import FRAMES, SIDE, Clips
from vidgen.data.images import ImageStrips, read_animated_webp
from vidgen.data.layouts import VIDEO_SUFFIXES, Frame, Reading, ReadOptions, SourceClip
from vidgen.data.video import VideoFiles
from vidgen.errors import DataError
from vidgen.runtime.ranges import to_uint8
from vidgen.runtime.record import PATTERN
from vidgen.runtime.sinks.images import durations

#: The two sets of the protocol: by class alone, and with a real first frame.
BY_CLASS, BY_FIRST_FRAME = "class-conditional", "first-frame"
#: What the reference's class-conditional files begin with, where others have the actor.
NO_ACTOR = "none"

#: Frames of one clip that are held in memory, at most.
_MOST_BYTES = 1 << 30
#: Raw network output beyond this is no video in [-1, 1], even where motion makes it overshoot.
_LARGEST = 8.0
#: Times of animated images are whole milliseconds or more.
_TICK = 0.0004
_LIMITS = ReadOptions(max_pixels=1 << 25, max_frames=100_000, strip_size=SIDE)
_SUFFIXES = VIDEO_SUFFIXES | {".npy", ".webp"}
#: Held while a header of .npy is read: it is parsed as Python text, and Python 3.11 counts the depth of that across
#: threads, so that two at once fail now and then ("AST constructor recursion depth mismatch").
_ONE_HEADER = threading.Lock()


@dataclass(frozen=True)
class FolderVideo:
    """One video of a folder.

    Attributes:
        label: name of the class it was to show, or its number as the model's; empty where nobody asks.
        kind: :data:`BY_CLASS` or :data:`BY_FIRST_FRAME`.
        starts: seconds at which its frames begin, where that is known and its format keeps equal frames once.
    """

    path: Path
    label: str | int = ""
    kind: str = BY_CLASS
    starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class FolderListing:
    """The videos of a folder, sorted by name, and what made them as far as it is recorded."""

    videos: tuple[FolderVideo, ...]
    record: Mapping[str, Any]


def list_videos(folder: Path, labels: Sequence[str]) -> FolderListing:
    """Find the videos of a folder.

    A folder that `vidgen sample` wrote is read by its record. Any other has the reference's names (spec
    twostreamvan 7): ``<actor>_<action>...`` with actor ``none`` in the class-conditional set; sub-folders and files of
    other kinds (``results.txt``) are passed over.

    Args:
        labels: class names; they may hold underscores.

    Raises:
        DataError: no such folder, no videos, a name without a class, or a record that is damaged or not complete.
    """
    files = _files_of(folder)
    records = sorted(folder.glob(PATTERN))
    if records:
        return _by_record(folder, [_read_record(path) for path in records], files)
    videos = tuple(_by_name(path, labels) for path in files if path.suffix.lower() in _SUFFIXES)
    if not videos:
        raise _no_videos(folder, files, _SUFFIXES)
    return FolderListing(videos, {})


def list_unlabelled(folder: Path, suffixes: Collection[str] = ()) -> FolderListing:
    """Find the videos of a folder, whatever they show.

    Of a folder that `vidgen sample` wrote, the overview images are passed over.

    Args:
        suffixes: of the files to take, with the dot; all kinds of videos when empty.

    Raises:
        DataError: no such folder, no videos, or a damaged record.
    """
    files, wanted = _files_of(folder), frozenset(suffixes) or _SUFFIXES
    records = [_read_record(path) for path in sorted(folder.glob(PATTERN))]
    settings: Mapping[str, Any] = records[0]["settings"] if records else {}
    videos = tuple(
        FolderVideo(path, starts=_starts(path, settings))
        for path in files
        if path.suffix.lower() in wanted and (not records or _is_sample(path, settings))
    )
    if not videos:
        raise _no_videos(folder, files, wanted)
    return FolderListing(videos, records[0] if records else {})


def _is_sample(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a file's name is that of a video, not of an overview image, of the record."""
    return path.suffix == f".{settings['format']}" and re.fullmatch(r"\d+(_\d+)*", path.stem) is not None


def _files_of(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"cannot read videos from {folder}",
            seen=error.strerror or str(error),
            cause="a wrong path, or a file where a folder was expected",
            fix=f"ls -ld {folder}",
        ) from error


def _no_videos(folder: Path, files: Sequence[Path], suffixes: Collection[str]) -> DataError:
    return DataError(
        f"cannot read videos from {folder}",
        seen=f"{len(files)} files, none of them a video ({', '.join(sorted(suffixes))})",
        cause="a wrong folder, or sampling has not written anything yet",
        fix=f"vidgen sample --engine MODEL.onnx -o {folder} --format {'npy' if '.npy' in suffixes else 'mp4'}",
    )


def _by_name(path: Path, labels: Sequence[str]) -> FolderVideo:
    actor, underscore, rest = path.stem.partition("_")
    found = [label for label in labels if rest == label or rest.startswith(f"{label}_")]
    if not underscore or not actor or not found:
        known = ", ".join(labels) or "none, as the classifier does not name its classes"
        raise DataError(
            f"cannot tell the class of {path}",
            seen=f"the name {path.name}, expected <actor>_<class>_...{path.suffix} with a class of: {known}",
            cause="another program wrote it, or the classifier knows other classes",
            fix="rename the videos, e.g. none_walk_000.npy, or give the class names in their order: --labels a,b,c",
        )
    return FolderVideo(path, max(found, key=len), BY_CLASS if actor == NO_ACTOR else BY_FIRST_FRAME)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values["settings"]["format"], str) or not isinstance(values.get("labels", {}), dict):
            raise TypeError("its settings or labels are of another type")
        return dict(values)
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot read {path}",
            seen=f"{type(error).__name__}: {error}",
            cause="the file is damaged, or another program wrote it",
            fix="sample the videos again",
        ) from error


def _by_record(folder: Path, records: Sequence[dict[str, Any]], files: Sequence[Path]) -> FolderListing:
    first = records[0]
    settings = first["settings"]
    labels = {key: label for record in records for key, label in record.get("labels", {}).items()}
    if not labels:
        raise DataError(
            f"cannot score the videos of {folder}",
            seen="the record of their sampling names no labels",
            cause="the model that made them takes no labels",
            fix="sample a model with classes: vidgen sample --engine MODEL.onnx --labels a,b,c",
        )
    for record in records[1:]:
        unlike = [key for key in ("artifact", "seed", "format") if record["settings"].get(key) != settings.get(key)]
        if unlike:
            raise DataError(
                f"cannot score the videos of {folder} together",
                seen=f"their records differ in {unlike[0]}",
                cause="shards of different runs were copied into one folder",
                fix="score each run's folder by itself",
            )
    names = {path.name: path for path in files if path.suffix == f".{settings['format']}"}
    conditional = BY_FIRST_FRAME if settings.get("first_frame") or settings.get("first_frames") else BY_CLASS
    keyed = {name: _record_key(Path(name).stem, settings) for name in names}
    videos = [
        FolderVideo(names[name], labels[key], conditional, _starts(names[name], settings))
        for name, key in keyed.items()
        if key in labels
    ]
    missing = sorted(labels.keys() - set(keyed.values()), key=lambda key: (len(key), key))
    if missing:
        raise DataError(
            f"cannot score the videos of {folder}",
            seen=f"{len(missing)} of {len(labels)} videos are not there, e.g. video {missing[0]}",
            cause="sampling was interrupted, or files were removed",
            fix=f"{first.get('command', 'vidgen sample ...')} --resume",
        )
    return FolderListing(tuple(sorted(videos, key=lambda video: video.path.name)), first)


def _record_key(stem: str, settings: Mapping[str, Any]) -> str:
    """The key of a video's label in the record: its index, or in a grid its column, or row where rows are classes."""
    parts = stem.split("_")
    by_column = settings.get("grid") and settings.get("grid_by") != "class"
    return parts[-1] if by_column and len(parts) == 2 else parts[0]


def _starts(path: Path, settings: Mapping[str, Any]) -> tuple[float, ...]:
    """When the frames of an animated image begin: its encoder keeps frames that are alike once, for longer."""
    kinds = {".webp": (1000, 1), ".gif": (100, 2)}
    if path.suffix not in kinds:
        return ()
    frames: Any = settings.get("frames")
    try:
        # Of several lengths each is in its name.
        count = int(path.stem.rpartition("_")[2] if isinstance(frames, str) else operator.index(frames))
        fps = float(settings["fps"])
        if not (0 < fps <= 1000 and 0 < count <= _LIMITS.max_frames):
            return ()
    except (KeyError, TypeError, ValueError):
        return ()
    unit, smallest = kinds[path.suffix]
    ends = itertools.accumulate(durations(count, fps, unit, smallest))
    return tuple(end / unit for end in (0, *ends))[:count]


def read_video(video: FolderVideo) -> tuple[Clips, str]:
    """The first 10 frames of a video, and the SHA-256 of its file.

    Returns:
        uint8 [10, 64, 64, 3]; or, of a floating-point .npy as the reference writes it ([T, C, H, W] in [-1, 1]),
        float32 [10, 64, 64, 3] in about [-1, 1].

    Raises:
        DataError: damaged, too short, of another size, not finite, or no array of numbers.
    """
    clip = _npy(video.path, FRAMES, SIDE) if video.path.suffix.lower() == ".npy" else _decoded(video, FRAMES, SIDE)
    try:
        return clip, sha256(video.path)
    except OSError as error:
        raise _unusable(video.path, error.strerror or str(error), "the file cannot be read") from error


def read_whole(video: FolderVideo) -> NDArray[np.uint8]:
    """All frames of a video of any size, uint8 [T, H, W, 3]; floating-point .npy files become 8 bits, rounded.

    Raises:
        DataError: damaged, too large, not finite, or no array of numbers.
    """
    if video.path.suffix.lower() != ".npy":
        return _decoded(video, None, None)
    clip: NDArray[Any] = _npy(video.path, None, None)
    return clip if clip.dtype == np.uint8 else to_uint8(clip.transpose(3, 0, 1, 2)[None])[0]


def _npy(path: Path, frames: int | None, side: int | None) -> Clips:
    """The first ``frames`` of an array, all when None; of any size where ``side`` is None."""
    try:
        # Mapped, not loaded: a header may claim more than there is. It refuses pickled objects and archives.
        with _ONE_HEADER:
            video = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header, which is Python text, fails in as many ways as a program
        seen = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise _unusable(path, seen, "it is damaged, cut short, or holds something else than one array") from error
    shape = list(video.shape)
    if video.dtype == np.uint8 and _has_shape(video.shape, 3, side):
        return np.array(video[: _enough(path, len(video), frames)])
    if video.dtype.kind == "f" and _has_shape(video.shape, 1, side):
        part = np.array(video[: _enough(path, len(video), frames)], dtype=np.float32)
        largest = np.abs(part).max()
        if not np.isfinite(part).all() or largest > _LARGEST:
            seen = "NaN or infinity" if not np.isfinite(part).all() else f"values up to {largest:g}"
            raise _unusable(path, f"{seen}, expected values in [-1, 1]", "the network diverged, or another scale")
        return np.ascontiguousarray(part.transpose(0, 2, 3, 1))
    size = f"{side}, {side}" if side else "H, W"
    raise _unusable(
        path,
        f"an array {video.dtype} {shape}, expected uint8 [T, {size}, 3] or float [T, 3, {size}]",
        "the videos have another size or another order of axes",
    )


def _has_shape(shape: tuple[int, ...], colours: int, side: int | None) -> bool:
    """Whether a clip has its colours on that axis, and frames of that size where one is asked for."""
    if len(shape) != 4 or shape[colours] != 3 or not shape[0]:
        return False
    size = shape[1:3] if colours == 3 else shape[2:]
    return min(size) > 0 and (side is None or size == (side, side))


def _decoded(video: FolderVideo, wanted: int | None, side: int | None) -> NDArray[np.uint8]:
    """The first ``wanted`` frames, all when None, that must have ``side`` pixels where it is given."""
    path = video.path
    frames: list[Frame] = []
    try:
        # To the end, so that a file that was cut short is noticed.
        for number, frame in enumerate(_reading(SourceClip(name=path.name, path=path)).frames):
            if wanted is None or number < wanted:
                frames.append(frame)
            if number == _LIMITS.max_frames:
                raise _unusable(path, f"more than {_LIMITS.max_frames} frames", "it is no generated video")
            if frame.pixels.nbytes * len(frames) > _MOST_BYTES:
                raise _unusable(path, f"more than {_MOST_BYTES >> 20} MiB of frames", "it is no short clip")
    except DataError as error:
        raise _unusable(path, error.seen, error.cause) from error
    shown = _shown(frames, video.starts if wanted is None else video.starts[:wanted])
    _enough(path, len(shown), wanted)
    for pixels in shown:
        if side is not None and pixels.shape != (side, side, 3):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise _unusable(path, f"frames of {size}, expected {side}x{side}", "the videos have another size")
    return np.stack(shown)


def _shown(frames: Sequence[Frame], starts: Sequence[float]) -> list[NDArray[np.uint8]]:
    """The frames as they were before equal ones were merged; as they are where that is not known."""
    times = [frame.time for frame in frames]
    if not starts or not times or None in times:
        return [frame.pixels for frame in frames]
    begins = np.array(times, dtype=np.float64) - float(times[0] or 0)
    numbers = np.searchsorted(begins, np.array(starts) + _TICK, side="right") - 1
    return [frames[number].pixels for number in numbers]


def _reading(clip: SourceClip) -> Reading:
    if clip.path.suffix.lower() == ".webp":
        return read_animated_webp(clip, _LIMITS)
    return ImageStrips().read(clip, _LIMITS) if clip.path.suffix.lower() == ".png" else VideoFiles().read(clip, _LIMITS)


def _enough(path: Path, frames: int, wanted: int | None) -> int:
    """The number of frames to take of a clip that has ``frames``."""
    if wanted is not None and frames < wanted:
        raise _unusable(path, f"{frames} frames, expected at least {wanted}", f"the classifier takes {wanted} frames")
    return frames if wanted is None else wanted


def _unusable(path: Path, seen: str, cause: str) -> DataError:
    return DataError(
        f"cannot score {path}",
        seen=seen,
        cause=cause,
        fix="remove the file or sample it again; to score other videos: vidgen data prepare VIDEOS STORE --size 64",
    )
