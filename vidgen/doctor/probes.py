"""Looks that load heavy or fragile libraries; each runs in a child process: ``python -m vidgen.doctor.probes NAME``."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidgen._child import take_stdout

#: y = x + x on two numbers (opset 13): enough for a provider to show whether it really loads.
ADD_MODEL = (
    b'\x08\x08:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02b\x0f'
    b"\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)
#: Encoder -> pixel format to try it with, and the decoder that reads it back. The first writes our mp4 files.
ENCODERS = {
    "libx264": ("yuv420p", "h264"),
    "libx264rgb": ("rgb24", "h264"),
    "libvpx-vp9": ("yuv420p", "vp9"),
    "ffv1": ("yuv420p", "ffv1"),
    "huffyuv": ("rgb24", "huffyuv"),
}
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
_CPP = """
extern "C" int add(int n) {
  int sum = 0;
  #pragma omp parallel for reduction(+:sum)
  for (int i = 0; i < n; i++) sum += i;
  return sum;
}
"""
#: Attributes of CUdevice_attribute.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def torch() -> dict[str, Any]:
    """Import PyTorch and ask it for CUDA."""
    import torch

    values: dict[str, Any] = {"version": torch.__version__, "threads": torch.get_num_threads()}
    values["sum"] = float(torch.ones(3).sum())
    values["cuda"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return values


def onnx() -> dict[str, Any]:
    """Import onnx and have it check a model."""
    import onnx

    onnx.checker.check_model(onnx.load_from_string(ADD_MODEL))
    return {"version": onnx.__version__}


def onnxruntime() -> dict[str, Any]:
    """The providers this build of ONNX Runtime was compiled with."""
    import onnxruntime

    # Every CPU build lists the client of a remote service; it computes nothing here.
    providers = [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"]
    return {"version": onnxruntime.__version__, "providers": providers}


def provider(name: str) -> dict[str, Any]:
    """Run a model on one provider; ONNX Runtime falls back to the CPU without an error."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ADD_MODEL, options, providers=[name])
    (result,) = session.run(None, {"x": np.array([1, 2], dtype=np.float32)})
    return {"first": session.get_providers()[0], "right": result.tolist() == [2, 4]}


def openvino() -> dict[str, Any]:
    """The devices OpenVINO finds."""
    import openvino

    core = openvino.Core()
    devices = {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices}
    return {"version": openvino.__version__.split("-")[0], "devices": devices}


def _tensorrt(module: str) -> dict[str, Any]:
    import importlib

    library = importlib.import_module(module)
    # The class lives in the shared library, which the bindings alone do not have.
    value: dict[str, Any] = {"version": str(library.__version__), "builder": hasattr(library, "Builder")}
    capabilities = getattr(library, "ComputeCapability", None)
    if capabilities is not None:
        value["targets"] = [f"sm_{name[2:]}" for name in capabilities.__members__ if re.fullmatch(r"SM\d+", name)]
        value["plugin"] = _plugin_problem(library)
    return value


def _plugin_problem(library: Any) -> str:
    """Why the parser could not look up a plugin; "" where it can."""
    from vidgen.errors import VidgenError
    from vidgen.plugins.sepconv_trt.tensorrt.shim import make_alias

    try:
        make_alias(library)
    except VidgenError as error:
        return error.seen
    return ""


def cuda_library() -> dict[str, Any]:
    """The first device, through the library that the runtime would use."""
    from vidgen.errors import VidgenError
    from vidgen.runtime.cuda import open_cuda

    try:
        with open_cuda() as device:
            return device.describe()
    except VidgenError as error:
        return {"error": error.seen, "mend": error.fix}


def nvrtc() -> dict[str, Any]:
    """NVIDIA's run-time compiler, which makes the kernels of separable convolution."""
    from vidgen.errors import VidgenError
    from vidgen.plugins.sepconv_trt.cuda.nvrtc import Nvrtc

    try:
        return {"version": "{}.{}".format(*Nvrtc.load().version)}
    except VidgenError as error:
        return {"error": error.seen, "mend": error.fix}


def cuda() -> dict[str, Any]:
    """The CUDA driver and its devices, asked directly."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError as error:
        return {"absent": str(error)}
    if code := driver.cuInit(0):
        return {"error": code}
    number = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    values: dict[str, Any] = {"driver": f"{number.value // 1000}.{number.value % 1000 // 10}", "devices": []}
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        device, text, total = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(text, len(text), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
        capability = f"sm_{major.value}{minor.value}"
        values["devices"].append({"name": text.value.decode(), "capability": capability, "memory": total.value})
    return values


def compiler() -> dict[str, Any]:
    """Compile, load and call a small shared library, with OpenMP if it can be had."""
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    if not found:
        return {"absent": "no c++, g++ or clang++ on PATH"}
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "add.cpp"), Path(folder, "add.so")
        source.write_text(_CPP, encoding="ascii")
        for openmp in (["-fopenmp"], []):
            command = [found, "-O1", "-shared", "-fPIC", *openmp, str(source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                right = ctypes.CDLL(str(built)).add(10) == 45
                return {"path": found, "version": _first_line(version), "openmp": bool(openmp), "right": right}
    return {"path": found, "version": _first_line(version), "error": _first_line(done.stderr)}


def nvcc() -> dict[str, Any]:
    """The CUDA compiler."""
    found = shutil.which("nvcc") or shutil.which(
        "nvcc", path=os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")
    )
    if not found:
        return {"absent": "not on PATH"}
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if "release" in line]
    return {"path": found, "version": lines[0] if lines else None}


def codecs() -> dict[str, Any]:
    """Write a frame with each encoder and read it back, open each decoder, and ask Pillow for animated WebP."""
    import av
    import PIL
    import PIL.features

    av.logging.set_level(av.logging.PANIC)
    return {
        "av": av.__version__,
        "pillow": PIL.__version__,
        "encoders": [name for name, (pixels, decoder) in ENCODERS.items() if _round_trips(name, pixels, decoder)],
        "decoders": [name for name in DECODERS if _opens(name)],
        "webp": bool(PIL.features.check("webp")),
    }


def _opens(decoder: str) -> bool:
    import av

    try:
        av.CodecContext.create(decoder, "r").open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _round_trips(encoder: str, pixels: str, decoder: str) -> bool:
    from fractions import Fraction

    import av
    import numpy as np

    try:
        writer, reader = av.CodecContext.create(encoder, "w"), av.CodecContext.create(decoder, "r")
        assert isinstance(writer, av.VideoCodecContext) and isinstance(reader, av.VideoCodecContext)
        writer.width = writer.height = 64
        writer.pix_fmt = pixels
        writer.time_base = Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, dtype=np.uint8), "rgb24").reformat(format=pixels)
        frame.pts = 0
        packets = [*writer.encode(frame), *writer.encode(None)]
        reader.extradata = writer.extradata
        reader.width, reader.height, reader.pix_fmt = 64, 64, pixels
        frames = [read for packet in (*packets, None) for read in reader.decode(packet)]
        # Lossy codecs move a flat colour by a level or two.
        return len(frames) == 1 and abs(float(frames[0].to_ndarray(format="rgb24").mean()) - 200) < 8
    except (av.FFmpegError, ValueError):
        return False


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "torch": torch,
    "onnx": onnx,
    "onnxruntime": onnxruntime,
    "provider": provider,
    "openvino": openvino,
    "tensorrt": functools.partial(_tensorrt, "tensorrt"),
    "tensorrt_rtx": functools.partial(_tensorrt, "tensorrt_rtx"),
    "cuda": cuda,
    "cuda_library": cuda_library,
    "nvrtc": nvrtc,
    "compiler": compiler,
    "nvcc": nvcc,
    "codecs": codecs,
}


def main() -> None:
    """Run one probe and answer with one JSON object; a missing or broken library is an answer too."""
    replies = take_stdout()
    name, *arguments = sys.argv[1:]
    try:
        answer: dict[str, Any] = {"value": PROBES[name](*arguments)}
    except ModuleNotFoundError as error:
        answer = {"missing": error.name, "error": str(error)}
    except Exception as error:  # whatever a broken library raises is what the line must say
        answer = {"error": f"{type(error).__name__}: {error}"}
    replies.write(json.dumps(answer))
    replies.flush()
    # Some libraries crash while they are taken down; the answer is already out.
    os._exit(0)


if __name__ == "__main__":
    main()
