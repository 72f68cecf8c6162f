"""Tells a video file that was cut short from one that ends, by what its header promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

#: Containers whose header gives a duration but no count of frames.
_DURATION_ONLY = frozenset(["matroska", "webm", "flv", "asf"])
#: What a whole file of these containers, which promise nothing in their header, has near its end.
_END_MARKS = {"gif": b"\0;", "apng": b"IEND"}


class Extent:
    """How much of a file was seen while it was read.

    A transport stream that was cut between two packets cannot be told from one that ends there.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._packets = 0
        self._end = 0.0

    def note(self, packet: Packet[Any]) -> None:
        """Take in one packet of any stream."""
        # The packet that flushes the decoder at the end has no time; a repeated frame has one, and no data.
        if packet.stream is self._stream and packet.dts is not None:
            self._packets += 1
        if packet.pts is not None and packet.time_base is not None:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def missing(self) -> str | None:
        """What is not there although the header promises it, or None."""
        names = set(self._container.format.name.split(","))
        absent = 0
        if "matroska" in names:
            absent = matroska_bytes_missing(self._path)
        elif "avi" in names:
            absent = riff_bytes_missing(self._path)
        if absent:
            return f"its header promises {absent} bytes more than it holds"
        promised = self._stream.frames
        # Writers of AVI count repeated frames that are not in the file: there the sizes above decide.
        if "avi" not in names and promised - self._packets > max(1, promised // 50):
            return f"its header promises {promised} frames, it holds {self._packets}"
        if names & _DURATION_ONLY and self._container.duration:
            length = self._container.duration / 1_000_000
            end = self._end - max(0.0, (self._container.start_time or 0) / 1_000_000)
            if length - end > max(0.5, 0.02 * length):
                return f"its header promises {length:.2f} seconds, it holds {end:.2f}"
        mark = _END_MARKS.get(self._container.format.name)
        if mark and mark not in _last_bytes(self._path):
            return "its end mark is missing"
        return None


def matroska_bytes_missing(path: Path) -> int:
    """How many bytes of its segment a Matroska or WebM file lacks; 0 if it is whole or does not say its size."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    position = number = 0
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        position += number
        if head[position : position + 4] != identifier:
            return 0
        position += 4
        # A size starts with as many zero bits as bytes follow; all ones mean that it is not known.
        first = head[position] if position < len(head) else 0
        width = 9 - first.bit_length() if first else 0
        unknown = (1 << 7 * width) - 1
        number = int.from_bytes(head[position : position + width]) & unknown
        if not width or number == unknown:
            return 0
        position += width
    return max(0, position + number - path.stat().st_size)


def riff_bytes_missing(path: Path) -> int:
    """How many bytes an AVI file lacks; 0 if it is whole or does not say its size."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as stream:
        # Large files are a row of RIFF chunks.
        while position + 8 <= size:
            stream.seek(position)
            head = stream.read(8)
            length = int.from_bytes(head[4:], "little")
            if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
                return 0
            position += 8 + length + length % 2
    # The byte that pads an odd length may be left out at the very end.
    return max(0, position - size) if position - size > 1 else 0


def _last_bytes(path: Path, count: int = 16) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - count))
        return stream.read()
