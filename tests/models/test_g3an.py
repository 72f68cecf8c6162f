"""G3AN's networks compute what the reference computes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from support import vectors
from support.fill import fill_module, make_input

from vidgen.errors import SettingsError
from vidgen.models.config import G3ANConfig
from vidgen.models.g3an import (
    FactorisedSelfAttention,
    G3Block,
    Generator,
    ImageDiscriminator,
    SpatialSelfAttention,
    Streams,
    TemporalSelfAttention,
    VideoDiscriminator,
)


def _config(case: str) -> G3ANConfig:
    width, attention, mode = re.fullmatch(r"g3an_gen_ch(\d+)_(att|noatt)_(\w+)_b\dt\d", case).groups()
    return G3ANConfig(ch=int(width), mode=mode, use_attention=attention == "att")


def _generators() -> list[Any]:
    """The whole width takes seconds: the published networks with and without attention, and the one of most memory."""
    everyday = re.compile(".*_ch8_.*|.*_ch64_(att_3d|.*_1p2d)_.*")
    return [
        pytest.param(case, marks=() if everyday.fullmatch(case) else pytest.mark.slow)
        for case in vectors.cases("g3an_gen_*")
    ]


@pytest.mark.parametrize("case", _generators())
@torch.no_grad()
def test_generator_matches_the_reference(case: str) -> None:
    stored = vectors.load(case)
    generator = fill_module(Generator(_config(case))).eval()
    seen: dict[str, np.ndarray] = {}
    for number in range(1, 6):
        block = generator.get_submodule(f"block{number}")
        block.register_forward_hook(
            lambda _m, _i, out, n=number: seen.update(
                {f"out_block{n}_{key}": value.numpy() for key, value in zip(("hs", "hv", "ht"), out, strict=True)}
            )
        )
    seen["out_video"] = generator(torch.from_numpy(stored["in_za"]), torch.from_numpy(stored["in_zm"])).numpy()
    tolerance = 1e-3 if case == "g3an_gen_ch64_att_1p2d_b2t1" else 2e-4
    compared = [name for name in seen if any(key.startswith(name) for key in stored)]
    assert "out_video" in compared
    for name in compared:
        vectors.assert_matches(seen[name], stored, name, tolerance)


@pytest.mark.parametrize("case", vectors.cases("g3an_attention_*"))
@torch.no_grad()
def test_attention_matches_the_reference(case: str) -> None:
    stored = vectors.load(case)
    x = torch.from_numpy(stored["in_x"])
    kinds = {"out_tsa": TemporalSelfAttention, "out_ssa": SpatialSelfAttention, "out_fsa": FactorisedSelfAttention}
    for name, kind in kinds.items():
        module = fill_module(kind(x.shape[1])).eval()
        vectors.assert_matches(module(x).numpy(), stored, name, 1e-4)


@torch.no_grad()
def test_attention_merges_agree_only_while_gamma_is_zero() -> None:
    x = torch.randn(2, 16, 4, 6, 5)
    for kind in (TemporalSelfAttention, SpatialSelfAttention):
        reference, clean = kind(16, "reference").eval(), kind(16, "clean").eval()
        clean.load_state_dict(reference.state_dict())
        assert torch.equal(reference(x), clean(x))
        for module in (reference, clean):
            module.gamma.fill_(0.5)
        assert not torch.allclose(reference(x), clean(x), atol=1e-3)


@torch.no_grad()
def test_clean_attention_commutes_with_moving_positions() -> None:
    """Attention does not know where a position is; the reference's reinterpretation of memory does."""
    x = torch.randn(1, 16, 3, 4, 4)
    shifted = x.roll(1, dims=4)
    clean = SpatialSelfAttention(16, "clean").eval()
    clean.gamma.fill_(1.0)
    torch.testing.assert_close(clean(shifted), clean(x).roll(1, dims=4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", vectors.cases("g3an_g3block_*"))
@pytest.mark.parametrize("mode", ["1p2d", "2p1d", "3d"])
@torch.no_grad()
def test_block_matches_the_reference(case: str, mode: str) -> None:
    stored = vectors.load(case)
    temporal = (4, 2, 1) if case.endswith("k44_s22") else (1, 1, 0)
    block = fill_module(G3Block(6, 12, 6, 5, (4, 2, 1), temporal, mode)).eval()
    out = block(Streams(*(torch.from_numpy(stored[f"in_{key}"]) for key in ("hs", "hv", "ht"))))
    for key, value in zip(("hs", "hv", "ht"), out, strict=True):
        vectors.assert_matches(value.numpy(), stored, f"out_{mode}_{key}", 1e-4)


@pytest.mark.parametrize("case", vectors.cases("g3an_disc_*"))
@torch.no_grad()
def test_discriminators_match_the_reference(case: str) -> None:
    stored = vectors.load(case)
    width = int(re.search(r"ch(\d+)", case)[1])
    video = torch.from_numpy(make_input(f"{case}/video", (2, 3, 16, 64, 64), "image"))
    for kind, x, name in (
        (VideoDiscriminator, video, "out_video_logit"),
        (ImageDiscriminator, video[:, :, 7], "out_image_logit"),
    ):
        logits = fill_module(kind(width)).eval()(x)
        vectors.assert_matches(logits.numpy(), stored, name, 1e-4)


@torch.no_grad()
def test_discriminators_keep_the_batch_axis_of_one() -> None:
    assert VideoDiscriminator(2)(torch.zeros(1, 3, 16, 64, 64)).shape == (1,)
    assert ImageDiscriminator(2)(torch.zeros(1, 3, 64, 64)).shape == (1,)


@pytest.mark.parametrize("length", [1, 2, 5])
@torch.no_grad()
def test_length_of_motion_noise_sets_the_number_of_frames(length: int) -> None:
    config = G3ANConfig(c_a=6, c_m=3, ch=2, use_attention=True)
    video = Generator(config).eval()(torch.randn(2, 6, 1, 1, 1), torch.randn(2, 3, length, 1, 1))
    assert video.shape == (2, 3, config.interface().frames.frames(length), 64, 64)
    assert video.abs().max() <= 1


def test_initial_weights_follow_the_specification() -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for batch norms, the library's default for deconvolutions (1.6)."""
    torch.manual_seed(0)
    state = Generator(G3ANConfig(ch=16)).state_dict()
    assert abs(state["fsa.ssa.v_conv.weight_orig"].std().item() - 0.02) < 2e-3
    assert abs(state["to_rgb.0.weight"].std().item() - 0.02) < 2e-3
    scales = torch.cat([value for name, value in state.items() if re.fullmatch(r"block\d\.conv_.\.[14]\.weight", name)])
    assert abs(scales.mean().item() - 1) < 5e-3 and abs(scales.std().item() - 0.02) < 4e-3
    bound = (16 * 2 * 16) ** -0.5  # block4.conv_s: 32 output channels, 4x4 kernel
    weight = state["block4.conv_s.0.weight_orig"]
    assert weight.abs().max() <= bound and weight.abs().max() > 0.98 * bound
    assert state["fsa.tsa.gamma"].item() == 0
    for network in (VideoDiscriminator(16), ImageDiscriminator(16)):
        assert abs(network.state_dict()["net.8.weight_orig"].std().item() - 0.02) < 1e-3


@pytest.mark.parametrize(
    "values", [{"ch": 0}, {"c_a": -1}, {"mode": "4d"}, {"ch": 3, "use_attention": True}, {"attention_merge": "x"}]
)
def test_impossible_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        G3ANConfig(**values)
