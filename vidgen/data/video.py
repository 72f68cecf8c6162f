"""Clips kept as video files, decoded with PyAV: which are let in, and how each is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from vidgen._imports import require
from vidgen.data.completeness import Extent
from vidgen.data.images import read_animated_webp
from vidgen.data.layouts import (
    Frame,
    Listing,
    Reading,
    ReadOptions,
    SourceClip,
    folder_label,
    is_animated_webp,
    is_video,
    printable,
    unreadable,
)
from vidgen.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_CONTAINERS = """
    3g2 3gp apng asf avi dv flv gif h264 hevc ivf m4a m4v matroska mj2 mov mp4 mpeg mpegts mpegvideo mxf nut obu ogg
    rm webm yuv4mpegpipe"""
_CODECS = """
    apng av1 cfhd cinepak dnxhd dvvideo ffv1 ffvhuff flv flv1 gif h261 h263 h263i h263p h264 hevc huffyuv libaom-av1
    libdav1d libvpx libvpx-vp9 magicyuv mjpeg mpeg1video mpeg2video mpeg4 msmpeg4 msmpeg4v1 msmpeg4v2 msmpeg4v3
    msvideo1 png prores qtrle rawvideo rv10 rv20 rv30 rv40 svq1 svq3 theora utvideo v210 vc1 vp6 vp6f vp8 vp9 vvc
    wmv1 wmv2 wmv3"""
#: Demuxers that read one local file and open no other (no playlists, no devices, no network).
CONTAINERS = tuple(_CONTAINERS.split())
#: Decoders of formats that people keep videos in.
CODECS = frozenset(_CODECS.split())


class VideoFiles:
    """One video file a clip, in folders of any depth."""

    def find(self, root: Path, files: Sequence[PurePath]) -> Listing:
        clips, ignored = [], []
        for file in files:
            if is_video(root / file):
                clips.append(SourceClip(name=printable(file), path=root / file, label=folder_label(file)))
            else:
                ignored.append(printable(file))
        return Listing(tuple(clips), tuple(ignored))

    def read(self, clip: SourceClip, options: ReadOptions) -> Reading:
        if is_animated_webp(clip.path):
            return read_animated_webp(clip, options)
        container, stream = _open(clip)
        context = stream.codec_context
        if context.width * context.height > options.max_pixels:
            container.close()
            raise unreadable(
                clip,
                f"its frames have {context.width}x{context.height} pixels, more than {options.max_pixels}",
                "a larger video than is decoded without being told to",
                "pass a larger --max-pixels",
            )
        # One thread: results of damaged streams depend on the number, and clips are decoded side by side.
        context.thread_count = 1
        rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        reading = Reading(
            frames=iter(()),
            rates=tuple(float(rate) for rate in rates if rate),
            tick=float(stream.time_base or 0),
        )
        reading.frames = _decode(clip, container, stream, reading.notes)
        return reading


def _open(clip: SourceClip) -> tuple[InputContainer, VideoStream]:
    av = require("av", "read videos")
    logging = require("av.logging", "read videos")
    # FFmpeg says which codec it misses nowhere but in its log.
    logging.set_level(logging.WARNING)
    allowed = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    with logging.Capture() as log:
        try:
            container = av.open(str(clip.path), mode="r", container_options=allowed, metadata_errors="ignore")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise unreadable(clip, *_why_not_opened(clip.path, error)) from error
    logging.set_level(None)
    try:
        return container, _video_stream(clip, container, [message for _, _, message in log])
    except BaseException:
        container.close()
        raise


def _why_not_opened(path: Path, error: Exception) -> tuple[str, str]:
    try:
        size = path.stat().st_size
    except OSError as missing:
        return missing.strerror or str(missing), "the file is gone or may not be read"
    if size == 0:
        return "it is empty (0 bytes)", "it was never written, or copied in part"
    if not os.access(path, os.R_OK):
        return "permission denied", "the file may not be read"
    said = getattr(error, "strerror", None) or str(error)
    if "Invalid argument" in said:
        return "its container is not among those that are read", "it is a playlist, or no common video file"
    return said, "it is no video, or it was cut short before its table of contents"


def _video_stream(clip: SourceClip, container: InputContainer, log: list[str]) -> VideoStream:
    kinds = [stream.type for stream in container.streams]
    videos = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not videos:
        if container.streams.video:
            raise unreadable(clip, "it has sound and a cover picture", "it is music, not a video")
        held = f"only {', '.join(kinds)}" if kinds else "and no other"
        raise unreadable(clip, f"it has no video stream, {held}", "it is no video")
    stream = videos[0]
    if stream.codec_context is None:
        named = re.search(r"Video: (\w+)(?: \((.{1,8}) /)?", "\n".join(log))
        parts = [part for part in named.groups() if part and part != "none"] if named else []
        codec = " ".join(parts) or "unknown"
        raise unreadable(clip, f"its video codec is {codec!r}", "this build of PyAV has no decoder for it")
    codec = stream.codec_context.name
    if codec not in CODECS:
        raise unreadable(clip, f"its video codec is {codec!r}", "the codec is not among those that are decoded")
    return stream


def _is_cover(stream: VideoStream) -> bool:
    # Older PyAV releases have no dispositions; there a cover is refused later, as too short.
    disposition = getattr(stream, "disposition", None)
    return "attached_pic" in str(getattr(disposition, "name", disposition))


class _Converter:
    """Turns the frames of one stream into RGB, upright, and sees to it that their size stays the same."""

    def __init__(self, clip: SourceClip, stream: VideoStream, notes: list[str]) -> None:
        self._clip, self._notes = clip, notes
        self._reformatter = require("av.video.reformatter", "read videos").VideoReformatter()
        self._failures = require("av.error", "read videos").FFmpegError
        ratio = float(stream.sample_aspect_ratio or 1)
        self._aspect = ratio if 0.1 <= ratio <= 10 else 1.0
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame, number: int) -> Frame:
        size = frame.width, frame.height
        if size != (self._size or size):
            raise unreadable(
                self._clip,
                f"frame {number} has {size[0]}x{size[1]} pixels, the frames before have "
                f"{self._size[0] if self._size else 0}x{self._size[1] if self._size else 0}",
                "the frames of one clip have one size",
            )
        self._size = size
        try:
            pixels = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        except (self._failures, ValueError, RuntimeError) as error:
            raise unreadable(
                self._clip, f"pixels of format {frame.format.name}: {error}", "PyAV cannot turn them into RGB"
            ) from error
        # Older PyAV releases do not tell the rotation.
        angle = int(getattr(frame, "rotation", 0))
        turns, rest = divmod(angle, 90)
        if rest and not number:
            self._notes.append(f"it asks to be turned by {angle} degrees: left as it is")
        if rest or turns % 4 == 0:
            return Frame(pixels, frame.time, self._aspect)
        aspect = 1 / self._aspect if turns % 2 else self._aspect
        return Frame(np.ascontiguousarray(np.rot90(pixels, turns % 4)), frame.time, aspect)


def _damaged(clip: SourceClip, number: int, seen: str) -> DataError:
    return unreadable(clip, f"at frame {number}: {seen}", "it is damaged or was cut short")


def _decode(clip: SourceClip, container: InputContainer, stream: VideoStream, notes: list[str]) -> Iterator[Frame]:
    failures = require("av.error", "read videos").FFmpegError
    extent = Extent(clip.path, container, stream)
    convert = _Converter(clip, stream, notes)
    number = 0
    with container:
        try:
            for packet in container.demux():
                extent.note(packet)
                if packet.stream is not stream:
                    continue
                if packet.is_corrupt:
                    raise _damaged(clip, number, "its data are marked as damaged")
                for frame in stream.codec_context.decode(packet):
                    if frame.is_corrupt:
                        raise _damaged(clip, number, "it could not be decoded in full")
                    yield convert(frame, number)
                    number += 1
        except MemoryError:
            raise
        except failures as error:
            raise _damaged(clip, number, error.strerror or str(error)) from error
        missing = extent.missing()
    if missing:
        raise unreadable(clip, missing, "it was cut short")
    if not number:
        raise unreadable(clip, "no frame came out of it", "its video stream is empty or damaged")
