"""The decoding process: reads clips that it is told of on stdin, with limited memory and processor time.

A damaged or hostile file may crash, hang or bloat a decoder. It does so here, where nothing is lost.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from vidgen.data.images import too_many_frames
from vidgen.data.layouts import Reading, ReadOptions, SourceClip, load_layout, unreadable
from vidgen.data.timeline import make_timeline
from vidgen.data.transform import Crop, resize
from vidgen.errors import DataError, VidgenError

#: Signs of life are sent at least this often while frames come, in seconds.
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One clip to decode, as it crosses the pipe.

    Args:
        layout: name of the layout that reads it.
        clip: what to read.
        options: limits and hints for the layout.
        size: pixels of a side of the frames written.
        crop: what to cut out, see ``transform.crop_box``.
        fps: wanted rate, or None.
        resample: whether frames may be repeated or left out to get an even rate.
        spool: file to write the frames to: uint8 [T, size, size, 3] with no header.
        cpu_seconds: processor time after which the process is ended.
    """

    layout: str
    clip: SourceClip
    options: ReadOptions
    size: int
    crop: Crop
    fps: float | None
    resample: bool
    spool: Path
    cpu_seconds: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=os.fspath)

    @classmethod
    def from_json(cls, text: str) -> Job:
        record = json.loads(text)
        clip = record["clip"]
        crop = record["crop"]
        return cls(
            **{
                **record,
                "clip": SourceClip(**{**clip, "path": Path(clip["path"])}),
                "options": ReadOptions(**record["options"]),
                "crop": crop if isinstance(crop, str) else tuple(crop),
                "spool": Path(record["spool"]),
            }
        )


class _SpoolError(Exception):
    """The spool file could not be written: the disk's fault, not the clip's."""


def decode(job: Job, progress: Callable[[int], None]) -> dict[str, Any]:
    """Write the frames of a clip to the spool file.

    Args:
        job: what to do.
        progress: told the number of frames so far, every now and then.

    Returns:
        ``frames``: how many were written; ``order``: which of them to use, None for all in order; ``fps`` and
        ``notes`` as in ``Timeline`` and ``Reading``.

    Raises:
        DataError: the clip cannot be used.
    """
    reading = load_layout(job.layout).read(job.clip, job.options)
    times = _spool(job, reading, progress)
    if not times:
        raise unreadable(job.clip, "it holds no frame", "it is empty")
    try:
        timeline = make_timeline(
            times,
            reading.rates,
            reading.tick,
            fps=job.fps,
            resample=job.resample,
            max_frames=job.options.max_frames,
        )
    except ValueError as error:
        raise unreadable(
            job.clip, str(error), "a longer clip than is made without being told to", "pass a larger --max-frames"
        ) from error
    order = timeline.order.tolist()
    return {
        "frames": len(times),
        "order": None if order == list(range(len(times))) else order,
        "fps": timeline.fps,
        "notes": [*reading.notes, *timeline.notes],
    }


def _spool(job: Job, reading: Reading, progress: Callable[[int], None]) -> list[float | None]:
    times: list[float | None] = []
    told = time.monotonic()
    with _Spool(job.spool) as spool:
        for number, frame in enumerate(reading.frames):
            if job.clip.stop is not None and number >= job.clip.stop:
                break
            if time.monotonic() - told > PROGRESS_SECONDS:
                progress(number)
                told = time.monotonic()
            if number < job.clip.first:
                continue
            if len(times) == job.options.max_frames:
                raise too_many_frames(job.clip, job.options)
            try:
                pixels = resize(frame, job.size, job.crop)
            except ValueError as error:
                raise unreadable(
                    job.clip, str(error), "the box was chosen for other videos", "pass another --crop"
                ) from error
            spool.write(pixels.tobytes())
            times.append(frame.time)
    return times


class _Spool:
    """A file whose write errors cannot be mistaken for read errors of the clip."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Spool:
        try:
            self._stream = self._path.open("wb")
        except OSError as error:
            raise _SpoolError(error.errno, error.strerror) from error
        return self

    def write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            raise _SpoolError(error.errno, error.strerror) from error

    def __exit__(self, *_: object) -> None:
        try:
            self._stream.close()
        except OSError as error:
            raise _SpoolError(error.errno, error.strerror) from error


def answer(job: Job, progress: Callable[[int], None]) -> Mapping[str, Any]:
    """The answer to one job as the message that goes back."""
    try:
        return {"event": "decoded", **decode(job, progress)}
    except DataError as error:
        return {"event": "refused", **error.to_dict()}
    except VidgenError as error:
        return {"event": "stop", **error.to_dict()}
    except MemoryError:
        return {"event": "memory"}
    except _SpoolError as error:
        return {"event": "storage", "errno": error.args[0], "strerror": error.args[1]}
    # Decoders raise whatever they like on damaged files: the clip is refused, and the reason is kept.
    except Exception as error:
        refusal = unreadable(job.clip, f"{type(error).__name__}: {error}", "its reader failed on it")
        return {"event": "refused", **refusal.to_dict()}


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits: the parent's clock still ends a stuck process.
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ValueError, OSError) as error:  # macOS names the limit and does not always take it.
        print(f"memory is not limited: {error}", file=sys.stderr)


def _limit_processor_time(seconds: int) -> None:
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _end_with(parent: int) -> None:
    """End this process soon after the one that started it was killed."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


def _send(channel: TextIO, message: Mapping[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def main() -> None:
    """Serve jobs until stdin ends. Arguments: the limit of memory in bytes."""
    # A library that prints would break the protocol: what it says goes to stderr instead.
    channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "getppid"):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from PIL import Image

    # Sizes are checked against the user's own limit, and reported instead of warned about.
    Image.MAX_IMAGE_PIXELS = None
    _limit(int(sys.argv[1]))
    _send(channel, {"event": "ready"})
    for line in sys.stdin:
        job = Job.from_json(line)
        _limit_processor_time(job.cpu_seconds)
        _send(channel, answer(job, lambda frames: _send(channel, {"event": "progress", "frames": frames})))


if __name__ == "__main__":
    main()
