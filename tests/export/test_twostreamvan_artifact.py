"""Exports of TwoStreamVAN: settings, verification and its planted faults, half precision, backends."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from vidgen.errors import ArtifactError, SamplingError, SettingsError, VerificationError
from vidgen.export import ExportSettings, export, pipeline, sampling_path, verify
from vidgen.export.onnx_graph import graphs
from vidgen.export.precision import half_share, to_half
from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan import Generator
from vidgen.plugins.sepconv_trt.onnx_form import uses_operator
from vidgen.runtime.manifest import read_manifest
from vidgen.runtime.sampler import Sampler


def test_artifact_and_manifest_tell_the_whole_story(actor_checkpoint, tmp_path):
    source, out = actor_checkpoint(joint=False), tmp_path / "actor.onnx"
    report = export(ExportSettings(source, out, masks=True, frames=6))
    manifest = read_manifest(out)
    assert json.loads(json.dumps(report.manifest.to_dict())) == json.loads(json.dumps(manifest.to_dict()))
    assert (manifest.model, manifest.config.n_cat, manifest.sepconv) == ("twostreamvan", 3, "custom")
    assert [spec.name for spec in manifest.interface.inputs] == ["z_content", "z_motion", "label"]
    assert [spec.name for spec in manifest.interface.extras] == ["mask_8", "mask_16", "mask_32", "mask_64"]
    assert manifest.rebuild == (f"vidgen export {source} -o {out} --for cpu --output uint8 --frames 6 --masks")
    (check,) = manifest.verification
    assert check.cases == (
        "batch 1, steps 2", "batch 3, steps 2", "batch 1, steps 4", "batch 2, steps 3", "batch 1, steps 7",
    )  # fmt: skip
    assert len(check.drift) == 6 and max(check.drift) <= check.max_grey_levels < 0.0255
    assert check.motion > 0.05 and "hardly move" not in str(report)
    assert "in the first to" in str(report)


@pytest.mark.parametrize("sepconv", ["standard", "plugin"])
def test_forms_of_the_operator(actor_checkpoint, tmp_path, sepconv):
    source, out = actor_checkpoint(joint=False), tmp_path / "actor.onnx"
    manifest = export(ExportSettings(source, out, sepconv=sepconv, lowering="tensorrt", fp16=True)).manifest
    assert manifest.sepconv == sepconv and f"--sepconv {sepconv}" in manifest.rebuild
    model = onnx.load(out)
    assert not model.functions and uses_operator(model) == (sepconv == "plugin")
    assert manifest.precision.half_share > 0.5 and verify(source, out)


def test_a_conditional_artifact_is_verified_and_sampled(actor_checkpoint, tmp_path):
    source, out = actor_checkpoint(joint=False), tmp_path / "actor.onnx"
    manifest = export(ExportSettings(source, out, conditional=True, masks=True)).manifest
    assert "--masks --conditional" in manifest.rebuild and "batch 1, steps 9" in manifest.verification[0].cases
    assert verify(source, out)
    first = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    made = {}
    for artifact in (source, out):
        with Sampler.open(artifact, conditional=True, masks=True, batch=2) as sampler:
            made[artifact] = sampler.render_with_extras([0, 1, 2], frames=4, first_frames=first)
            videos = sampler.sample(3, frames=4, first_frames=first)
            np.testing.assert_array_equal(videos, made[artifact].videos)
            with pytest.raises(SamplingError, match="first frame"):
                sampler.sample(1)
            for wrong in (first[:, :, :32], first.astype(np.float64), first * 3, first * np.nan, first[:0]):
                with pytest.raises(SamplingError, match="first frames"):
                    sampler.sample(1, first_frames=wrong)
    torch_made, onnx_made = made.values()
    assert np.abs(torch_made.videos.astype(int) - onnx_made.videos).max() <= 1
    assert set(onnx_made.extras) == {"mask_8", "mask_16", "mask_32", "mask_64"}
    for name, mask in onnx_made.extras.items():
        assert mask.shape[:2] == (3, 4) and not mask[:, 0].any() and mask[:, 1:].any()
        np.testing.assert_allclose(mask, torch_made.extras[name], rtol=0, atol=1e-4)


def test_what_an_artifact_cannot_give_is_said(actor_checkpoint, checkpoint, tmp_path):
    source, out = actor_checkpoint(joint=False), tmp_path / "actor.onnx"
    export(ExportSettings(source, out))
    for option in ("masks", "conditional"):
        with pytest.raises(ArtifactError, match=option) as caught:
            Sampler.open(out, **{option: True})
        assert caught.value.fix.endswith(f"--{option}")
        with pytest.raises(SettingsError, match=f"--{option}"):
            export(ExportSettings(checkpoint(), tmp_path / "g.onnx", **{option: True}))
    with Sampler.open(out) as sampler, pytest.raises(SamplingError, match="first frame"):
        sampler.sample(1, first_frames=np.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(SettingsError, match="--sepconv fast"):
        ExportSettings(source, out, sepconv="fast")


def test_the_checkpoint_samples_like_its_artifact(actor_checkpoint, tmp_path):
    source, out = actor_checkpoint(), tmp_path / "actor.onnx"
    export(ExportSettings(source, out))
    with Sampler.open(source) as one, Sampler.open(out) as other:
        videos = [sampler.sample(3, seed=4, labels=["run", "walk"], frames=5) for sampler in (one, other)]
    assert videos[0].shape == (3, 5, 64, 64, 3)
    off = np.abs(videos[0].astype(int) - videos[1])
    assert off.max() <= 1 and (off > 0).mean() < 1e-3
    with Sampler.open(source) as sampler:
        assert (sampler.sample(3, seed=4, labels=["walk"], frames=5)[0] != videos[0][0]).any()


def test_openvino_runs_it(actor_checkpoint, tmp_path):
    pytest.importorskip("openvino")
    source, out = actor_checkpoint(joint=False), tmp_path / "actor.onnx"
    export(ExportSettings(source, out, masks=True))
    made = []
    for backend in ("onnxruntime", "openvino"):
        with Sampler.open(out, backend, masks=True) as sampler:
            made.append([sampler.render_with_extras([0, 1], frames=frames) for frames in (3, 5)])
    for one, other in zip(*made, strict=True):
        assert np.abs(one.videos.astype(int) - other.videos).max() <= 1
        for name, mask in one.extras.items():
            np.testing.assert_allclose(mask, other.extras[name], rtol=0, atol=1e-4)


def _change_step(change):
    """A fault that changes what a step is given: (difference, cell, hidden) or what it hands on."""

    def plant(monkeypatch):
        real = sampling_path.Step.forward
        monkeypatch.setattr(sampling_path.Step, "forward", change(real))

    return plant


def _halve_the_difference(real):
    def forward(self, iteration, frame, difference, cell, hidden, rows, gates):
        return real(self, iteration, frame, difference * 0.5, cell, hidden, rows, gates)

    return forward


def _turn_the_difference_round(real):
    def forward(self, iteration, frame, difference, cell, hidden, rows, gates):
        return real(self, iteration, frame, difference * -1.0, cell, hidden, rows, gates)

    return forward


def _forget_the_state(real):
    def forward(self, iteration, frame, difference, cell, hidden, rows, gates):
        image, moved, _, _, *rest = real(self, iteration, frame, difference, cell, hidden, rows, gates)
        return image, moved, cell, hidden, *rest

    return forward


def _begin_with_zeros(monkeypatch):
    real = sampling_path.Opening.forward

    def forward(self, start, z_motion, label):
        frame, difference, cell, hidden, rows, gates = real(self, start, z_motion, label)
        return frame, difference, cell * 0.0, hidden * 0.0, rows, gates

    monkeypatch.setattr(sampling_path.Opening, "forward", forward)


def _swap_the_kernels(monkeypatch):
    real = sampling_path.Fusion.forward

    def forward(self, features, motion):
        return real(self, features, motion._replace(vertical=motion.horizontal, horizontal=motion.vertical))

    monkeypatch.setattr(sampling_path.Fusion, "forward", forward)


def _keep_a_frame_of_warm_up(monkeypatch):
    real = sampling_path.VideoLayout.forward

    def forward(self, first, pixels):
        return real(self, first, torch.cat((pixels[:1], pixels[:-1])))

    monkeypatch.setattr(sampling_path.VideoLayout, "forward", forward)


def _ignore_the_label(monkeypatch):
    real = sampling_path.LabelledLinear.rows
    monkeypatch.setattr(sampling_path.LabelledLinear, "rows", lambda self, label: real(self, label - label))


def _shift_the_masks(monkeypatch):
    real = sampling_path.MaskLayout.forward

    def forward(self, masks):
        return real(self, torch.cat((masks[:1], masks[:-1])))

    monkeypatch.setattr(sampling_path.MaskLayout, "forward", forward)


FAULTS = [
    _change_step(_halve_the_difference),
    _change_step(_turn_the_difference_round),
    _change_step(_forget_the_state),
    _begin_with_zeros,
    _swap_the_kernels,
    _keep_a_frame_of_warm_up,
    _ignore_the_label,
    _shift_the_masks,
]


@pytest.mark.parametrize("fault", range(len(FAULTS)))
def test_a_broken_path_leaves_no_artifact(actor_checkpoint, tmp_path, monkeypatch, fault):
    source = actor_checkpoint(joint=False)
    FAULTS[fault](monkeypatch)
    with pytest.raises(VerificationError, match="does not compute"):
        export(ExportSettings(source, tmp_path / "actor.onnx", masks=True))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_videos_that_do_not_move_are_told(tmp_path):
    torch.manual_seed(0)
    generator = Generator(TwoStreamVANConfig(n_cat=2, gf_dim=1, cont_dim=4, motion_dim=4)).eval()
    source, out = tmp_path / "untrained.safetensors", tmp_path / "u.onnx"
    save_checkpoint(source, generator.state_dict(), CheckpointInfo("twostreamvan", generator.config))
    report = export(ExportSettings(source, out))
    assert "hardly move" in str(report) and "says nothing of motion" in str(verify(source, out))


def _half(generator, interface, lowering="tensorrt"):
    model = pipeline.write_path(generator, interface, lowering, "custom", opset=20, name="x", metadata={})
    return model, *to_half(model, recurrent=True)


@pytest.mark.parametrize("lowering", ["cpu", "tensorrt"])
def test_half_keeps_what_goes_from_step_to_step(actor, lowering):
    generator = actor(gf_dim=2)
    model, half, told = _half(generator, generator.config.interface("uint8", masks=True), lowering)
    assert told.half_share == pytest.approx(half_share(half), abs=1e-4) and told.half_share > 0.6
    assert half_share(model) == 0
    assert len(half.SerializeToString()) < 0.6 * len(model.SerializeToString())
    (loop,) = (node for node in half.graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    floats = {value.name for value in (*body.input, *body.output)}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*body.input, *body.output)}
    assert TensorProto.FLOAT16 not in kinds.values() and len(floats) > 10
    typed = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True)
    types = {}
    for graph in graphs(typed.graph):
        types |= {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for graph in graphs(typed.graph):
        for node in graph.node:
            inside = {types[name] for name in node.input if types.get(name) in (1, 10)}
            if "recurrence" in node.name or "fusion64" in node.name:
                assert TensorProto.FLOAT16 not in inside or node.op_type == "Cast", node.name
            elif node.op_type in ("Conv", "ConvTranspose", "SeparableConvolution"):
                assert inside == {TensorProto.FLOAT16}, node.name
    assert told.kept_float32 and all("*" in rule or rule.isalpha() for rule in told.kept_float32)


def test_half_precision_verifies_both_arrows(actor_checkpoint, tmp_path):
    out = tmp_path / "half.onnx"
    report = export(ExportSettings(actor_checkpoint(), out, fp16=True, masks=True))
    first, second = read_manifest(out).verification
    assert (first.arrow, second.arrow) == ("torch -> onnx", "torch -> onnx, half")
    assert first.max_grey_levels < second.max_grey_levels < 2 and second.psnr > 45
    assert "in half" in str(report)
