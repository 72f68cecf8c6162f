"""Torch module to ONNX: the traced operations are written one by one under the names of the module's parts.

The library's own exporters were measured first: the one based on torch.export needs 13 s of CPU time for the CPU
lowering and leaves names such as ``val_1047``; the older one is deprecated and leaves four nodes for each one needed.
The few operations our generators use are written here in a fraction of a second, always the same bytes, and every
artifact is compared with the checkpoint before it is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from vidgen.errors import ExportError
from vidgen.export.onnx_graph import OnnxGraph
from vidgen.export.onnx_layers import LAYERS
from vidgen.export.onnx_operators import FUNCTIONS, METHODS, MODULES, Dimension, Handler, Padded
from vidgen.models.config import ModelInterface, TensorSpec

#: Batch size and motion length of the shape probes: sizes that change between them are dynamic.
PROBES = ((2, 3), (3, 5), (5, 2))


def to_onnx(module: nn.Module, interface: ModelInterface, *, opset: int, name: str, metadata: dict[str, str]) -> Any:
    """Write a traceable module as a checked ONNX model.

    Args:
        module: takes the interface's inputs in order, returns its output; frozen, on the CPU.
        interface: names, dtypes and shapes; shapes may name ``batch`` and the dimension of the frame rule.
        opset: one of ``onnx_graph.OPSETS``. name: of the graph. metadata: stored as metadata properties.

    Raises:
        ExportError: an operation has no ONNX form here, or the checker refuses the graph.
    """
    graph = OnnxGraph()
    writer = Writer(module, interface.inputs, graph, unnamed=interface.output.name)
    (output,) = writer.run([spec.name for spec in interface.inputs])
    graph.rename(output, interface.output.name)
    return graph.build(interface, opset, name, metadata)


class _Values(fx.Interpreter):
    """Runs a module and keeps what each operation returns."""

    def of(self, inputs: Sequence[Tensor]) -> list[Any]:
        """What each operation of the graph returns, in order."""
        self.returned: list[Any] = []
        self.run(*inputs)
        return self.returned

    def run_node(self, n: fx.Node) -> Any:
        """Keep what an operation returns."""
        self.returned.append(super().run_node(n))
        return self.returned[-1]


class Writer:
    """Walks over a traced module and adds what it does to a graph; ``values`` holds what each operation became.

    Args:
        module: traceable, frozen, on the CPU.
        inputs: what it takes, in order; shapes may name dynamic axes.
        graph: to add to. prefix: of the names of the nodes.
        unnamed: names nodes of which nothing tells where they belong; ``prefix`` when "".
    """

    def __init__(
        self, module: nn.Module, inputs: Sequence[TensorSpec], graph: OnnxGraph, *, prefix: str = "", unnamed: str = ""
    ) -> None:
        self.traced = fx.symbolic_trace(module)
        self.inputs = inputs
        self.graph = graph
        self.prefix = prefix
        self.unnamed = unnamed
        self.values: dict[fx.Node, Any] = {}
        self._dimensions: dict[tuple[str, int], Dimension] = {}
        self._sizes = self._probe()

    def _probe(self) -> dict[fx.Node, tuple[tuple[int, ...], ...]]:
        """For each tensor, each axis's size under all probes; computes shapes only."""
        shapes: dict[fx.Node, list[tuple[int, ...]]] = {}
        dynamic = {axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str)}
        weightless = copy.deepcopy(self.traced).to("meta")
        for batch, length in PROBES:
            sizes = {axis: batch if axis == "batch" else length for axis in dynamic}
            with torch.device("meta"):
                inputs = [torch.empty(spec.resolve(**sizes), dtype=getattr(torch, spec.dtype)) for spec in self.inputs]
                values = _Values(weightless).of(inputs)
            for node, value in zip(self.traced.graph.nodes, values, strict=True):
                if isinstance(value, Tensor):
                    shapes.setdefault(node, []).append(tuple(value.shape))
        return {node: tuple(zip(*probed, strict=True)) for node, probed in shapes.items()}

    def run(self, inputs: Sequence[str]) -> list[str]:
        """Translate every operation; returns the names of the tensors that the module returns.

        Args:
            inputs: the tensors it is applied to.
        """
        given = iter(inputs)
        results: list[str] = []
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = next(given)
            elif node.op == "get_attr":
                self.values[node] = self.parameter(node.target)
            elif node.op == "output":
                returned = node.args[0]
                results = [self.name(value) for value in (returned if isinstance(returned, tuple) else (returned,))]
            else:
                self.values[node] = self._handler(node)(self, node)
        return results

    def _handler(self, node: fx.Node) -> Handler:
        table: dict[Any, Handler] = {"call_method": METHODS, "call_function": FUNCTIONS}.get(node.op, {})
        key: Any = node.target
        if node.op == "call_module":
            table, key = MODULES | LAYERS, type(self.traced.get_submodule(str(node.target)))
        if key not in table:
            raise ExportError(
                "cannot write the model as ONNX",
                seen=f"operation {key} in {self.scope(node) or 'the model'}",
                cause="the model uses an operation that this version does not write",
                fix="pip install -U vidgen",
            )
        return table[key]

    def scope(self, node: fx.Node) -> str:
        """The dotted path of the part of the module that the operation is in."""
        stack = node.meta.get("nn_module_stack")
        if stack:
            return self.prefix + str(list(stack)[-1])
        if not self.unnamed:
            return self.prefix.removesuffix(".")
        # A method other than forward leaves no mark; what the operation works on tells where it belongs.
        source = self.values.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        name = source.name if isinstance(source, Dimension | Padded) else source
        return (name.rpartition("/")[0] if isinstance(name, str) else "") or self.unnamed

    def parameter(self, target: object) -> str:
        """A parameter or buffer as an initialiser of the same name."""
        owner, _, leaf = str(target).rpartition(".")
        value: Tensor = getattr(self.traced.get_submodule(owner), leaf)
        return self.graph.weight(str(target), value.detach().cpu().numpy())

    def argument(self, value: Any) -> Any:
        """An argument with operations replaced by what they became."""
        if isinstance(value, fx.Node):
            return self.values[value]
        if isinstance(value, tuple | list):
            return [self.argument(item) for item in value]
        if isinstance(value, slice):
            return slice(*(self.argument(item) for item in (value.start, value.stop, value.step)))
        return value

    def name(self, value: Any) -> str:
        """The tensor an argument became; numbers become constants."""
        found = self.argument(value)
        if isinstance(found, int | float):
            return self.graph.constant(found, "float32")
        if not isinstance(found, str):
            raise TypeError(f"{value} is not a tensor")
        return found

    def sizes(self, node: Any) -> tuple[tuple[int, ...], ...]:
        """Sizes of each axis under all probes."""
        return self._sizes[node]

    def rank(self, node: Any) -> int:
        """Number of axes."""
        return len(self._sizes[node])

    def emit(self, node: fx.Node, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an ONNX node for an operation; returns its output."""
        return self.graph.node(kind, inputs, self.scope(node), **attributes)[0]

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector constant."""
        return self.graph.constant(list(values), "int64")

    def dimension(self, node: fx.Node, axis: int) -> int | Dimension:
        """The size of an axis: a number where it is fixed."""
        axis %= self.rank(node)
        sizes = self.sizes(node)[axis]
        if len(set(sizes)) == 1:
            return sizes[0]
        key = (self.name(node), axis)
        if key not in self._dimensions:
            self._dimensions[key] = Dimension(self.emit(node, "Shape", [key[0]], start=axis, end=axis + 1))
        return self._dimensions[key]

    def shape(self, node: fx.Node, sizes: Sequence[int | Dimension]) -> str:
        """A shape as one int64 vector."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints([size for size in sizes if isinstance(size, int)])
        parts = [size.name if isinstance(size, Dimension) else self.ints([size]) for size in sizes]
        return self.emit(node, "Concat", parts, axis=0)

    def reshape(self, node: fx.Node, source: Any, given: Sequence[Any] | None = None) -> str:
        """Reshape to the operation's result; ``given`` holds its sizes as the program computes them.

        Sizes equal to the source's at the same place are copied by ONNX (0), one is inferred (-1): at most what is
        left needs the given sizes.
        """
        before, after = self.sizes(source), self.sizes(node)
        target: list[int | Dimension] = []
        unknown = [
            index
            for index, sizes in enumerate(after)
            if len(set(sizes)) > 1 and not (index < len(before) and before[index] == sizes)
        ]
        inferred = next((i for i in unknown if given is None or given[i] == -1), unknown[0] if unknown else None)
        for index, sizes in enumerate(after):
            if index == inferred:
                target.append(-1)
            elif index in unknown:
                assert given is not None and isinstance(given[index], Dimension), "a size that nothing tells"
                target.append(given[index])
            else:
                target.append(sizes[0] if len(set(sizes)) == 1 else 0)
        return self.emit(node, "Reshape", [self.name(source), self.shape(node, target)])
