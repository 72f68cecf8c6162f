// The kernels compiled into the library.
#pragma once

#include "decisions.h"

namespace vidgen {

Table compiled_kernels();
// What cudaLaunchKernel takes; `kernel` is a place in the table.
const void* kernel_address(int kernel);
// Names the text and the numbers that the kernels were compiled from.
const char* kernel_text();

}  // namespace vidgen
