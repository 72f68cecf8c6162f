"""The text of the CUDA kernels in one piece: for NVRTC, nvcc, TensorRT's AOT plugins, pycuda and the tests."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from vidgen.plugins.sepconv_trt.geometry import Plan

#: In the order of the text. The first is for a CUDA device alone; who compiles for something else brings these two
#: functions along.
DEVICE_FILES = ("half_device.cuh",)
KERNEL_FILES = ("common.cuh", "forward.cuh", "backward_input.cuh", "backward_kernels.cuh")


def kernel_text(*, device: bool = True) -> str:
    """All kernels, needing no header. Compile it with ``plan.macros`` as definitions, as C++17.

    Args:
        device: with the conversions of float16 in PTX; False leaves ``half_to_float`` and ``float_to_half``
            to be declared before the text.
    """
    folder = files(__package__)
    names = (*DEVICE_FILES, *KERNEL_FILES) if device else KERNEL_FILES
    return "\n".join(f'#line 1 "{name}"\n{(folder / name).read_text(encoding="utf-8")}' for name in names)


def definitions(plan: Plan) -> list[str]:
    """``plan.macros`` as compiler options, the same for NVRTC, nvcc and g++."""
    return [f"-D{name}={value}" for name, value in plan.macros.items()]


def source_hash(plan: Plan) -> str:
    """SHA-256 of text and macros: the same hash is the same kernel."""
    text = kernel_text() + "\n".join(definitions(plan))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
