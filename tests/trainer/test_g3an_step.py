"""A training step computes what the reference's does, and the averaged generator is an average."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest
import torch
from support import vectors
from support.fill import fill_module, make_input

from vidgen.models.config import G3ANConfig
from vidgen.trainer.distributed import World
from vidgen.trainer.g3an import (
    Draws,
    Networks,
    Optimisers,
    train_step,
    validation_noise,
    validation_videos,
)
from vidgen.trainer.recipe import update_average

TINY = G3ANConfig(c_a=8, c_m=4, ch=2, use_attention=False)


@pytest.mark.parametrize("case", vectors.cases("g3an_train_step_*"))
def test_two_steps_match_the_reference(case: str) -> None:
    stored = vectors.load(case)
    batch = stored["in_za_0"].shape[0]
    networks = Networks.create(G3ANConfig(ch=8, use_attention=case.endswith("_att")), 8, averaged=False)
    for network in networks.named().values():
        fill_module(network)
    optimisers = Optimisers.create(networks, 2e-4, 2e-4)
    for i, tolerance in enumerate((1e-4, 2e-3)):
        real = torch.from_numpy(make_input(f"{case}/real_{i}", (batch, 3, 16, 64, 64), "image"))
        za, zm = (torch.from_numpy(stored[f"in_{name}_{i}"]) for name in ("za", "zm"))
        frames = [int(index) for index in stored["in_frame_indices"][i]]
        losses = train_step(networks, optimisers, real, Draws(za, zm, *frames))
        np.testing.assert_allclose(losses.numpy(), stored["out_losses"][i], rtol=0, atol=tolerance)
    states = {name: network.state_dict() for name, network in networks.named().items()}
    after = [name for name in stored if name.startswith("out_after_")]
    assert len(after) >= 9
    for name in after:
        network, key = name.removeprefix("out_after_").split("/", 1)
        np.testing.assert_allclose(states[network][key].numpy(), stored[name], rtol=0, atol=2e-3)


def test_draws_depend_on_seed_and_step_alone() -> None:
    one = Draws.of_step(3, 7, 4, TINY, World())
    again = Draws.of_step(3, 7, 4, TINY, World())
    other = Draws.of_step(3, 8, 4, TINY, World())
    seeded = Draws.of_step(4, 7, 4, TINY, World())
    assert torch.equal(one.za, again.za) and torch.equal(one.zm, again.zm)
    assert (one.real_frame, one.fake_frame) == (again.real_frame, again.fake_frame)
    assert not torch.equal(one.za, other.za)
    assert not torch.equal(one.za, seeded.za)


def test_processes_share_out_the_draws_of_one_batch() -> None:
    whole = Draws.of_step(3, 7, 4, TINY, World())
    parts = [Draws.of_step(3, 7, 4, TINY, World(rank, 2)) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.za, whole.za[rank::2])
        assert (part.real_frame, part.fake_frame) == (whole.real_frame, whole.fake_frame)


def test_frame_indices_cover_the_whole_clip() -> None:
    draws = [Draws.of_step(0, step, 1, TINY, World()) for step in range(400)]
    assert {draw.real_frame for draw in draws} == set(range(16)) == {draw.fake_frame for draw in draws}
    assert any(draw.real_frame != draw.fake_frame for draw in draws)


def test_average_moves_by_the_decay_and_does_not_touch_the_generator() -> None:
    networks = Networks.create(TINY, 2, averaged=True)
    before = {name: value.clone() for name, value in networks.generator.state_dict().items()}
    with torch.no_grad():
        for value in networks.average.parameters():
            value.zero_()
    update_average(networks.average, networks.generator, 0.75)
    for name, value in networks.average.named_parameters():
        torch.testing.assert_close(value, 0.25 * before[name])
    assert all(torch.equal(value, before[name]) for name, value in networks.generator.state_dict().items())


def test_validation_grid_repeats_appearances_and_tiles_motions() -> None:
    za, zm = validation_noise(0, TINY, 2, 3)
    assert all(torch.equal(za[i * 3], za[i * 3 + j]) for i in range(2) for j in range(3))
    assert all(torch.equal(zm[j], zm[3 + j]) for j in range(3))
    assert not torch.equal(za[0], za[3]) and not torch.equal(zm[0], zm[1])


def test_validation_leaves_the_generator_as_it_was() -> None:
    generator = Networks.create(TINY, 2, averaged=False).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    videos = validation_videos(generator, *validation_noise(0, TINY, 2, 2), chunk=3)
    assert videos.shape == (4, 3, 16, 64, 64) and generator.training
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


@pytest.mark.parametrize("attention", [False, True])
def test_bfloat16_step_stays_near_the_float32_step(attention: bool) -> None:
    config = G3ANConfig(c_a=8, c_m=4, ch=2, use_attention=attention)
    real = torch.rand(2, 3, 16, 64, 64) * 2 - 1
    results = []
    for autocast in (contextlib.nullcontext, functools.partial(torch.autocast, "cpu", torch.bfloat16)):
        torch.manual_seed(0)
        networks = Networks.create(config, 2, averaged=False)
        optimisers = Optimisers.create(networks, 2e-4, 2e-4)
        results.append(
            train_step(networks, optimisers, real, Draws.of_step(0, 0, 2, config, World()), World(), autocast)
        )
    torch.testing.assert_close(results[0], results[1], atol=0.1, rtol=0.1)
