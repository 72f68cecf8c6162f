"""Files of the user's own: the contract is read from them, what is unclear is asked, what is unusable refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bench.extractors.conftest import noise_clips
from onnx import helper

from vidgen.bench.scores.extractors import open_extractor
from vidgen.errors import ArtifactError, BackendError, ScoreError, SettingsError

KINDS = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
Shape = Sequence[int | str | None]


def model(
    path: Path,
    shape: Shape,
    dtype: str = "uint8",
    *,
    layout: str = "NTHWC",
    outputs: Sequence[str] = ("features",),
    inputs: int = 1,
    mixing: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A network that gives the mean colour of each item (times 1, 2, ... for each output)."""
    axes = [index for index, axis in enumerate(layout) if axis not in "NC"] + ([0] if mixing else [])
    cast = [helper.make_node("Cast", ["clips"], ["pixels"], to=onnx.TensorProto.FLOAT)]
    mean = [helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0)]
    if mixing:
        each = [axis for axis in axes if axis]
        mean = [
            helper.make_node("ReduceMean", ["pixels", "each"], ["own"], keepdims=0),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["all"], keepdims=0),
            helper.make_node("Sub", ["own", "all"], ["mean"]),
        ]
    constants = [helper.make_tensor("axes", onnx.TensorProto.INT64, [len(axes)], axes)]
    if mixing:
        constants.append(helper.make_tensor("each", onnx.TensorProto.INT64, [len(each)], each))
    scaled = []
    for number, output in enumerate(outputs, start=1):
        constants.append(onnx.numpy_helper.from_array(np.array([number], np.float32), f"scale{number}"))
        scaled.append(helper.make_node("Mul", ["mean", f"scale{number}"], [output]))
    taken = [helper.make_tensor_value_info("clips", KINDS[dtype], shape)]
    taken += [helper.make_tensor_value_info(f"more{n}", KINDS["float32"], [1]) for n in range(inputs - 1)]
    given = [helper.make_tensor_value_info(output, KINDS["float32"], None) for output in outputs]
    graph = helper.make_graph([*cast, *mean, *scaled], "means", taken, given, constants)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(built, metadata or {})
    onnx.save(built, path)
    return path


def opened(path: Path, **options: str) -> Any:
    text = ",".join(f"{name}={value}" for name, value in options.items())
    return open_extractor(f"{path}@{text}" if text else path, threads=1)


def means(clips: np.ndarray) -> np.ndarray:
    return clips.astype(np.float64).mean(axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("n", 16, 64, 64, 3), "NTHWC"),
        ((4, 16, 64, 64, 3), "NTHWC"),
        (("n", 3, "t", 64, 64), "NCTHW"),
        ((None, None, None, None, 3), "NTHWC"),
        (("n", 16, 3, 64, 64), "NTCHW"),
    ],
)
def test_layout_and_sizes_are_read_from_the_file(tmp_path: Path, shape: Shape, layout: str) -> None:
    clips = noise_clips(7)
    with opened(model(tmp_path / "m.onnx", shape, layout=layout)) as extractor:
        assert extractor.settings()["layout"] == layout
        assert extractor.frames == (16 if 16 in shape else None)
        assert extractor.size == ((64, 64) if 64 in shape else None)
        assert extractor.settings()["batch"] == (4 if shape[0] == 4 else 8)
        assert extractor.spaces == ("features",) and not extractor.has_logits
        np.testing.assert_allclose(extractor.features(clips)["features"], means(clips), rtol=1e-5)
        assert extractor.features(clips[:0])["features"].shape == (0, 3)


@pytest.mark.parametrize(("text", "low", "high"), [("0..1", 0, 1), ("-1..1", -1, 1), ("0..255", 0, 255)])
def test_float_networks_are_given_the_range_that_was_said(tmp_path: Path, text: str, low: float, high: float) -> None:
    path = model(tmp_path / "m.onnx", ("n", 3, 16, 64, 64), "float32", layout="NCTHW")
    clips = noise_clips(3)
    with opened(path, range=text) as extractor:
        expected = means(clips) / 255 * (high - low) + low
        np.testing.assert_allclose(extractor.features(clips)["features"], expected, rtol=1e-4, atol=1e-5)
        assert extractor.settings()["range"] == [low, high]


def test_options_may_stand_in_the_file(tmp_path: Path) -> None:
    path = model(
        tmp_path / "m.onnx", ("n", "t", "h", "w", 3), "float32",
        metadata={"extractor.range": "0..1", "extractor.size": "32x48"},
    )  # fmt: skip
    with opened(path) as extractor:
        assert extractor.size == (32, 48) and extractor.settings()["range"] == [0.0, 1.0]
    with opened(path, size="40") as extractor:
        assert extractor.size == (40, 40)


def test_outputs_are_spaces_and_logits(tmp_path: Path) -> None:
    clips = noise_clips(2)
    with opened(model(tmp_path / "m.onnx", ("n", 16, 64, 64, 3), outputs=("look", "move", "logits"))) as extractor:
        assert extractor.spaces == ("look", "move") and extractor.has_logits
        features, logits = extractor.features_and_logits(clips)
        np.testing.assert_allclose(features["move"], 2 * means(clips), rtol=1e-5)
        np.testing.assert_allclose(logits, 3 * means(clips), rtol=1e-5)


def test_networks_of_frames_give_appearance_and_motion(tmp_path: Path) -> None:
    clips = noise_clips(2, 5)
    with opened(model(tmp_path / "m.onnx", ("n", 64, 64, 3), layout="NHWC")) as extractor:
        found = extractor.features(clips)
    colours = clips.astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(found["appearance"], colours.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["motion"], np.abs(np.diff(colours, axis=1)).mean(axis=1), rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "arguments", "options", "message"),
    [
        (("n", 16, 64, 64, 3), {"dtype": "float32"}, {}, "@range=-1..1"),
        (("n", 16, 64, 64, 3), {"dtype": "float32"}, {"range": "1..0"}, "LOW..HIGH"),
        (("n", 16, 64, 64, 3), {}, {"range": "0..1"}, "drop range"),
        (("n", 16, 64, 64, 3), {"dtype": "int64"}, {}, "expected uint8 or float32"),
        (("n", 3, 3, 64, 3), {}, {}, "NTHWC or NCTHW or NTCHW"),
        (("n", "a", "b", "c", "d"), {}, {}, "@layout=NTHWC"),
        (("n", 16, 64, 64, 4), {}, {"layout": "NTHWC"}, "4 channels"),
        (("n", 16, 64, 64, 3), {}, {"layout": "TNHWC"}, "expected NTHWC"),
        (("n", 12), {"layout": "NC"}, {}, "takes no video"),
        (("n", 16, 64, 64, 3), {}, {"frames": "8"}, "frames 8 asked for, expected 16"),
        (("n", 16, 64, 64, 3), {}, {"size": "32"}, "the file fixes it"),
        (("n", 16, 64, "w", 3), {}, {}, "one of them is open"),
        (("n", 16, "h", "w", 3), {}, {"size": "big"}, "whole number"),
        (("n", 16, 64, 64, 3), {}, {"colour": "bgr"}, "expected layout or range"),
        (("n", 16, 64, 64, 3), {"inputs": 2}, {}, "2 inputs"),
    ],
)
def test_what_is_unclear_or_wrong_is_told(
    tmp_path: Path, shape: Shape, arguments: dict[str, Any], options: dict[str, str], message: str
) -> None:
    path = model(tmp_path / "m.onnx", shape, **arguments)
    with pytest.raises(SettingsError) as told:
        opened(path, **options)
    assert message in str(told.value)


def test_features_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="training mode"):
        opened(model(tmp_path / "m.onnx", ("n", 16, 64, 64, 3), mixing=True))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07"])
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises((BackendError, SettingsError)):
        opened(path)
    with pytest.raises(ArtifactError, match="cannot open"):
        opened(tmp_path / "none.onnx")


def test_external_data_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", ("n", 16, 64, 64, 3))
    loaded = onnx.load(path)
    onnx.save(loaded, path, save_as_external_data=True, size_threshold=0, convert_attribute=True)
    with pytest.raises(ArtifactError, match="one self-contained file"):
        opened(path)


class Means(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.float().mean((1, 2, 3))


def test_exported_programs_run_once_they_are_trusted(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    example = torch.zeros(2, 16, 32, 32, 3, dtype=torch.uint8)
    torch.export.save(torch.export.export(Means(), (example,), dynamic_shapes=({0: batch},)), path)
    with pytest.raises(ArtifactError, match="@trust=yes"):
        opened(path)
    clips = noise_clips(3, 18, 32, 32)
    with opened(path, trust="yes") as extractor:
        assert (extractor.frames, extractor.size, extractor.name) == (16, (32, 32), "m.pt2")
        np.testing.assert_allclose(extractor.features(clips)["features"], means(clips[:, 1:17]), rtol=1e-5)
    path.write_bytes(b"PK no archive")
    with pytest.raises(ArtifactError, match=r"torch\.export"):
        open_extractor(path, trust=True)


@pytest.mark.parametrize(("axes", "usable"), [((2, 3, 4), True), ((3, 4), False), ((0, 2, 3, 4), False)])
def test_outputs_must_be_a_row_of_features_a_clip(tmp_path: Path, axes: tuple[int, ...], usable: bool) -> None:
    """Averaged with the axes kept: [n, 16, 1, 1, 1] is a row of 16; a map, or one row for all, is none."""
    nodes = [
        helper.make_node("Cast", ["clips"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["features"], keepdims=1),
    ]
    taken = [helper.make_tensor_value_info("clips", KINDS["uint8"], ["n", 16, 32, 32, 3])]
    given = [helper.make_tensor_value_info("features", KINDS["float32"], None)]
    constants = [helper.make_tensor("axes", onnx.TensorProto.INT64, [len(axes)], axes)]
    graph = helper.make_graph(nodes, "means", taken, given, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    if usable:
        with opened(tmp_path / "m.onnx") as extractor:
            assert extractor.features(noise_clips(2, 16, 32, 32))["features"].shape == (2, 16)
    else:
        with pytest.raises(ScoreError, match="expected"):
            opened(tmp_path / "m.onnx")


def test_outputs_whose_covariance_fits_no_memory_are_refused(tmp_path: Path) -> None:
    flat = helper.make_node("Flatten", ["clips"], ["levels"])
    cast = helper.make_node("Cast", ["levels"], ["features"], to=onnx.TensorProto.FLOAT)
    taken = helper.make_tensor_value_info("clips", KINDS["uint8"], ["n", 3, 80, 80, 3])
    given = helper.make_tensor_value_info("features", KINDS["float32"], ["n", 3 * 80 * 80 * 3])
    graph = helper.make_graph([flat, cast], "levels", [taken], [given])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "l.onnx")
    with pytest.raises(ScoreError, match="57600 features a clip"):
        opened(tmp_path / "l.onnx", layout="NTHWC")
