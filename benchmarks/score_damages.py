"""Do the scores put sets in an order that makes sense? Real, trained, untrained, half precision, and known damages.

    python benchmarks/score_damages.py --checkpoint runs/small/g3an.safetensors --write docs/scores.md

Real clips are the built-in faces: one half is the reference, the other half is scored, as it is and damaged: blurred,
each video frozen at its first frame, its frames shuffled, H.264 at CRF 40. Generated ones come from a checkpoint, its
half-precision file and an untrained network of the same sizes, all on the same latents; the checkpoint's videos are
damaged too. Fréchet distances by EfficientNet's appearance and motion features, and by those of a classifier if one is
given, and the temporal consistency of EfficientNet's, each with a 95 % interval.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from page import replace_table
from PIL import Image, ImageFilter

from vidgen.bench.scores.extractors import open_extractor
from vidgen.bench.scores.frechet import FrechetSide
from vidgen.bench.scores.frechet_interval import FrechetEstimate, frechet_estimate
from vidgen.bench.scores.intervals import Interval
from vidgen.bench.scores.protocols import codec
from vidgen.bench.scores.temporal_consistency import consistency_of_means
from vidgen.data.store import ClipStore
from vidgen.data.synthetic import SyntheticSettings, synthesize
from vidgen.export import ExportSettings, export
from vidgen.models.checkpoint import CheckpointInfo, load_generator, save_checkpoint
from vidgen.models.config import G3ANConfig
from vidgen.runtime.sampler import Sampler

Clips = NDArray[np.uint8]
FRAMES = 16
HALF = "trained, half precision"


def real(folder: Path, count: int) -> Clips:
    """The middle frames of drawn faces."""
    synthesize(SyntheticSettings(kind="faces", out=folder / "faces", clips=count))
    store = ClipStore.open(folder / "faces")
    clips = [np.asarray(store.frames(index)) for index in range(len(store))]
    return np.stack([clip[(len(clip) - FRAMES) // 2 :][:FRAMES] for clip in clips])


def damaged(clips: Clips, whose: str) -> Iterator[tuple[str, Clips]]:
    """The same clips with one thing wrong."""

    def blurred(frame: Clips) -> Clips:
        return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.5)))

    yield f"{whose}, blurred (1.5 pixels)", np.stack([np.stack([blurred(frame) for frame in clip]) for clip in clips])
    yield f"{whose}, frozen", np.repeat(clips[:, :1], FRAMES, axis=1)
    order = np.random.default_rng(0)
    yield f"{whose}, frames shuffled", np.stack([clip[order.permutation(FRAMES)] for clip in clips])
    before, codec.CRF = codec.CRF, 40
    try:
        yield f"{whose}, H.264 at CRF 40", np.stack([codec.h264_round_trip(clip) for clip in clips])
    finally:
        codec.CRF = before


def generated(folder: Path, checkpoint: Path, count: int) -> Iterator[tuple[str, Clips]]:
    """Videos of the checkpoint, of its half-precision file, and of a network as training begins with it."""
    import torch

    from vidgen.models.g3an import Generator

    half = folder / "half.onnx"
    export(ExportSettings(checkpoint, folder / "full.onnx"))
    export(ExportSettings(checkpoint, half, fp16=True))
    _, info = load_generator(checkpoint)
    config = info.config
    assert isinstance(config, G3ANConfig), "give a G3AN"
    torch.manual_seed(0)
    untrained = Generator(config).train()
    with torch.no_grad():  # normalisation settles in the first step of a training; without it the videos saturate
        for _ in range(8):
            untrained(torch.randn(16, config.c_a, 1, 1, 1), torch.randn(16, config.c_m, 1, 1, 1))
    weights = untrained.eval().state_dict()
    save_checkpoint(folder / "untrained.safetensors", weights, CheckpointInfo("g3an", config))
    artifacts = {
        "trained": folder / "full.onnx",
        HALF: half,
        "untrained": folder / "untrained.safetensors",
    }
    for name, artifact in artifacts.items():
        with Sampler.open(artifact) as sampler:
            videos = sampler.sample(count, frames=FRAMES)
        yield name, videos
        if name == "trained":
            yield from damaged(videos, name)


def tables(folder: Path, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The lines of both tables: Fréchet distances, and temporal figures."""
    named = [("efficientnet-lite0", None)] + ([("classifier", options.classifier)] if options.classifier else [])
    clips = real(folder, 2 * options.n)
    extractors = [open_extractor(extractor, weights=weights) for extractor, weights in named]
    sides: dict[tuple[str, str], FrechetSide] = {}
    sets = itertools.chain(
        [("real, the reference", clips[::2]), ("real, the other half", clips[1::2])],
        damaged(clips[1::2], "real"),
        generated(folder, options.checkpoint, options.n),
    )
    trained: dict[tuple[str, str], FrechetEstimate] = {}
    distances, figures = [], []
    for label, videos in sets:
        cells = []
        for one in extractors:
            found = one.describe(videos)
            for space, changes in found.changes.items():
                figures.append(temporal_row(label, found.features[space], changes))
            for space, features in found.features.items():
                key = (one.name, space)
                if label == "real, the reference":
                    sides[key] = FrechetSide.of_features(features)
                    continue
                distance = frechet_estimate(features, sides[key])
                cells.append(_with_spread(distance.value, distance.interval))
                if label == "trained":
                    trained[key] = distance
                elif label == HALF:
                    difference = distance.minus(trained[key])
                    cells[-1] += f"; {_with_spread(difference.value, difference.interval, '+')} to trained"
        if cells:
            distances.append(f"| {label} | {' | '.join(cells)} |")
            print(distances[-1], flush=True)
    head = [f"{name}, {space}" if name != "classifier" else name for name, space in sides]
    return (
        [f"| {options.n} clips against {options.n} real ones | {' | '.join(head)} |", _rule(len(head)), *distances],
        [f"| {options.n} clips | consistency | order | motion |", _rule(3), *figures],
    )


def temporal_row(label: str, means: NDArray[np.float32], changes: NDArray[np.float64]) -> str:
    """A row of temporal figures."""
    found = consistency_of_means(means, changes, frames=FRAMES)
    cells = [_with_spread(getattr(found, name), found.intervals.get(name)) for name in ("value", "order", "motion")]
    return f"| {label} | {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---|" + "---:|" * columns


def _with_spread(value: float, interval: Interval | None, sign: str = "") -> str:
    text = f"{value:{sign}.3g}" if np.isfinite(value) else "-"
    return text if interval is None else f"{text} ± {1.96 * interval.standard_error:.2g}"


def main() -> None:
    """Print the tables, and put them into a page if one is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a trained G3AN")
    parser.add_argument("--classifier", type=Path, help="a trained classifier, for features of its last hidden layer")
    parser.add_argument("-n", type=int, default=256, help="clips of each set")
    parser.add_argument("--write", type=Path, help="page whose tables are replaced")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        text = "\n\n".join("\n".join(lines) for lines in tables(Path(name), options))
    print(f"\n{text}")
    if options.write is not None:
        replace_table(options.write, "benchmarks/score_damages.py", text)


if __name__ == "__main__":
    main()
