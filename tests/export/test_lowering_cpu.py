"""The CPU lowering computes what the reference network computes, in all its forms and sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vidgen.export.lowering_cpu import CpuGenerator, ToRGB
from vidgen.export.lowering_cpu_layers import (
    SpatialDeconvolution,
    TimeDoubling,
    TimeGrowth,
    TimePointwise,
    interleave,
)

MODES = ("1p2d", "2p1d", "3d")
ATTENTION = ({"use_attention": False}, {"use_attention": True}, {"use_attention": True, "attention_merge": "clean"})


def _close(found: torch.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("attention", ATTENTION, ids=["none", "reference", "clean"])
@pytest.mark.parametrize("mode", MODES)
def test_it_equals_the_reference(filled, noise, reference, mode, attention):
    generator = filled(mode=mode, **attention)
    lowered = CpuGenerator(generator)
    for batch, length in ((1, 1), (2, 3)):
        za, zm = noise(generator.config, batch, length)
        with torch.inference_mode():
            video = lowered(za, zm).numpy()
        np.testing.assert_allclose(video, reference(generator, za, zm), rtol=0, atol=3e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [{"ch": 2, "c_a": 3, "c_m": 1}, {"ch": 6, "c_a": 16, "c_m": 5}], ids=str)
def test_it_equals_the_reference_at_odd_sizes(filled, noise, reference, mode, sizes):
    generator = filled(mode=mode, use_attention=True, **sizes)
    za, zm = noise(generator.config, 2, 2)
    with torch.inference_mode():
        video = CpuGenerator(generator)(za, zm).numpy()
    np.testing.assert_allclose(video, reference(generator, za, zm), rtol=0, atol=3e-5)


def test_a_width_of_one_channel_works_without_attention(filled, noise, reference):
    generator = filled(ch=1, use_attention=False)
    za, zm = noise(generator.config, 1, 2)
    with torch.inference_mode():
        video = CpuGenerator(generator)(za, zm).numpy()
    np.testing.assert_allclose(video, reference(generator, za, zm), rtol=0, atol=3e-5)


def test_8_bit_frames_are_the_reference_rounded(filled, noise, reference):
    generator = filled()
    za, zm = noise(generator.config, 2, 1)
    with torch.inference_mode():
        frames = CpuGenerator(generator, "uint8")(za, zm).numpy()
    expected = reference(generator, za, zm, "uint8")
    assert frames.shape == expected.shape == (2, 16, 64, 64, 3) and frames.dtype == np.uint8
    off = np.abs(frames.astype(int) - expected.astype(int))
    assert off.max() <= 1 and (off > 0).mean() < 1e-3


def test_no_gradient_and_no_change_of_the_generator(filled):
    generator = filled(use_attention=True)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    lowered = CpuGenerator(generator)
    assert not any(parameter.requires_grad for parameter in lowered.parameters())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    lowered.to(torch.float64)  # torch's own methods still work on it


channels = st.integers(1, 5)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 5), c=channels, d=channels)
def test_the_spatial_deconvolution_is_the_transposed_convolution(batch, height, width, c, d):
    torch.manual_seed(batch + 10 * height + 100 * width)
    layer = nn.ConvTranspose2d(c, d, 4, 2, 1).requires_grad_(False)
    x = torch.randn(batch, height, width, c)
    found = SpatialDeconvolution(layer.weight, layer.bias, relu=False)(x)
    rows = found.reshape(batch, height, width, 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, -1, d)
    _close(rows, layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_interleaving_puts_every_position_in_its_place():
    side = 8
    places = torch.arange(side * side).reshape(1, side // 2, 2, side // 2, 2).permute(0, 1, 3, 2, 4).reshape(1, -1, 1)
    expected = torch.arange(side * side).reshape(1, side, side, 1)
    assert torch.equal(interleave(places, side), expected)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 2), length=st.integers(1, 4), rows=st.integers(1, 3), still=st.integers(1, 3), c=channels)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (4, 2, 1)])
def test_the_step_in_time_is_the_transposed_convolution_of_all_streams(
    kernel, stride, padding, batch, length, rows, still, c
):
    torch.manual_seed(length)
    layer = nn.ConvTranspose1d(still + c, 3, kernel, stride, padding).requires_grad_(False)
    moving, steady, temporal = (
        torch.randn(shape) for shape in ((batch, length, rows, c), (batch, rows, still), (batch, length, c))
    )
    step = (TimePointwise if kernel == 1 else TimeDoubling)(layer.weight, layer.bias, still)
    whole = torch.cat((steady[:, None].expand(-1, length, -1, -1), moving + temporal[:, :, None]), dim=-1)

    def apply(x: torch.Tensor) -> torch.Tensor:
        positions = x.permute(0, 2, 3, 1).flatten(0, 1)
        return layer(positions).reshape(batch, rows, 3, -1).permute(0, 3, 1, 2)

    _close(step(moving, steady, temporal), apply(whole))
    alone = (TimePointwise if kernel == 1 else TimeDoubling)(layer.weight, layer.bias)
    _close(alone(whole), apply(whole))


@settings(max_examples=10, deadline=None)
@given(length=st.integers(1, 5), rows=st.integers(1, 3))
def test_growth_in_time_is_the_transposed_convolution(length, rows):
    layer = nn.ConvTranspose1d(4, 3, 4).requires_grad_(False)
    x = torch.randn(2, length, rows, 4)
    expected = layer(x.permute(0, 2, 3, 1).flatten(0, 1)).reshape(2, rows, 3, -1).permute(0, 3, 1, 2)
    _close(TimeGrowth(layer.weight, layer.bias)(x), expected)


def test_the_head_on_phases_is_the_convolution_with_zero_padding():
    torch.manual_seed(3)
    side, c = 4, 5
    layer = nn.Conv3d(2 * c, 3, (1, 3, 3), padding=(0, 1, 1)).requires_grad_(False)
    spatial, moving, temporal = torch.randn(2, c, 8, 8), torch.randn(6, c, 8, 8), torch.randn(2, 3, c)
    phases = [[x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)] for x in (spatial, moving)]
    found = ToRGB(layer, side)(*phases, temporal, "float32")
    video = moving.reshape(2, 3, c, 8, 8).permute(0, 2, 1, 3, 4) + temporal.permute(0, 2, 1)[..., None, None]
    whole = torch.cat((spatial[:, :, None].expand(-1, -1, 3, -1, -1), video), dim=1)
    _close(found, torch.tanh(layer(whole)))
