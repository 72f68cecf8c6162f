"""What an engine says of itself after the build, on the GPU that it is for; elsewhere nothing can be read from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vidgen.runtime.tensorrt_library import TensorRT

#: How inspectors of different versions call half precision, in what they say of a tensor.
_HALF = ("half", "fp16", "float16")


def inspect(library: TensorRT, logger: Any, plan: bytes) -> str:
    """The inspector's report on an engine as JSON; "" where this machine cannot load it.

    Args:
        logger: as :meth:`TensorRT.logger` gives it; the runtime keeps it.
    """
    module = library.module
    runtime = module.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return ""
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(module.LayerInformationFormat.JSON))


def half_layers(report: str) -> tuple[int, int] | None:
    """Layers of an engine with a half output, and layers in all; None where the report does not tell types.

    An engine has fewer layers than its network: whole parts of the graph are one kernel. A report tells types of
    engines that were built with detailed profiling.
    """
    try:
        layers = json.loads(report)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None
    told = [list(_types(kernel)) for kernel in layers if isinstance(kernel, Mapping)]
    told = [types for types in told if types]
    if not told:
        return None
    return sum(any(word in kind for kind in types for word in _HALF) for types in told), len(told)


def _types(kernel: Mapping[str, Any]) -> Iterable[str]:
    """What is said of the types of a layer's outputs, in lower case."""
    outputs = kernel.get("Outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, Mapping):
            kinds = (output.get(name) for name in ("Format/Datatype", "Datatype", "DataType"))
            yield from (kind.lower() for kind in kinds if isinstance(kind, str))
