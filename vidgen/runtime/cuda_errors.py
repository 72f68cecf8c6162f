"""What CUDA's errors mean for the user, and what to do about each."""

from __future__ import annotations

from vidgen.errors import BackendError

#: CUDA's name of an error -> its likely cause, what to do.
ADVICE: dict[str, tuple[str, str]] = {
    "CUDA_ERROR_INVALID_VALUE": (
        "an address, a size or a handle that was given back already, or never was one",
        "report it, with the command that led here",
    ),
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "the batch is too large for this GPU, or other processes hold its memory",
        "use a smaller --batch, or end what nvidia-smi shows beside this",
    ),
    "CUDA_ERROR_STUB_LIBRARY": (
        "the libcuda that was found is the toolkit's, made to link against",
        "take the toolkit's stubs folder out of LD_LIBRARY_PATH",
    ),
    "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER": (
        "the NVIDIA driver is older than the CUDA library here",
        "update the NVIDIA driver (nvidia-smi shows its version), or install a library made for it",
    ),
    "CUDA_ERROR_DEVICE_UNAVAILABLE": (
        "another process has the GPU for itself (exclusive mode), or it is being reset",
        "end that process (nvidia-smi shows it), or use another --device",
    ),
    "CUDA_ERROR_NO_DEVICE": (
        "this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it",
        "nvidia-smi   (shows what the driver sees)",
    ),
    "CUDA_ERROR_INVALID_DEVICE": ("no GPU has this number", "nvidia-smi -L   (lists them, from 0 on)"),
    "CUDA_ERROR_INVALID_IMAGE": (
        "the compiled kernel is cut off, or not one",
        "compile it again: export the model anew",
    ),
    "CUDA_ERROR_INVALID_CONTEXT": (
        "CUDA is used from another thread than the one that opened it, or after it was closed",
        "open it on the thread that uses it",
    ),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (
        "the kernel was compiled for GPUs of another architecture",
        "export again with this GPU among --gpu (vidgen doctor shows its architecture)",
    ),
    "CUDA_ERROR_INVALID_PTX": (
        "PTX for a later architecture than this GPU's, or damaged",
        "export again with this GPU among --gpu (vidgen doctor shows its architecture)",
    ),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": (
        "PTX of a newer compiler than the driver knows",
        "update the NVIDIA driver, or export again with this GPU among --gpu",
    ),
    "CUDA_ERROR_NOT_FOUND": (
        "the loaded image has no kernel of that name",
        "export the model anew: the kernel was made by another version",
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": (
        "a kernel or a copy used memory that is not its own; the GPU is lost to this process",
        "run it under compute-sanitizer, and report it",
    ),
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (
        "the kernel wants more registers, threads or shared memory than this GPU has",
        "report it, with the GPU's name",
    ),
    "CUDA_ERROR_LAUNCH_TIMEOUT": (
        "the GPU also drives a screen, and the system ends long kernels there",
        "use a smaller --batch, or a GPU without a screen",
    ),
    "CUDA_ERROR_LAUNCH_FAILED": (
        "a kernel failed; the GPU is lost to this process",
        "run it under compute-sanitizer, and report it",
    ),
    "CUDA_ERROR_ECC_UNCORRECTABLE": ("the GPU's memory has a fault", "reboot; if it comes back, have the GPU checked"),
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": (
        "something inside a captured block cannot be captured, such as waiting for the device or taking memory",
        "do it before the block, or run without CUDA graphs",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": (
        "something inside a captured block cannot be captured",
        "run once before capturing, or run without CUDA graphs",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_UNJOINED": (
        "work went to another stream inside a captured block, which did not wait for it",
        "let the captured stream wait for the other one before the block ends",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_ISOLATION": (
        "a captured block waits for work that was given before it",
        "wait before the block",
    ),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        "the driver was updated while the system ran: its two halves differ",
        "reboot",
    ),
    "CUDA_ERROR_SYSTEM_NOT_READY": ("a driver service is not running", "start nvidia-persistenced or fabric manager"),
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": (
        "CUDA's forward compatibility package does not know this GPU",
        "take its folder out of LD_LIBRARY_PATH, or update the NVIDIA driver",
    ),
    "CUDA_ERROR_NOT_SUPPORTED": ("this GPU or driver lacks what was asked for", "vidgen doctor   (shows what is here)"),
    "CUDA_ERROR_UNKNOWN": ("the driver is not in order, often after a suspended system woke up", "reboot"),
    # Of the runtime API, which libraries with a runtime of their own report.
    "cudaErrorInsufficientDriver": (
        "the NVIDIA driver is older than the CUDA library here, or there is none",
        "update the NVIDIA driver (nvidia-smi shows its version), or install a library made for it",
    ),
}
#: Numbers that the driver's own list of errors leaves out.
RUNTIME_ERRORS: dict[int, str] = {35: "cudaErrorInsufficientDriver"}


def cuda_error(doing: str, name: str, detail: str = "") -> BackendError:
    """An error of CUDA's as ours.

    Args:
        doing: what failed, as in ``"cannot ..."``: ``"allocate 3 MiB on the device"``.
        name: CUDA's own, e.g. ``"CUDA_ERROR_OUT_OF_MEMORY"``.
        detail: what is known besides, e.g. how much memory is free.
    """
    cause, fix = ADVICE.get(name, ("CUDA refuses the call", "vidgen doctor   (shows driver, library and device)"))
    return BackendError(f"cannot {doing}", seen=f"{name}: {detail}" if detail else name, cause=cause, fix=fix)


def size_text(nbytes: int) -> str:
    """A size for people: ``"3.0 MiB"``, and ``"12 bytes"`` where that says more."""
    return f"{nbytes / 2**20:.1f} MiB" if nbytes >= 2**20 // 10 else f"{nbytes} bytes"
