"""Training windows follow the specification, in an order that only the seed and the step decide."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.store import ClipStore, StoreWriter
from vidgen.data.windows import WEIZMANN_CROP
from vidgen.errors import DataError, TrainingError
from vidgen.trainer.clips import (
    WINDOW,
    StepSampler,
    WindowDataset,
    check_store,
    mean_step,
    network_input,
    window_batches,
    window_times,
)


@given(length=st.integers(16, 400), seed=st.integers(0, 2**32), steps=st.lists(st.integers(1, 5), min_size=1))
def test_windows_are_16_evenly_spaced_frames_inside_the_clip(length: int, seed: int, steps: list[int]) -> None:
    times = window_times(length, steps, np.random.default_rng(seed))
    gaps = set(np.diff(times))
    assert len(times) == 16 and len(gaps) == 1
    gap = gaps.pop()
    assert gap in steps or gap == max(1, length // 16)
    assert 0 <= times[0] <= length - 16 * gap and times[-1] < length


def test_windows_reach_both_ends_of_the_start_range_and_both_steps() -> None:
    draws = [window_times(50, (2, 3), np.random.default_rng(seed)) for seed in range(400)]
    starts = {gap: {times[0] for times in draws if times[1] - times[0] == gap} for gap in (2, 3)}
    assert starts[2] == set(range(50 - 32 + 1)) and starts[3] == set(range(50 - 48 + 1))


def _keys(first_step: int, count: int, rank: int = 0, world: int = 1) -> list[list[tuple[int, int]]]:
    return list(itertools.islice(StepSampler(10, 4, 5, first_step, rank, world), count))


@given(st.integers(0, 12))
def test_an_order_taken_up_in_the_middle_goes_on_the_same(first_step: int) -> None:
    assert _keys(first_step, 6) == _keys(0, first_step + 6)[first_step:]


def test_an_epoch_shows_no_clip_twice_and_drops_the_rest() -> None:
    first, second = (list(itertools.chain(*_keys(start, 2))) for start in (0, 2))
    assert len({clip for _, clip in first}) == 8 and {epoch for epoch, _ in first} == {0}
    assert {epoch for epoch, _ in second} == {1}
    assert [clip for _, clip in first] != [clip for _, clip in second]


def test_processes_share_out_the_same_batch() -> None:
    whole, parts = _keys(0, 4), [_keys(0, 4, rank, 2) for rank in range(2)]
    for step in range(4):
        assert sorted(parts[0][step] + parts[1][step]) == sorted(whole[step])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_workers(clips: Path, workers: int) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        sampler = StepSampler(9, 4, 0, 0, 0, 1)
        return list(
            itertools.islice(window_batches(WindowDataset(clips, 0, (2, 3)), clips, sampler, workers, False), 3)
        )

    for here, there in zip(batches(0), batches(workers), strict=True):
        assert torch.equal(here, there)


def test_network_input_is_the_window_scaled_to_one(clips: Path) -> None:
    item = WindowDataset(clips, 0, (1,))[0, 0]  # 16 frames: the only window is the whole clip
    frames = torch.from_numpy(ClipStore.open(clips).frames(0))
    assert item.dtype == torch.uint8 and torch.equal(item, frames)
    x = network_input(item[None])
    assert x.shape == (1, 3, 16, 64, 64) and x.dtype == torch.float32
    torch.testing.assert_close(x[0], frames.permute(3, 0, 1, 2) / 127.5 - 1)


def test_short_clips_slow_down_what_a_model_sees(clips: Path) -> None:
    lengths = [clip.length for clip in ClipStore.open(clips).clips]
    expected = np.mean([min(step, length // 16) for length in lengths for step in (2, 3)])
    assert mean_step(ClipStore.open(clips), (2, 3)) == pytest.approx(expected) and expected < 2.5


def test_a_loading_process_that_dies_is_an_error_of_ours(clips: Path) -> None:
    class Dying(WindowDataset):
        def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    batches = window_batches(Dying(clips, 0, (1,)), clips, StepSampler(9, 4, 0, 0, 0, 1), 0, False)
    with pytest.raises(TrainingError, match="num_workers=0") as caught:
        next(batches)
    assert "Killed" in caught.value.seen


def _store(path: Path, size: int, length: int) -> ClipStore:
    with StoreWriter(path, name="x", height=size, width=size) as writer:
        for number in range(3):
            writer.add(np.zeros((length, size, size, 3), np.uint8), source=str(number), fps=25.0)
    return ClipStore.open(path)


@pytest.mark.parametrize(("size", "length", "batch"), [(32, 20, 2), (64, 15, 2), (64, 20, 4)])
def test_stores_that_cannot_train_are_refused_with_the_way_out(
    tmp_path: Path, size: int, length: int, batch: int
) -> None:
    with pytest.raises(DataError) as caught:
        store = _store(tmp_path / "store", size, length)
        check_store(store, range(len(store)), WINDOW, batch)
    assert caught.value.fix


def test_only_training_that_crops_takes_a_store_of_another_size_with_a_rule(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", name="x", height=72, width=90, crop=WEIZMANN_CROP) as writer:
        writer.add(np.zeros((16, 72, 90, 3), np.uint8), source="a", fps=25.0)
    store = ClipStore.open(tmp_path / "s")
    check_store(store, [0], 10, 1, cropping=True)
    with pytest.raises(DataError, match="90x72") as caught:
        check_store(store, [0], 10, 1)
    assert "--crop center" in caught.value.fix
