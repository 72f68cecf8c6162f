"""Folding norms changes no result and no generator; grey levels are rounded as the contract says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vidgen.export.prepare import PlainGenerator, quantise, spectral_weight

MODES = ("1p2d", "2p1d", "3d")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("attention", [False, True])
def test_folding_changes_no_video(filled, noise, reference, mode, attention):
    generator = filled(mode=mode, use_attention=attention)
    za, zm = noise(generator.config, 2, 2)
    with torch.inference_mode():
        video = PlainGenerator(generator)(za, zm).numpy()
    np.testing.assert_allclose(video, reference(generator, za, zm), rtol=0, atol=2e-5)


def test_folding_leaves_the_generator_as_it_was(filled):
    generator = filled(use_attention=True).train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    PlainGenerator(generator)
    assert generator.training
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_generator_that_has_just_been_trained_can_be_folded(filled, noise, reference):
    generator = filled(use_attention=True).train()
    za, zm = noise(generator.config, 2, 1)
    generator(za[:, :, None, None, None], zm[:, :, :, None, None]).square().mean().backward()
    generator.eval()
    with torch.inference_mode():
        video = PlainGenerator(generator)(za, zm).numpy()
    np.testing.assert_allclose(video, reference(generator, za, zm), rtol=0, atol=2e-5)


def test_folded_weights_keep_the_names_of_the_state_dict(filled):
    generator = filled(use_attention=True)
    names = {name.replace("weight_orig", "weight") for name in generator.state_dict()}
    assert set(PlainGenerator(generator).state_dict()) <= names


def test_no_norm_is_left(filled):
    kinds = {type(module) for module in PlainGenerator(filled(use_attention=True)).modules()}
    assert nn.BatchNorm3d not in kinds
    assert not any("weight_orig" in name for name, _ in PlainGenerator(filled()).named_parameters())


@pytest.mark.parametrize("kind", [nn.ConvTranspose3d, nn.Conv3d])
def test_spectral_weight_is_what_the_hook_computes_in_evaluation_mode(kind):
    torch.manual_seed(0)
    layer = nn.utils.spectral_norm(kind(5, 7, (2, 3, 3))).train()
    layer(torch.randn(1, 5, 4, 6, 6))
    layer.eval()
    layer(torch.randn(1, 5, 4, 6, 6))
    torch.testing.assert_close(spectral_weight(layer).float(), layer.weight, rtol=1e-6, atol=1e-7)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50))
def test_quantising_rounds_half_to_even_and_clips(values):
    raw = np.array(values, dtype=np.float32)
    expected = np.clip(np.rint((raw + np.float32(1)) * np.float32(127.5)), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(quantise(torch.from_numpy(raw)).numpy(), expected)
