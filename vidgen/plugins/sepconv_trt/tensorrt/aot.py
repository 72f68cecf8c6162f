"""The plugin as PTX embedded in an engine of classic TensorRT (``tensorrt.plugin``), which needs nothing of ours."""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import GenericAlias, ModuleType
from typing import Any

from vidgen.errors import BackendError, VidgenError
from vidgen.plugins.sepconv_trt.cuda.compile import CompiledKernel, compile_kernel
from vidgen.plugins.sepconv_trt.geometry import SCALARS, DType, launch_geometry
from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME, VERSION
from vidgen.plugins.sepconv_trt.tensorrt import tensors
from vidgen.plugins.sepconv_trt.tensorrt.failures import told

#: TensorRT's spelling of dtypes in combinations.
_SPELLED = {"float32": "FP32", "float16": "FP16"}


@dataclass(frozen=True)
class Service:
    """What one registration serves: K, the dtypes, the architecture of the PTX; why callbacks failed, oldest first."""

    taps: int
    dtypes: tuple[DType, ...]
    architecture: str
    failures: list[VidgenError] = field(default_factory=list)


class EmbeddedPlugin:
    """The three functions that TensorRT asks for. Attributes are not stored in an engine: K and dtype are in the PTX.

    Args:
        module: ``tensorrt``. plugin: ``tensorrt.plugin``.
    """

    def __init__(self, module: ModuleType, plugin: ModuleType) -> None:
        self._module, self._plugin = module, plugin
        self.service = Service(1, (), "")
        #: TensorRT's own, once it is registered.
        self.creator: Any = None

    @told
    def describe(self, *inputs: Any) -> Any:
        """The output [N, C, H, W] of descriptions of input, vertical and horizontal."""
        tensors.check_types([self._dtype(each) for each in inputs], self.service.dtypes)
        tensors.check_shapes([tensors.fixed(_known(each.shape_expr)) for each in inputs], self.service.taps)
        image, vertical, _ = (each.shape_expr for each in inputs)
        return self._plugin.from_shape_expr((image[0], image[1], vertical[2], vertical[3]), inputs[0].dtype)

    @told
    def combinations(self) -> list[Any]:
        """All tensors in linear layout and one dtype of those that are served."""
        types = "|".join(_SPELLED[dtype] for dtype in self.service.dtypes)
        return [self._plugin.AutoTuneCombination(", ".join([types] * len(tensors.NAMES)), "LINEAR")]

    @told
    def implement(self, inputs: Sequence[Any], output: Any) -> tuple[str, str, Any, Any]:
        """Name and PTX of the kernel, its launch, and the sizes it takes between input and output pointers."""
        service, plugin = self.service, self._plugin
        dtype = tensors.check_types([self._dtype(each) for each in (*inputs, output)], service.dtypes)
        # Sizes are symbols from here on: those of the profile bound them.
        launch_geometry("forward", *_largest(output), service.taps, dtype)
        image, vertical = inputs[0].shape_expr, inputs[1].shape_expr
        batch, height, width = image[0], vertical[2], vertical[3]
        known = _known(image)[1]
        channels = image[1] if known < 0 else known
        launch = launch_geometry("forward", batch, channels, height, width, service.taps, dtype)
        kernel = compile_kernel(launch.plan, service.architecture)
        check_driver(kernel, driver_version())
        parameters = plugin.KernelLaunchParams()
        parameters.grid_x, parameters.grid_y, parameters.grid_z = launch.grid
        parameters.block_x, parameters.block_y, parameters.block_z = launch.block
        parameters.shared_mem = launch.shared_bytes
        sizes = {"channels": channels, "height": height, "width": width}
        extra = plugin.SymIntExprs(len(SCALARS))
        for place, name in enumerate(SCALARS):
            extra[place] = plugin.SymInt32(sizes[name])
        return launch.plan.entry, kernel.ptx, parameters, extra

    def _dtype(self, description: Any) -> str:
        return tensors.dtype_name(self._module, description.dtype)


def register(module: ModuleType, service: Service, *, lazy: bool = False) -> EmbeddedPlugin:
    """Make TensorRT's parser find the plugin for nodes of our domain.

    Args:
        lazy: leave out the registry of the library, which is only there with the library.

    Raises:
        BackendError: another plugin of that name is registered with ``tensorrt.plugin``.
    """
    embedded = _registered(module, lazy)
    embedded.service = service
    if not lazy:
        registry = module.get_plugin_registry()
        embedded.creator = embedded.creator or registry.get_creator(NAME, str(VERSION), DOMAIN)
        if registry.get_creator(NAME, str(VERSION), DOMAIN) is None:
            # Another form took its place since.
            registry.register_creator(embedded.creator, DOMAIN)
    return embedded


@functools.cache
def _registered(module: ModuleType, lazy: bool) -> EmbeddedPlugin:
    """TensorRT takes a name once for the life of the process; what it serves can change."""
    plugin = importlib.import_module(f"{module.__name__}.plugin")
    embedded, name = EmbeddedPlugin(module, plugin), f"{DOMAIN}::{NAME}"

    def describe(input: Any, vertical: Any, horizontal: Any) -> Any:
        return embedded.describe(input, vertical, horizontal)

    def autotune(input: Any, vertical: Any, horizontal: Any, outputs: Any) -> Any:
        return embedded.combinations()

    def implement(input: Any, vertical: Any, horizontal: Any, outputs: Any, tactic: int) -> Any:
        return embedded.implement((input, vertical, horizontal), outputs[0])

    # TensorRT reads annotations as objects, which its types are once the module is known.
    described = dict.fromkeys(tensors.INPUTS, plugin.TensorDesc)
    outputs = {"outputs": GenericAlias(tuple, (plugin.TensorDesc,))}
    made = GenericAlias(tuple, (str, str, plugin.KernelLaunchParams, plugin.SymIntExprs))
    combinations = GenericAlias(list, (plugin.AutoTuneCombination,))
    describe.__annotations__ = {**described, "return": plugin.TensorDesc}
    autotune.__annotations__ = {**described, **outputs, "return": combinations}
    implement.__annotations__ = {**described, **outputs, "tactic": int, "return": made}
    try:
        plugin.register(name, lazy_register=lazy)(describe)
        plugin.autotune(name)(autotune)
        plugin.aot_impl(name)(implement)
    except ValueError as error:
        raise BackendError(
            f"cannot register {name} with {plugin.__name__}",
            seen=str(error),
            cause="another program registered that name in this process, or a version with other rules",
            fix="run it in a process of its own, or use --sepconv custom, which needs no plugin",
        ) from error
    return embedded


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the installed driver knows, such as (12, 8); None without a driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def check_driver(kernel: CompiledKernel, driver: tuple[int, int] | None) -> None:
    """Raise where the driver is older than the compiler: it could not translate the PTX when the engine is loaded.

    Raises:
        BackendError: so it is.
    """
    major, minor = (int(part) for part in kernel.compiler.split()[-1].split("."))
    if driver is None or driver >= (major, minor):
        return
    raise BackendError(
        f"cannot embed {kernel.plan.entry} in an engine",
        seen=f"PTX of {kernel.compiler}, and a driver for CUDA {driver[0]}.{driver[1]}",
        cause="a driver translates the PTX of compilers up to its own version",
        fix=f"update the NVIDIA driver, or pip install 'nvidia-cuda-nvrtc-cu{driver[0]}<{driver[0]}.{driver[1] + 1}'",
    )


def _known(shape: Any) -> list[int]:
    """Sizes of a symbolic shape, -1 where they are not known yet."""
    return [-1 if size.is_fake or not size.is_constant else int(size.constant_value()) for size in shape]


def _largest(description: Any) -> tuple[int, int, int, int]:
    """The sizes that the profile allows at most."""
    shape = description.shape
    batch, channels, height, width = (int(size) for size in (shape.max if shape.is_dynamic else shape))
    return batch, channels, height, width
