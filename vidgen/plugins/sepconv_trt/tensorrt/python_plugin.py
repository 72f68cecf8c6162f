"""The plugin in Python (``IPluginV3``), for TensorRT-RTX and classic TensorRT: built into engines without a GPU."""

from __future__ import annotations

import ctypes
import functools
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import numpy as np

from vidgen.errors import BackendError, VidgenError
from vidgen.plugins.sepconv_trt.geometry import DType, Launch, launch_geometry
from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME, VERSION
from vidgen.plugins.sepconv_trt.tensorrt import tensors
from vidgen.plugins.sepconv_trt.tensorrt.failures import told
from vidgen.plugins.sepconv_trt.tensorrt.kernels import Kernels
from vidgen.plugins.sepconv_trt.tensorrt.tensors import Axis

#: What an engine stores of a plugin: one int32. Name, namespace, version and this are those of the C++ library: an
#: engine that was built with the one runs with the other.
TAPS_FIELD = "taps"


@dataclass(frozen=True)
class Service:
    """What one registration serves.

    Attributes:
        taps: K of the nodes of a network that is parsed; None where engines alone are loaded, which say it.
        dtypes: of tensors that are taken. kernels: of the device; None where engines are only built.
        failures: why callbacks failed, oldest first.
    """

    taps: int | None
    dtypes: tuple[DType, ...]
    kernels: Kernels | None
    failures: list[VidgenError] = field(default_factory=list)


class _Plugin:
    """All capabilities of the plugin; ``plugin_types`` adds TensorRT's base classes.

    Args:
        module: ``tensorrt_rtx`` or ``tensorrt``. taps: K, checked.
    """

    def __init__(self, module: ModuleType, service: Service, taps: int) -> None:
        for base in _interfaces(module):
            base.__init__(self)
        self.module, self.service, self.taps = module, service, taps
        self.plugin_name, self.plugin_namespace, self.plugin_version = NAME, DOMAIN, str(VERSION)
        self.num_outputs = len(tensors.OUTPUTS)
        self._launch: Launch | None = None
        self._sizes: tuple[int, ...] = ()
        # TensorRT keeps a pointer to the value of a field.
        self._stored = np.array([taps], np.int32)

    def get_capability_interface(self, kind: Any) -> Self:
        """The same object serves all three."""
        return self

    def clone(self) -> Self:
        """Another plugin of the same K, with nothing launched yet."""
        made: Self = new_plugin(self.module, self.service, self.taps)
        return made

    @told
    def get_fields_to_serialize(self) -> Any:
        """What an engine stores: K."""
        stored = self.module.PluginField(TAPS_FIELD, self._stored, self.module.PluginFieldType.INT32)
        return self.module.PluginFieldCollection([stored])

    @told
    def get_output_data_types(self, found: Sequence[Any]) -> list[Any]:
        """The dtype of the inputs, once it is one that is served."""
        tensors.check_types([tensors.dtype_name(self.module, each) for each in found], self.service.dtypes)
        return [found[0]]

    @told
    def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any) -> list[Any]:
        """[N, C, H, W] as expressions: of the input's first two axes and the last two of the vertical taps."""
        known = [[_known(shape[axis]) for axis in range(len(shape))] for shape in inputs]
        tensors.check_shapes([tensors.fixed(shape) for shape in known], self.taps)
        output = self.module.DimsExprs(tensors.AXES)
        for axis in range(tensors.AXES):
            output[axis] = inputs[0 if axis < 2 else 1][axis]
        return [output]

    @told
    def supports_format_combination(self, position: int, found: Sequence[Any], inputs: int) -> bool:
        """Linear layout, one dtype for all tensors, of those that are served."""
        here, first = found[position].desc, found[0].desc
        linear = here.format == self.module.TensorFormat.LINEAR
        return bool(
            linear and here.type == first.type and tensors.dtype_name(self.module, here.type) in self.service.dtypes
        )

    @told
    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Check the ranges that the profiles leave."""
        shapes = [
            [Axis(low, high) for low, high in zip(tuple(each.min), tuple(each.max))] for each in (*inputs, *outputs)
        ]
        tensors.check_shapes(shapes, self.taps)

    def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        """None is needed, in bytes."""
        return 0

    def get_valid_tactics(self) -> list[int]:
        """One way to compute it, TensorRT's default tactic."""
        return []

    def set_tactic(self, tactic: int) -> None:
        """There is one."""

    @told
    def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Check the shapes that are going to run, and have their kernel loaded: not while a graph is captured."""
        self._accept(inputs, outputs)

    def _accept(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        shapes = [tuple(int(size) for size in each.dims) for each in (*inputs, *outputs)]
        found = [tensors.dtype_name(self.module, each.type) for each in (*inputs, *outputs)]
        dtype = tensors.check_types(found, tensors.DTYPES)
        tensors.check_shapes([tensors.fixed(shape) for shape in shapes], self.taps)
        self._prepare(shapes[-1], dtype)

    def _prepare(self, output: Sequence[int], dtype: DType) -> None:
        batch, channels, height, width = output
        self._launch, self._sizes = None, (channels, height, width)
        if min(output) > 0:
            self._launch = launch_geometry("forward", batch, channels, height, width, self.taps, dtype)
            if self.service.kernels is not None:
                self.service.kernels.load(self._launch.plan)

    def attach_to_context(self, context: Any) -> Self:
        """One plugin for each execution context: they run side by side."""
        return self.clone()

    @told
    def enqueue(
        self,
        input_desc: Sequence[Any],
        output_desc: Sequence[Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        """Launch the kernel on TensorRT's stream; the pointers are device addresses."""
        if self.service.kernels is None:
            raise BackendError(
                "cannot run the separable convolution of an engine",
                seen="the plugin was registered without a device, as for building",
                cause="the engine was loaded before the plugin was told of CUDA",
                fix="load it with vidgen.load or vidgen sample, which register the plugin first",
            )
        self._accept(input_desc, output_desc)
        if self._launch is not None:
            self.service.kernels.launch(self._launch, inputs, self._sizes, outputs, stream)


class _Creator:
    """Makes plugins: for nodes of a network with the K that was registered, for those of an engine with their own."""

    def __init__(self, module: ModuleType, service: Service) -> None:
        module.IPluginCreatorV3One.__init__(self)
        self.module, self.service = module, service
        self.name, self.plugin_namespace, self.plugin_version = NAME, DOMAIN, str(VERSION)
        self.field_names = module.PluginFieldCollection([])

    @told
    def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
        """A plugin for one node. Fields are those of an engine; a node of an ONNX file has none."""
        stored = {each.name: each.data for each in fields}
        taps = int(np.asarray(stored[TAPS_FIELD]).flat[0]) if TAPS_FIELD in stored else self.service.taps
        if taps is None:
            raise tensors.refused(f"K of {name} is not known", "the plugin was registered to run engines alone")
        return new_plugin(self.module, self.service, tensors.check_taps(taps))


def new_plugin(module: ModuleType, service: Service, taps: int) -> Any:
    """A plugin that TensorRT may be given, at an address that no earlier one had.

    TensorRT deletes the C++ half of a plugin and leaves the Python half registered under its address. A plugin that
    came to lie there later would be taken for the old one, and deleted twice: the process would abort.
    """
    while True:
        plugin = plugin_types(module)[0](module, service, taps)
        # The Python half must never delete the C++ half, which is TensorRT's now.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(plugin))
        address = _address(plugin)
        if address is None or address not in _taken(module):
            break
        # Left where it is, so that the next one lies elsewhere.
    if address is not None:
        _taken(module).add(address)
    return plugin


@functools.cache
def _taken(module: ModuleType) -> set[int]:
    """Addresses of all plugins a library was given in this process."""
    return set()


def _address(plugin: Any) -> int | None:
    """Where the C++ half lies: the first entry of the table that pybind11 keeps behind the head of an object."""
    if type(type(plugin)).__name__ != "pybind11_type":
        return None
    table = ctypes.c_size_t.from_address(id(plugin) + object.__basicsize__).value
    return ctypes.c_size_t.from_address(table).value


@functools.cache
def plugin_types(module: ModuleType) -> tuple[type[Any], type[Any]]:
    """The plugin and its creator as classes of a library: ``(module, service, taps)`` and ``(module, service)``."""
    plugin = types.new_class("SeparableConvolutionPlugin", (_Plugin, *_interfaces(module)))
    creator = types.new_class("SeparableConvolutionCreator", (_Creator, module.IPluginCreatorV3One))
    return plugin, creator


def _interfaces(module: ModuleType) -> tuple[Any, ...]:
    return module.IPluginV3, module.IPluginV3OneCore, module.IPluginV3OneBuild, module.IPluginV3OneRuntime


def _known(size: Any) -> int:
    """The size of an axis, or -1."""
    return int(size.get_constant_value()) if size.is_constant() else -1
