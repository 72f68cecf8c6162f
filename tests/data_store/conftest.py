"""Makes the videos and images that the tests of this folder read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.reference_arrays import save, video

Frames = npt.NDArray[np.uint8]


def moving_square(count: int, height: int, width: int, number: int = 0) -> Frames:
    """uint8 [count, height, width, 3]: red, green, blue and grey quarters under a white bar that moves right."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:, : height // 2, : width // 2] = (220, 30, 30)
    frames[:, : height // 2, width // 2 :] = (30, 200, 30)
    frames[:, height // 2 :, : width // 2] = (30, 30, 220)
    frames[:, height // 2 :, width // 2 :] = (90 + number % 60,) * 3
    for time in range(count):
        frames[time, :, (2 * time + number) % width] = 255
    return frames


def encode(
    path: Path,
    frames: Frames,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: float = 25,
    times: Sequence[int] | None = None,
    clock: Fraction | None = None,
    rotation: int | None = None,
    shape: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Write a video with PyAV; ``times`` are in units of ``clock`` seconds. Skips where the encoder is missing."""
    av = pytest.importorskip("av")
    try:
        av.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    quality = {"libx264": {"crf": "4"}, "libx265": {"crf": "10", "x265-params": "log-level=none"}}
    with av.open(str(path), "w", options=muxer or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, options=options or quality.get(codec, {}))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        if clock is not None:
            stream.codec_context.time_base = clock
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a rotation")
            stream.set_display_rotation(rotation)
        for number, pixels_of_one in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_of_one, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., Frames]:
    return moving_square


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    return encode


@pytest.fixture()
def hostile(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Names a layout of ``hostile_layouts.py`` so that decoding processes can import it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return lambda name: f"hostile_layouts:{name}"


@pytest.fixture()
def child_environment() -> dict[str, str]:
    """Environment for a Python process that imports the package under test."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def small_store(path: Path, clips: int = 5, labels: Sequence[str] = ("a", "b"), **more: Any) -> Path:
    """A store with clips of 3, 4, 5 ... frames whose label and rate vary."""
    from vidgen.data.store import StoreWriter

    with StoreWriter(path, name="small", height=8, width=6, labels=labels, **more) as writer:
        for number in range(clips):
            frames = moving_square(3 + number, 8, 6, number)
            label = number % len(labels) if labels else None
            writer.add(
                frames, source=f"clip{number}.mp4", fps=25.0 + (number == 4), label=label, attributes={"n": number}
            )
    return path


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Path]:
    return small_store


@pytest.fixture()
def weizmann(tmp_path: Path) -> Path:
    """Three videos in the layout of Weizmann."""
    source = tmp_path / "weizmann"
    for number, (name, length) in enumerate((("daria_bend", 57), ("eli_run", 42), ("shahar_walk", 42))):
        save(source, name, video(length, number=number), time_last=True)
    return source
