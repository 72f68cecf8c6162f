"""TwoStreamVAN as one ONNX file: the reference's videos, any batch and length, in every form."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import vectors
from support.combinations import chequered
from support.fill import fill_module

from vidgen.export import pipeline
from vidgen.export.loop import loop_to_onnx
from vidgen.export.onnx_graph import graphs
from vidgen.export.sampling_path import SamplingPath
from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan import Generator
from vidgen.plugins.sepconv_trt.onnx_form import inline_standard, make_function, uses_operator
from vidgen.plugins.sepconv_trt.ort_library import custom_op_library
from vidgen.runtime.latents import latents

FULL = {
    "joint": TwoStreamVANConfig(),
    "nojoint": TwoStreamVANConfig(joint=False),
    "nomask": TwoStreamVANConfig(n_cat=6, no_mask=True),
    "layer2": TwoStreamVANConfig(n_cat=6, kernel_layer=2),
    "synaction": TwoStreamVANConfig(n_cat=20, gf_dim=32, cont_dim=1024),
}
#: What a float32 run may differ by from another (raw values).
TOLERANCE = 1e-5


def _write(generator, interface, sepconv="custom", lowering="cpu", opset=20):
    return pipeline.write_path(generator, interface, lowering, sepconv, opset=opset, name="twostreamvan", metadata={})


def _session(model, *, library=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if library and uses_operator(model):
        kernels = custom_op_library()
        if kernels is not None:
            options.register_custom_ops_library(str(kernels))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(model, inputs, **options):
    session = _session(model, **options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@torch.no_grad()
def _reference(generator, inputs):
    """Frames [B, L, 3, 64, 64] with warm-up, and masks by size [B, L - 1, R, R]."""
    given = {name: torch.from_numpy(array) for name, array in inputs.items()}
    if "first_frame" in given:
        first = generator.reconstruct_one_frame(given["label"], given["first_frame"]).image
        made = generator.continue_from(first, given["label"], given["z_motion"])
    else:
        made = generator.sample(given["label"], given["z_content"], given["z_motion"])
    frames, masks = zip(*made, strict=True)
    stacked = {size: torch.cat([mask[size] for mask in masks[1:]], 1).numpy() for size in masks[1]}
    return torch.stack(frames, 1).numpy(), stacked


def _check(generator, made, inputs, tolerance=TOLERANCE):
    frames, masks = _reference(generator, inputs)
    skip = 0 if "first_frame" in inputs else 2
    np.testing.assert_allclose(made["video"].transpose(0, 2, 1, 3, 4), frames[:, skip:], rtol=0, atol=tolerance)
    assert {name for name in made if name != "video"} == {f"mask_{size}" for size in masks}
    for size, mask in masks.items():
        shown = np.concatenate([np.zeros_like(mask[:, :1]), mask], 1) if "first_frame" in inputs else mask[:, 1:]
        np.testing.assert_allclose(made[f"mask_{size}"], shown, rtol=0, atol=tolerance)


def _vector_cases():
    """Whole-width models take seconds each; one of them is enough for every day."""
    return [
        pytest.param(case, marks=() if case.split("_")[3] == "nomask" else pytest.mark.slow)
        for case in vectors.cases("tsv_full_test_*")
    ]


@pytest.mark.parametrize("case", _vector_cases())
def test_vectors_are_met(case):
    stored = vectors.load(case)
    generator = fill_module(Generator(FULL[case.split("_")[3]])).eval()
    interface = generator.config.interface("float32", masks=True)
    label = stored["in_cat"].astype(np.int64)
    z_motion = stored["in_z_motion"].reshape(len(label), -1, generator.config.motion_dim)
    inputs = {"z_content": stored["in_z_cont"], "z_motion": z_motion, "label": label}
    frames, _ = _reference(generator, inputs)
    made = _run(_write(generator, interface), inputs)
    video = np.concatenate([frames[:, :2], made["video"].transpose(0, 2, 1, 3, 4)], 1)
    vectors.assert_matches(video, stored, "out_video", 2e-4)
    _check(generator, made, inputs)


CONFIGS = {
    "joint": {},
    "nojoint": {"joint": False},
    "nomask": {"no_mask": True},
    "layer1": {"kernel_layer": 1},
    "layer2": {"kernel_layer": 2},
    "bn": {"use_bn": True, "gf_dim": 2},
    "taps7": {"ac_kernel": 7},
    "taps1": {"ac_kernel": 1, "joint": False},
    "taps17": {"ac_kernel": 17, "kernel_layer": 1, "joint": False},
    "one class": {"n_cat": 1, "joint": False},
}


@pytest.mark.parametrize(("config", "lowering"), chequered(CONFIGS, ("cpu", "tensorrt")))
def test_any_batch_and_length_in_every_form(actor, config, lowering):
    generator = actor(**CONFIGS[config])
    interface = generator.config.interface("float32", masks=True)
    model = _write(generator, interface, lowering=lowering)
    if lowering == "tensorrt":
        model = inline_standard(model)
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    for batch, frames in ((1, 1), (3, 2), (2, 4)):
        inputs = latents(interface, 3, range(batch), frames=frames)
        _check(generator, dict(zip(names, session.run(names, inputs), strict=True)), inputs)


def test_the_file_runs_without_our_library_too(actor):
    generator = actor()
    interface = generator.config.interface("float32", masks=True)
    model = _write(generator, interface)
    inputs = latents(interface, 0, range(2), frames=2)
    _check(generator, _run(model, inputs, library=False), inputs)


def test_standard_leaves_nothing_of_ours(actor):
    model = _write(actor(), actor().config.interface("uint8"), "standard")
    assert not uses_operator(model) and not model.functions
    assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.parametrize("lowering", ["cpu", "tensorrt"])
@pytest.mark.parametrize("output", ["float32", "uint8"])
def test_a_first_frame_is_gone_on_from(actor, lowering, output):
    generator = actor(joint=lowering == "cpu")
    interface = generator.config.interface(output, masks=True, conditional=True)
    model = _write(generator, interface, lowering=lowering)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    inputs = latents(interface, 0, range(2), frames=4, first_frames=images)
    made = _run(model, inputs)
    if output == "float32":
        _check(generator, made, inputs)
        # The protocol's own words (spec 3.4): motion from the prior, everything from generated frames.
        clip = torch.from_numpy(images)[:, :, None].expand(-1, -1, 4, -1, -1)
        with torch.no_grad():
            expected = generator.reconstruct_seq(
                clip,
                torch.from_numpy(inputs["label"]),
                torch.zeros(2, 3, 3, 64, 64),
                0.0,
                torch.full((5,), 0.5),
                prior=torch.from_numpy(inputs["z_motion"]).flatten(0, 1),
            )
        np.testing.assert_allclose(made["video"], expected.image.numpy(), rtol=0, atol=TOLERANCE)
        return
    frames, _ = _reference(generator, inputs)
    levels = np.clip(np.rint((frames.transpose(0, 1, 3, 4, 2) + np.float32(1)) * np.float32(127.5)), 0, 255)
    assert made["video"].dtype == np.uint8
    assert np.abs(made["video"].astype(int) - levels).max() <= 1
    assert (made["video"] != levels).mean() < 0.001


@pytest.mark.parametrize("opset", [18, 21])
def test_other_operator_sets(actor, opset):
    generator = actor(joint=False)
    interface = generator.config.interface("float32", masks=True)
    inputs = latents(interface, 0, range(2), frames=2)
    for sepconv in ("custom", "standard"):
        model = _write(generator, interface, sepconv, opset=opset)
        assert {(entry.domain, entry.version) for entry in model.opset_import} >= {("", opset)}
        _check(generator, _run(model, inputs), inputs)


def test_a_row_of_a_batch_is_its_own(actor):
    generator = actor()
    interface = generator.config.interface("float32")
    session = _session(_write(generator, interface))
    inputs = latents(interface, 0, range(4), frames=3)
    (together,) = session.run(None, inputs)
    for row in range(4):
        (alone,) = session.run(None, {name: array[row : row + 1] for name, array in inputs.items()})
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=TOLERANCE)


def test_a_longer_video_begins_with_the_shorter_one(actor):
    interface = actor().config.interface("uint8")
    session = _session(_write(actor(), interface))
    short, long = (session.run(None, latents(interface, 0, [5], frames=frames))[0] for frames in (3, 8))
    np.testing.assert_array_equal(long[:, :3], short)


@pytest.mark.parametrize("lowering", ["cpu", "tensorrt"])
def test_no_weight_is_stored_twice(actor, lowering):
    generator = actor(gf_dim=2, cont_dim=32)
    model = _write(generator, generator.config.interface("uint8", masks=True), lowering=lowering)
    tensors = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    assert len({tensor.name for tensor in tensors}) == len(tensors)
    sizes = Counter()
    for tensor in tensors:
        sizes[onnx.numpy_helper.to_array(tensor).tobytes()] += 1
    twice = sum(len(value) * (count - 1) for value, count in sizes.items() if count > 1)
    # What runs before the loop and in it; on a CPU its small convolutions are there twice, for their layout.
    shared = sum(value.numel() * 4 for value in generator.videoDec.parameters()) + 16 * 64 * 9 * 4
    assert twice <= (shared + 1024 if lowering == "cpu" else 1024)
    used = (generator.contEnc, generator.contSampler.mean, generator.motionEnc.main, generator.trajGenerator)
    used += (generator.contMotionStateGen, generator.kernelGen, generator.videoDec)
    weights = sum(value.numel() * 4 for part in used for value in part.parameters())
    assert len(model.SerializeToString()) < weights + shared + 150_000


def test_eight_bits_are_made_last_for_tensorrt(actor):
    """It has no operation on them but the cast."""
    interface = actor().config.interface("uint8")
    model = _write(actor(), interface, lowering="tensorrt")
    (last,) = (node for graph in graphs(model.graph) for node in graph.node if "video" in node.output)
    assert last.op_type == "Cast"
    assert [value.type.tensor_type.elem_type for graph in graphs(model.graph) for value in graph.output].count(
        onnx.TensorProto.UINT8
    ) == 1


def test_one_loop_that_loads_at_once(actor):
    model = _write(actor(), actor().config.interface("uint8"), "standard")
    assert [node.op_type for graph in graphs(model.graph) for node in graph.node].count("Loop") == 1
    start = time.process_time()
    _session(model)
    assert time.process_time() - start < 5


def test_the_unrolled_form_is_the_same(actor):
    generator = actor()
    interface = generator.config.interface("float32", masks=True)
    path = SamplingPath(generator, interface, "cpu")
    functions = [make_function(5, 20)]
    model = loop_to_onnx(path, interface, opset=20, name="x", metadata={}, functions=functions, unrolled=4)
    inputs = latents(interface, 0, range(2), frames=3)
    _check(generator, _run(model, inputs), inputs)


@torch.no_grad()
@pytest.mark.parametrize("lowering", ["cpu", "tensorrt"])
def test_the_path_in_python_is_the_path_in_onnx(actor, lowering):
    generator = actor(use_bn=True)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    interface = generator.config.interface("float32", masks=True)
    path = SamplingPath(generator, interface, lowering)
    inputs = latents(interface, 0, range(2), frames=3)
    made = path(*(torch.from_numpy(inputs[name]) for name in ("z_content", "z_motion", "label")))
    names = ("video", *(spec.name for spec in interface.extras))
    _check(generator, {name: value.numpy() for name, value in zip(names, made, strict=True)}, inputs)
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())


def test_the_same_weights_give_the_same_bytes(actor):
    interface = actor().config.interface("uint8")
    first, second = (_write(actor(), interface).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
