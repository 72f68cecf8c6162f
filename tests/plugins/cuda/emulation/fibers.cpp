// The scheduler of fibers.h.

#include "fibers.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// The linker gives a section whose name is an identifier these two symbols; a kernel without shared memory has none.
extern char __start_cuda_shared[] __attribute__((weak));
extern char __stop_cuda_shared[] __attribute__((weak));

namespace emulation {
namespace {

constexpr size_t kStackBytes = 64 * 1024;

struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    uint3 index;
    bool started, done;
};

std::vector<Fiber> fibers;
Fiber* current = nullptr;
jmp_buf scheduler;
void* const* thread_arguments = nullptr;

void run_current() {
    emulated_thread(thread_arguments);
    current->done = true;
    _longjmp(scheduler, 1);
}

// ucontext gives each fiber its stack; later switches go through setjmp, which makes no system call.
void prepare_fibers(size_t count) {
    static char* stacks = nullptr;
    if (count > fibers.size()) {
        void* memory = mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) fail("no memory for the stacks of a block");
        stacks = static_cast<char*>(memory);
        fibers.resize(count);
    }
    for (size_t index = 0; index < count; ++index) {
        Fiber& fiber = fibers[index];
        const unsigned int linear = static_cast<unsigned int>(index);
        fiber.started = fiber.done = false;
        fiber.index = {linear % blockDim.x, linear / blockDim.x % blockDim.y, linear / blockDim.x / blockDim.y};
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = stacks + index * kStackBytes;
        fiber.start.uc_stack.ss_size = kStackBytes;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, run_current, 0);
    }
}

void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.resume, 1);
    fiber.started = true;
    setcontext(&fiber.start);
}

// From barrier to barrier, each thread in turn.
void run_block(const std::vector<size_t>& order) {
    if (__start_cuda_shared != nullptr) {
        std::memset(__start_cuda_shared, 0xff, static_cast<size_t>(__stop_cuda_shared - __start_cuda_shared));
    }
    prepare_fibers(order.size());
    for (size_t finished = 0; finished == 0;) {
        for (const size_t index : order) {
            resume(fibers[index]);
            finished += fibers[index].done;
        }
        if (finished != 0 && finished != order.size()) fail("threads returned while others wait at a barrier");
    }
}

}  // namespace

void fail(const char* what) {
    std::fprintf(stderr, "%s: %s, in block (%u, %u, %u), thread (%u, %u, %u)\n", emulated_name, what, blockIdx.x,
                 blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    std::fflush(stderr);
    _exit(3);
}

void launch(dim3 grid, dim3 block, Order kind, unsigned int seed, void* const* arguments) {
    thread_arguments = arguments;
    gridDim = grid;
    blockDim = block;
    std::vector<size_t> order(static_cast<size_t>(block.x) * block.y * block.z);
    std::iota(order.begin(), order.end(), size_t{0});
    if (kind == Order::reverse) std::reverse(order.begin(), order.end());
    std::mt19937 random(seed);
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
                if (kind == Order::shuffled) std::shuffle(order.begin(), order.end(), random);
                run_block(order);
            }
        }
    }
}

}  // namespace emulation

void __syncthreads() {
    if (_setjmp(emulation::current->resume) == 0) _longjmp(emulation::scheduler, 1);
}
