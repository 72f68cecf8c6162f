"""What a timing means nothing without: processor, cores, versions, load and settings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import time
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


def environment(settings: BenchSettings, started: float) -> dict[str, Any]:
    """The machine, the versions and the settings of a bench that began at ``started`` (seconds since 1970)."""
    values = dataclasses.asdict(settings)
    values |= {"engines": [str(engine) for engine in settings.engines], "out": str(settings.out or "")}
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": machine().to_dict(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions(),
        "settings": values,
    }
