"""How fast TwoStreamVAN samples on this CPU: ONNX Runtime with our kernel beside torch with and without it.

    python benchmarks/cpu_twostreamvan.py --threads 2

All contenders take turns in one process, so that a busy machine slows them alike. Of each the smallest and the median
time and the smallest CPU time are printed, and by all three how many more videos a second it makes than torch with
``unfold`` and ``einsum``, the form that most programs use. On a machine that does other work go by the CPU time, with
one thread. What is timed is the code that ``vidgen sample`` runs: float32, 8-bit frames out, 10 frames a video. Loading
is timed too: the loop against the same steps written one after the other. ``--profile`` tells where the time goes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from vidgen.export.loop import loop_to_onnx
from vidgen.export.sampling_path import SamplingPath
from vidgen.models import twostreamvan_layers
from vidgen.models.checkpoint import CheckpointInfo, load_generator, save_checkpoint
from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan import Generator
from vidgen.plugins.sepconv_trt import portable
from vidgen.plugins.sepconv_trt.onnx_form import inline_standard, make_function
from vidgen.plugins.sepconv_trt.ort_library import custom_op_library
from vidgen.runtime.backends import onnxruntime
from vidgen.runtime.backends.onnxruntime import OnnxRuntimeBackend
from vidgen.runtime.backends.openvino import OpenVinoBackend
from vidgen.runtime.backends.torch import TorchBackend
from vidgen.runtime.latents import latents
from vidgen.runtime.manifest import checkpoint_manifest

#: Threads of one contender go on spinning for a moment; the next one waits that long.
PAUSE = 0.05
FRAMES = 10
OPSET = 20


#: How to sum up the runs of each contender.
Column = tuple[Callable[[list[float]], float], dict[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Contender:
    """A loaded backend, what surrounds its runs, and the CPU seconds that loading took."""

    name: str
    backend: Any
    around: Callable[[], contextlib.AbstractContextManager[None]]
    load: float


@contextlib.contextmanager
def convolved_by(form: Callable[..., Any]) -> Iterator[None]:
    """Let the torch module do its separable convolutions in another form."""
    from torch.nn import functional

    def fuse(features: Any, motion: Any, no_mask: bool) -> Any:
        pad = motion.vertical.shape[1] // 2
        padded = functional.pad(features, (pad, pad, pad, pad), mode="replicate")
        moved = form(padded, motion.vertical, motion.horizontal)
        return moved if no_mask else motion.mask * moved + (1 - motion.mask) * features

    with mock.patch.object(twostreamvan_layers, "fuse", fuse):
        yield


def make_files(folder: Path, config: TwoStreamVANConfig) -> tuple[Path, dict[str, Path]]:
    """A random checkpoint, and its graph as a loop, unrolled, and in standard operators."""
    import torch

    torch.manual_seed(0)
    generator = Generator(config).eval()
    checkpoint = folder / "twostreamvan.safetensors"
    save_checkpoint(checkpoint, generator.state_dict(), CheckpointInfo("twostreamvan", config))
    interface = config.interface("uint8")
    path = SamplingPath(generator, interface, "cpu")
    functions = [make_function(config.ac_kernel, OPSET)]
    write = functools.partial(
        loop_to_onnx, path, interface, opset=OPSET, name="twostreamvan", metadata={}, functions=functions
    )
    loop = write()
    models = {"loop": loop, "standard": inline_standard(loop), "unrolled": write(unrolled=FRAMES + 1)}
    files = {}
    for name, model in models.items():
        files[name] = folder / f"{name}.onnx"
        files[name].write_bytes(model.SerializeToString())
    return checkpoint, files


def contenders(checkpoint: Path, files: dict[str, Path], threads: int) -> Iterator[Contender]:
    """All of them; what the others are compared with goes first."""
    manifest = checkpoint_manifest(checkpoint)
    generator, _ = load_generator(checkpoint)
    as_it_is = contextlib.nullcontext
    module = TorchBackend(generator, manifest, threads, "cpu")
    yield Contender("torch, unfold", module, lambda: convolved_by(portable.by_unfold), 0.0)
    yield Contender("torch, shifts", module, lambda: convolved_by(portable.by_shifts), 0.0)
    yield Contender("torch, our kernel", module, as_it_is, 0.0)

    def load(kind: Any, name: str) -> tuple[Any, float]:
        start = time.process_time()
        backend = kind.load(files[name], manifest, threads=threads)
        return backend, time.process_time() - start

    for name in ("loop", "unrolled"):
        backend, seconds = load(OnnxRuntimeBackend, name)
        yield Contender(f"onnxruntime, {name}, our kernel", backend, as_it_is, seconds)
    with mock.patch.object(onnxruntime, "custom_op_library", lambda: None):
        backend, seconds = load(OnnxRuntimeBackend, "loop")
    yield Contender("onnxruntime, loop, no kernel", backend, as_it_is, seconds)
    if importlib.util.find_spec("openvino"):
        backend, seconds = load(OpenVinoBackend, "standard")
        yield Contender("openvino, loop", backend, as_it_is, seconds)


def measure(runners: list[Contender], batch: int, repeats: int) -> None:
    """Time all in turns on the same noise, and print a line for each."""
    interface = runners[0].backend.manifest.interface
    inputs = latents(interface, 0, range(batch), frames=FRAMES)
    outputs = {one.name: np.empty((batch, FRAMES, 64, 64, 3), np.uint8) for one in runners}
    times: dict[str, list[float]] = {one.name: [] for one in runners}
    busy: dict[str, list[float]] = {one.name: [] for one in runners}
    for turn, one in itertools.product(range(-1, repeats), runners):
        time.sleep(PAUSE)
        with one.around():
            start, cpu = time.perf_counter(), time.process_time()
            one.backend.run(inputs, outputs[one.name])
            if turn >= 0:
                times[one.name].append((time.perf_counter() - start) / batch)
                busy[one.name].append((time.process_time() - cpu) / batch)
    expected = outputs[runners[0].name].astype(int)
    for one in runners:
        columns: list[Column] = [(min, times), (statistics.median, times), (min, busy)]
        values = [take(every[one.name]) for take, every in columns]
        ratios = [take(every[runners[0].name]) / value for (take, every), value in zip(columns, values, strict=True)]
        off = int(np.abs(outputs[one.name] - expected).max())
        load = f"   {one.load:.1f} s of CPU to load" if one.load else ""
        shown = " ".join(f"{value * 1e3:8.1f}" for value in values), " ".join(f"{ratio:5.2f}x" for ratio in ratios)
        print(f"  {one.name:34} {shown[0]}   {shown[1]}   {off} levels off{load}", flush=True)


def profile(file: Path, config: TwoStreamVANConfig, batch: int, threads: int) -> None:
    """Where ONNX Runtime's time goes, by kind of operator, ms a video."""
    import onnxruntime as library

    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(file.with_suffix(""))
    kernels = custom_op_library()
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    session = library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = latents(config.interface(), 0, range(batch), frames=FRAMES)
    for _ in range(3):
        session.run(None, inputs)
    total: collections.Counter[str] = collections.Counter()
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            total[event["args"]["op_name"]] += event["dur"]
    print(f"\nwhere the loop's time goes, batch {batch}, ms a video")
    for kind, duration in total.most_common(15):
        print(f"  {kind:24} {duration / 3 / batch / 1e3:8.2f}")


def main() -> int:
    """Print one complete run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    parser.add_argument("--quick", action="store_true", help="2 repeats, batch 8 only")
    options = parser.parse_args()
    config = TwoStreamVANConfig()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, files = make_files(Path(folder), config)
        sizes = ", ".join(f"{name} {path.stat().st_size / 2**20:.0f} MiB" for name, path in files.items())
        print(f"joint, gf 16, {FRAMES} frames, {options.threads} threads; {sizes}")
        if options.profile:
            profile(files["loop"], config, options.batch[-1], options.threads)
            return 0
        runners = list(contenders(checkpoint, files, options.threads))
        repeats = 2 if options.quick else options.repeats
        print(f"ms a video: smallest and median of {repeats}, smallest CPU time; how many times the first, by each")
        for batch in [8] if options.quick else options.batch:
            print(f" batch {batch}", flush=True)
            measure(runners, batch, repeats)
        for one in runners:
            one.backend.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
