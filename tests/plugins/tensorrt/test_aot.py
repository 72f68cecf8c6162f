"""The embedded form against the real ``tensorrt.plugin``: its rules, and what it makes of shapes and launches."""

from __future__ import annotations

import dataclasses
import re
import types
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.cuda.emulation.cases import Case, assert_right
from plugins.cuda.emulation.emulator import Emulator
from plugins.tensorrt.native import Builder, DataType, Descriptor, DynamicDescriptor, Expression, Phase, Request
from plugins.tensorrt.native import TensorFormat as Format

from vidgen.errors import BackendError, OperatorError, SettingsError
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, Resources
from vidgen.plugins.sepconv_trt.geometry import Launch, Plan, launch_geometry
from vidgen.plugins.sepconv_trt.tensorrt import aot, prepare

KINDS = {"float32": DataType.FLOAT, "float16": DataType.HALF}
AXES = "batch", "channels", "height", "width"


@dataclasses.dataclass
class Network:
    """One node, taken through the calls that TensorRT's builder makes."""

    module: ModuleType
    taps: int
    dtype: str = "float32"
    #: Sizes of the output; None is dynamic.
    sizes: dict[str, int | None] = dataclasses.field(default_factory=lambda: dict.fromkeys(AXES))
    largest: tuple[int, int, int, int] = (8, 16, 720, 1280)
    #: Taps that the network's tensors have, where not those of the plugin.
    found_taps: int | None = None

    def plugin(self) -> Any:
        creator = self.module.get_plugin_registry().get_creator("SeparableConvolution", "1", "vidgen")
        return creator.create_plugin("SeparableConvolution", "vidgen", [], Phase.BUILD, Request.UNKNOWN)

    def _shapes(self, sizes: tuple[Any, ...], add: Any) -> list[list[Any]]:
        batch, channels, height, width = sizes
        taps = self.found_taps or self.taps
        kernels = [batch, self._constant(taps, sizes), height, width]
        return [[batch, channels, add(height, taps - 1), add(width, taps - 1)], kernels, kernels, list(sizes)]

    @staticmethod
    def _constant(value: int, sizes: tuple[Any, ...]) -> Any:
        return Expression.constant(value) if isinstance(sizes[0], Expression) else value

    def expressions(self) -> list[list[Expression]]:
        sizes = tuple(
            Expression.size(name) if self.sizes[name] is None else Expression.constant(self.sizes[name])
            for name in AXES
        )
        builder = Builder()
        add = lambda size, halo: builder.operation(  # noqa: E731  # as a value
            self.module.DimensionOperation.SUM, size, builder.constant(halo)
        )
        return self._shapes(sizes, add)

    def descriptors(self) -> list[DynamicDescriptor]:
        most = tuple(known or most for known, most in zip(self.sizes.values(), self.largest, strict=True))
        least = tuple(known or 1 for known in self.sizes.values())
        shapes = zip(self._shapes(least, int.__add__), self._shapes(most, int.__add__), strict=True)
        return [DynamicDescriptor(KINDS[self.dtype], Format.LINEAR, *shape) for shape in shapes]

    def build(self) -> Built:
        plugin, expressions, descriptors = self.plugin(), self.expressions(), self.descriptors()
        kind = KINDS[self.dtype]
        types_ = plugin.get_output_data_types([kind] * 3, [len(shape) for shape in expressions[:3]])
        (output,) = plugin.get_output_shapes(expressions[:3], [], Builder())
        combinations = plugin.get_supported_format_combinations(descriptors, 3)
        plugin.configure_plugin(descriptors[:3], descriptors[3:])
        assert plugin.get_valid_tactics() == []
        plugin.set_tactic(0)
        launch, setter = types.SimpleNamespace(), Setter()
        plugin.get_launch_params(expressions[:3], descriptors, 3, launch, setter, Builder())
        plain = [Descriptor(each.desc.type, each.desc.format) for each in descriptors]
        entry, ptx = plugin.get_kernel(plain[:3], plain[3:])
        pairs = [(each.type, each.format) for each in combinations]
        return Built(types_, output, pairs, launch, setter.made, entry, ptx.decode())


class Setter(dict):  # type: ignore[type-arg]  # sizes by place
    """What extra arguments are put into."""

    nbSymExprs = 0

    @property
    def made(self) -> list[Any]:
        assert sorted(self) == list(range(self.nbSymExprs))
        return [self[place] for place in range(self.nbSymExprs)]


@dataclasses.dataclass
class Built:
    """What the builder was told."""

    types: list[Any]
    output: list[Expression]
    combinations: list[tuple[Any, Any]]
    launch: Any
    extra: list[Any]
    entry: str
    ptx: str

    def evaluate(self, **sizes: int) -> tuple[tuple[int, ...], tuple[int, ...], list[int], int]:
        """Grid, block, extra arguments and shared memory for sizes of the output."""
        words = [getattr(self.launch, f"{kind}_{axis}") for kind in ("grid", "block") for axis in "xyz"]
        assert all(word.dtype == "int32" for word in (*words, *self.extra))
        values = [word.expr.evaluate(sizes) for word in words]
        extra = [word.expr.evaluate(sizes) for word in self.extra]
        return tuple(values[:3]), tuple(values[3:]), extra, self.launch.shared_mem.expr.evaluate(sizes)


def compiled(plan: Plan, architecture: str) -> CompiledKernel:
    """A kernel without code, where the code does not matter."""
    return CompiledKernel(plan, architecture, "NVRTC 13.0", b"", f".entry {plan.entry}", Resources(0, 0, 0, 0))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are not compiled."""
    monkeypatch.setattr(aot, "compile_kernel", compiled)


def test_the_ptx_is_embedded_with_the_arguments_in_the_order_of_the_kernel(tensorrt):
    pytest.importorskip("nvidia")
    prepare(tensorrt, "aot", taps=5, dtypes=["float32"])
    built = Network(tensorrt, 5).build()
    entry = re.search(r"\.visible \.entry (\w+)\((.*?)\)", built.ptx, re.DOTALL)
    assert entry and entry[1] == built.entry == "vidgen_sepconv_forward_k5_float32_c4"
    assert re.findall(r"\.param \.(\w+)", entry[2]) == ["u64"] * 3 + ["u32"] * 3 + ["u64"]
    assert ".target sm_75" in built.ptx


@pytest.mark.parametrize("dtypes", [("float32",), ("float16",), ("float32", "float16")])
def test_linear_layout_and_one_dtype_for_all_are_offered(tensorrt, no_compiler, dtypes):
    prepare(tensorrt, "aot", taps=3, dtypes=dtypes)
    for dtype in dtypes:
        built = Network(tensorrt, 3, dtype).build()
        assert built.types == [KINDS[dtype]] and dtype in built.entry
        assert built.combinations == [(KINDS[each], Format.LINEAR) for each in dtypes for _ in range(4)]


sizes = st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(1, 720), st.integers(1, 1280))


@given(sizes=sizes, known=st.sets(st.sampled_from(AXES)), taps=st.sampled_from([1, 5, 19, 63]), half=st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_launches_are_those_of_the_geometry_whatever_is_known_when_the_engine_is_built(
    tensorrt, no_compiler, sizes, known, taps, half
):
    dtype = "float16" if half else "float32"
    named = dict(zip(AXES, sizes, strict=True))
    prepare(tensorrt, "aot", taps=taps, dtypes=["float32", "float16"])
    fixed = {name: size if name in known else None for name, size in named.items()}
    built = Network(tensorrt, taps, dtype, fixed).build()
    group = None if "channels" in known else 4
    expected = launch_geometry("forward", *sizes, taps, dtype, group=group)
    assert built.entry == expected.plan.entry
    assert built.evaluate(**named) == (expected.grid, expected.block, list(sizes[1:]), expected.shared_bytes)
    assert [size.evaluate(named) for size in built.output] == list(sizes)


@pytest.mark.parametrize(
    "case", [Case("forward", "float32", 5, 2, 3, 9, 17), Case("forward", "float16", 3, 1, 6, 5, 20)]
)
def test_the_kernel_is_right_when_launched_as_the_engine_will(tensorrt, no_compiler, emulator: Emulator, case: Case):
    prepare(tensorrt, "aot", taps=case.taps, dtypes=[case.dtype])
    built = Network(tensorrt, case.taps, case.dtype, largest=(4, 8, 32, 32)).build()
    sizes = dict(zip(AXES, (case.batch, case.channels, case.height, case.width), strict=True))
    grid, block, extra, shared = built.evaluate(**sizes)
    plan = launch_geometry("forward", *sizes.values(), case.taps, case.dtype, group=4).plan
    assert plan.entry == built.entry
    inputs = case.inputs()
    # The emulator passes scalars in the kernel's order: theirs, by place.
    scalars = dict(zip(("channels", "height", "width"), extra, strict=True))
    launch = Launch(plan, grid, block, shared)
    outputs = emulator.run(launch, inputs, scalars, {"output": (case.shapes["output"], inputs["input"].dtype)})
    assert_right(case, inputs, outputs)
    assert np.any(outputs["output"])


def test_a_later_registration_serves_other_taps(tensorrt, no_compiler):
    prepare(tensorrt, "aot", taps=3, dtypes=["float32"])
    second = prepare(tensorrt, "aot", taps=7, dtypes=["float16"])
    assert "k7_float16" in Network(tensorrt, 7, "float16").build().entry
    second.close()
    registry = tensorrt.get_plugin_registry()
    assert not registry.creators
    prepare(tensorrt, "aot", taps=5, dtypes=["float32"])
    assert "k5_float32" in Network(tensorrt, 5).build().entry


def test_a_plugin_of_another_form_makes_room(tensorrt, no_compiler):
    with prepare(tensorrt, "python", taps=5, dtypes=["float32"]):
        prepare(tensorrt, "aot", taps=5, dtypes=["float32"])
        assert "k5" in Network(tensorrt, 5).build().entry
    # Closing the earlier registration leaves the later one alone.
    assert "k5" in Network(tensorrt, 5).build().entry
    prepare(tensorrt, "python", taps=5, dtypes=["float32"])
    (creator,) = tensorrt.get_plugin_registry().creators.values()
    assert type(creator).__name__ == "SeparableConvolutionCreator"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"found_taps": 7}, "vertical [?, 7, ?, ?], expected [?, 5, ?, ?]"),
        ({"dtype": "float16"}, "input float16, vertical float16, horizontal float16, expected all float32"),
        ({"largest": (2**30, 16, 8, 8)}, "sizes"),
    ],
)
def test_a_node_that_does_not_fit_is_refused_with_the_reason_kept(tensorrt, no_compiler, change, told):
    registration = prepare(tensorrt, "aot", taps=5, dtypes=["float32"])
    with pytest.raises((OperatorError, BackendError)):
        Network(tensorrt, 5, **change).build()
    with pytest.raises((OperatorError, BackendError)) as caught:
        registration.raise_failure()
    assert told in caught.value.seen
    registration.raise_failure()  # told once


@pytest.mark.parametrize("taps", [4, 0, 65, -3, None, True])
def test_a_number_of_taps_without_a_kernel_is_refused_at_once(tensorrt, taps):
    with pytest.raises(OperatorError, match="K = "):
        prepare(tensorrt, "aot", taps=taps, dtypes=["float32"])
    assert not tensorrt.get_plugin_registry().creators


def test_an_unknown_form_and_an_old_library_are_refused(tensorrt):
    with pytest.raises(SettingsError, match="python, library, aot"):
        prepare(tensorrt, "embedded", taps=5, dtypes=["float32"])
    del tensorrt.QuickPluginCreationRequest
    with pytest.raises(BackendError, match=r"10\.8"):
        prepare(tensorrt, "aot", taps=5, dtypes=["float32"])


def test_a_name_that_somebody_else_registered_is_told(tensorrt):
    plugin = tensorrt.plugin

    def describe(only):
        return only.like()

    describe.__annotations__ = {"only": plugin.TensorDesc, "return": plugin.TensorDesc}
    plugin.register("vidgen::SeparableConvolution", lazy_register=True)(describe)
    with pytest.raises(BackendError, match="already has a def"):
        prepare(tensorrt, "aot", taps=5, dtypes=["float32"])


def test_the_decorators_hold_without_the_library_too(tensorrt):
    service = aot.Service(5, ("float32",), "sm_80")
    embedded = aot.register(tensorrt, service, lazy=True)
    assert embedded.service is service and not tensorrt.get_plugin_registry().creators


def test_ptx_that_the_driver_cannot_translate_is_refused():
    kernel = compiled(launch_geometry("forward", 1, 3, 8, 8, 5, "float32").plan, "sm_75")
    aot.check_driver(kernel, None)
    aot.check_driver(kernel, (13, 0))
    aot.check_driver(kernel, (13, 2))
    with pytest.raises(BackendError, match=r"CUDA 12\.8.*nvidia-cuda-nvrtc-cu12<12\.9"):
        aot.check_driver(kernel, (12, 8))
