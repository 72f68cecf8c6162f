"""Registers one form of the plugin with TensorRT, so that its parser and its engines find it, and never aborts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from vidgen.errors import BackendError, MissingDependencyError, SettingsError, VidgenError
from vidgen.plugins.sepconv_trt.geometry import DType
from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME, VERSION
from vidgen.plugins.sepconv_trt.tensorrt import tensors
from vidgen.plugins.sepconv_trt.tensorrt.kernels import Cuda, Kernels
from vidgen.plugins.sepconv_trt.tensorrt.shim import make_alias

#: ``python``: IPluginV3 in this process. ``library``: the same in C++. ``aot``: PTX embedded in the engine.
FORMS = ("python", "library", "aot")
#: What TensorRT 10.8 to 11 run on at least.
LOWEST = "sm_75"
#: Names the file of the ``library`` form.
VARIABLE = "VIDGEN_TENSORRT_LIBRARY"


@dataclass(frozen=True)
class Registration:
    """A form that TensorRT now finds.

    Attributes:
        form: one of ``FORMS``. failures: why callbacks of the plugin failed since, oldest first.
        kernels: of the device, where one was given and the form launches them itself.
        withdraw: takes the form out of TensorRT's registry, unless a later call of ``prepare`` uses it.
    """

    form: str
    failures: list[VidgenError] = field(default_factory=list)
    kernels: Kernels | None = None
    withdraw: Callable[[], None] | None = None

    def raise_failure(self) -> None:
        """Raise the first failure that TensorRT swallowed, if there is one, and forget them all.

        Call it after a parse, a build, a deserialisation or an enqueue that failed: TensorRT's own message says less.

        Raises:
            VidgenError: why the plugin refused.
        """
        if self.failures:
            first = self.failures[0]
            self.failures.clear()
            raise first

    def close(self) -> None:
        """Withdraw the form and give back what is loaded on the device: after the engines, before the device."""
        if self.withdraw is not None:
            self.withdraw()
        if self.kernels is not None:
            self.kernels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare(
    library: Any,
    form: str,
    *,
    taps: int | None,
    dtypes: Sequence[str],
    cuda: Cuda | None = None,
    path: Path | None = None,
    architecture: str = LOWEST,
) -> Registration:
    """Register a form in this process: before a network is parsed, or before an engine is deserialised.

    May be called again, for another K, other dtypes or another device: what is parsed or deserialised later is served
    by the later call, what was made before keeps what it has.

    Args:
        library: ``tensorrt_rtx`` or ``tensorrt``, imported, or an object whose ``module`` is that.
        form: ``python``, ``library`` or ``aot`` (classic TensorRT alone).
        taps: K, odd, 1 to 63; None where engines alone are loaded, which store it (not for ``aot``).
        dtypes: of the operator's tensors in the network: ``float32``, ``float16``, or both.
        cuda: the device that engines will run on; None where they are built.
        path: file of the C++ plugin, for the ``library`` form; ``$VIDGEN_TENSORRT_LIBRARY`` when None.
        architecture: that the PTX of the ``aot`` form is compiled for: the lowest of the engine's targets. It runs on
            that and every later one.

    Raises:
        SettingsError: no such form. OperatorError: no kernel for this K or dtype.
        MissingDependencyError: TensorRT-RTX needs a C++ compiler to find itself; the library is missing.
        BackendError: this TensorRT does not take the form.
    """
    if form not in FORMS:
        raise SettingsError(
            "cannot register the TensorRT plugin of the separable convolution",
            seen=f"form {form!r}, expected {', '.join(FORMS)}",
            cause="a manifest of another version, or a typing error",
            fix="export it again: vidgen export CHECKPOINT.safetensors -o OUT.plan",
        )
    if taps is not None or form == "aot":
        tensors.check_taps(taps)
    kinds = tensors.check_dtypes(dtypes)
    module: ModuleType = getattr(library, "module", library)
    _check_module(module, form)
    # Before anything is registered: a parser that finds a plugin without this ends the process.
    make_alias(module)
    if form == "library":
        return _library(module, path)
    if form == "aot":
        return _embedded(module, tensors.check_taps(taps), kinds, architecture)
    return _python(module, taps, kinds, cuda)


def _check_module(module: ModuleType, form: str) -> None:
    needed = ["IPluginV3", "IPluginCreatorV3One", "get_plugin_registry"]
    if form == "aot":
        needed += ["IPluginV3QuickAOTBuild", "QuickPluginCreationRequest"]
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise BackendError(
            f"cannot register the {form} form of the separable convolution",
            seen=f"{module.__name__} {getattr(module, '__version__', '')} without {', '.join(missing)}",
            cause="embedded plugins came with TensorRT 10.8, and TensorRT-RTX has none"
            if form == "aot"
            else "an older version",
            fix="pip install --upgrade tensorrt, or use --sepconv custom, which needs no plugin",
        )


def _python(module: ModuleType, taps: int | None, dtypes: tuple[DType, ...], cuda: Cuda | None) -> Registration:
    from vidgen.plugins.sepconv_trt.tensorrt.python_plugin import Service, plugin_types

    service = Service(taps, dtypes, None if cuda is None else Kernels(cuda))
    registration = Registration("python", service.failures, service.kernels, partial(_withdraw, module, service))
    registered, ours = _registered(module)
    if registered is not None and ours:
        registered.service = service
        return registration
    _remove(module, "python", registered)
    if not module.get_plugin_registry().register_creator(plugin_types(module)[1](module, service), DOMAIN):
        raise _in_the_way("python")
    return registration


def _library(module: ModuleType, path: Path | None) -> Registration:
    registered, ours = _registered(module)
    if registered is not None and not ours:
        return Registration("library")
    chosen = _chosen(path)
    _remove(module, "library", registered)
    module.get_plugin_registry().load_library(str(chosen))
    if _registered(module)[0] is None:
        raise BackendError(
            f"cannot load the TensorRT plugin {chosen}",
            seen=f"no creator of {NAME} version {VERSION} after loading it",
            cause="a file that is not the plugin library, is for another TensorRT, or whose CUDA library is missing",
            fix=f"build it again for {module.__name__} {getattr(module, '__version__', '')}, or use --sepconv custom",
        )
    return Registration("library")


def _embedded(module: ModuleType, taps: int, dtypes: tuple[DType, ...], architecture: str) -> Registration:
    from vidgen.plugins.sepconv_trt.tensorrt.aot import Service, register

    registered = _registered(module)[0]
    if not isinstance(registered, module.IPluginCreatorV3Quick):
        _remove(module, "aot", registered)
    service = Service(taps, dtypes, architecture)
    embedded = register(module, service)

    def withdraw() -> None:
        if embedded.service is service and _registered(module)[0] is embedded.creator:
            module.get_plugin_registry().deregister_creator(embedded.creator)

    return Registration("aot", service.failures, withdraw=withdraw)


def _registered(module: ModuleType) -> tuple[Any, bool]:
    """The creator that a parser would find, if there is one, and whether it is the one in Python."""
    from vidgen.plugins.sepconv_trt.tensorrt.python_plugin import plugin_types

    found = module.get_plugin_registry().get_creator(NAME, str(VERSION), DOMAIN)
    return found, isinstance(found, plugin_types(module)[1])


def _withdraw(module: ModuleType, service: object) -> None:
    registered, ours = _registered(module)
    if ours and registered.service is service:
        module.get_plugin_registry().deregister_creator(registered)


def _remove(module: ModuleType, form: str, registered: Any) -> None:
    """Take a creator of another form out of the way."""
    registry = module.get_plugin_registry()
    if registered is not None and not registry.deregister_creator(registered):
        raise _in_the_way(form)


def _chosen(path: Path | None) -> Path:
    given = path or os.environ.get(VARIABLE)
    chosen = Path(given).expanduser().absolute() if given else None
    if chosen is None or not chosen.is_file():
        raise MissingDependencyError(
            "cannot find the TensorRT plugin of the separable convolution",
            seen=f"{chosen} is no file" if chosen else f"{VARIABLE} is not set",
            cause="the plugin library in C++ is built by whoever uses it, against their TensorRT",
            fix=f"set {VARIABLE} to the built library, or use --sepconv custom, which needs no plugin",
        )
    return chosen


def _in_the_way(form: str) -> BackendError:
    return BackendError(
        f"cannot register the {form} form of the separable convolution",
        seen=f"another plugin {DOMAIN}::{NAME} version {VERSION} is registered already and stays",
        cause="another form was used in this process, or another program registered one of that name",
        fix="run it in a process of its own",
    )
