"""How far the half-precision graph of a checkpoint is off, over many latents: rounded as on a device, and as run here.

    python benchmarks/half.py CHECKPOINT.safetensors --videos 64

The checkpoint runs in torch. Its graph for TensorRT is typed as ``vidgen export --fp16`` types it, and is run twice: as
a float32 graph that rounds every half tensor, and itself in ONNX Runtime, which on a CPU leaves most rounding out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx

from vidgen.export import ExportSettings, export
from vidgen.export.measure import Case, Measured, measure
from vidgen.export.verify import noise, references, run_case
from vidgen.runtime.backends import open_backend


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--videos", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.onnx"
        settings = ExportSettings(options.checkpoint, path, fp16=True, lowering="tensorrt", output="float32")
        manifest = export(settings).manifest
        rule = manifest.interface.frames
        case = Case(options.videos, rule.length(rule.default), rule.dimension)
        expected = references(options.checkpoint, [case], manifest.interface)
        strict = measure(onnx.load(path, load_external_data=False), expected)
        with open_backend(path) as backend:
            video, _ = run_case(backend, manifest.interface, noise(manifest.interface, case), case)
        levels = (video.transpose(0, 2, 3, 4, 1) + 1) * 127.5
        as_run = Measured().plus(levels, expected[0])
    print(f"{options.checkpoint}: {manifest.precision.half_share:.0%} of tensors half, {options.videos} videos")
    for name, found in (("every half tensor rounded", strict), ("as ONNX Runtime runs it", as_run)):
        print(f"  {name}: at most {found.levels:.3g} grey levels off, PSNR {found.psnr or float('inf'):.1f} dB")


if __name__ == "__main__":
    main()
