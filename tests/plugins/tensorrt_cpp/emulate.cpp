// Between the two worlds: the fibers of tests/plugins/cuda/emulation, and addresses of the list's kernels.

#include <cstring>

#include "fibers.h"

// Only the kernel that the program holds has an address.
#define VIDGEN_KERNEL(entry, ...)           \
    extern "C" const void* entry##_address(); \
    extern "C" const void* entry##_address() { return std::strcmp(#entry, emulated_name) == 0 ? emulated_name : nullptr; }
#include "kernels.inc"

void emulate(const unsigned int* grid, const unsigned int* block, void* const* arguments) {
    const dim3 its_grid{grid[0], grid[1], grid[2]}, its_block{block[0], block[1], block[2]};
    emulation::launch(its_grid, its_block, emulation::Order::shuffled, 7, arguments);
}
