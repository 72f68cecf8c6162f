"""Extractors run in every backend: the same features, one label, engines that are built here and kept by content."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.extractors.conftest import noise_clips
from bench.extractors.test_given import means, model
from bench.extractors.test_registered import NAMES, has_efficientnet

from vidgen.bench.scores.extractors import Extractor, export_extractor, extractor_graph, open_extractor
from vidgen.bench.scores.extractors.artifact import Artifact, cached_engine, cached_graph
from vidgen.bench.scores.extractors.network import BACKENDS, BackendNetwork, describing_interface
from vidgen.bench.scores.moments import Moments
from vidgen.bench.scores.protocols import describe, make_protocol
from vidgen.bench.scores.statistics_file import Statistics, check_same_protocol, merge
from vidgen.errors import ArtifactError, BackendError, MissingDependencyError, ScoreError, SettingsError
from vidgen.models.config import ResNeXt3DConfig, TensorSpec
from vidgen.models.registry import build_network
from vidgen.runtime.backends import load_backend, open_backend
from vidgen.runtime.backends.base import Backend
from vidgen.runtime.manifest import Manifest, manifest_path, read_manifest
from vidgen.runtime.tensorrt_library import device_architecture

has_openvino = importlib.util.find_spec("openvino") is not None
has_rtx = importlib.util.find_spec("tensorrt_rtx") is not None
needs_openvino = pytest.mark.skipif(not has_openvino, reason="openvino is not installed")
needs_rtx = pytest.mark.skipif(not has_rtx, reason="tensorrt-rtx is not installed")
without_gpu = pytest.mark.skipif(device_architecture() is not None, reason="there is a GPU: tests/gpu runs engines")


def opened(name: str, backend: str, checkpoints: dict[str, Path]) -> Extractor:
    return open_extractor(f"{name}@backend={backend}", threads=1, weights=checkpoints.get(name))


@needs_openvino
@pytest.mark.parametrize("name", NAMES)
def test_backends_agree_and_share_a_label(name: str, checkpoints: dict[str, Path]) -> None:
    clips, found, labels = noise_clips(2), [], []
    for backend in ("onnxruntime", "openvino"):
        with opened(name, backend, checkpoints) as extractor:
            if extractor.has_logits:
                features, logits = extractor.features_and_logits(clips)
                found.append({**features, "logits": logits})
            else:
                found.append(extractor.features(clips))
            if name == "random-r3d":
                alone = extractor.features(clips[1:2])["features"]
                assert np.array_equal(alone, found[-1]["features"][1:2])
            labels.append(describe(make_protocol("clean", None), extractor, extractor.spaces[0]))
            assert extractor.backend.startswith(f"{backend} ") and labels[-1]["backend"] == extractor.backend
            assert extractor.settings()["tf32"] is False
    for space, values in found[0].items():
        np.testing.assert_allclose(found[1][space], values, rtol=1e-4, atol=1e-4 * float(values.std()))
    assert {k: v for k, v in labels[0].items() if k != "backend"} == {
        k: v for k, v in labels[1].items() if k != "backend"
    }


@needs_openvino
@pytest.mark.parametrize("outputs", [("features",), ("look", "move", "logits")])
def test_files_of_the_user_run_in_each_backend(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    path, clips = (
        model(tmp_path / "my net.onnx", ("n", "t", 3, "h", "w"), layout="NTCHW", outputs=outputs),
        noise_clips(9, 5),
    )
    with open_extractor(f"{path}@backend=openvino", threads=1) as extractor:
        found = extractor.features(clips)
        np.testing.assert_allclose(found[extractor.spaces[0]], means(clips), rtol=1e-5)
        assert extractor.backend.startswith("openvino") and "backend" not in extractor.settings()
        np.testing.assert_allclose(extractor.features(noise_clips(1, 7, 32, 48))[extractor.spaces[0]].shape, (1, 3))


@pytest.mark.parametrize("name", ["random-r3d", "classifier", "missing.onnx"])
def test_an_unknown_backend_names_those_that_work_here(name: str) -> None:
    with pytest.raises(BackendError, match="unknown backend 'torch'") as told:
        open_extractor(f"{name}@backend=torch")
    assert "@backend=onnxruntime" in told.value.fix and "work here" in told.value.fix
    assert ("openvino" in told.value.fix) == has_openvino
    assert ("tensorrt" in told.value.fix) == (device_architecture() is not None)


def test_a_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"vidgen\[openvino\]"):
        open_extractor("random-r3d@backend=openvino", threads=1)


@without_gpu
def test_tensorrt_without_a_gpu_names_what_works() -> None:
    with pytest.raises(BackendError, match="CUDA shows no GPU") as told:
        open_extractor("random-r3d@backend=tensorrt")
    assert "@backend=onnxruntime" in told.value.fix


@needs_rtx
@pytest.mark.parametrize("name", ["efficientnet-lite0", "classifier", "resnext101-kinetics", "random-r3d"])
def test_engines_are_built_once_and_refused_without_a_gpu(
    name: str, checkpoints: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "efficientnet-lite0" and not has_efficientnet:
        pytest.skip("the package with the weights is not installed")
    graph = graph_of(name, checkpoints)
    engine = cached_engine(graph, gpu=("sm_89",), builder="tensorrt-rtx")
    manifest = read_manifest(engine.path)
    assert engine.manifest == manifest and manifest.engine is not None
    assert manifest.target == ("sm_89",) and manifest.onnx_sha256 == graph.manifest.sha256
    assert manifest.engine.profiles[0].batch == (graph.batch,) * 3 and manifest.engine.half_layers == 0
    assert "TF32" not in manifest.engine.flags
    monkeypatch.setattr("vidgen.export.engine.build_engine", None)
    assert cached_engine(graph, gpu=("sm_89",), builder="tensorrt-rtx") == engine
    if device_architecture() is None:
        with pytest.raises(BackendError, match=r"cannot run engine .* here") as told:
            load_backend(engine.path, engine.manifest)
        assert f"--extractor {name}@backend=onnxruntime" in told.value.fix


def graph_of(name: str, checkpoints: dict[str, Path]) -> Artifact:
    return extractor_graph(name, weights=checkpoints.get(name))


def cache_of(suffix: str, name: str) -> list[Path]:
    from vidgen.plugins.sepconv_trt.build import cache_folder

    return sorted(cache_folder("extractors").glob(f"{name}-*.{suffix}"))


@needs_rtx
@pytest.mark.slow
def test_the_engine_of_resnext_101_is_built(tmp_path: Path) -> None:
    from vidgen.bench.scores.extractors import resnext101

    config = ResNeXt3DConfig()
    network = resnext101._prepared(build_network(config))  # type: ignore[arg-type]
    from vidgen.bench.scores.extractors.network import write_graph

    outputs = {"features": resnext101.FEATURES, "logits": config.n_class}
    graph = cached_graph(
        "resnext101-kinetics", "0" * 64,
        lambda: write_graph(network, ("batch", 16, 112, 112, 3), outputs, "resnext"), batch=resnext101.BATCH,
    )  # fmt: skip
    engine = cached_engine(graph, gpu=("sm_89",), builder="tensorrt-rtx")
    assert engine.path.stat().st_size > 150e6 and engine.manifest.engine is not None
    assert engine.manifest.engine.float_layers > 300


@needs_rtx
def test_the_engine_of_a_file_needs_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = "vidgen.bench.scores.extractors.network"
    monkeypatch.setattr("vidgen.runtime.tensorrt_library.device_architecture", lambda: "sm_89")
    monkeypatch.setattr(f"{network}.cached_engine", partial(cached_engine, gpu=("sm_89",), builder="tensorrt-rtx"))
    # The engine is not run here.
    monkeypatch.setattr(f"{network}.load_backend", lambda path, manifest, name, **_: Threads(read_manifest(path)))
    path = model(tmp_path / "my net.onnx", ("n", "t", "h", "w", 3))
    with pytest.raises(SettingsError, match="built for one size") as told:
        open_extractor(f"{path}@backend=tensorrt", threads=1)
    assert "frames=16,size=64" in told.value.fix
    with open_extractor(f"{path}@backend=tensorrt,frames=16,size=32,batch=4", threads=1) as extractor:
        assert extractor.size == (32, 32) and extractor.frames == 16
    (plan,) = cache_of("plan", "my-net")
    made = read_manifest(plan)
    assert made.interface.inputs[0].shape == ("batch", 16, 32, 32, 3) and made.target == ("sm_89",)


@pytest.mark.parametrize("damage", ["truncated", "other", "no manifest", "other manifest", "empty"])
def test_a_damaged_cache_is_written_again(
    damage: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path))
    clips = noise_clips(1, 10)
    with open_extractor(checkpoints["classifier"], threads=1) as extractor:
        expected = extractor.logits(clips)
    (path,) = cache_of("onnx", "classifier")
    content, told = path.read_bytes(), manifest_path(path).read_text()
    if damage == "no manifest":
        manifest_path(path).unlink()
    elif damage == "other manifest":
        manifest_path(path).write_text(json.dumps({**json.loads(told), "sha256": "0" * 64}))
    else:
        path.write_bytes({"truncated": content[:-9], "other": content[:-1] + b"x", "empty": b""}[damage])
    with open_extractor(checkpoints["classifier"], threads=1) as extractor:
        assert np.array_equal(extractor.logits(clips), expected)
    assert path.read_bytes() == content and manifest_path(path).read_text() == told


def test_an_extractor_is_no_generator_and_can_be_saved(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    graph = graph_of("classifier", checkpoints)
    with pytest.raises(ArtifactError, match="expected a generator"):
        open_backend(graph.path)
    saved = tmp_path / "c.onnx"
    assert export_extractor(checkpoints["classifier"], saved) == read_manifest(saved) == graph.manifest
    clips = noise_clips(2, 10)
    with open_extractor(saved, threads=1) as again, open_extractor(checkpoints["classifier"], threads=1) as first:
        np.testing.assert_allclose(again.features(clips)["features"], first.features(clips)["features"], rtol=1e-5)
        assert again.has_logits
    with pytest.raises(SettingsError, match=r"use .*c\.onnx"):
        export_extractor("random-r3d@size=32", tmp_path / "c.pt")
    with pytest.raises(SettingsError, match="expected one of resnext101-kinetics"):
        export_extractor("inception", tmp_path / "c.onnx")


def statistics(first: int, backend: str, **more: Any) -> Statistics:
    rows = np.random.Generator(np.random.PCG64(first)).standard_normal((3, 4)).astype(np.float32)
    wide = rows.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    moments = Moments.from_scatter(len(rows), wide.mean(axis=0), centred.T @ centred)
    protocol = {"samples": 6, "data": {}, "extractor": "x", "backend": backend, **more}
    return Statistics(moments, protocol, rows, np.arange(first, first + 3))


def test_statistics_of_two_backends_are_compared_and_merged() -> None:
    one, two = statistics(0, "onnxruntime 1.31.1, cpu"), statistics(3, "openvino 2026.4.1, cpu")
    assert not [said for said in check_same_protocol(one, two) if "backend" in said]
    both = merge([one, two], ["a", "b"])
    assert both.n == 6 and both.protocol["backend"] == "onnxruntime 1.31.1, cpu; openvino 2026.4.1, cpu"
    with pytest.raises(ScoreError, match="tf32"):
        check_same_protocol(one, statistics(3, "openvino 2026.4.1, cpu", tf32=True))


class Threads(Backend):
    """Notes the threads that it is used from."""

    name = "threads"

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self.seen = manifest, [threading.get_ident()]

    @classmethod
    def load(cls, artifact: Path, manifest: Manifest, *, threads: int | None = None, device: str = "cpu") -> Threads:
        return cls(manifest)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def describe(self) -> dict[str, str]:
        return {"library": "threads 1.0", "device": "cuda:0, of nobody"}

    def run(self, inputs: Any, output: Any, extras: Any = None) -> None:
        self.seen.append(threading.get_ident())
        output[:] = next(iter(inputs.values())).astype(np.float32).mean(axis=(1, 2, 3))

    def close(self) -> None:
        self.seen.append(threading.get_ident())


@pytest.mark.parametrize("confined", [True, False])
def test_a_device_is_used_from_one_thread_wherever_features_are_taken(confined: bool) -> None:
    clips = TensorSpec("clips", "uint8", ("batch", 4, 8, 8, 3), "video")
    interface = describing_interface(clips, [TensorSpec("features", "float32", ("batch", 3), "features")])
    from vidgen.bench.scores.extractors.artifact import Graph, graph_manifest

    backend: list[Threads] = []

    def load() -> Backend:
        backend.append(Threads(graph_manifest("x", Graph(b"", interface), 2)))
        return backend[0]

    network, found = BackendNetwork(load, batch=2, confined=confined), []
    items = noise_clips(5, 4, 8, 8)
    elsewhere = threading.Thread(target=lambda: found.append(network.run(items)["features"]))
    elsewhere.start()
    elsewhere.join()
    assert network.description == "threads 1.0, cuda:0"
    network.close()
    network.close()
    np.testing.assert_allclose(found[0], means(items), rtol=1e-6)
    assert len(set(backend[0].seen)) == (1 if confined else 2)
    assert (threading.get_ident() in backend[0].seen) != confined


def test_backends_that_run_extractors_are_ours() -> None:
    from vidgen.runtime.backends import BACKENDS as all_backends

    assert set(BACKENDS) <= set(all_backends)
