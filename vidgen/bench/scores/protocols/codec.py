"""A clip through H.264 and back, as if it had been written to an mp4 file at libx264's default and read again."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import ScoreError

#: Frames a second of the reference's files, and libx264's own rate factor and preset, written out.
FPS, CRF, PRESET = 25, 23, "medium"
#: How protocols name it.
DESCRIPTION = f"H.264: libx264 {PRESET} crf {CRF}, yuv420p, {FPS} fps"


def h264_round_trip(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode a clip as the reference's writer does, in memory, and decode it.

    One thread and x264's exact arithmetic, so that the pixels are the same on every machine; the reference left both
    to chance.

    Args:
        clip: uint8 [T, H, W, 3], RGB; height and width even.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        ScoreError: odd sizes, or the encoder of this PyAV refuses.
    """
    av = require("av", "score through H.264")
    if clip.shape[1] % 2 or clip.shape[2] % 2:
        raise ScoreError(
            "cannot compress clips as the protocol g3an does",
            seen=f"frames of {clip.shape[2]}x{clip.shape[1]}, expected even sizes",
            cause="4:2:0 stores colour for blocks of 2x2 pixels",
            fix="use --protocol clean",
        )
    try:
        decoded = _decode(av, _encode(av, clip))
    except (av.FFmpegError, ValueError) as error:
        raise ScoreError(
            "cannot compress clips as the protocol g3an does",
            seen=str(error),
            cause="this PyAV has no libx264, or it refused the frames",
            fix="pip install -U av, or use --protocol clean",
        ) from error
    if decoded.shape != clip.shape:
        raise ScoreError(
            "cannot compress clips as the protocol g3an does",
            seen=f"{list(decoded.shape)} came back, expected {list(clip.shape)}",
            cause="the codec of this PyAV dropped frames",
            fix="pip install -U av, or use --protocol clean",
        )
    return decoded


def _encode(av: Any, clip: NDArray[np.uint8]) -> io.BytesIO:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.options = {"crf": str(CRF), "preset": PRESET, "x264-params": "cpu-independent=1"}
        for image in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            # FFmpeg's own scaler, which the reference's writer calls, is bicubic.
            container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation="BICUBIC")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    return buffer


def _decode(av: Any, buffer: io.BytesIO) -> NDArray[np.uint8]:
    with av.open(buffer, "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
