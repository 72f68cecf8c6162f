"""A Fréchet distance of generated videos the reference's way and ours, in one run: seconds by phase, and the ratio.

    python benchmarks/score_pipeline.py --videos 500 --threads 2
    python benchmarks/score_pipeline.py --real --backend openvino --videos 300 --threads 2

The reference's way (spec g3an 7 and 8): generate in batches of 64, write mp4 files one by one, read them back one by
one with a PIL resize to 112x112, features in batches of 16, mean and covariance, `scipy.linalg.sqrtm`. Ours: one
stream from the generator to the sums, no file, and the distance without a general matrix root; once by the protocol
`clean`, once by `g3an`, which keeps the codec and the resize and must give the reference's number.

Without --real, generator and extractor are small stand-ins (an untrained narrow G3AN, a fixed projection to 2048
features) and the same for all, so that the work around them shows. With --real they are of the published sizes: G3AN
with 64 channels and ResNeXt-101 in 3-D, with weights drawn from a seed (they cost what trained ones cost), as PyTorch
modules the reference's way, as the exported file and the extractor of `vidgen score` in ours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.bench.scores.clip_sources import EngineClips
from vidgen.bench.scores.extractors.base import Extractor
from vidgen.bench.scores.moments import Gaussian
from vidgen.bench.scores.protocols import make_protocol
from vidgen.bench.scores.statistics_file import Statistics
from vidgen.bench.scores.stream import collect
from vidgen.runtime.backends import manifest_of, open_backend
from vidgen.runtime.sampler import Sampler

FEATURES, GRID, SIDE, FRAMES = 2048, 14, 112, 16


class Projection(Extractor):
    """Stand-in: the mean colours of a coarse grid, by a fixed projection to as many features as ResNeXt has."""

    name, spaces, frames, size, licence = "projection", ("features",), FRAMES, None, "none needed"
    weight_sha256 = "0" * 64

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._weights = rng.standard_normal((FRAMES * GRID * GRID * 3, FEATURES)).astype(np.float32) / 100

    def features(self, clips: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        count, _, height, width, _ = clips.shape
        rows, columns = np.arange(GRID) * height // GRID, np.arange(GRID) * width // GRID
        coarse = clips[:, :, rows][:, :, :, columns].reshape(count, -1).astype(np.float32) / 255
        return {"features": coarse @ self._weights}


class Phases(dict[str, float]):
    """Seconds by phase."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self[name] = self.get(name, 0.0) + time.perf_counter() - start


class TorchResNeXt(Extractor):
    """The reference's way to features: the PyTorch module as it is."""

    name, spaces, frames, size, licence = "resnext101 in PyTorch", ("features",), FRAMES, (SIDE, SIDE), "none needed"
    weight_sha256 = "0" * 64

    def __init__(self, weights: Path) -> None:
        from vidgen.models.checkpoint import load_into, load_tensors
        from vidgen.models.config import ResNeXt3DConfig
        from vidgen.models.resnext3d import ResNeXt3D

        self._network = ResNeXt3D(ResNeXt3DConfig())
        load_into(self._network, load_tensors(weights), weights)
        self._network.eval()

    def features(self, clips: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        import torch

        from vidgen.bench.scores.extractors.resnext101 import MEAN

        with torch.inference_mode():
            pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() - torch.tensor(MEAN)[:, None, None, None]
            return {"features": self._network(pixels).numpy()}


def reference_way(
    sampler: Sampler, real: Gaussian, videos: int, extractor: Extractor, folder: Path
) -> tuple[float, Phases]:
    """Spec g3an 7 and 8, file by file."""
    import av
    import scipy.linalg
    from PIL import Image

    phases = Phases()
    made = sampler.batches(videos)
    while True:
        with phases.timed("generate"):
            batch = next(made, None)
        if batch is None:
            break
        with phases.timed("write mp4"):
            for index, video in zip(*batch):
                with av.open(str(folder / f"{index}.mp4"), "w") as container:
                    stream: Any = container.add_stream("libx264", rate=25)
                    stream.height, stream.width = video.shape[1:3]
                    stream.pix_fmt = "yuv420p"
                    for image in video:
                        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                        container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation="BICUBIC")))
                    container.mux(stream.encode(None))
    rows: list[NDArray[np.float32]] = []
    paths = sorted(folder.glob("*.mp4"))
    for at in range(0, len(paths), 16):
        with phases.timed("read and resize"):
            clips = []
            for path in paths[at : at + 16]:
                with av.open(str(path)) as container:
                    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
                start = len(frames) // 2 - FRAMES // 2
                resized = [
                    Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                    for frame in frames[start : start + FRAMES]
                ]
                clips.append(np.stack([np.asarray(image) for image in resized]))
        with phases.timed("features"):
            rows.append(next(iter(extractor.features(np.stack(clips)).values())))
    with phases.timed("distance"):
        features = np.concatenate(rows)
        mean, sigma = features.mean(axis=0), np.cov(features, rowvar=False)
        root = scipy.linalg.sqrtm(sigma @ real.covariance)
        if not np.isfinite(root).all():
            ridge = 1e-6 * np.eye(len(sigma))
            root = scipy.linalg.sqrtm((sigma + ridge) @ (real.covariance + ridge))
        value = np.square(mean - real.mean).sum() + np.trace(sigma) + np.trace(real.covariance)
        value -= 2 * np.trace(root).real
    return float(value), phases


def our_way(networks: Networks, name: str, real: Statistics, videos: int, threads: int | None) -> tuple[float, Phases]:
    """One stream by a protocol; features and generation overlap, so they are one phase."""
    phases = Phases()
    with phases.timed("stream"):
        source = source_of(networks, name, videos, 0, threads)
        tally = collect(source, make_protocol(name, FRAMES), networks.extractor)
    with phases.timed("distance"):
        (space,) = networks.extractor.spaces
        side = tally.statistics(space, {}).side()
        value = side.to(real.side()).value
    return value, phases


def source_of(networks: Networks, name: str, videos: int, seed: int, threads: int | None) -> EngineClips:
    """The videos of the generator."""
    engine, protocol = networks.engine, make_protocol(name, FRAMES)
    opener = partial(open_backend, engine, networks.backend, output="float32", threads=threads)
    manifest = manifest_of(engine, output="float32")
    return EngineClips(engine, manifest, opener, protocol, n=videos, seed=seed, batch=16)


def drawn_generator(folder: Path, channels: int) -> Path:
    """A checkpoint of an untrained G3AN."""
    import torch

    from vidgen.models.checkpoint import CheckpointInfo, DataDescription, save_checkpoint
    from vidgen.models.config import G3ANConfig
    from vidgen.models.g3an import Generator

    torch.manual_seed(0)
    config = G3ANConfig(ch=channels, use_attention=False)
    network = Generator(config).train()
    with torch.no_grad():  # normalisation statistics and power iterations, so that videos differ
        for _ in range(4):
            network(torch.randn(16, config.c_a, 1, 1, 1), torch.randn(16, config.c_m, 1, 1, 1))
    path = folder / "drawn.safetensors"
    save_checkpoint(path, network.eval().state_dict(), CheckpointInfo("g3an", config, 0, DataDescription("none", 25.0)))
    return path


def drawn_resnext(folder: Path) -> Path:
    """A checkpoint of an untrained ResNeXt-101 whose normalisation fits noise, so that features are of one size."""
    import torch

    from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
    from vidgen.models.config import ResNeXt3DConfig
    from vidgen.models.resnext3d import ResNeXt3D

    torch.manual_seed(0)
    network = ResNeXt3D(ResNeXt3DConfig()).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        network(100 * torch.randn(4, 3, FRAMES, SIDE, SIDE))
    path = folder / "resnext.safetensors"
    save_checkpoint(path, network.eval().state_dict(), CheckpointInfo("resnext3d", network.config))
    return path


@dataclass(frozen=True)
class Networks:
    """What generates and what looks, each way."""

    checkpoint: Path
    engine: Path
    backend: str | None
    reference_extractor: Extractor
    extractor: Extractor


def networks_of(folder: Path, asked: argparse.Namespace) -> Networks:
    """The networks that were asked for."""
    if not asked.real:
        checkpoint = drawn_generator(folder, 4)
        return Networks(checkpoint, checkpoint, None, Projection(), Projection())
    from vidgen.bench.scores.extractors import open_extractor
    from vidgen.export import ExportSettings, export

    checkpoint, weights, engine = drawn_generator(folder, 64), drawn_resnext(folder), folder / "g3an.onnx"
    export(ExportSettings(checkpoint, engine, output="float32"))
    name = "resnext101-kinetics" + (f"@backend={asked.backend}" if asked.backend else "")
    extractor = open_extractor(name, threads=asked.threads, weights=weights)
    return Networks(checkpoint, engine, None, TorchResNeXt(weights), extractor)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--reference", type=int, default=300, help="videos of another seed that are the reference")
    parser.add_argument("--real", action="store_true", help="networks of the published sizes")
    parser.add_argument("--backend", help="of our extractor, with --real")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    if asked.threads:
        import torch

        torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks = networks_of(folder, asked)
        other = source_of(networks, "g3an", asked.reference, 1, asked.threads)
        tally = collect(other, make_protocol("g3an", FRAMES), networks.extractor)
        real = tally.statistics(networks.extractor.spaces[0], {})
        found: dict[str, tuple[float, Phases]] = {}
        checkpoint, extractor = networks.checkpoint, networks.reference_extractor
        with Sampler.open(checkpoint, batch=16, range="batch-minmax", threads=asked.threads) as sampler:
            (folder / "videos").mkdir()
            args = (real.gaussian(), asked.videos, extractor, folder / "videos")
            found["the reference's way"] = reference_way(sampler, *args)
        for protocol in ("g3an", "clean"):
            found[f"ours, {protocol}"] = our_way(networks, protocol, real, asked.videos, asked.threads)
    report(asked.videos, found)
    if asked.json:
        asked.json.write_text(json.dumps({name: {"value": v, **phases} for name, (v, phases) in found.items()}))


def report(videos: int, found: dict[str, tuple[float, Phases]]) -> None:
    """Print the table: seconds, the ratio to the reference's way, and that ratio without the distances."""
    slow = found["the reference's way"][1]
    for name, (value, phases) in found.items():
        total, network = sum(phases.values()), sum(phases.values()) - phases["distance"]
        parts = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in phases.items())
        ratio = sum(slow.values()) / total
        clips = (sum(slow.values()) - slow["distance"]) / network
        print(
            f"{name:20} {total:7.1f} s {ratio:5.1f}x ({clips:.1f}x without the distance) {videos / total:6.1f} videos/s"
            f"  FID {value:.6g}  ({parts})"
        )


if __name__ == "__main__":
    main()
