// A stand-in for CUDA's header, for tests alone: just what the plugin calls. fake_cuda.cpp defines it.
#pragma once

#include <cstddef>

struct CUstream_st;
typedef CUstream_st* cudaStream_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorNoKernelImageForDevice = 209 };

struct dim3 {
  unsigned int x, y, z;
  dim3(unsigned int its_x = 1, unsigned int its_y = 1, unsigned int its_z = 1) : x(its_x), y(its_y), z(its_z) {}
};

struct cudaFuncAttributes {
  int numRegs;
};

extern "C" {
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t status);
}
