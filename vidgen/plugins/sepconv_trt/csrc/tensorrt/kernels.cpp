// The table of kernels, from the list that the build writes (vidgen.plugins.sepconv_trt.cuda.instances).

#include "kernels.h"

// float32 and the like are words of the list, not names of this file.
#define VIDGEN_ELEMENT_float32 Element::kFloat32
#define VIDGEN_ELEMENT_float16 Element::kFloat16
#define VIDGEN_ELEMENT_bfloat16 Element::kBFloat16

#define VIDGEN_KERNEL(entry, taps, dtype, channels, block_x, block_y, pixels) extern "C" const void* entry##_address();
#include "kernels.inc"
#undef VIDGEN_KERNEL

namespace vidgen {
namespace {

const Plan kPlans[] = {
#define VIDGEN_KERNEL(entry, taps, dtype, channels, block_x, block_y, pixels) \
  {#entry, taps, VIDGEN_ELEMENT_##dtype, channels, block_x, block_y, pixels},
#include "kernels.inc"
#undef VIDGEN_KERNEL
};

const void* (*const kAddresses[])() = {
#define VIDGEN_KERNEL(entry, taps, dtype, channels, block_x, block_y, pixels) &entry##_address,
#include "kernels.inc"
#undef VIDGEN_KERNEL
};

}  // namespace

Table compiled_kernels() { return {kPlans, static_cast<int>(sizeof kPlans / sizeof kPlans[0])}; }

const void* kernel_address(int kernel) { return kAddresses[kernel](); }

const char* kernel_text() { return VIDGEN_KERNEL_TEXT; }

}  // namespace vidgen
