"""What engines of full-size models weigh and take to build, and how far their half-precision graphs are off.

    python benchmarks/engines.py --write docs/engines.md

Every row is one engine, built by the library that is installed, with no GPU: model, precision, target, builder, form of
the separable convolution, size, seconds of the build, share of half among floating-point layers of the parsed network,
and the largest difference of the typed graph from the checkpoint, as ``vidgen export`` measures it in ONNX Runtime.
Without ``--checkpoint`` weights are random and settled; the error is then that of such weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cpu_g3an import make_files
from page import replace_table

from vidgen.export import ExportSettings, export
from vidgen.export.engine_artifact import write_engine
from vidgen.export.verify import STILL
from vidgen.models.checkpoint import CheckpointInfo, read_info, save_checkpoint
from vidgen.models.config import TwoStreamVANConfig
from vidgen.runtime.manifest import Manifest, read_manifest

TARGETS = ("sm_86", "sm_89", "sm_120")
HEAD = (
    "| model | precision | target | builder | sepconv | MiB | build, s | half layers | max error, grey levels "
    "| PSNR, dB | built in the tests | run on a device |\n|---|---|---|---|---|---:|---:|---:|---:|---:|---|---|"
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model in one precision and form."""

    name: str
    checkpoint: Path
    fp16: bool
    sepconv: str | None


def subjects(folder: Path, given: list[Path]) -> Iterator[Subject]:
    """Each model in both precisions, TwoStreamVAN with its function body and with the plugin."""
    models = [(path.stem, path) for path in given] or list(_random_models(folder))
    for name, checkpoint in models:
        forms = (None, "plugin") if read_info(checkpoint).model == "twostreamvan" else (None,)
        yield from (Subject(name, checkpoint, fp16, form) for form in forms for fp16 in (False, True))


def _random_models(folder: Path) -> Iterator[tuple[str, Path]]:
    import torch

    from vidgen.models.twostreamvan import Generator

    for attention in (False, True):
        checkpoint, _, _ = make_files(folder, 64, attention)
        yield f"G3AN, 64 channels{', attention' if attention else ''}", checkpoint
    torch.manual_seed(0)
    config = TwoStreamVANConfig()
    checkpoint = folder / "twostreamvan.safetensors"
    save_checkpoint(checkpoint, Generator(config).state_dict(), CheckpointInfo("twostreamvan", config))
    yield "TwoStreamVAN", checkpoint


def rows(subject: Subject, folder: Path) -> Iterator[str]:
    """One engine for all targets, by a whole export, then one for each target from the same graph."""
    import onnx

    plan = folder / "model.plan"
    settings = ExportSettings(
        subject.checkpoint, engine=plan, fp16=subject.fp16, sepconv=subject.sepconv, gpu=",".join(TARGETS)
    )
    start = time.monotonic()
    report = export(settings)
    assert report.engine is not None and report.engine.engine is not None
    print(f"# {subject.name}: {time.monotonic() - start:.1f} s for the whole export", flush=True)
    yield _row(subject, plan, report.engine)
    model, manifest, form = onnx.load(settings.path), read_manifest(settings.path), report.engine.engine.sepconv
    for target in TARGETS:
        one = dataclasses.replace(settings, gpu=target)
        built = write_engine(one, manifest, form, model, plan, lambda _: None, lambda *_: None)
        yield _row(subject, plan, built)


def _row(subject: Subject, plan: Path, manifest: Manifest) -> str:
    engine, check = manifest.engine, manifest.verification[-1]
    assert engine is not None
    half = f"{engine.half_layers / engine.float_layers:.0%}" if subject.fp16 else "-"
    psnr = "equal" if check.psnr is None else f"{check.psnr:.0f}"
    # Of random weights whose videos stand still, the error would flatter.
    moves = check.motion is None or check.motion >= STILL
    cells = (
        subject.name,
        "float16" if subject.fp16 else "float32",
        ", ".join(manifest.target),
        f"{engine.library} {engine.version}",
        engine.sepconv or "-",
        f"{plan.stat().st_size / 2**20:.0f}",
        f"{engine.seconds:.1f}",
        half,
        f"{check.max_grey_levels:.2g}" if moves else "-",
        psnr if moves else "-",
        "narrower" if len(manifest.target) > 1 else "with the others",
        "not yet",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    lines = [HEAD]
    print(HEAD)
    with tempfile.TemporaryDirectory() as name:
        for subject in subjects(Path(name), options.checkpoint):
            for line in rows(subject, Path(name)):
                print(line, flush=True)
                lines.append(line)
    if options.write is not None:
        replace_table(options.write, "benchmarks/engines.py", "\n".join(lines))


if __name__ == "__main__":
    main()
