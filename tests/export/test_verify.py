"""Verification sees every planted fault, and nothing else."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.combinations import chequered

from vidgen.errors import ArtifactError, CheckpointError, VerificationError
from vidgen.export import ExportSettings, export, verify
from vidgen.export.measure import FLOAT32, HALF, HALF_ATTENTION, Case, tolerance_for
from vidgen.export.verify import cases_for, references
from vidgen.models.checkpoint import load_tensors, read_info, save_checkpoint
from vidgen.models.config import G3ANConfig
from vidgen.runtime.manifest import manifest_path, read_manifest, write_manifest


@pytest.fixture
def exported(checkpoint, tmp_path):
    """A checkpoint and its artifact."""

    def make(**options):
        source = checkpoint(use_attention=False)
        artifact = tmp_path / "g3an.onnx"
        export(ExportSettings(source, artifact, **options))
        return source, artifact

    return make


def _change(artifact, change):
    """Edit an artifact and bless it with a new hash, as a broken exporter would have written it."""
    from vidgen._files import sha256

    model = onnx.load(artifact)
    change(model)
    manifest = read_manifest(artifact)
    onnx.save(model, artifact)
    write_manifest(artifact, dataclasses.replace(manifest, sha256=sha256(artifact)))


@pytest.mark.parametrize("options", [{}, {"output": "float32"}, {"fp16": True}, {"lowering": "tensorrt"}], ids=str)
def test_an_export_verifies_again(exported, options):
    source, artifact = exported(**options)
    outcome = verify(source, str(artifact))
    assert outcome and not outcome.problems and "matches" in str(outcome)
    (check,) = outcome.checks
    assert check == read_manifest(artifact).verification[-1]
    assert 0 <= check.max_grey_levels <= check.tolerance_grey_levels
    assert json.loads(json.dumps(outcome.to_dict()))["matches"] is True


def _initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _scale_a_weight(model):
    tensor = _initializer(model, "to_rgb.temporal")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))


def _forget_a_bias(model):
    tensor = next(t for t in model.graph.initializer if t.name.endswith("bias") and "block4" in t.name)
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))


def _truncate(model):
    next(node for node in model.graph.node if node.op_type == "Round").op_type = "Floor"


def _swap_colours(model):
    node = [node for node in model.graph.node if node.op_type == "Transpose"][-1]
    node.attribute[0].ints[-1], node.attribute[0].ints[1] = node.attribute[0].ints[1], node.attribute[0].ints[-1]


def _make_nan(model):
    tensor = _initializer(model, "to_rgb.bias")
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), np.nan), tensor.name))


@pytest.mark.parametrize(
    ("fault", "output"), chequered((_scale_a_weight, _forget_a_bias, _make_nan), ("uint8", "float32"))
)
def test_a_fault_in_the_weights_is_seen(exported, fault, output):
    source, artifact = exported(output=output)
    _change(artifact, fault)
    outcome = verify(source, artifact)
    assert not outcome and "DOES NOT MATCH" in str(outcome)
    with pytest.raises(VerificationError) as caught:
        outcome.expect("look")
    assert caught.value.fix == "look"


def test_truncating_instead_of_rounding_is_seen(exported):
    source, artifact = exported()
    _change(artifact, _truncate)
    with pytest.raises(ArtifactError, match="Round"):
        verify(source, artifact)


def test_a_wrong_order_of_axes_is_seen(exported):
    source, artifact = exported(output="float32")
    _change(artifact, _swap_colours)
    try:
        outcome = verify(source, artifact)
    except Exception as error:
        assert "BackendError" in type(error).__name__
    else:
        assert not outcome


def test_another_checkpoint_of_the_same_sizes_is_seen(exported, tmp_path):
    source, artifact = exported()
    tensors = load_tensors(source)
    tensors["to_rgb.0.bias"] = tensors["to_rgb.0.bias"] + 0.01
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tensors, read_info(source))
    outcome = verify(other, artifact)
    assert not outcome and "another checkpoint" in outcome.problems[-1]


def test_another_configuration_is_an_error_at_once(exported, checkpoint):
    _, artifact = exported()
    with pytest.raises(VerificationError, match="not made from"):
        verify(checkpoint("wider", ch=6, use_attention=False), artifact)


def test_an_altered_file_is_refused(exported):
    source, artifact = exported()
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="SHA-256"):
        verify(source, artifact)


def test_missing_files_and_other_kinds_are_named(exported, tmp_path):
    source, artifact = exported()
    with pytest.raises(CheckpointError):
        verify(tmp_path / "none.safetensors", artifact)
    with pytest.raises(ArtifactError, match=r"none\.onnx"):
        verify(source, tmp_path / "none.onnx")
    with pytest.raises(ArtifactError, match=r"expected \.onnx"):
        verify(source, source)
    manifest_path(artifact).unlink()
    with pytest.raises(ArtifactError, match="no manifest"):
        verify(source, artifact)


def test_a_network_that_makes_nan_is_not_exported(checkpoint, tmp_path):
    source = checkpoint(use_attention=False)
    tensors = load_tensors(source)
    tensors["block2.conv_s.0.bias"] = torch.full_like(tensors["block2.conv_s.0.bias"], float("nan"))
    save_checkpoint(source, tensors, read_info(source))
    with pytest.raises(VerificationError, match="NaN"):
        export(ExportSettings(source, tmp_path / "g3an.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_the_cases_hold_small_and_larger_batches_and_lengths():
    interface = G3ANConfig().interface()
    cases = cases_for(interface)
    assert {(1, 1), (3, 1), (1, 3)} <= {(case.batch, case.length) for case in cases}
    assert Case(5, 1) in cases_for(interface, [5])
    longer = dataclasses.replace(interface, frames=dataclasses.replace(interface.frames, default=48))
    assert Case(1, 9) in cases_for(longer)


def test_references_are_the_same_every_time(checkpoint):
    source = checkpoint(use_attention=False)
    first, second = (references(source, [Case(2, 1)])[0] for _ in range(2))
    np.testing.assert_array_equal(first.video, second.video)
    assert first.video.shape == (2, 3, 16, 64, 64) and first.levels().shape == (2, 16, 64, 64, 3)


def test_tolerances_are_as_strict_as_the_network_allows(exported):
    _, artifact = exported(fp16=True)
    manifest = read_manifest(artifact)
    assert tolerance_for(manifest) == HALF
    manifest = dataclasses.replace(manifest, precision=dataclasses.replace(manifest.precision, tolerance=None))
    attention = dataclasses.replace(manifest, config=G3ANConfig(ch=4, use_attention=True))
    assert tolerance_for(attention) is HALF_ATTENTION
    for asked, levels in ((0.5, 0.5), (HALF.levels, HALF.levels), (HALF_ATTENTION.levels, HALF_ATTENTION.levels)):
        precision = dataclasses.replace(manifest.precision, tolerance=asked)
        for each in (manifest, attention):
            allowed = tolerance_for(dataclasses.replace(each, precision=precision))
            assert allowed.levels == levels and allowed.psnr == HALF.psnr
    assert tolerance_for(dataclasses.replace(manifest, precision=type(manifest.precision)())) is FLOAT32


def test_a_saturated_network_is_told_apart_from_a_defect(exported):
    source, artifact = exported()
    tensors = load_tensors(source)
    tensors["to_rgb.0.bias"] = torch.tensor([90.0, -90.0, 90.0])
    save_checkpoint(source, tensors, read_info(source))
    outcome = verify(source, artifact)
    assert not outcome and any("untrained" in problem for problem in outcome.problems)
