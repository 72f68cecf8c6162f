"""A small stand-in for TensorRT's native module: what the Python sources of ``tensorrt.plugin`` need of it."""

from __future__ import annotations

import enum
import importlib.util
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DataType = enum.IntEnum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64", start=0)
TensorFormat = enum.IntEnum("TensorFormat", "LINEAR CHW2 HWC8 CHW4", start=0)
DimensionOperation = enum.IntEnum("DimensionOperation", "SUM PROD MAX MIN SUB EQUAL LESS FLOOR_DIV CEIL_DIV", start=0)
FieldType = enum.IntEnum("PluginFieldType", "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 CHAR DIMS UNKNOWN INT64", start=0)
Request = enum.IntEnum("QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT", start=0)
Phase = enum.IntEnum("TensorRTPhase", "BUILD RUNTIME", start=0)
_OPERATIONS: dict[DimensionOperation, Callable[[int, int], int]] = {
    DimensionOperation.SUM: lambda one, other: one + other,
    DimensionOperation.SUB: lambda one, other: one - other,
    DimensionOperation.PROD: lambda one, other: one * other,
    DimensionOperation.MAX: max,
    DimensionOperation.MIN: min,
    DimensionOperation.FLOOR_DIV: lambda one, other: one // other,
    DimensionOperation.CEIL_DIV: lambda one, other: -(-one // other),
}


class Expression:
    """``IDimensionExpr``: a constant, a named size, or an operation on two others."""

    def __init__(self, value: int | None, evaluate: Callable[[Mapping[str, int]], int]) -> None:
        self._value, self.evaluate = value, evaluate

    @classmethod
    def size(cls, name: str) -> Expression:
        return cls(None, lambda sizes: sizes[name])

    @classmethod
    def constant(cls, value: int) -> Expression:
        return cls(value, lambda sizes: value)

    def is_constant(self) -> bool:
        return self._value is not None

    def get_constant_value(self) -> int:
        return -(2**63) if self._value is None else self._value


class Builder:
    """``IExprBuilder``."""

    def constant(self, value: int) -> Expression:
        assert isinstance(value, int)
        return Expression.constant(value)

    def operation(self, kind: DimensionOperation, one: Expression, other: Expression) -> Expression:
        assert isinstance(one, Expression) and isinstance(other, Expression)
        apply = _OPERATIONS[kind]
        if one.is_constant() and other.is_constant():
            return Expression.constant(apply(one.get_constant_value(), other.get_constant_value()))
        return Expression(None, lambda sizes: apply(one.evaluate(sizes), other.evaluate(sizes)))


class Descriptor:
    """``PluginTensorDesc``."""

    def __init__(self, type: Any = None, format: Any = None, dims: Sequence[int] = ()) -> None:
        self.type, self.format, self.dims, self.scale = type, format, dims, 1.0


class DynamicDescriptor:
    """``DynamicPluginTensorDesc``: sizes of a profile, -1 where it leaves a choice."""

    def __init__(self, type: Any, format: Any, least: Sequence[int], most: Sequence[int]) -> None:
        dims = tuple(low if low == high else -1 for low, high in zip(least, most, strict=True))
        self.desc, self.min, self.opt, self.max = Descriptor(type, format, dims), least, most, most


class Registry:
    """``IPluginRegistry``."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> bool:
        key = (creator.name, creator.plugin_version, namespace)
        return self.creators.setdefault(key, creator) is creator

    def deregister_creator(self, creator: Any) -> bool:
        keys = [key for key, value in self.creators.items() if value is creator]
        for key in keys:
            del self.creators[key]
        return bool(keys)

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators.get((name, version, namespace))

    def load_library(self, path: str) -> None:
        """A file that is no library of plugins: nothing happens."""


def sources() -> Path | None:
    """The folder of the bindings whose ``plugin`` package is NVIDIA's own; None where they are not installed."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    return Path(spec.origin).parent if spec and spec.origin else None


def make_module() -> types.ModuleType:
    """A module named ``tensorrt`` with NVIDIA's own ``plugin`` package over the stand-in."""
    module: Any = types.ModuleType("tensorrt")
    folder = sources()
    module.__path__ = [str(folder)] if folder else []
    module.__version__ = "10.16.0"
    for name in (
        "IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime", "IPluginCreatorV3One",
        "IPluginV3QuickCore", "IPluginV3QuickBuild", "IPluginV3QuickRuntime", "IPluginV3QuickAOTBuild",
        "IPluginCreatorV3Quick", "ISymExpr", "ITensor",
    ):  # fmt: skip
        setattr(module, name, type(name, (), {}))
    registry = Registry()
    module.get_plugin_registry = lambda: registry
    module.Logger = type("Logger", (), {"WARNING": 2, "log": lambda self, severity, text: None})
    module.Dims = type("Dims", (tuple,), {"MAX_DIMS": 8})
    module.DimsExprs = lambda length: [None] * length
    module.PluginField = lambda name, data, kind: types.SimpleNamespace(name=name, data=data, type=kind)
    module.PluginFieldCollection = list
    module.PluginArgType = types.SimpleNamespace(INT="int")
    module.PluginArgDataType = types.SimpleNamespace(INT8="int8", INT16="int16", INT32="int32")
    for name, value in {
        "DataType": DataType, "TensorFormat": TensorFormat, "DimensionOperation": DimensionOperation,
        "PluginFieldType": FieldType, "QuickPluginCreationRequest": Request, "TensorRTPhase": Phase,
        "IDimensionExpr": Expression, "PluginTensorDesc": Descriptor, "DynamicPluginTensorDesc": DynamicDescriptor,
        "float32": DataType.FLOAT, "float16": DataType.HALF, "int32": DataType.INT32,
    }.items():  # fmt: skip
        setattr(module, name, value)
    return module
