"""Small ONNX models around separable convolution, shared by the tests of its ONNX form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vidgen.plugins.sepconv_trt import onnx_form


def value(name: str, shape: tuple[Any, ...] = (None,) * 4, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def kernels(taps: int, kind: int = TensorProto.FLOAT) -> list[onnx.ValueInfoProto]:
    return [value(name, (None, taps, None, None), kind) for name in ("vertical", "horizontal")]


def finish(graph: onnx.GraphProto, taps: int, opset: int) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx_form.add_function(model, taps)
    onnx.checker.check_model(model, full_check=True)
    return model


def flat(taps: int, opset: int = 20, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Two convolutions of one input, with the kernels swapped in the second, added."""
    nodes = [
        onnx_form.make_node("input", "vertical", "horizontal", "one", "first"),
        onnx_form.make_node("input", "horizontal", "vertical", "two"),
        helper.make_node("Add", ["one", "two"], ["output"]),
    ]
    inputs = [value("input", kind=kind), *kernels(taps, kind)]
    return finish(helper.make_graph(nodes, "flat", inputs, [value("output", kind=kind)]), taps, opset)


def looped(taps: int, opset: int = 20) -> onnx.ModelProto:
    """A ``Loop`` whose body pads the carried frames, convolves, and in an ``If`` convolves again from step 1 on."""
    margin = taps // 2
    again = helper.make_graph(
        [
            helper.make_node("Pad", ["once", "pads"], ["once_padded"], mode="edge"),
            onnx_form.make_node("once_padded", "horizontal", "vertical", "twice", "inner"),
            helper.make_node("Mul", ["twice", "scale"], ["then_frame"]),
        ],
        "again",
        [],
        [value("then_frame")],
    )
    same = helper.make_graph(
        [helper.make_node("Identity", ["once"], ["else_frame"])], "same", [], [value("else_frame")]
    )
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Pad", ["frame", "pads"], ["padded"], mode="edge"),
            onnx_form.make_node("padded", "vertical", "horizontal", "full", "outer"),
            helper.make_node("Mul", ["full", "scale"], ["once"]),
            helper.make_node("Greater", ["step", "zero"], ["later"]),
            helper.make_node("If", ["later"], ["next"], then_branch=again, else_branch=same),
            helper.make_node("Identity", ["next"], ["shown"]),
        ],
        "body",
        [value("step", (), TensorProto.INT64), value("go_on", (), TensorProto.BOOL), value("frame")],
        [value("still", (), TensorProto.BOOL), value("next"), value("shown")],
    )
    constants = {
        "pads": np.array([0, 0, margin, margin] * 2, np.int64),
        "scale": np.array(1 / taps, np.float32),
        "zero": np.array(0, np.int64),
        "yes": np.array(True),
    }
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "yes", "input"], ["last", "all"], body=body)],
        "looped",
        [value("steps", (), TensorProto.INT64), value("input"), *kernels(taps)],
        [value("last"), value("all", (None,) * 5)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return finish(graph, taps, opset)


def feeds(taps: int, batch: int = 2, channels: int = 3, height: int = 6, width: int = 7) -> dict[str, np.ndarray]:
    """Inputs of ``flat``."""
    generator = np.random.default_rng(taps)
    shapes = {"input": (batch, channels, height + taps - 1, width + taps - 1)}
    shapes |= dict.fromkeys(("vertical", "horizontal"), (batch, taps, height, width))
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def loop_feeds(taps: int, steps: int = 4) -> dict[str, np.ndarray]:
    """Inputs of ``looped``."""
    values = feeds(taps)
    return values | {"steps": np.array(steps), "input": values["input"][:, :, :6, :7].copy()}


def write_cases(folder: Path) -> None:
    """Models, feeds and float64 results of ``flat``, for programs that have ONNX Runtime and NumPy only."""
    for taps in (3, 5, 51):
        (folder / f"flat{taps}.onnx").write_bytes(flat(taps).SerializeToString())
        values = feeds(taps)
        np.savez(folder / f"flat{taps}.npz", **values, expected=exact(**values))


def exact(input: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """What ``flat`` computes, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(input.astype(np.float64), (vertical.shape[1],) * 2, (2, 3))
    one = np.einsum("nchwji,njhw,nihw->nchw", windows, vertical, horizontal)
    return one + np.einsum("nchwji,njhw,nihw->nchw", windows, horizontal, vertical)
