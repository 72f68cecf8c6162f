// One emulated kernel as a shared object that the host driver launches: its parameters, and the way into it.
//
// Compiled with the emulator's entry.cpp (which includes the kernel) as KERNEL_SOURCE.

#include KERNEL_SOURCE

#include <type_traits>

#include "fibers.h"

#define VISIBLE extern "C" __attribute__((visibility("default")))

namespace {

template <typename Parameter>
constexpr char kind() {
    if constexpr (!std::is_pointer_v<Parameter>) return 'v';
    else if constexpr (std::is_const_v<std::remove_pointer_t<Parameter>>) return 'r';
    else return 'w';
}

template <typename... Parameters>
struct Described {
    static constexpr unsigned sizes[] = {sizeof(Parameters)...};
    static constexpr char kinds[] = {kind<Parameters>()...};
};

template <typename... Parameters>
constexpr Described<Parameters...> describe(void (*)(Parameters...)) {
    return {};
}

using Kernel = decltype(describe(KERNEL_ENTRY));

}  // namespace

VISIBLE const int host_kernel_parameters = emulated_parameters;
VISIBLE const unsigned* const host_kernel_sizes = Kernel::sizes;
VISIBLE const char* const host_kernel_kinds = Kernel::kinds;

// Threads run in another order at every launch.
VISIBLE void host_kernel_launch(const unsigned* grid, const unsigned* block, unsigned seed, void* const* arguments) {
    emulation::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, emulation::Order::shuffled, seed,
                      arguments);
}
