"""Files read back as the frames that were written, with the frame rate, whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vidgen.errors import SettingsError, StorageError
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.sampler import Sampler
from vidgen.runtime.sinks import FORMATS, GifSink, Mp4Sink, NpySink, PngSink, WebpSink, make_sink
from vidgen.runtime.sinks.images import durations

FRAMES = Sampler(FakeBackend()).sample(1, seed=3)[0]


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _read_mp4(path: Path) -> tuple[np.ndarray, Fraction, str]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert stream.average_rate is not None
        return frames, stream.average_rate, stream.codec_context.name


def _read_image(path: Path) -> tuple[np.ndarray, list[int]]:
    with Image.open(path) as image:
        frames, times = [], []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
            times.append(image.info.get("duration", 0))
        return np.stack(frames), times


@pytest.mark.parametrize(
    ("crf", "pix_fmt", "least"), [(18, "yuv420p", 33), (23, "yuv420p", 31), (18, "yuv444p", 37), (0, "yuv444p", 48)]
)
def test_mp4_keeps_the_picture_and_its_colours(tmp_path: Path, crf: int, pix_fmt: str, least: float) -> None:
    Mp4Sink(crf, pix_fmt).write(tmp_path / "a.mp4", FRAMES, 12.5)
    frames, rate, codec = _read_mp4(tmp_path / "a.mp4")
    assert frames.shape == FRAMES.shape
    assert rate == Fraction(25, 2)
    assert codec == "h264"
    assert _psnr(frames, FRAMES) > least
    # Swapped channels or a wrong matrix shift the mean colour by far more.
    assert np.abs(frames.mean((0, 1, 2)) - FRAMES.mean((0, 1, 2))).max() < 2.5


def test_mp4_in_rgb_at_crf_0_is_exact(tmp_path: Path) -> None:
    Mp4Sink(0, "rgb24").write(tmp_path / "a.mp4", FRAMES, 25)
    assert np.array_equal(_read_mp4(tmp_path / "a.mp4")[0], FRAMES)


def test_a_lower_crf_is_closer_and_larger(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(FRAMES + rng.normal(0, 12, FRAMES.shape), 0, 255).astype(np.uint8)
    results = []
    for crf in (5, 20, 40):
        Mp4Sink(crf, "yuv444p").write(tmp_path / "a.mp4", noisy, 25)
        results.append((_psnr(_read_mp4(tmp_path / "a.mp4")[0], noisy), (tmp_path / "a.mp4").stat().st_size))
    assert results == sorted(results, reverse=True)


def test_ntsc_rates_are_kept(tmp_path: Path) -> None:
    Mp4Sink().write(tmp_path / "a.mp4", FRAMES, 30000 / 1001)
    assert abs(float(_read_mp4(tmp_path / "a.mp4")[1]) - 29.97) < 1e-3


def test_odd_sizes_need_full_colour_resolution(tmp_path: Path) -> None:
    odd = FRAMES[:, :37, :53]
    with pytest.raises(SettingsError, match="yuv444p"):
        Mp4Sink().write(tmp_path / "a.mp4", odd, 25)
    assert not list(tmp_path.iterdir())
    Mp4Sink(pix_fmt="yuv444p").write(tmp_path / "a.mp4", odd, 25)
    assert _psnr(_read_mp4(tmp_path / "a.mp4")[0], odd) > 33


def test_webp_keeps_all_frames_and_times(tmp_path: Path) -> None:
    WebpSink(90).write(tmp_path / "a.webp", FRAMES, 30)
    frames, times = _read_image(tmp_path / "a.webp")
    assert frames.shape == FRAMES.shape
    assert _psnr(frames, FRAMES) > 36
    assert sum(times) == round(1000 * 16 / 30)
    WebpSink(100).write(tmp_path / "b.webp", FRAMES, 30)
    assert np.array_equal(_read_image(tmp_path / "b.webp")[0], FRAMES)


def test_gif_keeps_all_frames_and_times_in_few_colours(tmp_path: Path) -> None:
    GifSink().write(tmp_path / "a.gif", FRAMES, 12.5)
    frames, times = _read_image(tmp_path / "a.gif")
    assert frames.shape == FRAMES.shape
    assert times == [80] * 16
    assert _psnr(frames, FRAMES) > 32
    assert len(np.unique(frames.reshape(-1, 3), axis=0)) <= 256


def test_png_is_the_frames_side_by_side(tmp_path: Path) -> None:
    PngSink().write(tmp_path / "a.png", FRAMES, 25)
    strip = _read_image(tmp_path / "a.png")[0][0]
    assert strip.shape == (64, 16 * 64, 3)
    assert np.array_equal(strip[:, 5 * 64 : 6 * 64], FRAMES[5])


def test_npy_is_the_array(tmp_path: Path) -> None:
    NpySink().write(tmp_path / "a.npy", FRAMES, 25)
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), FRAMES)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_the_same_frames_give_the_same_bytes(format: str, tmp_path: Path) -> None:
    sink = make_sink(format)
    for name in ("a", "b"):
        sink.write(tmp_path / f"{name}.{sink.extension}", FRAMES, 25)
    one, other = sorted(tmp_path.iterdir())
    assert one.read_bytes() == other.read_bytes()


def test_mp4_bytes_are_the_same_when_many_are_encoded_at_a_time(tmp_path: Path) -> None:
    # x264's own defaults fail this: about one file in a hundred and fifty differs.
    clips = Sampler(FakeBackend()).sample(37)[[0, 6, 11, 12, 16, 30, 36]]
    names = [(turn, i) for turn in range(40) for i in range(len(clips))]

    def encode(name: tuple[int, int]) -> bytes:
        path = tmp_path / f"{name[0]}-{name[1]}.mp4"
        Mp4Sink().write(path, clips[name[1]], 25)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(encode, names))
    assert len(set(files)) == len(clips)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_one_frame_and_strided_frames_are_written(format: str, tmp_path: Path) -> None:
    sink = make_sink(format)
    sink.write(tmp_path / f"a.{sink.extension}", FRAMES[:1], 25)
    sink.write(tmp_path / f"b.{sink.extension}", FRAMES[::2, ::-1, ::2], 25)
    assert all(path.stat().st_size > 100 for path in tmp_path.iterdir())


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_path_that_cannot_be_written_is_a_storage_error(format: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    sink = make_sink(format)
    with pytest.raises(StorageError, match="cannot write"):
        sink.write(tmp_path / "file" / f"a.{sink.extension}", FRAMES, 25)


@pytest.mark.parametrize(
    "options",
    [{"format": "avi"}, {"crf": 52}, {"crf": -1}, {"pix_fmt": "nv12"}, {"format": "webp", "quality": 0}],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        make_sink(**{"format": "mp4", **options})  # type: ignore[arg-type]


@given(frames=st.integers(1, 200), fps=st.floats(0.5, 100), unit=st.sampled_from([100, 1000]))
def test_durations_never_drift(frames: int, fps: float, unit: int) -> None:
    ends = np.cumsum(durations(frames, fps, unit, smallest=0))
    true = (np.arange(frames) + 1) * unit / fps
    assert np.abs(ends - true).max() <= 0.5 + 1e-6
