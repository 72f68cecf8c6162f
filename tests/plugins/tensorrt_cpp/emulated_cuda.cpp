// CUDA for tests of numbers: a launch runs the kernel on this CPU at once.

#include <cuda_runtime_api.h>

void emulate(const unsigned int* grid, const unsigned int* block, void* const* arguments);

extern "C" {

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t, cudaStream_t) {
  // The address that the list gave: there is one kernel in the program.
  if (kernel == nullptr) return cudaErrorNoKernelImageForDevice;
  const unsigned int its_grid[] = {grid.x, grid.y, grid.z};
  const unsigned int its_block[] = {block.x, block.y, block.z};
  emulate(its_grid, its_block, arguments);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel) {
  return kernel == nullptr ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "no such kernel in this program"; }
}
