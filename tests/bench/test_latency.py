"""A bench measures every contender alike, compares the videos, and survives those that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidgen.bench.latency import bench
from vidgen.bench.settings import BenchSettings, Contender, contenders
from vidgen.bench.worker import Worker, peak_memory
from vidgen.errors import ArtifactError, BackendError, SamplingError, SettingsError, StorageError, VidgenError
from vidgen.models.config import G3ANConfig
from vidgen.runtime.backends import Backend
from vidgen.runtime.backends.fake import FakeBackend, fake_manifest

SMALL = G3ANConfig(c_a=4, c_m=3, ch=2)
QUICK: dict[str, Any] = {"batches": (2,), "seconds": 0.0, "min_runs": 6, "rounds": 3, "warmup_seconds": 0.0}


class Other(FakeBackend):
    """Fake videos, brighter by so many grey levels in their first pixel."""

    def __init__(self, levels: int, **options: Any) -> None:
        super().__init__(**options)
        self._levels = levels

    def run(self, inputs: Any, output: Any) -> None:
        super().run(inputs, output)
        first = output[1, 0, 0, 0, 0]
        output[1, 0, 0, 0, 0] = first - self._levels if first > 128 else first + self._levels


class Loader:
    """Opens fake backends by the name of the artifact."""

    def __init__(self, **backends: Backend) -> None:
        self.backends = backends
        self.opened: list[tuple[str, str, int | None, str]] = []

    def __call__(self, artifact: Path, backend: str, threads: int | None, device: str, trust: bool) -> Backend:
        self.opened.append((artifact.name, backend, threads, device))
        return self.backends[artifact.stem]


def settings(*names: str, **options: Any) -> BenchSettings:
    return BenchSettings(tuple(Path(f"{name}.onnx") for name in names), ("fake",), **{**QUICK, **options})


def test_a_slower_backend_reads_slower_and_its_difference_is_found() -> None:
    load = Loader(fast=FakeBackend(), slow=Other(3, delay=0.4))  # far apart, even on a busy machine
    report = bench(settings("fast", "slow", threads=2), load=load)
    fast, slow = report.rows
    assert load.opened == [("fast.onnx", "fake", 2, "cpu"), ("slow.onnx", "fake", 2, "cpu")]
    assert (fast.speedup, fast.agreement) == (1.0, None)
    assert slow.compute_ms.smallest >= 400 and slow.speedup < 0.8
    assert slow.end_to_end_ms.p50 >= slow.compute_ms.p50
    assert slow.videos_per_second == pytest.approx(2000 / slow.end_to_end_ms.mean)
    assert slow.frames_per_second == pytest.approx(16 * slow.videos_per_second)
    assert slow.agreement and (slow.agreement.max_grey_levels, slow.agreement.worst_video) == (3, 1)
    assert slow.agreement.psnr and slow.agreement.psnr > 60
    assert report.ok


def test_min_runs_are_kept_and_no_sample_is_lost() -> None:
    report = bench(settings("a", min_runs=11), load=Loader(a=FakeBackend()))
    (row,) = report.rows
    assert len(row.samples_ms) == 3
    assert sum(map(len, row.samples_ms)) == row.compute_ms.runs >= 11
    assert np.mean([value for one in row.samples_ms for value in one]) == pytest.approx(row.compute_ms.mean, abs=1e-3)


def test_slow_contenders_stop_at_their_limit_with_a_run_in_each_round() -> None:
    report = bench(settings("slow", min_runs=3000, max_seconds=0.3), load=Loader(slow=FakeBackend(delay=0.05)))
    (row,) = report.rows
    assert 3 <= row.compute_ms.runs <= 12 and all(row.samples_ms)
    assert "fewer than 3000 runs" in report.table()


def test_contenders_take_turns_and_begin_in_another_order_each_round() -> None:
    order: list[str] = []

    class Noted(FakeBackend):
        def run(self, inputs: Any, output: Any) -> None:
            if not order or order[-1] != self.label:
                order.append(self.label)
            super().run(inputs, output)

    backends = {name: Noted() for name in "abc"}
    for name, backend in backends.items():
        backend.label = name  # type: ignore[attr-defined]
    bench(settings("a", "b", "c"), load=Loader(**backends))
    text = "".join(order)
    assert text.endswith("abc" + "bca" + "cab")
    assert text.count("a") == text.count("b") == text.count("c")


def test_each_batch_of_a_slice_has_latents_of_its_own() -> None:
    seen: list[np.ndarray[Any, Any]] = []

    class Noted(FakeBackend):
        def run(self, inputs: Any, output: Any) -> None:
            seen.append(inputs["za"].copy())
            super().run(inputs, output)

    bench(settings("a"), load=Loader(a=Noted()))
    rows = np.concatenate(seen)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_equal_videos_are_equal_in_any_output_type() -> None:
    """8-bit frames from inside the artifact agree with float frames made 8-bit outside."""
    load = Loader(a=FakeBackend(), b=FakeBackend(fake_manifest(output="float32")))
    row = bench(settings("a", "b"), load=load).rows[1]
    assert row.agreement and row.agreement.max_grey_levels == 0 and row.agreement.psnr is None


def test_models_with_other_latents_are_not_compared() -> None:
    report = bench(settings("a", "b"), load=Loader(a=FakeBackend(), b=FakeBackend(fake_manifest(SMALL))))
    assert report.rows[1].agreement is None
    assert "other model" in report.table()


@pytest.mark.parametrize("fail_at", [0, 1, 12])
def test_a_contender_that_fails_is_reported_and_the_rest_measured(fail_at: int) -> None:
    load = Loader(bad=FakeBackend(fail_at=fail_at), good=FakeBackend())
    report = bench(settings("bad", "good", min_runs=12), load=load)
    assert [row.contender for row in report.rows] == ["good.onnx@fake"]
    assert [failure.contender for failure in report.failures] == ["bad.onnx@fake"]
    assert not report.ok and "FAILED bad.onnx@fake" in report.table()
    assert report.rows[0].reference == "good.onnx@fake"


def test_when_nothing_runs_the_first_error_is_raised() -> None:
    with pytest.raises(BackendError, match="failed in run 0"):
        bench(settings("bad"), load=Loader(bad=FakeBackend(fail_at=0)))


def test_not_a_number_is_a_failure() -> None:
    class Broken(FakeBackend):
        def run(self, inputs: Any, output: Any) -> None:
            output[:] = np.nan

    load = Loader(good=FakeBackend(), nan=Broken(fake_manifest(output="float32")))
    report = bench(settings("good", "nan"), load=load)
    assert "not a number" in report.failures[0].error["what"]


def test_files_hold_what_the_table_shows(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    load = Loader(a=FakeBackend(), b=Other(1))
    report = bench(settings("a", "b", batches=(3, 2), out=tmp_path / "o"), lambda *step: steps.append(step), load=load)
    values = json.loads((tmp_path / "o/bench.json").read_text())
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["bench.json", "bench.md"]
    assert values == json.loads(json.dumps(report.to_dict()))
    assert [(row["batch"], row["contender"]) for row in values["rows"]] == [
        (batch, f"{name}.onnx@fake") for batch in (2, 3) for name in "ab"
    ]
    assert values["environment"]["settings"]["seed"] == 0 and values["environment"]["machine"]["cpu"]
    text = (tmp_path / "o/bench.md").read_text()
    assert f"| {report.rows[0].compute_ms.p50:.2f} |" in text and "p90 of 6 runs is rough" in text
    done, totals = [step[0] for step in steps], {step[1] for step in steps}
    assert done == sorted(done) and totals == {done[-1]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batches", ()),
        ("batches", (0,)),
        ("min_runs", 0),
        ("rounds", 0),
        ("seconds", -1.0),
        ("seconds", float("nan")),
        ("max_seconds", float("inf")),
        ("threads", 0),
        ("device", "tpu"),
        ("frames", 0),
        ("engines", ()),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} = .*expected"):
        BenchSettings(**{"engines": (Path("a.onnx"),), name: value})


def test_contenders_are_artifacts_times_suited_backends(tmp_path: Path) -> None:
    onnx, checkpoint = tmp_path / "a.onnx", tmp_path / "g.safetensors"
    chosen = contenders(BenchSettings((onnx, checkpoint), ("torch", "onnxruntime", "openvino")))
    assert [contender.label for contender in chosen] == ["a.onnx@onnxruntime", "a.onnx@openvino", "g.safetensors@torch"]
    assert contenders(BenchSettings((Path(f"{onnx}@openvino"),))) == (Contender(onnx, "openvino"),)
    assert Contender(onnx, "onnxruntime") in contenders(BenchSettings((onnx,)))
    assert not any(contender.backend == "fake" for contender in contenders(BenchSettings((onnx, checkpoint))))


@pytest.mark.parametrize(
    ("engines", "backends", "error"),
    [
        (("a.onnx",), ("torch",), BackendError),
        (("a.onnx",), ("tensorflow", "onnxruntime"), BackendError),
        (("a.txt",), (), ArtifactError),
        (("a.plan",), ("onnxruntime",), BackendError),
        (("a.onnx@torch",), (), BackendError),
        (("a.onnx", "a.onnx@onnxruntime"), (), SettingsError),
    ],
)
def test_pairs_that_make_no_sense_are_refused(
    engines: tuple[str, ...], backends: tuple[str, ...], error: type[VidgenError]
) -> None:
    with pytest.raises(error):
        contenders(BenchSettings(tuple(map(Path, engines)), backends))


def test_missing_artifacts_and_folders_are_refused_before_measuring(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        bench(BenchSettings((checkpoint, tmp_path / "none.onnx"), **QUICK))
    with pytest.raises(SamplingError, match="17 frames"):
        bench(BenchSettings((checkpoint,), frames=17, **QUICK))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        bench(BenchSettings((checkpoint,), ("fake",), out=tmp_path / "file/out", **QUICK))


def test_warm_up_stops_when_stable_or_at_its_limit(tmp_path: Path) -> None:
    worker = Worker(Loader(a=FakeBackend(delay=0.02)))
    worker.load(Path("a.onnx"), "fake", None, "cpu", False)
    worker.prepare(1, None, 0, tmp_path / "v.npy")
    stable = worker.warm_up(30)
    assert stable.stable and stable.runs >= 9 and stable.seconds < 30

    class Slowing(FakeBackend):
        def run(self, inputs: Any, output: Any) -> None:
            self._delay += 0.002
            super().run(inputs, output)

    worker = Worker(Loader(a=Slowing()))
    worker.load(Path("a.onnx"), "fake", None, "cpu", False)
    worker.prepare(1, None, 0, tmp_path / "v.npy")
    assert not worker.warm_up(1.5).stable


def test_peak_memory_grows_with_use_and_never_falls() -> None:
    before = peak_memory()
    block = np.ones(512 << 20, dtype=np.uint8)
    during = peak_memory()
    del block
    after = peak_memory()
    assert before and during and after
    # The kernel's counters lag by some pages a thread.
    assert during > 512 << 20
    assert after > during - (4 << 20)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny generator with fresh weights."""
    from vidgen.models.checkpoint import CheckpointInfo, save_checkpoint
    from vidgen.models.registry import build_network

    path = tmp_path_factory.mktemp("bench") / "g.safetensors"
    save_checkpoint(path, build_network(SMALL).state_dict(), CheckpointInfo("g3an", SMALL))
    yield path


def test_processes_measure_real_backends(checkpoint: Path) -> None:
    report = bench(BenchSettings((checkpoint,), ("torch", "fake"), threads=1, frames=20, **QUICK))
    torch, fake = report.rows
    assert report.ok and torch.frames == fake.frames == 20
    assert torch.describe["threads"] == "1"
    assert torch.peak_memory and fake.peak_memory and torch.peak_memory > fake.peak_memory > 10 << 20
    assert fake.agreement and fake.agreement.same_weights and fake.agreement.max_grey_levels > 10


def test_a_crash_and_a_python_error_in_a_process_are_rows(checkpoint: Path, tmp_path: Path) -> None:
    """A library that aborts, and one that raises, while the other contenders are measured."""
    (tmp_path / "torch.py").write_text("import os, sys\nprint('boom', file=sys.stderr)\nos.abort()\n")
    script = (
        "import json, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        "from vidgen.bench.latency import bench; from vidgen.bench.settings import BenchSettings; "
        "report = bench(BenchSettings((Path(sys.argv[2]),), ('torch', 'fake'), batches=(1,), seconds=0.0, min_runs=2, "
        "rounds=2, warmup_seconds=0.0)); print(json.dumps(report.to_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(checkpoint)],
        capture_output=True, text=True, check=True, env=dict(os.environ), timeout=60,
    )  # fmt: skip
    values = json.loads(done.stdout)
    assert [row["backend"] for row in values["rows"]] == ["fake"]
    (failure,) = values["failures"]
    assert failure["step"] == "load" and "signal 6: boom" in failure["error"]["seen"]


def test_no_child_outlives_an_interrupted_bench(checkpoint: Path) -> None:
    children: list[int] = []

    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("batch 2: round 1"):
            children.extend(_children())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(BenchSettings((checkpoint,), ("fake",), **QUICK), interrupt)
    assert len(children) == 1
    assert not set(children) & set(_children())


def _children() -> list[int]:
    """Process ids of the living workers of this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_text()
            except (OSError, ValueError):
                continue
            if parent == os.getpid() and "vidgen.bench.worker" in command:
                found.append(int(entry.name))
    return found


def test_an_artifact_with_classes_is_the_same_model_as_its_checkpoint(tmp_path: Path) -> None:
    from dataclasses import replace

    from vidgen.models.config import TwoStreamVANConfig
    from vidgen.runtime.backends import fake
    from vidgen.runtime.manifest import Manifest

    manifest = replace(fake.FakeBackend().manifest, model="twostreamvan", config=TwoStreamVANConfig(n_cat=3))
    manifest = replace(manifest, interface=manifest.config.interface())
    stored = Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())))
    assert repr(stored.interface) == repr(manifest.interface)


def test_device_time_stands_beside_end_to_end_time_where_it_is_measured() -> None:
    class OnDevice(FakeBackend):
        def device_milliseconds(self) -> float:
            return 0.25 * len(self.batches)

    load = Loader(a=OnDevice(), b=FakeBackend())
    report = bench(settings("a", "b"), load=load)
    measured, unmeasured = report.rows
    assert measured.device_ms and measured.device_ms.runs == measured.compute_ms.runs
    assert unmeasured.device_ms is None
    header, *_ = (line for line in report.table().splitlines() if line.startswith("artifact@backend"))
    assert header.index("device p50") < header.index("run p50") < header.index("end to end p50")
    assert "copies left out" in report.markdown()
    assert "device" not in bench(settings("b"), load=Loader(b=FakeBackend())).table()


def test_an_engine_is_a_contender_of_tensorrt(tmp_path: Path) -> None:
    assert contenders(BenchSettings((tmp_path / "g.plan",))) == (Contender(tmp_path / "g.plan", "tensorrt"),)
    for device in ("cuda", "cuda:1", "tensorrt"):
        assert BenchSettings((tmp_path / "g.plan",), device=device).device == device
    with pytest.raises(SettingsError, match="cpu, cuda or tensorrt"):
        BenchSettings((tmp_path / "g.plan",), device="gpu")
