"""An ONNX graph under construction: named nodes, shared constants, and the finished, checked model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import ExportError
from vidgen.models.config import ModelInterface, TensorSpec

#: Opsets whose operators are written here. 20 is the default (contracts 4).
OPSETS = (18, 19, 20, 21)
DEFAULT_OPSET = 20
#: Protocol buffers cannot be larger, and we write no external data.
LARGEST_FILE = 2**31 - 2**20


class OnnxGraph:
    """Collects nodes and initialisers in order; every name is given once.

    Args:
        outer: the graph that this one will be inside of, as the body of a loop: no name is given in both, and a weight
            that the outer graph has is taken from there.
        copied: but weights of convolutions are written again, instead.
    """

    def __init__(self, outer: OnnxGraph | None = None, *, copied: bool = False) -> None:
        self._onnx = require("onnx", "write .onnx files")
        self._outer = outer
        self._copied = copied
        self.nodes: list[Any] = []
        self.initializers: dict[str, NDArray[Any]] = {}
        self._weights: dict[str, tuple[str, NDArray[Any]]] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._used: dict[str, int] = outer._used if outer else {}

    def unique(self, name: str) -> str:
        """``name``, or ``name.1``, ``name.2``, ... where it is taken."""
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return f"{name}.{count}" if count else name

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """An initialiser under its own name; giving the same name twice means the same tensor."""
        if name not in self._weights:
            if self._outer and name in self._outer._weights and not (self._copied and value.ndim > 2):
                return self._outer.weight(name, value)
            stored = self.unique(name)
            self._weights[name] = (stored, value)
            self.initializers[stored] = value
        stored, known = self._weights[name]
        if known.ctypes.data != value.ctypes.data:
            raise ValueError(f"two weights of the name {name}")
        return stored

    def constant(self, value: Any, dtype: str) -> str:
        """A small constant, shared by value."""
        array = np.asarray(value, dtype=dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.unique("constant." + dtype)
            self.initializers[self._constants[key]] = array
        return self._constants[key]

    def node(self, kind: str, inputs: Sequence[str], scope: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node; returns the names of its outputs.

        Args:
            kind: operator of the default domain. scope: what it belongs to, for its name.
        """
        name = self.unique(f"{scope}/{kind}" if scope else kind)
        names = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names

    def rename(self, old: str, new: str) -> None:
        """Give the output of a node another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def prune(self, outputs: Sequence[str]) -> None:
        """Drop nodes that no output needs."""
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(references(node))
        self.nodes = kept[::-1]

    def body(self, name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """The GraphProto of the nodes so far that the outputs need, with their initialisers."""
        self.prune([spec.name for spec in outputs])
        return self._onnx.helper.make_graph(
            self.nodes,
            name,
            [self._value_info(spec) for spec in inputs],
            [self._value_info(spec) for spec in outputs],
            self._tensors(),
        )

    def _tensors(self) -> list[Any]:
        """The initialisers that the nodes need."""
        needed = {name for node in self.nodes for name in references(node)}
        return [
            self._onnx.numpy_helper.from_array(value, name)
            for name, value in self.initializers.items()
            if name in needed
        ]

    def build(
        self,
        interface: ModelInterface,
        opset: int,
        name: str,
        metadata: Mapping[str, str],
        functions: Sequence[Any] = (),
    ) -> Any:
        """The checked ModelProto.

        Args:
            functions: bodies of operators of other domains.

        Raises:
            ExportError: the file would be larger than an ONNX file can be, or the checker refuses the graph.
        """
        from vidgen import __version__

        helper = self._onnx.helper
        outputs = (interface.output, *interface.extras)
        self.prune([spec.name for spec in outputs])
        size = sum(value.nbytes for value in self.initializers.values())
        if size > LARGEST_FILE:
            raise ExportError(
                "cannot write the model as one ONNX file",
                seen=f"{size / 2**30:.1f} GiB of weights, expected less than 2 GiB",
                cause="ONNX files without external data cannot be larger",
                fix="train with a smaller width (ch, or gf_dim of TwoStreamVAN)",
            )
        graph = helper.make_graph(
            self.nodes, name, [self._value_info(spec) for spec in interface.inputs],
            [self._value_info(spec) for spec in outputs], self._tensors(),
        )  # fmt: skip
        domains = sorted({node.domain for inner in graphs(graph) for node in inner.node if node.domain})
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(
            graph,
            opset_imports=[*opsets, *(helper.make_opsetid(domain, 1) for domain in domains)],
            functions=functions,
            # Functions came with version 8 of the format, which every opset written here exceeds.
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="vidgen",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        check(model)
        return model

    def _value_info(self, spec: TensorSpec) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        return self._onnx.helper.make_tensor_value_info(spec.name, kind, list(spec.shape))


def references(node: Any) -> set[str]:
    """Names of the tensors a node reads, those that the graphs inside of it take from outside included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= {name for inner in attribute.g.node for name in references(inner)}
            names |= {value.name for value in attribute.g.output}
    return names


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and every graph inside of its nodes, such as the body of a loop; outer ones first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def check(model: Any) -> None:
    """Run the ONNX checker with strict shape inference.

    Raises:
        ExportError: the graph is not valid; this is a defect of the export, not of the checkpoint.
    """
    onnx = require("onnx", "check .onnx files")
    errors = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        onnx.checker.check_model(model, full_check=True)
    except errors as error:
        raise ExportError(
            "the exported graph is not valid ONNX",
            seen=str(error).strip().splitlines()[0],
            cause="a defect of this version of vidgen, or an ONNX version that it does not know",
            fix="pip install -U vidgen onnx",
        ) from error
