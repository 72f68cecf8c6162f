// CUDA for tests: launches are written down, and fail when they are told to. Kernels are their names.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>

#define VIDGEN_KERNEL(entry, ...)                          \
  extern "C" const void* entry##_address();                \
  extern "C" const void* entry##_address() { return #entry; }
#include "kernels.inc"

// As the tests read it.
struct Record {
  int32_t launches, loads, cleared;
  uint32_t grid[3], block[3];
  uint64_t shared, stream;
  uint64_t tensors[4];
  int32_t sizes[3];
  char kernel[128];
};

namespace {
Record record;
cudaError_t next = cudaSuccess;
}  // namespace

extern "C" {

__attribute__((visibility("default"))) Record* cuda_record() { return &record; }
__attribute__((visibility("default"))) void cuda_fail_with(int status) { next = static_cast<cudaError_t>(status); }

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
  ++record.launches;
  const uint32_t its_grid[] = {grid.x, grid.y, grid.z};
  const uint32_t its_block[] = {block.x, block.y, block.z};
  std::memcpy(record.grid, its_grid, sizeof its_grid);
  std::memcpy(record.block, its_block, sizeof its_block);
  record.shared = shared;
  record.stream = reinterpret_cast<uint64_t>(stream);
  // Three pointers, three sizes, one pointer.
  const int places[] = {0, 1, 2, 6};
  for (int index = 0; index < 4; ++index) {
    std::memcpy(&record.tensors[index], arguments[places[index]], sizeof(void*));
  }
  for (int index = 0; index < 3; ++index) {
    std::memcpy(&record.sizes[index], arguments[3 + index], sizeof(int));
  }
  std::strncpy(record.kernel, static_cast<const char*>(kernel), sizeof record.kernel - 1);
  return next;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  ++record.loads;
  attributes->numRegs = 80;
  return next;
}

cudaError_t cudaGetLastError() {
  ++record.cleared;
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t status) { return status == cudaSuccess ? "no error" : "a planted error"; }
}
