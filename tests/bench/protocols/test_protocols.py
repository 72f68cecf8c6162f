"""The protocols do what their names promise, and g3an does what the reference does, to the letter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.extractors import PixelExtractor
from support.scoring import artifact

from vidgen.bench.scores.clip_sources import EngineClips
from vidgen.bench.scores.protocols import PROTOCOLS, CleanProtocol, G3ANProtocol, describe, make_protocol
from vidgen.bench.scores.protocols.base import middle_frames
from vidgen.bench.scores.protocols.codec import h264_round_trip
from vidgen.bench.scores.stream import parts_of
from vidgen.bench.scores.video_folder import FolderVideo, read_whole
from vidgen.errors import ScoreError, SettingsError
from vidgen.models.config import G3ANConfig
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import read_manifest


def _smooth(frames: int = 16, size: int = 64, seed: int = 0) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:size, 0:size]
    waves = [[np.sin(x / 9 + t / 4 + c + seed) * np.cos(y / 7) for c in range(3)] for t in range(frames)]
    return (127.5 * (np.moveaxis(np.array(waves), 1, -1) + 1)).astype(np.uint8)


def test_clean_gives_the_frames_as_they_are() -> None:
    clips = [_smooth(seed=seed) for seed in range(3)]
    np.testing.assert_array_equal(CleanProtocol().prepare(clips, from_files=False), np.stack(clips))


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_middle_is_where_the_reference_takes_it(length: int, frames: int) -> None:
    clip = np.arange(length, dtype=np.uint8).reshape(length, 1, 1, 1)
    if frames > length:
        with pytest.raises(ScoreError, match=f"a clip of {length} frames"):
            middle_frames([clip], frames)
    else:
        start = length // 2 - frames // 2
        assert middle_frames([clip], frames)[0].ravel().tolist() == list(range(start, start + frames))


def test_clips_of_several_lengths_need_a_number_of_frames() -> None:
    clips = [_smooth(16), _smooth(20)]
    with pytest.raises(ScoreError, match="16 to 20 frames"):
        CleanProtocol().prepare(clips, from_files=False)
    assert CleanProtocol(frames=16).prepare(clips, from_files=False).shape == (2, 16, 64, 64, 3)


def test_clips_of_several_sizes_are_refused() -> None:
    with pytest.raises(ScoreError, match="several sizes"):
        CleanProtocol().prepare([_smooth(), _smooth(size=32)], from_files=True)


def test_the_codec_gives_what_a_file_gives(tmp_path: Path) -> None:
    """The pixels of a temporary file, written with libx264's default by other code and read by the project's reader."""
    import av

    clip, path = _smooth(18), tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        stream.codec_context.options = {"x264-params": "cpu-independent=1"}
        for image in clip:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation="BICUBIC")))
        container.mux(stream.encode(None))
    read, found = read_whole(FolderVideo(path)), h264_round_trip(clip)
    np.testing.assert_array_equal(found, read)
    noise = 10 * np.log10(255**2 / np.square(found.astype(float) - clip).mean())
    assert 25 < noise < 45


def test_g3an_resizes_the_middle_after_the_codec_by_pil() -> None:
    clip = _smooth(20)
    (found,) = G3ANProtocol().prepare([clip], from_files=False)
    decoded = h264_round_trip(clip)[2:18]
    expected = [np.asarray(Image.fromarray(frame).resize((112, 112), Image.Resampling.BILINEAR)) for frame in decoded]
    np.testing.assert_array_equal(found, np.stack(expected))
    (from_file,) = G3ANProtocol().prepare([decoded], from_files=True)
    np.testing.assert_array_equal(from_file, found)


def test_odd_sizes_have_no_place_in_4_2_0() -> None:
    with pytest.raises(ScoreError, match="even"):
        G3ANProtocol().prepare([_smooth(size=63)], from_files=False)


@pytest.mark.parametrize("n", [70, 64, 5])
def test_g3an_stretches_each_group_of_64_and_the_smaller_last_one_by_itself(tmp_path: Path, n: int) -> None:
    """v = (v - min) / (max - min) over the group, times 255, truncated (spec g3an 6), computed here anew."""
    interface = G3ANConfig(c_a=6, c_m=4, ch=2).interface("float32")
    shape = tuple(8 if size == 64 else size for size in interface.output.shape)
    interface = dataclasses.replace(interface, output=dataclasses.replace(interface.output, shape=shape))
    path = artifact(tmp_path / "raw.onnx", interface, ())
    manifest, protocol = read_manifest(path), G3ANProtocol()
    source = EngineClips(path, manifest, lambda: FakeBackend(manifest), protocol, n=n, batch=16)
    parts = parts_of(n, protocol)
    assert [len(part) for part in parts] == [64] * (n // 64) + [n % 64] * bool(n % 64)
    for part, clips in zip(parts, source.read(parts)):
        raw = np.empty((len(part), 3, 16, 8, 8), np.float32)
        FakeBackend(manifest).run(latents(interface, 0, list(part)), raw)
        unit = (raw - raw.min()) / (raw.max() - raw.min())
        np.testing.assert_array_equal(
            np.stack(clips), (unit * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 4, 1)
        )


def test_every_protocol_goes_into_json_and_its_settings_matter() -> None:
    extractor = PixelExtractor()
    labels = [describe(make_protocol(name), extractor, "features") for name in PROTOCOLS]
    for label in labels:
        assert json.loads(json.dumps(label)) == label
        assert {
            "protocol",
            "extractor",
            "weight_sha256",
            "frames",
            "resize",
            "codec",
            "range",
            "batch",
            "dtype",
        } <= set(label)
    assert labels[0] != labels[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_protocol("clean").frames = 3  # type: ignore[misc]


def test_an_extractor_of_one_length_settles_the_number_of_frames() -> None:
    assert CleanProtocol().for_extractor(PixelExtractor(frames=10)).frames == 10
    assert CleanProtocol().for_extractor(PixelExtractor(frames=None)).frames == 16
    assert CleanProtocol(frames=48).for_extractor(PixelExtractor(frames=None)).frames == 48
    with pytest.raises(ScoreError, match="use --frames 10"):
        G3ANProtocol().for_extractor(PixelExtractor(frames=10))


def test_protocols_that_do_not_exist_are_refused() -> None:
    for bad in ("fvd", "twostreamvan"):
        with pytest.raises(SettingsError):
            make_protocol(bad)
    with pytest.raises(SettingsError):
        G3ANProtocol(frames=None)


@given(st.integers(1, 400), st.integers(1, 5), st.sampled_from(sorted(PROTOCOLS)))
def test_shards_share_no_clip_and_leave_none_out(clips: int, shards: int, name: str) -> None:
    protocol = make_protocol(name)
    units = -(-clips // protocol.batch)
    taken = []
    for number in range(shards):
        if number < units:
            taken += [position for part in parts_of(clips, protocol, (number, shards)) for position in part]
        else:
            with pytest.raises(SettingsError, match="nothing to do"):
                parts_of(clips, protocol, (number, shards))
    assert sorted(taken) == list(range(clips))
