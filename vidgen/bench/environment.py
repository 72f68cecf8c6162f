"""What a timing means nothing without: processor, cores, versions, load and settings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.bench.settings import BenchSettings
from vidgen.doctor.machine import machine

#: Packages whose version can change a timing.
PACKAGES = ("vidgen", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")


def versions() -> dict[str, str]:
    """Versions of the installed ones among :data:`PACKAGES`; imports none of them."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Beginning:
    """The time (seconds since 1970) and the load averages when a bench began, before it made a load itself."""

    time: float
    load: tuple[float, ...]


def beginning() -> Beginning:
    """Now; the load is empty where the system does not tell it."""
    return Beginning(time.time(), os.getloadavg() if hasattr(os, "getloadavg") else ())


def environment(settings: BenchSettings, began: Beginning) -> dict[str, Any]:
    """The machine, the versions and the settings of a bench."""
    values = dataclasses.asdict(settings)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    values |= {"engines": [str(engine) for engine in settings.engines], "out": str(settings.out or "")}
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began.time)),
        "seconds": round(time.time() - began.time, 1),
        "machine": machine().to_dict(),
        "load_average": list(began.load),
        "python": platform.python_version(),
        "versions": versions(),
        "settings": values,
    }
