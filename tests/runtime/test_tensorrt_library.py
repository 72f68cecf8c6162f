"""Both libraries have what is used of them, and the one that builds is chosen for a reason that is told."""

from __future__ import annotations

import ast
import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
import weakref
from pathlib import Path

import pytest

import vidgen
from vidgen.errors import BackendError, MissingDependencyError, SettingsError
from vidgen.runtime import tensorrt_library
from vidgen.runtime.tensorrt_library import TensorRT, choose_builder, load_tensorrt

PACKAGE = Path(vidgen.__file__).parent
SOURCES = (
    "runtime/tensorrt_library.py",
    "export/engine_build.py",
    "export/engine_count.py",
    "export/engine_errors.py",
    "export/engine_inspect.py",
)
#: Name of a variable or attribute in these sources -> TensorRT's class of what it holds.
HOLDS = {
    "builder": "Builder", "config": "IBuilderConfig", "_config": "IBuilderConfig", "network": "INetworkDefinition",
    "parser": "OnnxParser", "layer": "ILayer", "tensor": "ITensor", "ranges": "IOptimizationProfile",
    "runtime": "Runtime", "engine": "ICudaEngine", "inspector": "EngineInspector",
    "cache": "ITimingCache", "_cache": "ITimingCache", "first": "ParserError", "module": "",
}  # fmt: skip
#: What each library has alone.
RTX_ALONE = {
    "ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability",
    "ComputeCapability.CURRENT",
}  # fmt: skip
CLASSIC_ALONE = {"NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS"}
#: Members of enumerations that are found by name.
BY_NAME = {
    "LayerInformationFormat.JSON", "ProfilingVerbosity.DETAILED", "MemoryPoolType.WORKSPACE",
    *(f"BuilderFlag.{name}" for name in ("TF32", "VERSION_COMPATIBLE", "WEIGHT_STREAMING", "STRIP_PLAN", "REFIT")),
    *(f"HardwareCompatibilityLevel.{name}" for name in ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS",
    "ComputeCapability.CURRENT", "IProgressMonitor.phase_start", "IProgressMonitor.phase_finish",
    "IProgressMonitor.step_complete", "ILogger.log",
    *(f"DataType.{name}" for name in ("FLOAT", "HALF", "BF16", "UINT8", "INT64")),
}  # fmt: skip


def _used() -> set[str]:
    """Every attribute of a TensorRT object in the sources, as ``Class.attribute`` or ``Class``."""
    found = set(BY_NAME)
    for source in SOURCES:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            held = node.value
            name = held.id if isinstance(held, ast.Name) else held.attr if isinstance(held, ast.Attribute) else ""
            if name in HOLDS and node.attr not in ("__name__", "__members__"):
                found.add(f"{HOLDS[name]}.{node.attr}".lstrip("."))
                if HOLDS[name] == "" and isinstance(held, ast.Attribute | ast.Name):
                    found.discard(".")
    # Members of an enumeration that is reached through the module in one expression.
    return {name for name in found if not name.endswith(".__dict__")}


def _lacks(listing: dict[str, list[str]], names: set[str]) -> set[str]:
    """Which names are not among classes and their attributes."""
    return {
        name
        for name in names
        if (name not in listing if "." not in name else name.split(".")[1] not in listing.get(name.split(".")[0], ()))
    }


def _listing(module) -> dict[str, list[str]]:
    return {name: dir(value) for name, value in vars(module).items() if isinstance(value, type)}


def test_the_sources_are_understood():
    used = _used()
    assert used >= {
        "Builder", "OnnxParser", "Builder.build_serialized_network", "INetworkDefinition.get_layer", "ILayer.metadata",
        "IBuilderConfig.set_timing_cache", "ITimingCache.combine", "ParserError.node_operator", "ITensor.shape",
        "IOptimizationProfile.set_shape", "IBuilderConfig.set_compute_capability", "OnnxParser.supports_operator",
        "ILayer.num_outputs", "MemoryPoolType",
    }  # fmt: skip
    assert len(used) > 50


def test_tensorrt_rtx_has_all_that_is_used():
    module = pytest.importorskip("tensorrt_rtx")
    assert _lacks(_listing(module), _used() - CLASSIC_ALONE) == set()
    assert _lacks(_listing(module), CLASSIC_ALONE) == CLASSIC_ALONE


_STUB = """
void *createInferBuilder_INTERNAL() { return 0; } void *createInferRefitter_INTERNAL() { return 0; }
void *createInferRuntime_INTERNAL() { return 0; } void *createNvOnnxParserRefitter_INTERNAL() { return 0; }
void *createNvOnnxParser_INTERNAL() { return 0; } void *getBuilderPluginRegistry() { return 0; }
int getNvOnnxParserVersion() { return 0; } void *getPluginRegistry() { return 0; }
int initLibNvInferPlugins() { return 0; }
"""
_LIST = """
import json, tensorrt_bindings as module
listing = {name: dir(value) for name, value in vars(module).items() if isinstance(value, type)}
print(json.dumps([module.__version__, listing]))
"""


@pytest.fixture(scope="module")
def classic(tmp_path_factory):
    """Classes and attributes of classic TensorRT's bindings, which load over empty libraries of the right names."""
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("the bindings are not installed: pip install tensorrt-cu13-bindings")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler on Linux makes the empty libraries")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stub.c").write_text(_STUB)
    from importlib.metadata import version

    major = next(version(name) for name in ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings") if _installed(name))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.{major.split('.')[0]}"
        command = [compiler, "-shared", "-fPIC", str(folder / "stub.c"), "-o", str(folder / library)]
        subprocess.run([*command, f"-Wl,-soname,{library}"], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", _LIST], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _installed(name):
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_classic_tensorrt_has_all_that_is_used(classic):
    version, listing = classic
    assert tuple(map(int, version.split(".")[:2])) >= tensorrt_library.OLDEST["tensorrt"]
    assert _lacks(listing, _used() - RTX_ALONE) == set()
    assert _lacks(listing, RTX_ALONE) == RTX_ALONE


def test_the_targets_of_tensorrt_rtx_are_known():
    library = load_tensorrt("tensorrt-rtx", "build")
    assert {"sm_75", "sm_80", "sm_86", "sm_89", "sm_120"} <= set(library.targets) <= set(tensorrt_library.ARCHITECTURES)
    assert library.version >= (1, 7) and library.version_text == library.module.__version__


def test_no_precision_is_left_to_the_builder():
    module = pytest.importorskip("tensorrt_rtx")
    strongly = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert TensorRT(module, "tensorrt-rtx", (1, 7)).network_flags() == strongly


def _module(version="11.4.0", **attributes):
    module = types.ModuleType("tensorrt")
    module.__dict__.update({"__version__": version, "Builder": object, "OnnxParser": object, **attributes})
    return module


def _without(name):
    module = _module()
    delattr(module, name)
    return module


@pytest.fixture
def installed(monkeypatch):
    """Say what ``import tensorrt`` gives, and which GPU is there."""

    def say(module, device):
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(tensorrt_library, "device_architecture", lambda: device)

    return say


@pytest.mark.parametrize("gpu", [("current",), ("sm_90",)])
def test_auto_takes_classic_tensorrt_for_the_gpu_that_is_there(installed, gpu):
    installed(_module(), "sm_90")
    name, why = choose_builder("auto", gpu)
    assert name == "tensorrt" and "11.4.0" in why and "sm_90" in why


@pytest.mark.parametrize(
    ("module", "device", "gpu", "reason"),
    [
        (_module(), None, ("sm_86", "sm_89"), "no GPU"),
        (_module(), "sm_89", ("sm_86", "sm_89"), "GPU of sm_89"),
        (None, "sm_89", ("current",), "tensorrt"),
        (_without("Builder"), "sm_89", ("current",), "without a builder"),
        (_module("10.11.0"), "sm_89", ("sm_89",), "10.11.0"),
    ],
)
def test_auto_takes_tensorrt_rtx_otherwise_and_says_why(installed, module, device, gpu, reason):
    pytest.importorskip("tensorrt_rtx")
    installed(module, device)
    name, why = choose_builder("auto", gpu)
    assert name == "tensorrt-rtx" and reason in why


def test_a_gpu_that_nothing_here_builds_for_is_an_error_that_says_so(installed):
    pytest.importorskip("tensorrt_rtx")
    installed(None, "sm_90")
    for gpu in (("current",), ("sm_90",), ("sm_86", "sm_90")):
        with pytest.raises(SettingsError) as caught:
            choose_builder("auto", gpu)
        assert "sm_90" in caught.value.what and "sm_86" in caught.value.seen and "vidgen[gpu]" in caught.value.fix


def test_current_needs_a_gpu(installed):
    installed(_module(), None)
    for asked in ("auto", "tensorrt", "tensorrt-rtx"):
        with pytest.raises(SettingsError) as caught:
            choose_builder(asked, ("current",))
        assert "--gpu sm_86,sm_89,sm_120" in caught.value.fix


def test_classic_tensorrt_builds_for_its_own_gpu_alone(installed):
    installed(_module(), "sm_89")
    assert choose_builder("tensorrt", ("current",))[0] == "tensorrt"
    with pytest.raises(SettingsError, match="tensorrt-rtx"):
        choose_builder("tensorrt", ("sm_89", "sm_86"))
    installed(None, "sm_89")
    with pytest.raises(MissingDependencyError):
        choose_builder("tensorrt", ("current",))


def test_what_is_asked_for_is_taken(installed):
    pytest.importorskip("tensorrt_rtx")
    installed(_module(), "sm_89")
    assert choose_builder("tensorrt-rtx", ("current",)) == (
        "tensorrt-rtx",
        choose_builder("tensorrt-rtx", ("sm_89",))[1],
    )


def test_an_unknown_builder_is_refused():
    with pytest.raises(SettingsError, match="trtexec"):
        choose_builder("trtexec", ("sm_86",))
    with pytest.raises(SettingsError, match="trtexec"):
        load_tensorrt("trtexec", "build")


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (None, MissingDependencyError), (_without("Builder"), BackendError), (_without("OnnxParser"), BackendError),
        (_module("10.11.2"), BackendError), (_module(""), BackendError),
    ],
)  # fmt: skip
def test_half_an_installation_is_told(installed, module, error):
    installed(module, None)
    with pytest.raises(error) as caught:
        load_tensorrt("tensorrt", "build engines")
    assert "build engines" in caught.value.what and "pip install" in caught.value.fix


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(tensorrt_library.ctypes, "CDLL", missing)
    assert tensorrt_library.device_architecture() is None


@pytest.mark.parametrize(("failing", "expected"), [("", "sm_89"), ("cuInit", None), ("cuDeviceGet", None)])
def test_the_driver_is_asked_for_the_architecture(monkeypatch, failing, expected):
    def answer(name):
        def call(*arguments):
            if name == failing:
                return 100
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 9}[arguments[1]]
            return 0

        return call

    class Driver:
        def __getattr__(self, name):
            return answer(name)

    monkeypatch.setattr(tensorrt_library.ctypes, "CDLL", lambda name: Driver())
    assert tensorrt_library.device_architecture() == expected


def test_a_logger_outlives_its_builder():
    """TensorRT's registry of plugins logs to it afterwards, and a freed one ends the process."""
    library = load_tensorrt("tensorrt-rtx", "build")
    logger = weakref.ref(library.logger(lambda *_: None))
    gc.collect()
    assert logger() is not None


def test_a_logger_does_not_keep_who_listens():
    class Ear:
        def hear(self, severity, message):
            heard.append(message)

    heard, ear = [], Ear()
    library = load_tensorrt("tensorrt-rtx", "build")
    logger = library.logger(ear.hear)
    logger.log(library.module.ILogger.Severity.INFO, "there")
    gone = weakref.ref(ear)
    del ear
    gc.collect()
    logger.log(library.module.ILogger.Severity.INFO, "gone")
    assert gone() is None and heard == ["there"]


def test_loggers_and_monitors_pass_on_what_they_hear():
    library = load_tensorrt("tensorrt-rtx", "build")
    heard, steps = [], []
    logger = library.logger(lambda severity, message: heard.append((severity, message)))
    assert isinstance(logger, library.module.ILogger)
    logger.log(library.module.ILogger.Severity.ERROR, "no")
    assert heard == [("ERROR", "no")]
    monitor = library.progress_monitor(lambda *what: steps.append(what) or len(steps) < 4)
    assert isinstance(monitor, library.module.IProgressMonitor)
    monitor.phase_start("engine", None, 6)
    monitor.phase_finish("engine")
    assert [monitor.step_complete("engine", index) for index in range(2)] == [True, False]
    assert steps[:3] == [("start", "engine", 6, 0), ("finish", "engine", None, 0), ("step", "engine", None, 0)]
