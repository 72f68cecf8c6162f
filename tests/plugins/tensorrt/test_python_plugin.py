"""The plugin in Python: what it launches is right, and what it is told of shapes, types and layouts is checked."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.cuda.emulation.cases import Case, assert_right
from plugins.cuda.emulation.emulator import Emulator
from plugins.tensorrt import native

from vidgen.errors import BackendError, OperatorError
from vidgen.plugins.sepconv_trt.geometry import ARGUMENTS, SCALARS, Launch, Plan, launch_geometry
from vidgen.plugins.sepconv_trt.tensorrt import prepare, python_plugin, tensors
from vidgen.plugins.sepconv_trt.tensorrt.kernels import Kernels
from vidgen.plugins.sepconv_trt.tensorrt.python_plugin import Service, plugin_types


class EmulatedCuda:
    """``vidgen.runtime.cuda.Cuda`` as far as the plugin uses it; kernels run on the CPU at host addresses."""

    architecture = "sm_89"

    def __init__(self, emulator: Emulator | None = None) -> None:
        self.emulator = emulator
        self.plans: dict[bytes, Plan] = {}
        self.loaded: list[bytes] = []
        self.launched: list[tuple[str, int]] = []
        self.closed: list[str] = []

    def cubin(self, plan: Plan, architecture: str) -> bytes:
        assert architecture == self.architecture
        self.plans[plan.entry.encode()] = plan
        return plan.entry.encode()

    def borrow(self, handle: int) -> Any:
        return SimpleNamespace(handle=handle, close=lambda: self.closed.append("stream"))

    def load(self, image: bytes) -> EmulatedModule:
        self.loaded.append(image)
        return EmulatedModule(self, image)


class EmulatedModule:
    """A loaded image that runs the kernel it names."""

    def __init__(self, cuda: EmulatedCuda, image: bytes) -> None:
        self.cuda, self.image = cuda, image

    def launch(
        self, kernel: str, grid: Any, block: Any, arguments: Sequence[Any], stream: Any, *, shared_bytes: int = 0
    ) -> None:
        self.cuda.launched.append((kernel, stream.handle))
        if self.cuda.emulator is None:
            return
        plan = self.cuda.plans[self.image]
        names, results = ARGUMENTS["forward"]
        assert all(type(word) is int for word in (*arguments[:3], *arguments[6:]))
        assert all(type(word) is np.int32 for word in arguments[3:6])
        sizes = dict(zip(SCALARS, (int(word) for word in arguments[3:6]), strict=True))
        batch = grid[0] // -(-sizes["channels"] // plan.channels)
        case = Case("forward", plan.dtype, plan.taps, batch, **sizes)
        dtype = np.dtype(plan.dtype)
        inputs = {}
        for name, address in zip(names, arguments[:3], strict=True):
            content = ctypes.string_at(address, int(np.prod(case.shapes[name])) * dtype.itemsize)
            inputs[name] = np.frombuffer(content, dtype).reshape(case.shapes[name])
        outputs = {results[0]: (case.shapes["output"], dtype)}
        made = self.cuda.emulator.run(Launch(plan, grid, block, shared_bytes), inputs, sizes, outputs)["output"]
        ctypes.memmove(arguments[6], made.tobytes(), made.nbytes)

    def close(self) -> None:
        self.cuda.closed.append("module")


@pytest.fixture(params=["TensorRT-RTX", "stand-in"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The library whose base classes the plugin has."""
    return pytest.importorskip("tensorrt_rtx") if request.param == "TensorRT-RTX" else native.make_module()


def make_plugin(module: ModuleType, cuda: EmulatedCuda | None = None, taps: int = 5) -> Any:
    kernels = None if cuda is None else Kernels(cuda, cuda.cubin)
    return plugin_types(module)[0](module, Service(taps, ("float32", "float16"), kernels), taps)


def describe(module: ModuleType, shape: Sequence[int], dtype: str = "float32", layout: str = "LINEAR") -> Any:
    made = module.PluginTensorDesc()
    made.dims, made.type, made.format = tuple(shape), getattr(module, dtype), getattr(module.TensorFormat, layout)
    return made


def descriptors(module: ModuleType, case: Case) -> tuple[list[Any], list[Any]]:
    made = [describe(module, case.shapes[name], case.dtype) for name in tensors.NAMES]
    return made[:3], made[3:]


def run(plugin: Any, case: Case, inputs: dict[str, np.ndarray], stream: int = 7) -> np.ndarray:
    found, made = descriptors(plugin.module, case)
    output = np.full(case.shapes["output"], np.nan, case.dtype)
    addresses = [inputs[name].ctypes.data for name in tensors.INPUTS]
    plugin.enqueue(found, made, addresses, [output.ctypes.data], 0, stream)
    return output


CASES = Case("forward", "float32", 5, 2, 3, 9, 17), Case("forward", "float16", 3, 1, 6, 5, 20)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_enqueued_computes_the_operator(module, emulator, case):
    cuda = EmulatedCuda(emulator)
    plugin = make_plugin(module, cuda, case.taps).attach_to_context(None)
    inputs = case.inputs()
    assert_right(case, inputs, {"output": run(plugin, case, inputs)})
    assert [stream for _, stream in cuda.launched] == [7]


def test_a_kernel_is_loaded_once_and_before_the_first_run(module):
    cuda = EmulatedCuda()
    plugin = make_plugin(module, cuda)
    case = CASES[0]
    plugin.on_shape_change(*descriptors(module, case))
    assert cuda.loaded == [b"vidgen_sepconv_forward_k5_float32_c3"] and not cuda.launched
    for context in (plugin.attach_to_context(None), plugin.attach_to_context(None)):
        run(context, case, case.inputs())
        run(context, Case("forward", "float32", 5, 4, 3, 20, 8), case.inputs())
    assert len(cuda.loaded) == 1 and len(cuda.launched) == 4
    run(plugin, Case("forward", "float16", 5, 1, 4, 3, 3), CASES[1].inputs())
    assert len(cuda.loaded) == 2


def test_an_empty_batch_launches_nothing(module):
    cuda = EmulatedCuda()
    run(make_plugin(module, cuda), Case("forward", "float32", 5, 0, 3, 9, 17), CASES[0].inputs())
    assert not cuda.launched


def test_nothing_runs_after_the_kernels_were_given_back(module):
    cuda = EmulatedCuda()
    plugin = make_plugin(module, cuda)
    run(plugin, CASES[0], CASES[0].inputs())
    plugin.service.kernels.close()
    assert sorted(cuda.closed) == ["module", "stream"]
    with pytest.raises(BackendError, match="given back"):
        run(plugin, CASES[0], CASES[0].inputs())
    assert "given back" in plugin.service.failures[0].seen


def test_an_engine_without_a_device_is_told(module):
    plugin = make_plugin(module)
    with pytest.raises(BackendError, match="without a device"):
        run(plugin, CASES[0], CASES[0].inputs())
    assert len(plugin.service.failures) == 1


@pytest.mark.parametrize(
    ("place", "shape", "told"),
    [
        (0, (2, 3, 13, 20), "input [2, 3, 13, 20], expected [2, 3, 13, 21]"),
        (1, (2, 7, 9, 17), "vertical [2, 7, 9, 17], expected [2, 5, 9, 17]"),
        (2, (1, 5, 9, 17), "horizontal [1, 5, 9, 17]"),
        (2, (2, 5, 9), "horizontal has 3 axes"),
        (3, (2, 4, 9, 17), "output [2, 4, 9, 17]"),
    ],
)
def test_shapes_that_do_not_fit_are_not_launched(module, place, shape, told):
    cuda = EmulatedCuda()
    plugin = make_plugin(module, cuda)
    found, made = descriptors(module, CASES[0])
    every = [*found, *made]
    every[place] = describe(module, shape)
    with pytest.raises(OperatorError) as caught:
        plugin.enqueue(every[:3], every[3:], [0, 0, 0], [0], 0, 0)
    (kept,) = plugin.service.failures
    assert told in kept.seen and str(kept) == str(caught.value) and kept.__traceback__ is None
    assert not cuda.launched


def test_a_failure_that_was_not_foreseen_is_kept_too(module):
    plugin = make_plugin(module, EmulatedCuda())
    with pytest.raises(AttributeError):
        plugin.on_shape_change([None] * 3, [None])
    assert "AttributeError" in plugin.service.failures[0].seen


def test_layouts_and_types_that_are_taken(module):
    plugin = make_plugin(module)
    layouts = [module.TensorFormat.LINEAR, module.TensorFormat.HWC8]
    kinds = [module.float32, module.float16, module.int32]
    for position, layout, kind, first in itertools.product(range(4), layouts, kinds, kinds):
        found = [SimpleNamespace(desc=SimpleNamespace(format=layouts[0], type=first)) for _ in range(4)]
        found[position] = SimpleNamespace(desc=SimpleNamespace(format=layout, type=kind))
        taken = plugin.supports_format_combination(position, found, 3)
        same = position == 0 or kind == first
        assert taken == (layout == layouts[0] and kind != module.int32 and same)


def test_what_an_engine_stores_makes_the_same_plugin_again(module):
    plugin = make_plugin(module, taps=9)
    creator = plugin_types(module)[1](module, plugin.service)
    fields = plugin.get_fields_to_serialize()
    again = creator.create_plugin("fusion", fields, None)
    assert again.taps == 9 and again.clone().taps == 9 and again is not again.clone()
    assert (again.plugin_name, again.plugin_namespace, again.plugin_version) == ("SeparableConvolution", "vidgen", "1")
    for broken in (4, 65, -1):
        stored = module.PluginField("taps", np.array([broken], np.int32), module.PluginFieldType.INT32)
        with pytest.raises(OperatorError, match="K = "):
            creator.create_plugin("fusion", module.PluginFieldCollection([stored]), None)


def test_engines_alone_need_no_taps_but_networks_do(module):
    creator = plugin_types(module)[1](module, Service(None, ("float32",), None))
    with pytest.raises(OperatorError, match="K of fusion is not known"):
        creator.create_plugin("fusion", module.PluginFieldCollection([]), None)


def test_the_cubin_is_compiled_once_and_kept(monkeypatch, tmp_path):
    pytest.importorskip("nvidia")
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path))
    module, cuda = native.make_module(), EmulatedCuda()
    with prepare(module, "python", taps=5, dtypes=["float32"], cuda=cuda):
        (creator,) = module.get_plugin_registry().creators.values()
        creator.create_plugin("fusion", [], None).on_shape_change(*descriptors(module, CASES[0]))
    (image,) = cuda.loaded
    assert image.startswith(b"\x7fELF") and cuda.closed == ["module"]
    (kept,) = (tmp_path / "kernels").glob("vidgen_sepconv_forward_k5_float32_c3-sm_89-*.cubin")
    assert kept.read_bytes() == image
    monkeypatch.setattr("vidgen.plugins.sepconv_trt.tensorrt.kernels.compile_kernel", None)
    Kernels(cuda).load(launch_geometry("forward", 2, 3, 9, 17, 5, "float32").plan)
    assert cuda.loaded == [image, image]


def test_no_plugin_lies_where_an_earlier_one_lay(monkeypatch):
    """TensorRT would take it for the earlier one, and delete it twice."""
    module, service = native.make_module(), Service(5, ("float32",), None)
    places, made = iter([1, 2, 1, 2, 3, 3, 4]), []
    monkeypatch.setattr(python_plugin, "_address", lambda plugin: made.append(plugin) or next(places))
    first = python_plugin.new_plugin(module, service, 5)
    assert made == [first]
    made.clear()
    second = first.clone()
    assert made == [second]
    made.clear()
    third = second.clone()
    assert len(made) == 3 and made[-1] is third
    made.clear()
    fourth = third.attach_to_context(None)
    assert len(made) == 2 and made[-1] is fourth


def test_two_devices_in_one_process_keep_their_own(monkeypatch):
    module = native.make_module()
    first, second = EmulatedCuda(), EmulatedCuda()
    monkeypatch.setattr(
        "vidgen.plugins.sepconv_trt.tensorrt.kernels.cached_cubin", lambda plan, architecture: plan.entry.encode()
    )
    (creator, kept) = _registered(module, first)
    made = creator.create_plugin("one", [], None)
    other = prepare(module, "python", taps=5, dtypes=["float32"], cuda=second)
    run(made, CASES[0], CASES[0].inputs())
    assert first.launched and not second.launched
    kept.close()
    run(creator.create_plugin("two", [], None), CASES[0], CASES[0].inputs())
    assert second.launched and module.get_plugin_registry().creators
    other.close()
    assert not module.get_plugin_registry().creators


def _registered(module: ModuleType, cuda: EmulatedCuda) -> tuple[Any, Any]:
    registration = prepare(module, "python", taps=5, dtypes=["float32"], cuda=cuda)
    (creator,) = module.get_plugin_registry().creators.values()
    return creator, registration


sizes = st.integers(1, 40)
odd = st.integers(0, 31).map(lambda half: 2 * half + 1)


@given(batch=sizes, channels=sizes, height=sizes, width=sizes, taps=odd, data=st.data())
def test_one_wrong_size_anywhere_is_noticed_and_unknown_ones_are_not(batch, channels, height, width, taps, data):
    shapes = Case("forward", "float32", taps, batch, channels, height, width).shapes
    found = [list(shapes[name]) for name in tensors.NAMES]
    tensors.check_shapes([tensors.fixed(shape) for shape in found], taps)
    tensor, axis = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    right = found[tensor][axis]
    found[tensor][axis] = -1
    tensors.check_shapes([tensors.fixed(shape) for shape in found], taps)
    found[tensor][axis] = data.draw(st.integers(0, 80).filter(lambda size: size != right))
    with pytest.raises(OperatorError):
        tensors.check_shapes([tensors.fixed(shape) for shape in found], taps)
