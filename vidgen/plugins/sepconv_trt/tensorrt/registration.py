"""Registers one form of the plugin with TensorRT, so that its parser and its engines find it, and never aborts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from vidgen.errors import BackendError, MissingDependencyError, SettingsError, VidgenError
from vidgen.plugins.sepconv_trt.onnx_form import DOMAIN, NAME, VERSION
from vidgen.plugins.sepconv_trt.tensorrt import tensors
from vidgen.plugins.sepconv_trt.tensorrt.kernels import Cuda, Kernels
from vidgen.plugins.sepconv_trt.tensorrt.shim import make_alias

#: ``python``: IPluginV3 in this process. ``library``: the same in C++. ``aot``: PTX embedded in the engine.
FORMS = ("python", "library")
#: Names the file of the ``library`` form.
VARIABLE = "VIDGEN_TENSORRT_LIBRARY"
#: Where a creator may be found: the node's domain, and what a library registers with no namespace.
NAMESPACES = (DOMAIN, "")


@dataclass(frozen=True)
class Registration:
    """A form that TensorRT now finds.

    Attributes:
        form: one of ``FORMS``. failures: why callbacks of the plugin failed since, oldest first.
    """

    form: str
    failures: list[VidgenError] = field(default_factory=list)

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


def prepare(
    module: ModuleType,
    form: str,
    *,
    taps: int | None,
    dtypes: Sequence[str],
    cuda: Cuda | None = None,
    library: Path | None = None,
) -> Registration:
    """Register a form in this process: before a network is parsed, or before an engine is deserialised.

    May be called again, for another K, other dtypes or another device: what is parsed or deserialised later is served
    by the later call, what was made before keeps what it has.

    Args:
        module: ``tensorrt_rtx`` or ``tensorrt``, imported.
        form: ``python``, ``library`` or ``aot`` (classic TensorRT alone).
        taps: K, odd, 1 to 63; None where engines alone are loaded, which store it (not for ``aot``).
        dtypes: of the operator's tensors in the network: ``float32``, ``float16``, or both.
        cuda: the device that engines will run on; None where they are built.
        library: file of the C++ plugin, for the ``library`` form; ``$VIDGEN_TENSORRT_LIBRARY`` when None.

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
    _check_module(module, form)
    # Before anything is registered: a parser that finds a plugin without this ends the process.
    make_alias(module)
    if form == "library":
        return _library(module, library)
    return _python(module, taps, kinds, cuda)


def _check_module(module: ModuleType, form: str) -> None:
    needed = ("IPluginV3", "IPluginCreatorV3One", "get_plugin_registry") if form != "aot" else ("plugin",)
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise BackendError(
            f"cannot register the {form} form of the separable convolution",
            seen=f"{module.__name__} {getattr(module, '__version__', '')} without {', '.join(missing)}",
            cause="plugins of this kind came with TensorRT 10.8 and TensorRT-RTX 1.7",
            fix="pip install --upgrade tensorrt   (or tensorrt-rtx)",
        )


def _python(module: ModuleType, taps: int | None, dtypes: tuple[str, ...], cuda: Cuda | None) -> Registration:
    from vidgen.plugins.sepconv_trt.tensorrt.python_plugin import Service, plugin_types

    service = Service(taps, dtypes, None if cuda is None else Kernels(cuda))
    creator_type = plugin_types(module)[1]
    registry = module.get_plugin_registry()
    for namespace in NAMESPACES:
        found = registry.get_creator(NAME, str(VERSION), namespace)
        if isinstance(found, creator_type):
            found.service = service
            return Registration("python", service.failures)
        if found is not None and not registry.deregister_creator(found):
            raise _in_the_way("python", namespace)
    if not registry.register_creator(creator_type(module, service), DOMAIN):
        raise _in_the_way("python", DOMAIN)
    return Registration("python", service.failures)


def _library(module: ModuleType, path: Path | None) -> Registration:
    from vidgen.plugins.sepconv_trt.tensorrt.python_plugin import plugin_types

    registry = module.get_plugin_registry()
    for namespace in NAMESPACES:
        found = registry.get_creator(NAME, str(VERSION), namespace)
        if found is not None and not isinstance(found, plugin_types(module)[1]):
            return Registration("library")
        if found is not None and not registry.deregister_creator(found):
            raise _in_the_way("library", namespace)
    chosen = _chosen(path)
    registry.load_library(str(chosen))
    if all(registry.get_creator(NAME, str(VERSION), namespace) is None for namespace in NAMESPACES):
        raise BackendError(
            f"cannot load the TensorRT plugin {chosen}",
            seen=f"no creator of {NAME} version {VERSION} after loading it",
            cause="a file that is not the plugin library, is for another TensorRT, or whose CUDA library is missing",
            fix=f"build it again for {module.__name__} {getattr(module, '__version__', '')}, or use --sepconv custom",
        )
    return Registration("library")


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


def _in_the_way(form: str, namespace: str) -> BackendError:
    return BackendError(
        f"cannot register the {form} form of the separable convolution",
        seen=f"another plugin {namespace}::{NAME} version {VERSION} is registered already and stays",
        cause="another form was used in this process, or another program registered one of that name",
        fix="run it in a process of its own",
    )
