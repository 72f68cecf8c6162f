"""Masks and first frames reach every backend through the same buffers."""

from __future__ import annotations

import numpy as np
import pytest

from vidgen.errors import BackendError, SamplingError
from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.backends.buffers import check_buffers
from vidgen.runtime.backends.fake import FakeBackend
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.sampler import Sampler

CONFIG = TwoStreamVANConfig(n_cat=3, cont_dim=5, motion_dim=4, kernel_layer=2)


def _manifest(**options):
    return Manifest(model="twostreamvan", config=CONFIG, interface=CONFIG.interface("uint8", **options), fps=25.0)


def _buffers(interface, batch=2, frames=3):
    sizes = {"batch": batch, "frames": frames}
    output, *extras = (np.zeros(spec.resolve(**sizes), spec.dtype) for spec in (interface.output, *interface.extras))
    return output, {spec.name: array for spec, array in zip(interface.extras, extras, strict=True)}


@pytest.mark.parametrize("n", [1, 3, 5])
def test_extras_have_a_row_for_each_video_whatever_the_batch(n):
    with Sampler(FakeBackend(_manifest(masks=True)), batch=2) as sampler:
        videos, extras = sampler.render_with_extras(range(n), seed=1, frames=4)
        np.testing.assert_array_equal(videos, sampler.render(range(n), seed=1, frames=4))
    assert {name: mask.shape for name, mask in extras.items()} == {
        "mask_32": (n, 4, 32, 32),
        "mask_64": (n, 4, 64, 64),
    }
    with Sampler(FakeBackend(_manifest(masks=True)), batch=3) as sampler:
        alone = sampler.render_with_extras([n - 1], seed=1, frames=4)
    for name, mask in extras.items():
        np.testing.assert_array_equal(mask[-1:], alone.extras[name])


def test_an_artifact_without_extras_renders_none():
    with Sampler(FakeBackend(_manifest())) as sampler:
        assert sampler.render_with_extras([0]).extras == {}


def test_manifests_keep_extras_and_first_frames():
    manifest = _manifest(masks=True, conditional=True)
    assert Manifest.from_dict(manifest.to_dict()) == manifest


def test_buffers_of_extras_are_checked():
    interface = _manifest(masks=True).interface
    inputs = latents(interface, 0, range(2), frames=3)
    output, extras = _buffers(interface)
    check_buffers(interface, inputs, output, extras)
    check_buffers(interface, inputs, output, {"mask_64": extras["mask_64"]})
    read_only = extras["mask_64"].copy()
    read_only.flags.writeable = False
    wrong = (
        {"mask_8": extras["mask_64"]},
        {"mask_64": extras["mask_32"]},
        {"mask_64": extras["mask_64"].astype(np.float64)},
        {"mask_64": extras["mask_64"][:1]},
        {"mask_64": read_only},
    )
    for given in wrong:
        with pytest.raises(BackendError, match="does not fit"):
            check_buffers(interface, inputs, output, given)
    plain = _manifest().interface
    with pytest.raises(BackendError, match="expected none"):
        check_buffers(plain, inputs, output, extras)


def test_video_i_goes_on_from_first_frame_i_modulo_their_number():
    interface = _manifest(conditional=True).interface
    frames = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    made = latents(interface, 0, [0, 1, 2, 5], first_frames=frames)["first_frame"]
    np.testing.assert_array_equal(made, frames[[0, 1, 0, 1]])
    with pytest.raises(SamplingError, match="no first frame"):
        latents(interface, 0, [0])
    with pytest.raises(SamplingError, match="cannot go on"):
        latents(_manifest().interface, 0, [0], first_frames=frames)


def test_a_first_frame_changes_no_other_latent():
    frames = np.zeros((1, 3, 64, 64), np.float32)
    given = latents(_manifest(conditional=True).interface, 7, [3], first_frames=frames, frames=8)
    drawn = latents(_manifest().interface, 7, [3], frames=6)
    np.testing.assert_array_equal(given["z_motion"], drawn["z_motion"][:, :7])
    np.testing.assert_array_equal(given["label"], drawn["label"])
