// What kernel text sees in place of CUDA when it is compiled for a CPU. Light, since every kernel includes it.
//
// fibers.h runs the threads; half_on_cpu.cpp has the conversions. Not covered: warp-level operations, atomics, memory
// spaces other than global and shared, speed.
#pragma once

struct uint3 {
    unsigned int x, y, z;
};

struct dim3 {
    unsigned int x = 1, y = 1, z = 1;
};

// Defined by fibers.cpp, so that they are read anew after a switch from thread to thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// A section of its own, so that all shared memory of a kernel can be found and poisoned between blocks.
#define __shared__ static __attribute__((section("cuda_shared")))

void __syncthreads();

float half_to_float(unsigned short bits);
unsigned short float_to_half(float value);

static inline unsigned int __float_as_uint(float value) {
    unsigned int bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned int bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
