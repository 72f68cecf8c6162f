"""The doctor says what works, survives libraries that crash, hang or lie, and loads none of them itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from vidgen.doctor import Check, DoctorReport, doctor
from vidgen.doctor import checks as lines
from vidgen.doctor import engine_checks as cards
from vidgen.doctor.children import Answer, ask
from vidgen.doctor.packages import Requirement
from vidgen.doctor.probes import ADD_MODEL

HEAVY = ("torch", "onnxruntime", "onnx", "tensorrt", "openvino", "av", "numpy", "PIL")
SCRIPT = f"""
import json, sys
from vidgen.doctor import doctor
report = doctor(timeout=float(sys.argv[1]))
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"report": report.to_dict(), "heavy": heavy, "table": report.table()}}))
"""


def run(timeout: float = 30.0, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(timeout)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    values["lines"] = {check["name"]: check for check in values["report"]["checks"]}
    return values


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """The doctor's findings on this machine."""
    return run()


def test_it_loads_no_heavy_library_itself(here: dict[str, Any]) -> None:
    assert here["heavy"] == []


def test_the_test_environment_is_ready_and_every_subject_has_a_line(here: dict[str, Any]) -> None:
    assert here["report"]["ready"], here["table"]
    subjects = ["python", "vidgen", "numpy", "processor", "memory", "disk", "temporary folder", "codecs", "torch"]
    subjects += ["onnx", "onnxruntime", "onnxruntime CPU", "openvino", "compiler", "nvcc", "CUDA driver", "tensorrt"]
    subjects += ["NVRTC", "CUDA for Python", "engines"]
    assert {*subjects, "tensorrt_rtx"} <= set(here["lines"])
    for name in ("python", "codecs", "torch", "onnxruntime CPU"):
        assert here["lines"][name]["status"] == "ok" and here["lines"][name]["needed"]


def test_every_problem_comes_with_what_mends_it(here: dict[str, Any]) -> None:
    for check in here["report"]["checks"]:
        assert check["found"]
        assert bool(check["mend"]) == (check["status"] != "ok"), check


def test_json_and_table_have_the_same_lines(here: dict[str, Any]) -> None:
    assert set(here["report"]) == {"ready", "seconds", "checks"}
    assert all(set(check) == {"name", "status", "found", "mend", "needed"} for check in here["report"]["checks"])
    rows = here["table"].splitlines()
    assert len(rows) == len(here["report"]["checks"]) + 2
    for row, check in zip(rows, here["report"]["checks"]):
        assert row.startswith(check["status"]) and check["found"] in row and check["mend"] in row


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings where each library is broken in another way, and the compiler hangs."""
    folder = tmp_path_factory.mktemp("broken")
    packages = {
        "torch": "import os, sys; print('about to abort', file=sys.stderr, flush=True); os.abort()",
        "openvino": "import time; time.sleep(60)",
        "tensorrt": "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
        "av": "raise ModuleNotFoundError(\"No module named 'av'\", name='av')",
        "onnx": "import ctypes; ctypes.string_at(0)",
        "tensorrt_rtx": "import sys; print('noise on stdout'); sys.exit(3)",
        "onnxruntime": """
            __version__ = "9.9"
            def get_available_providers():
                return ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
            class SessionOptions:
                pass
            class InferenceSession:
                def __init__(self, *_, **__): pass
                def get_providers(self): return ["CPUExecutionProvider"]
                def run(self, _, inputs): return [inputs["x"] * 2]
        """,
    }
    for name, text in packages.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    programs = folder / "bin"
    programs.mkdir()
    (programs / "c++").write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {folder}/compiler.pid\nwait\n")
    (programs / "nvcc").write_text("#!/bin/sh\nexit 1\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    start = time.monotonic()
    values = run(timeout=6.0, PYTHONPATH=str(folder), PATH=path)
    values["seconds"] = time.monotonic() - start
    values["compiler"] = int((folder / "compiler.pid").read_text())
    return values


def test_a_crash_is_a_line(broken: dict[str, Any]) -> None:
    torch, onnx = broken["lines"]["torch"], broken["lines"]["onnx"]
    assert torch["status"] == "missing" and "signal 6" in torch["found"] and "about to abort" in torch["found"]
    assert onnx["status"] == "missing" and "signal 11" in onnx["found"]


def test_a_hang_is_a_line_and_costs_its_limit_once(broken: dict[str, Any]) -> None:
    assert "no answer in 6 s" in broken["lines"]["openvino"]["found"]
    assert "no answer in 6 s" in broken["lines"]["compiler"]["found"]
    assert broken["lines"]["openvino"]["mend"].startswith("vidgen doctor")
    assert broken["seconds"] < 40


def test_what_a_hanging_probe_started_is_ended(broken: dict[str, Any]) -> None:
    state = Path(f"/proc/{broken['compiler']}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_failing_imports_are_told_in_their_own_words(broken: dict[str, Any]) -> None:
    found = {name: (check["status"], check["found"]) for name, check in broken["lines"].items()}
    assert found["tensorrt"] == ("warning", "ImportError: libnvinfer.so.10: cannot open shared object file")
    assert found["codecs"] == ("missing", "av: not installed")
    assert found["tensorrt_rtx"][0] == "warning" and "exit code 3" in found["tensorrt_rtx"][1]
    assert found["nvcc"][0] == "warning"


def test_a_provider_that_falls_back_silently_is_exposed(broken: dict[str, Any]) -> None:
    assert broken["lines"]["onnxruntime CUDA"]["status"] == "warning"
    assert "falls back to CPUExecutionProvider" in broken["lines"]["onnxruntime CUDA"]["found"]
    assert broken["lines"]["onnxruntime CPU"]["status"] == "ok"
    assert "onnxruntime Azure" not in broken["lines"]


def test_without_what_cpu_work_needs_it_is_not_ready(broken: dict[str, Any]) -> None:
    assert not broken["report"]["ready"]
    assert broken["table"].splitlines()[-1].startswith("not ready for CPU work: ")
    assert "torch" in broken["table"].splitlines()[-1]


def test_only_missing_needs_make_it_not_ready() -> None:
    ok, optional = Check("a", "ok", "1", needed=True), Check("b", "missing", "no", "get b")
    slow, lost = (
        Check("c", "warning", "old", "update c", needed=True),
        Check("d", "missing", "no", "get d", needed=True),
    )
    assert DoctorReport((ok, optional, slow), 0.0).ready
    assert not DoctorReport((ok, lost), 0.0).ready


@pytest.mark.skipif(shutil.which("c++") is None or sys.platform != "linux", reason="needs a C++ compiler on Linux")
def test_a_driver_and_its_device_are_read(tmp_path: Path) -> None:
    """A stand-in for libcuda.so.1 with one device."""
    (tmp_path / "cuda.cpp").write_text("""
        #include <cstring>
        extern "C" {
        int cuInit(unsigned) { return FAIL; }
        int cuDriverGetVersion(int* v) { *v = 13010; return 0; }
        int cuDeviceGetCount(int* n) { *n = 1; return 0; }
        int cuDeviceGet(int* d, int i) { *d = 7 + i; return 0; }
        int cuDeviceGetName(char* s, int n, int d) { strncpy(s, d == 7 ? "Test Device" : "?", n); return 0; }
        int cuDeviceTotalMem_v2(size_t* b, int) { *b = 24ull << 30; return 0; }
        int cuDeviceGetAttribute(int* v, int a, int) { *v = a == 75 ? 8 : a == 76 ? 9 : 0; return 0; }
        }
    """)
    script = (
        "from vidgen.doctor.children import ask; from vidgen.doctor.engine_checks import cuda_check; "
        "print(cuda_check(*ask([('cuda',)], 20)))"
    )
    expected = {0: ("'ok'", "CUDA 13.1, Test Device sm_89 24 GiB"), 100: ("'warning'", "cuInit fails with error 100")}
    for code, (status, found) in expected.items():
        subprocess.run(
            [
                "c++",
                f"-DFAIL={code}",
                "-shared",
                "-fPIC",
                str(tmp_path / "cuda.cpp"),
                "-o",
                str(tmp_path / "libcuda.so.1"),
            ],
            check=True,
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        )
        assert status in done.stdout and found in done.stdout


def test_the_model_of_the_provider_check_is_what_onnx_writes() -> None:
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(ADD_MODEL)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    assert model == helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_answers_keep_the_order_of_the_questions() -> None:
    first, second = ask([("nvcc",), ("unknown probe",)], 30)
    assert first.value is not None and second.error == "KeyError: 'unknown probe'"


@pytest.mark.parametrize(
    ("check", "status", "words"),
    [
        (lines.compiler_check(Answer({"absent": "no c++"})), "missing", "no c++"),
        (lines.compiler_check(Answer({"version": "g++ 9", "openmp": False, "right": True})), "warning", "one thread"),
        (lines.compiler_check(Answer({"version": "g++ 9", "openmp": True, "right": False})), "warning", "wrong result"),
        (lines.compiler_check(Answer({"version": "g++ 9", "error": "ld: no"})), "warning", "ld: no"),
        (cards.cuda_check(Answer({"driver": "13.0", "devices": []})), "warning", "no device"),
        (cards.tensorrt_check("tensorrt", Answer({"version": "11", "builder": False}), "x"), "warning", "bindings"),
        (cards.tensorrt_check("tensorrt", Answer(missing="tensorrt_libs", error="e"), "x"), "missing", "lacks"),
        (
            cards.tensorrt_check("t", Answer({"version": "1", "builder": True, "plugin": "no g++"}), "x"),
            "warning",
            "no g++",
        ),
        (cards.nvrtc_check(Answer({"error": "no libnvrtc", "mend": "y"})), "missing", "no libnvrtc"),
        (cards.cuda_library_check(Answer({"error": "no libcuda.so.1", "mend": "y"})), "missing", "libcuda"),
        (lines.provider_check("CPUExecutionProvider", Answer(error="dies")), "missing", "dies"),
        (lines.torch_check(Answer({"version": "2.3.0", "threads": 2, "cuda": None})), "warning", "2.10 or newer"),
    ],
)
def test_findings_become_lines(check: Check, status: str, words: str) -> None:
    assert check.status == status and words in check.found and check.mend


BUILDS = Answer({"version": "1.7", "builder": True, "targets": ["sm_89"]})
BINDINGS = Answer({"version": "11", "builder": False})
DEVICE, NO_DEVICE = Answer({"device": "L4"}), Answer({"error": "no libcuda.so.1", "mend": "y"})


@pytest.mark.parametrize(
    ("tensorrt", "rtx", "device", "status", "words"),
    [
        (BINDINGS, BUILDS, NO_DEVICE, "warning", "built by tensorrt_rtx, without a GPU; not run here"),
        (Answer({"version": "11", "builder": True}), BINDINGS, NO_DEVICE, "missing", "neither built nor run"),
        (Answer({"version": "11", "builder": True}), BUILDS, DEVICE, "ok", "tensorrt and tensorrt_rtx, and run"),
        (Answer(missing="tensorrt"), Answer(error="signal 6"), Answer(error="hangs"), "missing", "neither"),
    ],
)
def test_whether_engines_are_built_and_run_here(tensorrt, rtx, device, status, words) -> None:
    check = cards.engines_check({"tensorrt": tensorrt, "tensorrt_rtx": rtx, "cuda_library": device})
    assert check.status == status and words in check.found


def test_codecs_that_matter_less_are_a_warning_and_h264_is_needed() -> None:
    value = {"av": "18", "pillow": "12", "webp": True, "encoders": ["libx264"], "decoders": ["h264"]}
    assert lines.codec_check(Answer(value)).status == "warning"
    assert lines.codec_check(Answer({**value, "encoders": ["ffv1"]})).status == "missing"


def test_packages_too_old_or_missing_are_told_apart() -> None:
    wanted = [Requirement("numpy", "999"), Requirement("no-such-thing", "1.0", "mocap"), Requirement("hypothesis", "1")]
    old, missing, fine = lines.package_checks(wanted)
    assert old.status == "warning" and "999 or newer" in old.found and old.mend == "pip install -U 'numpy>=999'"
    assert missing.status == "missing" and missing.mend == "pip install 'vidgen[mocap]'" and not missing.needed
    assert fine.status == "ok" and fine.needed


def test_a_removed_working_folder_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    disk = next(iter(lines.disk_checks()))
    assert disk.status == "warning" and disk.mend


def test_an_interrupt_ends_the_probes(tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("import time; time.sleep(60)\n")
    script = "from vidgen.doctor.children import ask; ask([('openvino',)], 50)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not (found := _children_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(2)
    process.wait(timeout=20)
    time.sleep(0.2)
    assert found and not any(Path(f"/proc/{child}").exists() for child in found)


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_the_python_function_is_the_command(here: dict[str, Any]) -> None:
    report = doctor(timeout=30)
    assert [check.name for check in report.checks] == [check["name"] for check in here["report"]["checks"]]
