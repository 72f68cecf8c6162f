"""The launcher that torch's operator uses, under the host driver: real cuda.core, torch's own CUDA left out."""

from __future__ import annotations

import contextlib
import ctypes
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from host_cuda import inside

from vidgen.plugins.sepconv_trt.cuda.compile import compile_kernel
from vidgen.plugins.sepconv_trt.cuda.launch import CudaCore
from vidgen.plugins.sepconv_trt.geometry import launch_geometry
from vidgen.runtime.cuda import open_cuda


def convolve(arrays: list[np.ndarray]) -> np.ndarray:
    """One launch through ``CudaCore`` on the stream that torch is said to be on."""
    batch, channels, height, width = (*arrays[0].shape[:2], *arrays[1].shape[2:])
    launch = launch_geometry("forward", batch, channels, height, width, arrays[1].shape[1], "float32")
    output = np.zeros((batch, channels, height, width), np.float32)
    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(open_cuda(0, "cuda-python"))
        handle = stack.enter_context(inside.foreign_stream())
        stream = SimpleNamespace(cuda_stream=handle)
        stack.enter_context(mock.patch.object(torch.cuda, "device", contextlib.nullcontext))
        stack.enter_context(mock.patch.object(torch.cuda, "current_stream", lambda device: stream))
        memory = [stack.enter_context(cuda.allocate(array.nbytes)) for array in (*arrays, output)]
        borrowed = stack.enter_context(cuda.borrow(handle))
        for array, where in zip(arrays, memory):
            cuda.to_device(where.address, array, borrowed)
        driver = CudaCore()
        loaded = driver.load(compile_kernel(launch.plan, cuda.architecture), 0)
        addresses = [where.address for where in memory]
        sizes = [ctypes.c_int32(size) for size in (channels, height, width)]
        driver.launch(loaded, launch, [*addresses[:3], *sizes, addresses[3]], 0)
        cuda.to_host(output, addresses[3], borrowed)
        borrowed.synchronize()
    return output
