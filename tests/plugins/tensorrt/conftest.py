"""What the tests of the TensorRT plugin share: emulated kernels, the stand-in for TensorRT, TensorRT-RTX itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from plugins.cuda.emulation.emulator import Emulator, why_not
from plugins.tensorrt import native


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """Kernels of the package, run on the CPU."""
    if reason := why_not():
        pytest.skip(reason)
    return Emulator(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """NVIDIA's ``tensorrt.plugin`` over a small stand-in for the native module, fresh for each test."""
    if native.sources() is None:
        pytest.skip("the TensorRT bindings are not installed: pip install tensorrt-cu13-bindings")
    for name in [name for name in sys.modules if name == "tensorrt" or name.startswith("tensorrt.")]:
        monkeypatch.delitem(sys.modules, name)
    module = native.make_module()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    before = set(sys.modules)
    importlib.import_module("tensorrt.plugin")
    for name in set(sys.modules) - before:
        # Put under monkeypatch's care, so that the next test imports it anew.
        made = sys.modules.pop(name)
        monkeypatch.setitem(sys.modules, name, made)
    return module


@pytest.fixture
def rtx() -> Iterator[ModuleType]:
    """TensorRT-RTX, without plugins of ours before and after."""
    module = pytest.importorskip("tensorrt_rtx")
    registry = module.get_plugin_registry()

    def clear() -> None:
        found = registry.get_creator("SeparableConvolution", "1", "vidgen")
        assert found is None or registry.deregister_creator(found)

    clear()
    yield module
    clear()
