"""The form of a clip store on disk: the records of its index, their JSON, the array header, the hash."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypeVar

from vidgen.data.windows import NO_CROP, Crop
from vidgen.errors import SettingsError

FORMAT = "vidgen-clips"
VERSION = 1
FRAMES_FILE = "frames.npy"
INDEX_FILE = "index.json"
HEADER_BYTES = 128

#: What a clip may carry beside its label, e.g. ``{"actor": "ida", "first_frame": 32}``.
AttributeValue = str | int | float

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """One clip of a store.

    Args:
        source: where it came from, e.g. the path of the video inside the folder that was prepared.
        start: offset of its first frame in the frame array of the store.
        length: number of frames, at least 1. Clips may overlap in the frame array.
        fps: frames a second, above 0.
        label: index into ``StoreInfo.labels``, or None.
        attributes: anything else that is known of it.
    """

    source: str
    start: int
    length: int
    fps: float
    label: int | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds as a whole.

    Args:
        name: name of the data set.
        fps: frames a second of its clips; where they differ, the rate that most frames are shown at.
        height: pixels of every frame.
        width: pixels of every frame.
        labels: names of the classes; empty for unlabelled data.
        content_hash: hex SHA-256 over the frames and the index, without ``name``: two stores with the same
            clips have the same hash.
        clips: number of clips.
        frames: number of frames in the frame array.
        crop: the part of a frame that training sees each time a clip is drawn; stores of frames that are used
            whole have the rule ``none``.
        actors: names of all actors in their order, where the data set fixes it; clips name theirs.
    """

    name: str
    fps: float
    height: int
    width: int
    labels: tuple[str, ...]
    content_hash: str
    clips: int
    frames: int
    crop: Crop = NO_CROP
    actors: tuple[str, ...] = ()


class IndexFormatError(ValueError):
    """The text is not an index that this version reads; the message says where."""


def common_fps(clips: Iterable[Clip]) -> float:
    """The rate that most frames are shown at; the lower one of two that tie."""
    frames: Counter[float] = Counter()
    for clip in clips:
        frames[clip.fps] += clip.length
    return min(frames, key=lambda fps: (-frames[fps], fps))


def clean_attributes(attributes: Mapping[str, object]) -> dict[str, AttributeValue]:
    """A copy with plain Python values, NumPy numbers and booleans included.

    Raises:
        TypeError: a key is not text, or a value is neither text nor a number.
        ValueError: a number is not finite.
    """
    clean: dict[str, AttributeValue] = {}
    for key, value in attributes.items():
        if not isinstance(key, str):
            raise TypeError(f"attribute names are text, not {key!r}")
        if isinstance(value, str):
            clean[key] = str(value)
        elif isinstance(value, Integral):
            clean[key] = int(value)
        elif isinstance(value, Real):
            if not math.isfinite(value):
                raise ValueError(f"attribute {key!r} is {value}; only finite numbers can be kept")
            clean[key] = float(value)
        else:
            raise TypeError(f"attribute {key!r} is a {type(value).__name__}; text and numbers can be kept")
    return clean


def _clip_record(clip: Clip) -> dict[str, Any]:
    return {
        "source": clip.source,
        "start": clip.start,
        "length": clip.length,
        "fps": clip.fps,
        "label": clip.label,
        "attributes": clip.attributes,
    }


def npy_header(frames: int, height: int, width: int) -> bytes:
    """An .npy header (format 1.0) of fixed size, so that the frame count can be filled in at the end."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({frames}, {height}, {width}, 3), }}"
    return b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little") + text.encode().ljust(117) + b"\n"


def hash_prefix(height: int, width: int) -> bytes:
    """What the content hash takes in before the bytes of the frames."""
    return f"{FORMAT} {VERSION} {height}x{width}\n".encode()


def _extras(crop: Crop, actors: Sequence[str]) -> dict[str, Any]:
    """What the index says beyond the first version of the format; nothing for most stores."""
    extras: dict[str, Any] = {}
    if crop != NO_CROP:
        extras["crop"] = crop.to_dict()
    if actors:
        extras["actors"] = list(actors)
    return extras


def hash_suffix(
    labels: Sequence[str], clips: Iterable[Clip], crop: Crop = NO_CROP, actors: Sequence[str] = ()
) -> Iterable[bytes]:
    """What the content hash takes in after the bytes of the frames, piece by piece."""
    yield json.dumps(list(labels)).encode()
    if extras := _extras(crop, actors):
        yield json.dumps(extras, sort_keys=True).encode()
    for clip in clips:
        yield b"\n"
        yield json.dumps(_clip_record(clip), sort_keys=True).encode()


def index_lines(info: StoreInfo, clips: Iterable[Clip]) -> Iterable[str]:
    """The text of the index file: a JSON object with one line a clip."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "name": info.name,
        "height": info.height,
        "width": info.width,
        "fps": info.fps,
        "frames": info.frames,
        "labels": list(info.labels),
        "content_hash": info.content_hash,
        **_extras(info.crop, info.actors),
    }
    # ASCII escapes keep names that are not valid Unicode (as file systems allow) writable.
    yield json.dumps(head, indent=2)[: -len("\n}")] + ',\n  "clips": ['
    separator = "\n"
    for clip in clips:
        yield separator + "    " + json.dumps(_clip_record(clip))
        separator = ",\n"
    yield "\n  ]\n}\n"


def _take(record: object, key: str, kind: type[T], where: str) -> T:
    if not isinstance(record, dict):
        raise IndexFormatError(f"{where} is not a JSON object")
    value = record.get(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise IndexFormatError(f"{where}: {key!r} should be {kind.__name__}, is {value!r:.60}")
    return value


def _positive_rate(record: object, where: str) -> float:
    fps = _take(record, "fps", float, where)
    if not (math.isfinite(fps) and fps > 0):
        raise IndexFormatError(f"{where}: 'fps' should be above 0, is {fps}")
    return fps


def _parse_clip(record: object, number: int, frames: int, labels: int) -> Clip:
    where = f"clip {number}"
    start, length = _take(record, "start", int, where), _take(record, "length", int, where)
    if not (start >= 0 and 1 <= length <= frames - start):
        raise IndexFormatError(f"{where}: frames {start} to {start + length} lie outside 0 to {frames}")
    assert isinstance(record, dict)
    label = record.get("label")
    if label is not None and not 0 <= _take(record, "label", int, where) < labels:
        raise IndexFormatError(f"{where}: label {label} with {labels} labels")
    try:
        attributes = clean_attributes(_take(record, "attributes", dict, where))
    except (TypeError, ValueError) as error:
        raise IndexFormatError(f"{where}: {error}") from error
    return Clip(
        source=_take(record, "source", str, where),
        start=start,
        length=length,
        fps=_positive_rate(record, where),
        label=label,
        attributes=attributes,
    )


def parse_index(text: str) -> tuple[StoreInfo, tuple[Clip, ...]]:
    """Read the text of an index file.

    Raises:
        IndexFormatError: it is not JSON, not a clip store, of another version, or a value is wrong.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexFormatError(f"it is not JSON: {error}") from error
    where = "the index"
    if _take(record, "format", str, where) != FORMAT:
        raise IndexFormatError(f"its format is {record['format']!r:.60}, not {FORMAT!r}")
    if _take(record, "version", int, where) != VERSION:
        raise IndexFormatError(f"its format version is {record['version']}, this program reads {VERSION}")
    labels = _take(record, "labels", list, where)
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise IndexFormatError("'labels' should be different texts")
    sizes = {key: _take(record, key, int, where) for key in ("frames", "height", "width")}
    if min(sizes.values()) < 1:
        raise IndexFormatError(f"sizes should be 1 or more, are {sizes}")
    content_hash = _take(record, "content_hash", str, where)
    if not re.fullmatch("[0-9a-f]{64}", content_hash):
        raise IndexFormatError(f"'content_hash' should be 64 hex digits, is {content_hash!r:.80}")
    clips = tuple(
        _parse_clip(clip, number, sizes["frames"], len(labels))
        for number, clip in enumerate(_take(record, "clips", list, where))
    )
    if not clips:
        raise IndexFormatError("it lists no clip")
    actors = _take(record, "actors", list, where) if "actors" in record else []
    if not all(isinstance(actor, str) for actor in actors) or len(set(actors)) != len(actors):
        raise IndexFormatError("'actors' should be different texts")
    info = StoreInfo(
        name=_take(record, "name", str, where),
        fps=_positive_rate(record, where),
        labels=tuple(labels),
        content_hash=content_hash,
        clips=len(clips),
        crop=_parse_crop(_take(record, "crop", dict, where)) if "crop" in record else NO_CROP,
        actors=tuple(actors),
        **sizes,
    )
    return info, clips


def _parse_crop(record: Mapping[str, Any]) -> Crop:
    try:
        return Crop.from_dict(record)
    except SettingsError as error:
        raise IndexFormatError(f"'crop': {error.seen}") from error
