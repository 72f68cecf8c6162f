"""The sampler: the same videos however they are asked for, in batches of one shape, in bounded memory."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vidgen
from vidgen.errors import SamplingError, SettingsError, VidgenError
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest
from vidgen.runtime.manifest import Engine, EngineProfile, Manifest
from vidgen.runtime.ranges import batch_minmax, to_uint8
from vidgen.runtime.sampler import DEFAULT_BATCH, Sampler, usual_batch

SET = Sampler(FakeBackend(), batch=3).sample(10, seed=5)


@given(start=st.integers(0, 9), batch=st.integers(1, 5), data=st.data())
def test_a_video_does_not_depend_on_how_it_is_asked_for(start: int, batch: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 10 - start))
    part = Sampler(FakeBackend(), batch=batch).sample(n, seed=5, start=start)
    assert np.array_equal(part, SET[start : start + n])


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_a_part_equals_the_whole_to_the_bit(name: str, toy: Path, checkpoint: Path) -> None:
    with vidgen.load(checkpoint if name == "torch" else toy, backend=name) as sampler:
        whole = sampler.sample(6, seed=1)
        assert np.array_equal(sampler.sample(1, seed=1, start=5), whole[5:])
        assert np.array_equal(sampler.sample(3, seed=1, start=2), whole[2:5])
    assert len({video.tobytes() for video in whole}) == 6


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_another_batch_size_moves_at_most_a_grey_level(name: str, toy: Path, checkpoint: Path) -> None:
    videos = []
    for batch in (1, 5):
        with vidgen.load(checkpoint if name == "torch" else toy, backend=name, batch=batch) as sampler:
            videos.append(sampler.sample(5).astype(int))
    assert np.abs(videos[0] - videos[1]).max() <= 1
    assert np.mean(videos[0] != videos[1]) < 1e-4


def test_shapes_of_batches_never_change() -> None:
    backend = FakeBackend()
    videos = Sampler(backend, batch=4).sample(10)
    assert backend.batches == [4, 4, 4]
    assert videos.shape == (10, 16, 64, 64, 3)
    assert videos.dtype == np.uint8


def test_batches_yield_the_indices_of_their_videos() -> None:
    sampler = Sampler(FakeBackend(), batch=4)
    parts = list(sampler.batches(6, seed=5, start=3))
    assert [indices.tolist() for indices, _ in parts] == [[3, 4, 5, 6], [7, 8]]
    assert np.array_equal(np.concatenate([part for _, part in parts]), SET[3:9])


def test_yielded_frames_stay_as_they_were() -> None:
    batches = Sampler(FakeBackend(), batch=2).batches(4)
    _, first = next(batches)
    copy = first.copy()
    next(batches)
    assert np.array_equal(first, copy)


def test_memory_does_not_grow_with_the_number_of_videos() -> None:
    def peak(n: int) -> int:
        tracemalloc.start()
        for _ in Sampler(FakeBackend(), batch=2).batches(n):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(24) < 1.3 * peak(6)


def test_frames_and_labels_reach_the_model(labelled: Manifest) -> None:
    sampler = Sampler(FakeBackend(labelled), batch=2)
    assert sampler.sample(3, frames=9).shape == (3, 9, 8, 10, 3)
    by_name, by_index = sampler.sample(3, labels=["jump", "walk"]), sampler.sample(3, labels=[2, 0])
    assert np.array_equal(by_name, by_index)
    assert not np.array_equal(by_name, sampler.sample(3, labels=[1]))


def test_info_is_the_manifest(toy: Path) -> None:
    with vidgen.load(toy) as sampler:
        assert sampler.info.fps == 20.0
        assert sampler.info.interface.frames.default == 16


def test_a_float_artifact_gives_the_pixels_of_an_8_bit_one(tmp_path: Path, make_toy: Callable[..., Manifest]) -> None:
    make_toy(tmp_path / "raw.onnx", output="float32")
    make_toy(tmp_path / "toy.onnx")
    raw, levels = (vidgen.load(tmp_path / name).sample(3) for name in ("raw.onnx", "toy.onnx"))
    assert np.array_equal(raw, levels)


def test_minmax_normalises_each_group_and_ignores_padding() -> None:
    manifest = fake_manifest(output="float32")
    raw = Sampler(FakeBackend(manifest), batch=4)
    grouped = Sampler(FakeBackend(manifest), batch=4, range="batch-minmax", group=6)
    video = np.empty(manifest.interface.output.resolve(batch=9, frames=16), np.float32)
    FakeBackend(manifest).run(_latents(manifest, range(9)), video)
    expected = np.concatenate([batch_minmax(video[:6]), batch_minmax(video[6:])])
    parts = list(grouped.batches(9))
    assert [len(indices) for indices, _ in parts] == [6, 3]
    assert np.array_equal(np.concatenate([part for _, part in parts]), expected)
    assert np.array_equal(raw.sample(9), to_uint8(video))


def _latents(manifest: Manifest, indices: range) -> dict[str, np.ndarray]:
    from vidgen.runtime.latents import latents

    return latents(manifest.interface, 0, indices)


def test_minmax_of_a_checkpoint_uses_its_raw_video(checkpoint: Path) -> None:
    with vidgen.load(checkpoint, range="batch-minmax") as sampler:
        videos = sampler.sample(3)
    assert videos.min() == 0
    assert videos.max() == 255


def test_minmax_of_an_8_bit_artifact_names_the_export(toy: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        vidgen.load(toy, range="batch-minmax")
    assert caught.value.fix.startswith(f"vidgen export toy.safetensors -o {toy} --output float32")


def test_a_closed_sampler_says_so(toy: Path) -> None:
    sampler = vidgen.load(toy)
    sampler.close()
    with pytest.raises(VidgenError, match="closed"):
        sampler.sample(1)


@pytest.mark.parametrize("options", [{"batch": 0}, {"group": 0}, {"range": "full"}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        Sampler(FakeBackend(), **options)  # type: ignore[arg-type]


def test_arguments_out_of_range_are_refused() -> None:
    sampler = Sampler(FakeBackend())
    with pytest.raises(SettingsError, match="-n 1"):
        sampler.sample(0)
    with pytest.raises(SettingsError, match="video index"):
        sampler.sample(1, start=-1)
    with pytest.raises(SamplingError, match="--frames 20"):
        sampler.sample(1, frames=19)
    with pytest.raises(SamplingError, match="without labels"):
        sampler.sample(1, labels=["a"])


def test_an_engine_is_run_with_the_batch_it_was_built_for() -> None:
    manifest = fake_manifest()
    length = manifest.interface.frames.length(manifest.interface.frames.default)
    profiles = (EngineProfile((1, 2, 4), (length + 1,) * 3), EngineProfile((8, 16, 32), (1, length, length + 1)))
    engine = Engine("tensorrt-rtx", "1.7", profiles)
    assert usual_batch(manifest) == DEFAULT_BATCH
    assert usual_batch(dataclasses.replace(manifest, engine=engine)) == 16
    assert usual_batch(dataclasses.replace(manifest, engine=dataclasses.replace(engine, profiles=profiles[:1]))) == 2
