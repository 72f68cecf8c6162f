"""Reading videos: any common format, upright, at the right speed; and files that cannot be used are named."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path, PurePath

import numpy as np
import pytest

from vidgen.data.layouts import Frame, Reading, ReadOptions, SourceClip
from vidgen.data.video import VideoFiles
from vidgen.errors import DataError

av = pytest.importorskip("av")

Make = Callable[..., Path]
OPTIONS = ReadOptions(max_pixels=1 << 22, max_frames=1000)
HEIGHT, WIDTH, COUNT = 48, 80, 20


def read(path: Path, options: ReadOptions = OPTIONS) -> tuple[Reading, list[Frame]]:
    reading = VideoFiles().read(SourceClip(path.name, path), options)
    return reading, list(reading.frames)


def quarters(pixels: np.ndarray) -> list[str]:
    """The strongest colour of each quarter, row by row; the bar is thin enough not to matter."""
    parts = [p for half in np.array_split(pixels, 2) for p in np.array_split(half, 2, axis=1)]
    means = [np.median(part.reshape(-1, 3), axis=0) for part in parts]
    return ["grey" if np.ptp(mean) < 60 else "rgb"[int(mean.argmax())] for mean in means]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p10le"),
        ("a.mov", "libx264", "yuv444p"),
        ("hevc.mp4", "libx265", "yuv420p"),
        ("hevc10.mkv", "libx265", "yuv420p10le"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("av1.mkv", "libsvtav1", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mpg", "mpeg1video", "yuv420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.flv", "flv", "yuv420p"),
        ("prores.mov", "prores_ks", "yuv422p10le"),
        ("mjpeg.mov", "mjpeg", "yuvj420p"),
        ("ffv1.mkv", "ffv1", "bgr0"),
        ("huffyuv.avi", "huffyuv", "yuv422p"),
        ("a.gif", "gif", "rgb8"),
        ("a.apng", "apng", "rgb24"),
    ],
)
def test_common_formats_are_read_whole(
    tmp_path: Path, make_video: Make, make_frames: Callable, name: str, codec: str, pixels: str
) -> None:
    frames = make_frames(COUNT, HEIGHT, WIDTH)
    reading, found = read(make_video(tmp_path / name, frames, codec=codec, pixels=pixels))
    assert len(found) == COUNT
    assert all(frame.pixels.shape == (HEIGHT, WIDTH, 3) and frame.pixels.dtype == np.uint8 for frame in found)
    error = np.abs(np.stack([frame.pixels for frame in found]).astype(int) - frames)
    assert np.median(error) < 26, "lossy, yet these frames in this order"
    assert quarters(found[0].pixels) == ["r", "g", "b", "grey"]
    assert any(rate == pytest.approx(25, rel=0.01) for rate in reading.rates)


def test_a_lossless_video_is_read_exactly(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    frames = make_frames(COUNT, HEIGHT, WIDTH)
    _, found = read(make_video(tmp_path / "a.mkv", frames, codec="ffv1", pixels="bgr0"))
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames)


def test_odd_sizes_are_read(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    _, found = read(make_video(tmp_path / "a.mp4", make_frames(COUNT, 61, 97), pixels="yuv444p"))
    assert found[0].pixels.shape == (61, 97, 3)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (90, ["g", "grey", "r", "b"]),
        (180, ["grey", "b", "g", "r"]),
        (-90, ["b", "r", "grey", "g"]),
        (0, ["r", "g", "b", "grey"]),
    ],
)
def test_rotation_is_honoured(
    tmp_path: Path, make_video: Make, make_frames: Callable, degrees: int, expected: list[str]
) -> None:
    # The angle is counter-clockwise, so by 90 the upper right quarter becomes the upper left one.
    _, found = read(make_video(tmp_path / "a.mp4", make_frames(4, HEIGHT, WIDTH), rotation=degrees))
    assert quarters(found[2].pixels) == expected
    assert found[2].pixels.shape[:2] == ((WIDTH, HEIGHT) if degrees % 180 else (HEIGHT, WIDTH))


def test_pixels_that_are_not_square_are_told(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    frames = make_frames(4, HEIGHT, WIDTH)
    _, found = read(make_video(tmp_path / "a.mp4", frames, shape=Fraction(4, 3)))
    assert found[0].aspect == pytest.approx(4 / 3)
    _, found = read(make_video(tmp_path / "b.mp4", frames, shape=Fraction(4, 3), rotation=90))
    assert found[0].aspect == pytest.approx(3 / 4)


def test_times_of_a_varying_rate_are_told(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    times = [0, 40, 80, 200, 240, 500, 540, 580]
    video = make_video(tmp_path / "a.mkv", make_frames(8, HEIGHT, WIDTH), times=times, clock=Fraction(1, 1000))
    reading, found = read(video)
    assert [round((frame.time or 0) * 1000) for frame in found] == times
    assert reading.tick == pytest.approx(0.001)


def test_metadata_that_is_not_utf8_is_no_obstacle(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    path = make_video(tmp_path / "a.mkv", make_frames(COUNT, HEIGHT, WIDTH), title="caf\xe9 noir")
    content = path.read_bytes()
    assert content.count("caf\xe9".encode()) == 1
    path.write_bytes(content.replace("caf\xe9".encode(), b"caf\xff\xfe"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path)).close()
    assert len(read(path)[1]) == COUNT


def test_a_file_name_that_is_not_utf8_is_no_obstacle(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    video = make_video(tmp_path / "a.mp4", make_frames(COUNT, HEIGHT, WIDTH))
    odd = tmp_path / os.fsdecode(b"caf\xff.mp4")
    try:
        video.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    listing = VideoFiles().find(tmp_path, [PurePath(odd.name)])
    assert listing.clips[0].name == "caf\\udcff.mp4" or listing.clips[0].name.isprintable()
    assert len(list(VideoFiles().read(listing.clips[0], OPTIONS).frames)) == COUNT


def refusal(path: Path, options: ReadOptions = OPTIONS) -> str:
    with pytest.raises(DataError) as caught:
        read(path, options)
    assert path.name in caught.value.what
    return f"{caught.value.seen}: {caught.value.cause}"


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 900, b"\x00" * 5000, os.urandom(5000)])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert ("0 bytes" in refusal(path)) == (not content)


@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("a.mp4", "libx264", {}),
        ("index-first.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
        ("a.flv", "flv", {}),
        ("a.gif", "gif", {}),
        ("a.apng", "apng", {}),
        ("a.wmv", "wmv2", {}),
        ("a.mpg", "mpeg1video", {}),
    ],
)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.9])
def test_a_file_that_was_cut_short_is_refused(
    tmp_path: Path, make_video: Make, make_frames: Callable, name: str, codec: str, muxer: dict, kept: float
) -> None:
    pixels = {"gif": "rgb8", "apng": "rgb24"}.get(codec, "yuv420p")
    noise = np.random.default_rng(0).integers(0, 256, (50, HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = make_video(tmp_path / name, noise, codec=codec, pixels=pixels, muxer=muxer)
    assert len(read(path)[1]) == 50
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert refusal(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream, only audio" in refusal(path)


def test_a_codec_that_is_not_known_is_named(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    path = make_video(tmp_path / "a.avi", make_frames(COUNT, HEIGHT, WIDTH), codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QZXW"))
    assert "QZXW" in refusal(path)


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile a.mp4\n", "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n"],
)
def test_a_playlist_opens_no_other_file(tmp_path: Path, make_video: Make, make_frames: Callable, text: str) -> None:
    make_video(tmp_path / "a.mp4", make_frames(COUNT, HEIGHT, WIDTH))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    assert refusal(path)


def test_large_frames_are_refused_before_they_are_decoded(
    tmp_path: Path, make_video: Make, make_frames: Callable
) -> None:
    path = make_video(tmp_path / "a.mp4", make_frames(2, HEIGHT, WIDTH))
    said = refusal(path, ReadOptions(max_pixels=HEIGHT * WIDTH - 1, max_frames=9))
    assert f"{WIDTH}x{HEIGHT}" in said and str(HEIGHT * WIDTH - 1) in said


def test_a_size_that_changes_is_refused(tmp_path: Path, make_video: Make, make_frames: Callable) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuvj420p"
        for number, (height, width) in enumerate([(48, 80), (48, 80), (64, 96)]):
            # Every JPEG image carries its own size; each is encoded on its own.
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            frame = av.VideoFrame.from_ndarray(make_frames(1, height, width)[0], format="rgb24")
            for packet in [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]:
                packet.stream, packet.pts, packet.dts = stream, number, number
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    said = refusal(path)
    assert "96x64" in said and "80x48" in said


def test_animated_webp_is_read_with_its_times(tmp_path: Path, make_frames: Callable) -> None:
    image = pytest.importorskip("PIL.Image")
    pages = [image.fromarray(frame) for frame in make_frames(6, 20, 30)]
    path = tmp_path / "a.webp"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=[40, 40, 80, 40, 40, 40], lossless=True)
    assert VideoFiles().find(tmp_path, [PurePath("a.webp")]).clips
    _, found = read(path)
    assert np.array_equal(np.stack([frame.pixels for frame in found]), make_frames(6, 20, 30))
    assert [round(1000 * (frame.time or 0)) for frame in found] == [0, 40, 80, 160, 200, 240]
    pages[0].save(tmp_path / "still.webp")
    assert not VideoFiles().find(tmp_path, [PurePath("still.webp")]).clips
