"""An ONNX graph under construction: named nodes, shared constants, and the finished, checked model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Collects nodes and initialisers in order; every name is given once."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "write .onnx files")
        self.nodes: list[Any] = []
        self.initializers: dict[str, NDArray[Any]] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._used: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """``name``, or ``name.1``, ``name.2``, ... where it is taken."""
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return f"{name}.{count}" if count else name

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """An initialiser under its own name; giving the same name twice means the same tensor."""
        self.initializers.setdefault(name, value)
        return name

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
        """Drop nodes and initialisers that no output needs."""
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.initializers = {name: value for name, value in self.initializers.items() if name in needed}

    def build(self, interface: ModelInterface, opset: int, name: str, metadata: Mapping[str, str]) -> Any:
        """The checked ModelProto.

        Raises:
            ExportError: the file would be larger than an ONNX file can be, or the checker refuses the graph.
        """
        from vidgen import __version__

        helper = self._onnx.helper
        self.prune([interface.output.name])
        size = sum(value.nbytes for value in self.initializers.values())
        if size > LARGEST_FILE:
            raise ExportError(
                "cannot write the model as one ONNX file",
                seen=f"{size / 2**30:.1f} GiB of weights, expected less than 2 GiB",
                cause="ONNX files without external data cannot be larger",
                fix="train with a smaller width (ch)",
            )
        tensors = [self._onnx.numpy_helper.from_array(value, key) for key, value in self.initializers.items()]
        graph = helper.make_graph(
            self.nodes, name, [self._value_info(spec) for spec in interface.inputs],
            [self._value_info(interface.output)], tensors,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
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
