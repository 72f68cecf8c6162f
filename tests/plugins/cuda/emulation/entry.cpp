// One kernel, its text unchanged, behind a function that takes arguments as cuLaunchKernel does.
//
// KERNEL_TEXT is the file; KERNEL_ENTRY the kernel in it.

#include <utility>

#include "cuda_on_cpu.h"
#include KERNEL_TEXT

#define AS_TEXT(name) #name
#define NAME_OF(name) AS_TEXT(name)

namespace {

template <typename... Parameters, unsigned long... Index>
void call(void (*kernel)(Parameters...), void* const* arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<Parameters*>(arguments[Index])...);
}

template <typename... Parameters>
void call(void (*kernel)(Parameters...), void* const* arguments) {
    call(kernel, arguments, std::index_sequence_for<Parameters...>{});
}

template <typename... Parameters>
constexpr int count(void (*)(Parameters...)) {
    return sizeof...(Parameters);
}

}  // namespace

extern const char* const emulated_name = NAME_OF(KERNEL_ENTRY);
extern const int emulated_parameters = count(KERNEL_ENTRY);

// Each argument points to a value.
void emulated_thread(void* const* arguments) { call(KERNEL_ENTRY, arguments); }
