"""How fast G3AN runs on this CPU: plain torch, ONNX Runtime and OpenVINO on both lowerings, and how far the floor is.

    python benchmarks/cpu_g3an.py --threads 2

All contenders take turns in one process, so that a busy machine slows them alike; the smallest and the median time of
each are printed. What is timed is the code that ``vidgen sample`` runs, float32, 8-bit frames out. Weights are random:
no time depends on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidgen.export.pipeline import lower
from vidgen.export.to_onnx import to_onnx
from vidgen.models.checkpoint import CheckpointInfo, load_generator, save_checkpoint
from vidgen.models.config import G3ANConfig
from vidgen.models.g3an import Generator
from vidgen.runtime.backends import Backend
from vidgen.runtime.backends.onnxruntime import OnnxRuntimeBackend
from vidgen.runtime.backends.openvino import OpenVinoBackend
from vidgen.runtime.backends.torch import TorchBackend
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import Manifest, checkpoint_manifest

#: Threads of one contender go on spinning for a moment; the next one waits that long.
PAUSE = 0.03
LOWERINGS = {"tensorrt": "plain", "cpu": "cpu"}


@dataclasses.dataclass(frozen=True)
class Row:
    """Seconds a video of one contender: smallest and median."""

    name: str
    smallest: float
    median: float
    off: int


def sgemm(threads: int, seconds: float = 1.5) -> float:
    """Best rate of a 2048 x 2048 float32 product in torch, GFLOP/s."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.randn(2, 2048, 2048).unbind()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


def gflop(model: Any) -> float:
    """Multiplications and additions of one video of 16 frames in a graph's convolutions and products, in 1e9."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = 1
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        shapes[value.name] = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "ConvTranspose":
            total += math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "MatMul":
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 2 * total / 1e9


def _settle(generator: Generator) -> None:
    """Let spectral and batch norm see data: before that a network saturates, and rounding flips black to white."""
    import torch

    config = generator.config
    with torch.no_grad():
        for _ in range(5):
            generator.train()(torch.randn(4, config.c_a, 1, 1, 1), torch.randn(4, config.c_m, 1, 1, 1))
    generator.eval()


def make_files(folder: Path, channels: int, attention: bool) -> tuple[Path, dict[str, Path], dict[str, float]]:
    """A random checkpoint, its graph in each lowering, and the graphs' GFLOP a video."""
    import torch

    torch.manual_seed(0)
    generator = Generator(G3ANConfig(ch=channels, use_attention=attention))
    _settle(generator)
    if attention:
        torch.nn.init.constant_(generator.fsa.tsa.gamma, 0.5)
        torch.nn.init.constant_(generator.fsa.ssa.gamma, 0.5)
    checkpoint = folder / f"g3an-{attention}.safetensors"
    save_checkpoint(checkpoint, generator.state_dict(), CheckpointInfo("g3an", generator.config))
    graphs, work = {}, {}
    for lowering, name in LOWERINGS.items():
        interface = generator.config.interface("uint8")
        model = to_onnx(lower(generator, lowering, "uint8"), interface, opset=20, name="g3an", metadata={})
        graphs[name] = folder / f"g3an-{attention}-{name}.onnx"
        graphs[name].write_bytes(model.SerializeToString())
        work[name] = gflop(model)
    return checkpoint, graphs, work


def contenders(checkpoint: Path, graphs: dict[str, Path], threads: int) -> Iterator[tuple[str, Backend]]:
    """Name and loaded backend of each; torch first."""
    manifest: Manifest = checkpoint_manifest(checkpoint)
    yield "torch eager", TorchBackend(load_generator(checkpoint)[0], manifest, threads, "cpu")
    for name, path in graphs.items():
        yield f"onnxruntime, {name}", OnnxRuntimeBackend.load(path, manifest, threads=threads)
    if importlib.util.find_spec("openvino"):
        for name, path in graphs.items():
            yield f"openvino, {name}", OpenVinoBackend.load(path, manifest, threads=threads)


def measure(backends: dict[str, Backend], batch: int, repeats: int) -> list[Row]:
    """Time all contenders in turns on the same noise."""
    interface = next(iter(backends.values())).manifest.interface
    inputs = latents(interface, 0, range(batch))
    outputs = {name: np.empty((batch, 16, 64, 64, 3), np.uint8) for name in backends}
    times: dict[str, list[float]] = {name: [] for name in backends}
    for turn, (name, backend) in itertools.product(range(-1, repeats), backends.items()):
        time.sleep(PAUSE)
        start = time.perf_counter()
        backend.run(inputs, outputs[name])
        if turn >= 0:
            times[name].append((time.perf_counter() - start) / batch)
    expected = next(iter(outputs.values())).astype(int)
    return [
        Row(name, min(taken), statistics.median(taken), int(np.abs(outputs[name] - expected).max()))
        for name, taken in times.items()
    ]


def report(rows: list[Row], tell: Callable[[str], None]) -> None:
    """A line a contender; ratios are to torch eager, by the smallest and by the median times."""
    first = rows[0]
    for row in rows:
        ratios = f"{first.smallest / row.smallest:5.2f}x {first.median / row.median:5.2f}x"
        times = f"{row.smallest * 1e3:8.1f} {row.median * 1e3:8.1f}"
        tell(f"  {row.name:24} {times}   {ratios}   {row.off} levels off")


def main() -> int:
    """Print one complete run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="3 repeats, batch 1 only")
    options = parser.parse_args()
    repeats = 3 if options.quick else options.repeats
    rates = {threads: sgemm(threads) for threads in sorted({1, options.threads})}
    print("sgemm: " + ", ".join(f"{rate:.0f} GFLOP/s with {threads} threads" for threads, rate in rates.items()))
    what = f"{options.channels} channels, 16 frames, {options.threads} threads"
    print(f"{what}; ms a video, smallest and median of {repeats}; ratios to torch of both")
    with tempfile.TemporaryDirectory() as folder:
        for attention, batches in ((False, (1, 8)), (True, (1, 4))):
            checkpoint, graphs, work = make_files(Path(folder), options.channels, attention)
            backends = dict(contenders(checkpoint, graphs, options.threads))
            floors = ", ".join(
                f"{name} {size:.1f} GFLOP = {size / rates[options.threads] * 1e3:.0f} ms" for name, size in work.items()
            )
            print(f"\n{'with' if attention else 'without'} attention; at the rate of sgemm: {floors}")
            for batch in batches[:1] if options.quick else batches:
                print(f" batch {batch}", flush=True)
                report(measure(backends, batch, repeats), lambda line: print(line, flush=True))
            for backend in backends.values():
                backend.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
