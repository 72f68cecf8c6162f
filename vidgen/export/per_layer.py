"""``vidgen verify --per-layer``: every tensor of an artifact against the checkpoint's float32 graph, by polygraphy.

Both graphs get the same inputs in ONNX Runtime, with every tensor of theirs as an output, and half tensors rounded as
on a device. A loop shows its results alone; so one step of its body is compared once more by itself, from the float32
graph's state, and a difference there is of that step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.export.half_arithmetic import as_device
from vidgen.export.measure import Case
from vidgen.export.onnx_graph import references
from vidgen.export.unrounded import cpu_session
from vidgen.export.verify import checked_manifest, noise
from vidgen.runtime.elsewhere import onnx_of
from vidgen.runtime.manifest import Manifest
from vidgen.runtime.tensorrt_library import device_architecture

#: Mean difference that a layer may have, as a share of its mean magnitude. Rounding to half brings 2e-4 at each layer.
ALLOWED = {"float32": 1e-4, "float16": 2e-2}
#: Largest difference that any layer may have, as a share of its allowed mean.
FLOOR = 1.0
#: The step of a loop that is looked into: the first that has all it needs from the one before.
STEP = 1
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LayerComparison:
    """One tensor of both graphs.

    Attributes:
        name: of the tensor. operator: that made it. inside: ``""``, or the loop step it is in.
        largest, mean: absolute difference. allowed: largest mean difference that is none.
    """

    name: str
    operator: str
    inside: str
    largest: float
    mean: float
    allowed: float
    ok: bool


@dataclass(frozen=True)
class PerLayerReport:
    """All tensors in the order they are computed; ``runtime`` says what ran the artifact."""

    artifact: Path
    runtime: str
    layers: tuple[LayerComparison, ...]

    @property
    def first_diverging(self) -> LayerComparison | None:
        """The first layer that is off by more than its precision explains."""
        return next((layer for layer in self.layers if not layer.ok), None)

    @property
    def ok(self) -> bool:
        """Whether no layer diverges."""
        return self.first_diverging is None

    @property
    def suspect(self) -> LayerComparison | None:
        """Where the largest difference grows most: what to look at when no layer diverges and the whole does."""
        chosen, most, level = None, 0.0, FLOOR
        for layer in self.layers:
            share = layer.largest / layer.allowed if layer.allowed else 0.0
            if share / level > most:
                chosen, most = layer, share / level
            level = max(level, share)
        return chosen

    def table(self) -> str:
        """A line for each layer."""
        width = max((len(layer.inside) + len(layer.name) for layer in self.layers), default=0) + 2
        lines = [f"{'layer':{width}} {'operator':16} {'largest':>10} {'mean':>10} {'allowed':>10}"]
        for layer in self.layers:
            name = f"{layer.inside}: {layer.name}" if layer.inside else layer.name
            lines.append(
                f"{name:{width}} {layer.operator:16} {layer.largest:10.3g} {layer.mean:10.3g} {layer.allowed:10.3g}"
                + ("" if layer.ok else "  <- diverges")
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        first = self.first_diverging
        if first is None:
            return f"{self.artifact}: none of {len(self.layers)} layers diverges ({self.runtime})"
        where = f" in {first.inside}" if first.inside else ""
        return (
            f"{self.artifact}: the first layer that diverges is {first.name} ({first.operator}){where}: "
            f"{first.mean:.3g} off on average, allowed {first.allowed:.3g} ({self.runtime})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        first = self.first_diverging
        return {
            "artifact": str(self.artifact),
            "runtime": self.runtime,
            "ok": self.ok,
            "first_diverging": None if first is None else dataclasses.asdict(first),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }


def per_layer(checkpoint: str | Path, artifact: str | Path, *, device: bool = False) -> PerLayerReport:
    """Compare an .onnx file, or the one that a .plan was built from, with its checkpoint, tensor by tensor.

    Args:
        device: run the artifact's graph by TensorRT on the GPU of this machine, built there with every tensor as an
            output, instead of by ONNX Runtime. Loops are not looked into then.

    Raises:
        ArtifactError, CheckpointError: a file is missing, altered or foreign.
        VerificationError: the artifact was made from another checkpoint.
        MissingDependencyError: torch, onnxruntime or polygraphy (TensorRT, a driver) is not installed.
    """
    checkpoint, artifact = Path(checkpoint), Path(artifact)
    require("polygraphy", "compare layer by layer")
    onnx = require("onnx", "compare layer by layer")
    manifest = checked_manifest(checkpoint, artifact)
    if artifact.suffix == ".plan":
        # Layers of an engine are fused beyond recognition: its graph is what can be looked into.
        artifact, device = onnx_of(artifact, manifest), device or device_architecture() is not None
    allowed = ALLOWED[manifest.precision.kind]
    expected, found = float32_graph(checkpoint, manifest), onnx.load(artifact, load_external_data=False)
    found.functions.extend([] if found.functions else expected.functions)
    rule = manifest.interface.frames
    inputs = noise(manifest.interface, Case(1, max(rule.shortest, STEP + 1), rule.dimension))
    if device:
        layers = _compare(expected, found, inputs, allowed, device=True)
        return PerLayerReport(artifact, "TensorRT", tuple(layers))
    found = as_device(found)
    layers = _compare(expected, found, inputs, allowed)
    for name, step, computed, given in _steps(expected, found, inputs):
        layers += _compare(step, computed, given, allowed, inside=f"step {STEP} of {name}")
    return PerLayerReport(artifact, "ONNX Runtime, half tensors rounded", tuple(layers))


def float32_graph(checkpoint: Path, manifest: Manifest) -> Any:
    """The float32 ModelProto that an artifact was made from, written again."""
    from vidgen.export.pipeline import lower, write_path
    from vidgen.export.to_onnx import to_onnx
    from vidgen.models.checkpoint import load_generator

    generator, _ = load_generator(checkpoint)
    interface, lowering = manifest.interface, manifest.lowering
    common: dict[str, Any] = {"opset": manifest.opset, "name": manifest.model}
    common["metadata"] = {"vidgen.lowering": lowering}
    if manifest.model == "twostreamvan":
        return write_path(generator, interface, lowering, manifest.sepconv, **common)
    return to_onnx(lower(generator, lowering, interface.output.dtype), interface, **common)


def _compare(
    expected: Any, found: Any, inputs: Arrays, allowed: float, *, inside: str = "", device: bool = False
) -> list[LayerComparison]:
    """Run two graphs and compare the tensors that both have, in the order of the second."""
    comparator = require("polygraphy.comparator", "compare layer by layer")
    runners = [_runner("expected", expected), _tensorrt(found) if device else _runner("found", found)]
    # It divides by zeros to tell relative differences, which are not used.
    with _quiet(), np.errstate(divide="ignore", invalid="ignore"):
        results = comparator.Comparator.run(runners, data_loader=[inputs])
        values = {name: np.asarray(value) for name, value in results[0][1][0].items()}
        limits = {name: allowed * _magnitude(value) for name, value in values.items()}
        # The name of version 0.53, and that of those before.
        simple = getattr(comparator, "SimpleCompareFunc", None) or comparator.CompareFunc.simple
        compare = simple(rtol=0.0, atol=limits, check_error_stat="mean")
        # ``compare_accuracy`` returns one thing in some versions of polygraphy, and a list of them in others.
        compared = compare(results[0][1][0], results[1][1][0])
    layers = []
    for node in found.graph.node:
        for name in node.output:
            if name in compared and name in values:
                result = compared[name]
                # Of tensors of different shapes there is no difference to tell.
                largest, mean = (float(getattr(result, f"{kind}_absdiff", np.inf)) for kind in ("max", "mean"))
                layers.append(LayerComparison(name, node.op_type, inside, largest, mean, limits[name], bool(result)))
    return layers


def _magnitude(value: NDArray[Any]) -> float:
    return float(np.abs(value.astype(np.float64)).mean()) if value.size else 0.0


def _quiet() -> Any:
    logger = require("polygraphy.logger", "compare layer by layer").G_LOGGER
    return logger.verbosity(logger.CRITICAL)


def _runner(name: str, model: Any) -> Any:
    """A polygraphy runner in ONNX Runtime with every tensor as an output, our operator's kernel included."""
    backend = require("polygraphy.backend.onnxrt", "compare layer by layer")
    return backend.OnnxrtRunner(cpu_session(_marked(model)), name=name)


def _marked(model: Any) -> Any:
    """The model with every tensor as an output."""
    backend = require("polygraphy.backend.onnx", "compare layer by layer")
    outputs = require("polygraphy.constants", "compare layer by layer").MARK_ALL
    return backend.modify_outputs(model, outputs=outputs, copy=True)


def _tensorrt(model: Any) -> Any:
    """A polygraphy runner in TensorRT, built for the GPU of this machine from the typed graph."""
    from vidgen.plugins.sepconv_trt.onnx_form import inline_standard
    from vidgen.runtime.cuda import open_cuda

    # Says what is missing where there is no GPU.
    open_cuda().close()
    require("tensorrt", "compare layer by layer on a GPU")
    backend = require("polygraphy.backend.trt", "compare layer by layer on a GPU")
    serialised = _marked(inline_standard(model)).SerializeToString()
    network = backend.NetworkFromOnnxBytes(serialised, strongly_typed=True)
    return backend.TrtRunner(backend.EngineFromNetwork(network), name="found")


def _steps(expected: Any, found: Any, inputs: Arrays) -> Iterator[tuple[str, Any, Any, Arrays]]:
    """For each loop: its name, its body in both graphs as models, and what step :data:`STEP` is given in float32."""
    bodies = {node.name: node for node in found.graph.node if node.op_type == "Loop"}
    for loop in (node for node in expected.graph.node if node.op_type == "Loop" and node.name in bodies):
        step, computed = _body(expected, loop), _body(found, bodies[loop.name])
        around = cpu_session(_marked(expected))
        values = dict(zip((value.name for value in around.get_outputs()), around.run(None, inputs))) | inputs
        names = [value.name for value in step.graph.input]
        count = len(loop.input) - 2
        carried = [values[name] for name in loop.input[2:]]
        session = cpu_session(step)
        for number in range(STEP + 1):
            given: Arrays = {names[0]: np.array(number, np.int64), names[1]: np.array(True)}
            given |= dict(zip(names[2 : 2 + count], carried)) | {name: values[name] for name in names[2 + count :]}
            if number == STEP:
                wanted = {value.name for value in computed.graph.input}
                yield loop.name, step, computed, {name: value for name, value in given.items() if name in wanted}
            else:
                taken = {value.name for value in session.get_inputs()}
                carried = session.run(None, {name: value for name, value in given.items() if name in taken})[
                    1 : 1 + count
                ]


def _body(model: Any, loop: Any) -> Any:
    """The body of a loop as a model; what it takes from around it becomes weights and inputs."""
    onnx = require("onnx", "compare layer by layer")
    graph = onnx.GraphProto()
    graph.CopyFrom(next(attribute.g for attribute in loop.attribute if attribute.name == "body"))
    made = {name for node in graph.node for name in node.output}
    made |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    outside = {name for node in graph.node for name in references(node)} - made
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    graph.initializer.extend(weights[name] for name in sorted(outside & weights.keys()))
    types = _types(onnx, model)
    graph.input.extend(types[name] for name in sorted(outside - weights.keys()))
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version
    )


def _types(onnx: Any, model: Any) -> Mapping[str, Any]:
    """What is known of the tensors of a graph, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
