// Runs a grid on a CPU: one fiber a thread, one block after the other, threads in an order that the caller chooses.
//
// Shared memory holds NaN when a block starts. A barrier that some threads do not reach ends the process with a message.
#pragma once

#include "cuda_on_cpu.h"

extern const char* const emulated_name;
extern const int emulated_parameters;
void emulated_thread(void* const* arguments);

namespace emulation {

enum class Order { forward, reverse, shuffled };

void launch(dim3 grid, dim3 block, Order order, unsigned int seed, void* const* arguments);

// Says what happened, in which kernel, block and thread, and ends the process.
[[noreturn]] void fail(const char* what);

}  // namespace emulation
