"""The lines on CUDA and TensorRT: what builds engines here, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vidgen.doctor import Check
from vidgen.doctor.children import Answer
from vidgen.doctor.silence import broken, silent

GIB = 1 << 30


def engine_checks(answers: Mapping[str, Answer]) -> Iterator[Check]:
    """A line each: compilers, driver, CUDA for Python, both libraries, and what they come to."""
    yield nvcc_check(answers["nvcc"])
    yield nvrtc_check(answers["nvrtc"])
    yield cuda_check(answers["cuda"])
    yield cuda_library_check(answers["cuda_library"])
    yield tensorrt_check("tensorrt", answers["tensorrt"], "pip install 'vidgen[gpu]'")
    yield tensorrt_check("tensorrt_rtx", answers["tensorrt_rtx"], "pip install 'vidgen[rtx]'")
    yield engines_check(answers)


def nvcc_check(answer: Answer) -> Check:
    """NVIDIA's compiler; only CUDA kernels built ahead of time need it."""
    mend = "install the CUDA toolkit and put its bin folder on PATH   (only to compile CUDA kernels)"
    if answer.value is None:
        return silent("nvcc", answer, mend)
    if "absent" in answer.value:
        return Check("nvcc", "missing", answer.value["absent"], mend)
    if not answer.value["version"]:
        return Check("nvcc", "warning", f"{answer.value['path']} does not run", mend)
    return Check("nvcc", "ok", f"{answer.value['version']} at {answer.value['path']}")


def nvrtc_check(answer: Answer) -> Check:
    """NVIDIA's run-time compiler: it makes the CUDA kernels of separable convolution."""
    mend = "pip install nvidia-cuda-nvrtc   (only for separable convolution on a GPU)"
    if answer.value is None:
        return silent("NVRTC", answer, mend)
    if "error" in answer.value:
        return Check("NVRTC", "missing", answer.value["error"], mend)
    return Check("NVRTC", "ok", str(answer.value["version"]))


def cuda_check(answer: Answer) -> Check:
    """The CUDA driver and its devices."""
    mend = "install NVIDIA's driver, then run: nvidia-smi   (needs an NVIDIA GPU)"
    if answer.value is None:
        return silent("CUDA driver", answer, mend)
    value = answer.value
    if "absent" in value:
        return Check("CUDA driver", "missing", "no driver", mend)
    if "error" in value:
        return Check("CUDA driver", "warning", f"cuInit fails with error {value['error']}", "nvidia-smi")
    devices = "; ".join(f"{d['name']} {d['capability']} {d['memory'] / GIB:.0f} GiB" for d in value["devices"])
    found = f"CUDA {value['driver']}, {devices or 'no device'}"
    return Check("CUDA driver", "ok" if devices else "warning", found, "" if devices else "nvidia-smi")


def cuda_library_check(answer: Answer) -> Check:
    """pycuda or cuda-python, and whether it opens the first device."""
    name = "CUDA for Python"
    if answer.value is None:
        return silent(name, answer, "pip install 'vidgen[gpu]'")
    if "error" in answer.value:
        return Check(name, "missing", answer.value["error"], answer.value["mend"])
    return Check(name, "ok", ", ".join(f"{key} {value}" for key, value in answer.value.items()))


def tensorrt_check(name: str, answer: Answer, install: str) -> Check:
    """TensorRT or TensorRT-RTX: installed, whether it loads, and what it builds for."""
    if answer.value is None:
        return broken(name, answer, install)
    value = answer.value
    if not value["builder"]:
        return Check(name, "warning", f"{value['version']}, bindings without the library", install)
    found = str(value["version"])
    if value.get("targets"):
        found += f", builds for {', '.join(value['targets'])}"
    if value.get("plugin"):
        return Check(name, "warning", f"{found}; no plugins: {value['plugin']}", "apt-get install g++")
    return Check(name, "ok", found)


def engines_check(answers: Mapping[str, Answer]) -> Check:
    """What the others come to: whether engines can be built, and run, on this machine."""
    device = (answers["cuda_library"].value or {}).get("error", "") == "" and answers["cuda_library"].value is not None
    whole = [name for name in ("tensorrt", "tensorrt_rtx") if (answers[name].value or {}).get("builder")]
    builders = [name for name in whole if device or (answers[name].value or {}).get("targets")]
    if not builders:
        return Check("engines", "missing", "neither built nor run here", "pip install 'vidgen[rtx]'")
    built = f"built by {' and '.join(builders)}"
    if not device:
        return Check("engines", "warning", f"{built}, without a GPU; not run here", "run them on a machine with a GPU")
    return Check("engines", "ok", f"{built}, and run")
