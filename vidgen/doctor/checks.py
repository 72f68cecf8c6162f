"""Turns what was found into lines: what is right, what is missing, and what mends it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidgen import __version__
from vidgen.doctor import Check, Status
from vidgen.doctor.children import Answer, ask
from vidgen.doctor.engine_checks import engine_checks
from vidgen.doctor.machine import Machine, machine
from vidgen.doctor.packages import Requirement, installed, older, requirements
from vidgen.doctor.probes import DECODERS, ENCODERS
from vidgen.doctor.silence import broken, silent

GIB = 1 << 30
#: Extras without which a CPU can neither train and export, nor run what was exported.
NEEDED_EXTRAS = ("", "torch", "cpu")
#: Extras that are tools of developers, or bundles of the others.
SKIPPED_EXTRAS = ("dev", "all")
#: Distributions that a probe loads -> its name; their line says more than a version.
PROBED = {
    "torch": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "pycuda": "cuda_library",
    "cuda-bindings": "cuda_library",
    "cuda-core": "cuda_library",
    "nvidia-cuda-nvrtc": "nvrtc",
}
#: One name for two distributions that bring the same modules, or whose probe has another line.
HIDDEN = ("av", "pillow", "onnxruntime-gpu", *PROBED)
LITTLE_SPACE = 2 * GIB


def all_checks(timeout: float) -> list[Check]:
    """Every check, in the order they are shown."""
    names = (
        "torch",
        "onnx",
        "onnxruntime",
        "openvino",
        "codecs",
        "compiler",
        "nvcc",
        "nvrtc",
        "cuda",
        "cuda_library",
        "tensorrt",
        "tensorrt_rtx",
    )
    answers = dict(zip(names, ask([(name,) for name in names], timeout)))
    providers = list((answers["onnxruntime"].value or {}).get("providers", []))
    tried = dict(zip(providers, ask([("provider", name) for name in providers], timeout)))
    return [
        python_check(),
        vidgen_check(),
        *package_checks(requirements()),
        *machine_checks(machine()),
        *disk_checks(),
        codec_check(answers["codecs"]),
        torch_check(answers["torch"]),
        _library("onnx", answers["onnx"], "torch", lambda value: value["version"]),
        onnxruntime_check(answers["onnxruntime"]),
        *(provider_check(name, answer) for name, answer in tried.items()),
        _library("openvino", answers["openvino"], "openvino", _openvino_devices, needed=False),
        compiler_check(answers["compiler"]),
        *engine_checks(answers),
    ]


def python_check() -> Check:
    """The interpreter: its version and word size."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.maxsize < 1 << 32:
        return Check("python", "missing", f"{found}, 32 bits", "install a 64-bit Python", needed=True)
    return Check("python", "ok", found, needed=True)


def vidgen_check() -> Check:
    """Whether vidgen itself is installed, and from where it runs."""
    where = Path(__file__).parents[1]
    if installed("vidgen"):
        return Check("vidgen", "ok", f"{__version__} at {where}")
    return Check("vidgen", "warning", f"{__version__} at {where}, not installed", f"pip install -e {where.parent}")


def package_checks(wanted: list[Requirement]) -> Iterator[Check]:
    """A line for each package that is only looked up, not loaded."""
    for requirement in wanted:
        if requirement.extra in SKIPPED_EXTRAS or requirement.name in HIDDEN:
            continue
        needed = requirement.extra in NEEDED_EXTRAS
        version = installed(requirement.name)
        mend = f"pip install -U '{requirement.name}>={requirement.least}'" if requirement.least else ""
        if not version:
            yield Check(requirement.name, "missing", "not installed", _install(requirement.extra, mend), needed)
        elif older(version, requirement.least):
            yield Check(requirement.name, "warning", f"{version}, expected {requirement.least} or newer", mend, needed)
        else:
            yield Check(requirement.name, "ok", version, needed=needed)


def _install(extra: str, otherwise: str = "") -> str:
    return f"pip install 'vidgen[{extra}]'" if extra else otherwise or "pip install vidgen"


def machine_checks(found: Machine) -> Iterator[Check]:
    """Processor and memory."""
    features = ", ".join(found.features) or "none of AVX2, AVX-512, NEON"
    text = f"{found.cpu}, {found.usable:g} of {found.cores} cores usable, {features}"
    slow = platform.machine().lower() in ("x86_64", "amd64") and "AVX2" not in found.features
    mend = "use a machine or a virtual processor type with AVX2; without it all runs at a fraction of the speed"
    yield Check("processor", "warning" if slow else "ok", text, mend if slow else "")
    if found.memory is None or found.available is None:
        yield Check("memory", "ok", "unknown")
        return
    text = f"{found.available / GIB:.1f} GiB free of {found.memory / GIB:.1f}"
    little = found.available < LITTLE_SPACE
    yield Check(
        "memory", "warning" if little else "ok", text, "close other programs, or use --batch 1" if little else ""
    )


def disk_checks() -> Iterator[Check]:
    """Free space and permission in the current and the temporary folder."""
    for name, folder in (("disk", _current_folder()), ("temporary folder", _temporary_folder())):
        if folder is None:
            mend = "cd to a folder that exists" if name == "disk" else "export TMPDIR=~/tmp; mkdir -p ~/tmp"
            yield Check(name, "warning", "no usable folder", mend)
            continue
        free = shutil.disk_usage(folder).free
        text, mend = f"{free / GIB:.1f} GiB free in {folder}", ""
        if not os.access(folder, os.W_OK):
            text, mend = f"{text}, which cannot be written", "cd to a folder of your own"
        elif free < LITTLE_SPACE:
            mend = f"du -xh {folder} | sort -h | tail   (shows what takes the space)"
        yield Check(name, "warning" if mend else "ok", text, mend)


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed while the shell stood in it
        return None


def _temporary_folder() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return None


def _library(
    name: str, answer: Answer, extra: str, text: Callable[[Mapping[str, Any]], str], *, needed: bool = True
) -> Check:
    """A library that a probe has loaded."""
    least = next((wanted.least for wanted in requirements() if wanted.name == name), "")
    if answer.value is None:
        return broken(name, answer, _install(extra), needed=needed)
    version = str(answer.value["version"])
    if older(version, least):
        text_ = f"{text(answer.value)}, expected {least} or newer"
        return Check(name, "warning", text_, f"pip install -U '{name}>={least}'", needed)
    return Check(name, "ok", text(answer.value), needed=needed)


def torch_check(answer: Answer) -> Check:
    """PyTorch, and whether it can use CUDA."""

    def text(value: Mapping[str, Any]) -> str:
        return f"{value['version']}, {value['threads']} threads, CUDA: {value['cuda'] or 'no'}"

    return _library("torch", answer, "torch", text)


def onnxruntime_check(answer: Answer) -> Check:
    """ONNX Runtime itself; its providers have lines of their own."""
    return _library("onnxruntime", answer, "cpu", lambda value: value["version"])


def provider_check(name: str, answer: Answer) -> Check:
    """A provider that ONNX Runtime lists: whether it really ran a model."""
    short = f"onnxruntime {name.removesuffix('ExecutionProvider')}"
    needed = name == "CPUExecutionProvider"
    bad: Status = "missing" if needed else "warning"
    mend = "pip install --force-reinstall onnxruntime" if needed else "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if answer.value is None:
        return silent(short, answer, mend, needed=needed)
    if answer.value["first"] != name:
        found = f"listed, but falls back to {answer.value['first']}: its libraries do not load"
        return Check(short, bad, found, mend, needed)
    if not answer.value["right"]:
        return Check(short, bad, "computes 1 + 1 wrongly", mend, needed)
    return Check(short, "ok", "runs a model", needed=needed)


def _openvino_devices(value: Mapping[str, Any]) -> str:
    devices = ", ".join(f"{name} ({full})" for name, full in value["devices"].items())
    return f"{value['version']}, devices: {devices or 'none'}"


def codec_check(answer: Answer) -> Check:
    """PyAV and Pillow: what can be written and read."""
    reinstall = "pip install --force-reinstall av pillow"
    if answer.value is None:
        absent = broken("av", answer, "pip install 'av>=14' 'pillow>=10.3'", needed=True)
        return replace(absent, name="codecs", found=f"av: {absent.found}")
    value = answer.value
    lacking = [f"{name} (write)" for name in ENCODERS if name not in value["encoders"]]
    lacking += [f"{name} (read)" for name in DECODERS if name not in value["decoders"]]
    lacking += [] if value["webp"] else ["webp"]
    found = f"av {value['av']} writes {', '.join(value['encoders'])}; reads {', '.join(value['decoders'])}"
    found += f"; pillow {value['pillow']}"
    if not lacking:
        return Check("codecs", "ok", found, needed=True)
    lost = "libx264" not in value["encoders"] or "h264" not in value["decoders"]
    return Check("codecs", "missing" if lost else "warning", f"{found}; lacks {', '.join(lacking)}", reinstall, True)


def compiler_check(answer: Answer) -> Check:
    """A C++ compiler whose output loads: it builds the kernel of separable convolution at first use."""
    mend = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install g++   (or your system's package)"
    if answer.value is None:
        return silent("compiler", answer, mend)
    value = answer.value
    if "absent" in value:
        return Check("compiler", "missing", f"{value['absent']}: separable convolution runs in its slow form", mend)
    if "error" in value or not value["right"]:
        return Check("compiler", "warning", f"{value['version']} fails: {value.get('error', 'wrong result')}", mend)
    if not value["openmp"]:
        return Check("compiler", "warning", f"{value['version']}, without OpenMP: one thread only", mend)
    return Check("compiler", "ok", f"{value['version']}, with OpenMP")
