"""An artifact's values before they are rounded to 8 bits, which hide what a graph computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen._imports import require
from vidgen.errors import ArtifactError
from vidgen.export.half_arithmetic import as_device
from vidgen.export.onnx_graph import graphs
from vidgen.plugins.sepconv_trt.ort_library import custom_op_library, is_needed

#: Half the range of the raw output, in grey levels.
LEVELS = 127.5


def run_unrounded(model: Any, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[NDArray[np.float32]]:
    """A model's grey levels [B, F, H, W, 3] before rounding: its own graph without Round, Clip and Cast.

    Half tensors hold half-precision values, as on a device (see :mod:`vidgen.export.half_arithmetic`).

    Args:
        model: a ModelProto of ours; not changed. inputs: of each run.

    Raises:
        ArtifactError: it has an 8-bit output that is not ours.
    """
    onnx = require("onnx", "verify .onnx files")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    quantised = changed.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    if quantised:
        drop_rounding(changed)
    session = cpu_session(as_device(changed))
    for given in inputs:
        video = session.run([changed.graph.output[0].name], given)[0]
        yield video if quantised else grey_levels(video)


def grey_levels(video: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw videos [B, 3, F, H, W] as unrounded grey levels [B, F, H, W, 3]."""
    levels: NDArray[np.float32] = (video.transpose(0, 2, 3, 4, 1) + np.float32(1)) * np.float32(LEVELS)
    return levels


def cpu_session(model: Any) -> Any:
    """A session of ONNX Runtime on the CPU, with the kernel of our own operator where the model uses it."""
    ort = require("onnxruntime", "verify .onnx files")
    serialised = model.SerializeToString()
    options = ort.SessionOptions()
    # Its warnings are of initialisers that only the rounding used.
    options.log_severity_level = 3
    kernels = custom_op_library() if is_needed(serialised) else None
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    return ort.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])


def drop_rounding(model: Any) -> None:
    """Let the 8-bit output be float32: Round, Clip and Cast to uint8 become the identity, wherever they are.

    Raises:
        ArtifactError: no such chain makes an 8-bit output.
    """
    onnx = require("onnx", "verify .onnx files")
    chains = [chain for graph in graphs(model.graph) for chain in _rounding_chains(onnx, graph)]
    if not chains or any(len(chain) != 3 for chain in chains):
        raise ArtifactError(
            "cannot verify the artifact",
            seen="an 8-bit output that is not made by Round, Clip and Cast",
            cause="the file was not exported by this version of vidgen",
            fix="export it again",
        )
    for node in itertools.chain(*chains):
        node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
    for graph in graphs(model.graph):
        for value in graph.output:
            if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _rounding_chains(onnx: Any, graph: Any) -> list[list[Any]]:
    """Cast to uint8, the Clip before it and the Round before that, as far as they are so."""
    producer = {name: node for node in graph.node for name in node.output}
    chains = []
    for cast in graph.node:
        if cast.op_type != "Cast" or cast.attribute[0].i != onnx.TensorProto.UINT8:
            continue
        chain = [cast]
        for kind in ("Clip", "Round"):
            node = producer.get(chain[-1].input[0])
            chain += [node] if node is not None and node.op_type == kind else []
        chains.append(chain)
    return chains
