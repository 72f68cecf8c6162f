"""One .onnx file for all: with our kernel, by its function body, and rewritten into standard operators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import sepconv_models as models

from vidgen.errors import BackendError, ExportError
from vidgen.models.config import FramesRule, G3ANConfig, ModelInterface, TensorSpec
from vidgen.plugins.sepconv_trt import build, onnx_form
from vidgen.plugins.sepconv_trt.ort_library import custom_op_library, is_needed
from vidgen.runtime.backends import Backend
from vidgen.runtime.backends.onnx_file import without_functions
from vidgen.runtime.backends.onnxruntime import OnnxRuntimeBackend
from vidgen.runtime.backends.openvino import OpenVinoBackend
from vidgen.runtime.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
OPSETS = (18, 20, 21)
pytestmark = pytest.mark.skipif(not any(map(shutil.which, build.COMPILERS)), reason="needs a C++ compiler")


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], *, kernel: bool, optimised: bool = True) -> np.ndarray:
    """The last output."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if kernel:
        options.register_custom_ops_library(str(custom_op_library()))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[-1])


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("taps", [1, 3, 5, 15])
def test_kernel_body_and_standard_operators_agree(taps: int, opset: int) -> None:
    model, feeds = models.flat(taps, opset), models.feeds(taps)
    standard = onnx_form.inline_standard(model)
    onnx.checker.check_model(standard, full_check=True)
    for found in (
        run(model, feeds, kernel=True),
        run(model, feeds, kernel=True, optimised=False),
        run(model, feeds, kernel=False),
        run(standard, feeds, kernel=False),
        run(standard, feeds, kernel=False, optimised=False),
    ):
        assert_close(found, models.exact(**feeds))


@pytest.mark.parametrize("taps", [13, 51])
def test_both_bodies_at_their_largest(taps: int) -> None:
    model, feeds = models.flat(taps), models.feeds(taps, batch=1)
    assert_close(run(model, feeds, kernel=True), models.exact(**feeds))
    assert_close(run(model, feeds, kernel=False), models.exact(**feeds))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("taps", [3, 15])
def test_inside_loop_and_if(taps: int, opset: int) -> None:
    model, feeds = models.looped(taps, opset), models.loop_feeds(taps)
    standard = onnx_form.inline_standard(model)
    onnx.checker.check_model(standard, full_check=True)
    assert not onnx_form.uses_operator(standard)
    expected = run(model, feeds, kernel=True)
    assert expected.shape == (4, 2, 3, 6, 7)
    assert np.abs(expected[3] - expected[0]).max() > 0.1
    for other, kernel in ((model, False), (standard, False), (standard, True)):
        assert_close(run(other, feeds, kernel=kernel), expected)


def test_sizes_stay_dynamic() -> None:
    model = models.flat(5)
    standard = onnx_form.inline_standard(model)
    for sizes in ((1, 1, 1, 1), (3, 2, 9, 4), (1, 130, 5, 33)):
        feeds = models.feeds(5, *sizes)
        for each, kernel in ((model, True), (model, False), (standard, False)):
            assert_close(run(each, feeds, kernel=kernel), models.exact(**feeds))


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"), [(TensorProto.DOUBLE, np.float64, 1e-13), (TensorProto.FLOAT16, np.float16, 2e-3)]
)
def test_other_types(kind: int, dtype: type, tolerance: float) -> None:
    model = models.flat(5, kind=kind)
    feeds = {name: array.astype(dtype) for name, array in models.feeds(5).items()}
    found = run(model, feeds, kernel=True)
    assert found.dtype == dtype
    assert_close(found, models.exact(**feeds), tolerance)


def test_half_precision_rounds_to_the_nearest_of_all_values() -> None:
    node = onnx_form.make_node("input", "vertical", "horizontal", "output")
    half = TensorProto.FLOAT16
    inputs = [models.value("input", kind=half), *models.kernels(1, half)]
    model = models.finish(helper.make_graph([node], "one", inputs, [models.value("output", kind=half)]), 1, 20)
    every = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16).reshape(1, 1, 256, 256)
    for factor in (1.0, 0.37, 3.1):
        weights = np.full_like(every, factor)
        found = run(model, {"input": every, "vertical": weights, "horizontal": np.ones_like(every)}, kernel=True)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = (every.astype(np.float32) * weights.astype(np.float32)).astype(np.float16)
        np.testing.assert_array_equal(found, expected)


def test_wrong_shapes_are_an_error_of_the_run() -> None:
    feeds = models.feeds(5)
    feeds["horizontal"] = feeds["horizontal"][:, :, :3]
    with pytest.raises(Exception, match=r"\[2, 5, 3, 7\].*, expected \[N, C, H \+ K - 1"):
        run(models.flat(5), feeds, kernel=True)


def test_a_body_for_another_number_of_taps_does_not_run() -> None:
    """Not even where the sizes would fit by broadcasting."""
    for taps, given in ((5, 3), (3, 5), (15, 1)):
        model = models.flat(taps)
        for name in model.graph.input[1:]:
            name.type.tensor_type.shape.dim[1].Clear()
        with pytest.raises(Exception, match="Non-zero status code"):
            run(model, models.feeds(given), kernel=False)


def test_one_body_serves_one_number_of_taps() -> None:
    model = models.flat(5)
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(ExportError, match="horizontal of node first has 7 taps, expected 5"):
        onnx_form.add_function(model, 5)
    inner = models.looped(3)
    with pytest.raises(ExportError, match="has 3 taps, expected 5"):
        onnx_form.add_function(inner, 5)


@pytest.mark.parametrize(
    ("taps", "opset", "message"), [(4, 20, "4 taps"), (0, 20, "0 taps"), (5, 17, "operator set 17")]
)
def test_functions_that_cannot_be(taps: int, opset: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        onnx_form.make_function(taps, opset)


def test_adding_the_body_again_replaces_it() -> None:
    model = models.flat(5)
    onnx_form.add_function(model, 5)
    assert len(model.functions) == 1
    assert [each.domain for each in model.opset_import] == ["", "vidgen"]


def test_inlining_keeps_the_rest_and_refuses_what_it_cannot_do() -> None:
    model = models.flat(3)
    plain = helper.make_model(helper.make_graph([], "empty", [], []), opset_imports=[helper.make_opsetid("", 20)])
    assert onnx_form.inline_standard(plain) == plain
    before = model.SerializeToString()
    standard = onnx_form.inline_standard(model)
    assert model.SerializeToString() == before
    assert (standard.graph.input, standard.graph.output) == (model.graph.input, model.graph.output)
    assert {each.domain for each in standard.opset_import} == {""}
    assert not standard.functions
    assert all(node.domain == "" for node in standard.graph.node)
    assert onnx_form.inline_standard(standard) == standard
    assert is_needed(before)
    assert not is_needed(standard.SerializeToString())
    del model.functions[:]
    with pytest.raises(ExportError, match="no function body"):
        onnx_form.inline_standard(model)


#: Runs every case of a folder with the library and by the body; needs onnxruntime and numpy alone.
RUNNER = """
import sys
from pathlib import Path
import numpy as np, onnxruntime as ort
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    case = dict(np.load(path.with_suffix(".npz")))
    expected = case.pop("expected")
    for library in (sys.argv[2], None):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        if library:
            options.register_custom_ops_library(library)
        for _ in range(2):
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            found = session.run(None, case)[0]
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), (path, library)
print(ort.__version__)
"""


def run_cases(folder: Path, **environment: str) -> str:
    """The version of ONNX Runtime that ran all cases in a process of its own; it may crash."""
    models.write_cases(folder)
    command = [sys.executable, "-c", RUNNER, str(folder), str(custom_op_library())]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_library_in_the_installed_runtime(tmp_path: Path) -> None:
    assert run_cases(tmp_path)


@pytest.mark.slow
def test_library_in_the_oldest_runtime_allowed(tmp_path: Path) -> None:
    target = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    installed = subprocess.run([*pip, "onnxruntime==1.20.*"], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"onnxruntime 1.20 cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    (tmp_path / "cases").mkdir()
    assert run_cases(tmp_path / "cases", PYTHONPATH=str(target)).startswith("1.20.")


INTERFACE = ModelInterface(
    inputs=(
        TensorSpec("z_content", "float32", ("batch", 5), "normal"),
        TensorSpec("z_motion", "float32", ("batch", "steps", 3), "normal"),
    ),
    output=TensorSpec("video", "uint8", ("batch", "frames", 8, 10, 3), "video", (0, 255)),
    frames=FramesRule("z_motion", 1, "steps", scale=1, offset=-1, default=4),
)


def write_artifact(path: Path, *, body: bool = True) -> Manifest:
    """A graph with the inputs of a video model and one separable convolution in it."""
    generator = np.random.default_rng(1)
    sizes = {"input": (3, 12, 14), "vertical": (5, 8, 10), "horizontal": (5, 8, 10)}
    constants: dict[str, Any] = {"start": [1], "end": [2**63 - 1], "axis": [1], "two": [3, 4], "grey": np.float32(40)}
    constants |= {"first": np.array([[1], [0], [0]], np.float32), "low": np.float32(0), "high": np.float32(255)}
    nodes = []
    for name, size in sizes.items():
        constants |= {f"{name}_weight": generator.standard_normal((5, int(np.prod(size)))), f"{name}_size": [0, *size]}
        nodes += [
            helper.make_node("MatMul", ["z_content", f"{name}_weight"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_size"], [name]),
        ]
    nodes += [
        onnx_form.make_node("input", "vertical", "horizontal", "image"),
        helper.make_node("Transpose", ["image"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Unsqueeze", ["pixels", "axis"], ["frame"]),
        helper.make_node("Slice", ["z_motion", "start", "end", "axis"], ["later"]),
        helper.make_node("MatMul", ["later", "first"], ["amount"]),
        helper.make_node("Unsqueeze", ["amount", "two"], ["factor"]),
        helper.make_node("Mul", ["frame", "factor"], ["film"]),
        helper.make_node("Mul", ["film", "grey"], ["bright"]),
        helper.make_node("Clip", ["bright", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["video"], to=TensorProto.UINT8),
    ]

    def tensor(name: str, content: Any) -> onnx.TensorProto:
        array = np.asarray(content)
        return numpy_helper.from_array(array.astype(np.float32 if array.dtype.kind == "f" else np.int64), name)

    kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    inputs, (output,) = (
        [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], spec.shape) for spec in specs]
        for specs in (INTERFACE.inputs, (INTERFACE.output,))
    )
    initializers = [tensor(name, content) for name, content in constants.items()]
    model = models.finish(helper.make_graph(nodes, "toy", inputs, [output], initializers), 5, 20)
    if not body:
        del model.functions[:]
    path.write_bytes(model.SerializeToString())
    return Manifest(model="g3an", config=G3ANConfig(), interface=INTERFACE, fps=10.0)


def video(backend: Backend) -> np.ndarray:
    generator = np.random.default_rng(2)
    inputs = {
        "z_content": generator.standard_normal((2, 5)).astype(np.float32),
        "z_motion": generator.standard_normal((2, 4, 3)).astype(np.float32),
    }
    output = np.zeros((2, 3, 8, 10, 3), np.uint8)
    backend.run(inputs, output)
    backend.close()
    return output


def test_backends_use_the_kernel_or_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.onnx"
    manifest = write_artifact(path)
    found = [video(backend.load(path, manifest, threads=1)) for backend in (OnnxRuntimeBackend, OpenVinoBackend)]
    monkeypatch.setenv("VIDGEN_SEPCONV", "portable")
    found.append(video(OnnxRuntimeBackend.load(path, manifest, threads=1)))
    assert len(np.unique(found[0])) > 50
    for other in found[1:]:
        assert np.abs(found[0].astype(int) - other).max() <= 1


def test_a_file_without_the_body_needs_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, path = tmp_path / "whole.onnx", tmp_path / "bare.onnx"
    manifest = write_artifact(path, body=False)
    found = video(OnnxRuntimeBackend.load(path, manifest, threads=1))
    np.testing.assert_array_equal(found, video(OnnxRuntimeBackend.load(whole, write_artifact(whole), threads=1)))
    with pytest.raises(ExportError, match="no function body"):
        OpenVinoBackend.load(path, manifest, threads=1)
    monkeypatch.setenv("VIDGEN_SEPCONV", "portable")
    with pytest.raises(BackendError):
        OnnxRuntimeBackend.load(path, manifest, threads=1)


def test_models_without_the_operator_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert without_functions(b"any other model") == b"any other model"
