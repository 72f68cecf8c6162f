"""The command line is light, says one thing on stdout, and tells every mistake in the same form."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen import __version__

HEAVY = ("torch", "onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "onnx", "av", "PIL", "numpy")
COMMANDS = ["demo", "train", "import", "export", "verify", "sample", "bench", "doctor", "data"]
COMMANDS += ["stats", "merge", "score"]
COMMANDS += ["data synth", "data prepare", "data show"]


def _vidgen(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidgen", *words], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.fixture
def vidgen(warm_commands: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in the test's folder, with the heavy libraries loaded before."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(warm_commands / "vidgen"), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)

    return run


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import vidgen, vidgen.errors, vidgen.cli", set()),
        ("sys.argv = ['vidgen', '--help']\nfrom vidgen.cli import main\ntry: main()\nexcept SystemExit: pass", set()),
        ("from vidgen.doctor import doctor\ndoctor()", {"numpy"}),
        ("import vidgen.runtime.jobs, vidgen.bench.latency", {"numpy"}),
    ],
)
def test_heavy_libraries_are_loaded_only_when_used(code: str, allowed: set[str]) -> None:
    loaded = _modules_after(code)
    assert "vidgen" in loaded and not (set(HEAVY) - allowed) & loaded


def test_help_answers_at_once() -> None:
    """Half a second is the promise; processor time keeps a busy machine out of it."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert _vidgen("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = _vidgen(*command.split(), "--help")
    assert done.returncode == 0 and len(done.stdout) > 100 and "Usage:" in done.stdout


def test_the_version_is_told() -> None:
    assert _vidgen("--version").stdout.strip() == f"vidgen {__version__}"


def test_json_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    done = _vidgen("data", "synth", str(tmp_path / "faces"), "--clips", "3", "--frames", "16", "--json")
    values = json.loads(done.stdout)
    assert values["clips"] == 3
    assert json.loads(_vidgen("data", "show", str(tmp_path / "faces"), "--json").stdout)["name"] == values["name"]


MISTAKES = [
    ["nonsense"],
    ["train"],
    ["train", "sgvan"],
    ["train", "g3an", "--preset", "huge"],
    ["train", "g3an", "--set", "ch_q=3"],
    ["train", "g3an", "--steps", "many"],
    ["train", "g3an", "-c", "missing.toml"],
    ["train", "g3an", "--out", "missing", "--resume"],
    ["train", "g3an", "--data", "missing", "--out", "run"],
    ["data", "show", "missing"],
    ["data", "prepare", "missing", "out"],
    ["data", "synth", "out", "--kind", "dogs"],
    ["import", "missing.pth", "out.safetensors"],
    ["export", "missing.safetensors", "-o", "out.onnx"],
    ["verify", "missing.safetensors", "missing.onnx"],
    ["sample", "--engine", "missing.onnx", "-o", "out"],
    ["sample", "--engine", "missing.onnx", "-o", "out", "--grid", "8by8"],
    ["bench", "--engine", "missing.onnx"],
    ["bench"],
    ["stats", "missing", "-o", "out.npz", "--protocol", "fvd"],
    ["stats", "missing", "-o", "out.npz", "--shard", "4/4"],
    ["stats", "missing", "-o", "out.npz"],
    ["merge", "missing.npz", "-o", "out.npz"],
    ["score", "--engine", "missing.onnx"],
    ["score", "--reference", "missing.npz"],
    ["score", "--engine", "missing.onnx", "--reference", "missing.npz"],
    ["score", "--engine", "missing.onnx", "--protocol", "twostreamvan"],
    ["score", "--engine", "missing.onnx", "--protocol", "clean", "--classifier", "c.safetensors"],
    ["bench", "--roofline", "--engine", "missing.onnx"],
    ["export", "missing.safetensors", "-o", "out.plan"],
    ["export", "missing.safetensors", "-o", "out.plan", "--gpu", "sm_1"],
    ["sample", "--engine", "missing.plan", "-o", "out"],
    ["demo", "--minutes", "-1"],
]


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_ends_with_2_and_one_message_in_four_parts(words: list[str], vidgen, tmp_path: Path) -> None:
    done = vidgen(*words, "--json")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert all(error[part] for part in ("what", "seen", "cause", "fix"))
    assert " - ".join(error[part] for part in ("what", "seen", "cause", "fix")) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = _vidgen("data", "show", "missing", "--debug", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_a_run_can_be_set_from_a_file_and_the_command_line(vidgen, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("ch_g = 2\nch_d = 2\nd_za = 8\nsave_steps = 2\nsteps = 9\n")
    words = ["train", "g3an", "--preset", "smoke", "-c", "run.toml", "--steps", "1", "--out", "run", "--json", "-q"]
    done = vidgen(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 1
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (stored["ch_g"], stored["batch_size"], stored["steps"], stored["save_steps"]) == (2, 4, 1, 2)


def test_built_in_data_is_made_and_said(vidgen, tmp_path: Path) -> None:
    words = ["train", "g3an", "--preset", "smoke", "--steps", "1", "--set", "ch_g=2", "--set", "ch_d=2", "--out", "run"]
    done = vidgen(*words)
    assert done.returncode == 0 and "no --data: making" in done.stderr
    assert (tmp_path / "run" / "data" / "faces" / "index.json").is_file()
