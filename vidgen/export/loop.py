"""TwoStreamVAN's sampling path as one ONNX model with a ``Loop`` over time steps, or unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from vidgen._imports import require
from vidgen.export.onnx_graph import OnnxGraph
from vidgen.export.sampling_path import SamplingPath
from vidgen.export.to_onnx import Writer
from vidgen.models.config import ModelInterface, TensorSpec

_ITERATION = TensorSpec("iteration", "int64", (), "step")
_RUNNING = TensorSpec("running", "bool", (), "step")


def loop_to_onnx(
    path: SamplingPath,
    interface: ModelInterface,
    *,
    opset: int,
    name: str,
    metadata: dict[str, str],
    functions: Sequence[Any] = (),
    unrolled: int | None = None,
) -> Any:
    """Write the sampling path as a checked ONNX model.

    All weights are initialisers of the main graph, each once; the loop's body refers to them. The number of its steps
    is the length of the motion latent, so the number of frames stays dynamic.

    Args:
        path: frozen, on the CPU. interface: it was made for. opset, name, metadata: as for ``to_onnx``.
        functions: the bodies of operators of our own domain.
        unrolled: write this many steps one after the other instead of a loop; the motion latent must be as long.

    Raises:
        ExportError: an operation has no ONNX form here, or the checker refuses the graph.
    """
    graph = OnnxGraph()
    names = [spec.name for spec in interface.inputs]
    opened = _write(path.opening, interface.inputs, names, graph, "opening.")
    first, count = opened[0], len(path.carried)
    carried, constant = opened[:count], opened[count:]
    stacks = (
        _loop(path, graph, carried, constant)
        if unrolled is None
        else _unrolled(path, graph, carried, constant, unrolled)
    )
    stacked = [TensorSpec(spec.name, spec.dtype, ("steps", *spec.shape), spec.kind) for spec in path.scanned]
    video = _write(path.video_layout, (path.carried[0], stacked[0]), (first, stacks[0]), graph, "video.")
    outputs = {interface.output.name: video[0]}
    for extra, spec, stack in zip(interface.extras, stacked[1:], stacks[1:], strict=True):
        outputs[extra.name] = _write(path.mask_layout, (spec,), (stack,), graph, f"{extra.name}.")[0]
    for final, made in outputs.items():
        graph.rename(made, final)
    return graph.build(interface, opset, name, metadata, functions)


def _write(
    part: nn.Module, specs: Sequence[TensorSpec], inputs: Sequence[str], graph: OnnxGraph, prefix: str
) -> list[str]:
    return Writer(part, specs, graph, prefix=prefix).run(inputs)


def _loop(path: SamplingPath, graph: OnnxGraph, carried: list[str], constant: list[str]) -> list[str]:
    """Add the loop; returns what its steps made, stacked."""
    body = OnnxGraph(graph, copied=path.copied)
    made = _write(path.step, _step_inputs(path), [_ITERATION.name, *_names(path.carried), *constant], body, "step.")
    # A constant, not the input passed on: TensorRT's parser knows no input that the loop itself is not given.
    (running,) = body.node("Constant", [], "step", value=_true())
    returned = [
        TensorSpec(name, spec.dtype, spec.shape, spec.kind)
        for name, spec in zip([running, *made], [_RUNNING, *path.carried, *path.scanned], strict=True)
    ]
    inner = body.body("step", [_ITERATION, _RUNNING, *path.carried], returned)
    (length,) = graph.node("Shape", [constant[-1]], "loop", start=0, end=1)
    (trips,) = graph.node("Squeeze", [length, graph.constant([0], "int64")], "loop")
    results = graph.node("Loop", [trips, "", *carried], "loop", outputs=len(made), body=inner)
    return results[len(carried) :]


def _unrolled(path: SamplingPath, graph: OnnxGraph, carried: list[str], constant: list[str], steps: int) -> list[str]:
    """Add the steps one after the other."""
    scanned: list[list[str]] = []
    for step in range(steps):
        number = graph.constant(step, "int64")
        made = _write(path.step, _step_inputs(path), [number, *carried, *constant], graph, f"step{step}.")
        carried = made[: len(carried)]
        axis = graph.constant([0], "int64")
        scanned.append([graph.node("Unsqueeze", [name, axis], f"step{step}")[0] for name in made[len(carried) :]])
    return [graph.node("Concat", parts, "loop", axis=0)[0] for parts in zip(*scanned, strict=True)]


def _true() -> Any:
    helper = require("onnx.helper", "write .onnx files")
    return helper.make_tensor("running", helper.np_dtype_to_tensor_dtype(np.dtype(bool)), [], [True])


def _step_inputs(path: SamplingPath) -> list[TensorSpec]:
    return [_ITERATION, *path.carried, *path.constant]


def _names(specs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]
