"""Run in a process of its own: builds an engine with the plugin library by TensorRT-RTX, and prints what happened."""

from __future__ import annotations

import argparse
import json

import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper

from vidgen.plugins.sepconv_trt.tensorrt import prepare

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32}
TARGETS = ("SM86", "SM89", "SM120")


def model(taps: int | str, dtype: str, excess: int) -> bytes:
    """One node without a body between an input and a Relu; ``excess`` rows too many."""
    halo = taps - 1 if isinstance(taps, int) else 4
    kernels = ["batch", taps, 16, 16]
    kind = TYPES[dtype]
    inputs = [
        helper.make_tensor_value_info("input", kind, ["batch", 3, 16 + halo + excess, 16 + halo]),
        *(helper.make_tensor_value_info(name, kind, kernels) for name in ("vertical", "horizontal")),
    ]
    node = helper.make_node("SeparableConvolution", [one.name for one in inputs], ["made"], domain="vidgen")
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["made"], ["output"])],
        "one",
        inputs,
        [helper.make_tensor_value_info("output", kind, ["batch", 3, 16, 16])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("vidgen", 1)]
    return onnx.ModelProto.SerializeToString(helper.make_model(graph, opset_imports=opsets, ir_version=9))


class Log(trt.ILogger):
    """Keeps the errors."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def build(log: Log, text: bytes, halo: int, taps: int) -> int:
    """Bytes of the engine for all targets; 0 where there is none."""
    builder = trt.Builder(log)
    network = builder.create_network(0)
    if not trt.OnnxParser(network, log).parse(text):
        return 0
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, shape in (
        ("input", (3, 16 + halo, 16 + halo)),
        *((name, (taps, 16, 16)) for name in ("vertical", "horizontal")),
    ):
        profile.set_shape(name, (1, *shape), (2, *shape), (4, *shape))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = len(TARGETS)
    for index, target in enumerate(TARGETS):
        config.set_compute_capability(getattr(trt.ComputeCapability, target), index)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return 0
    image = bytes(engine)
    return len(image) if b"SeparableConvolution" in image and b"taps" in image else -1


def main() -> None:
    """Load ``$VIDGEN_TENSORRT_LIBRARY``, build each case, print one JSON object a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", help="JSON: a list of [taps, dtype, excess]")
    arguments = parser.parse_args()
    log = Log()
    prepare(trt, "library", taps=None, dtypes=("float32", "float16"))
    assert trt.get_plugin_registry().get_creator("SeparableConvolution", "1", "vidgen") is not None
    for taps, dtype, excess in json.loads(arguments.cases):
        log.errors.clear()
        known = taps if isinstance(taps, int) else 5
        size = build(log, model(taps, dtype, excess), known - 1, known)
        print(json.dumps({"size": size, "errors": log.errors}), flush=True)


if __name__ == "__main__":
    main()
