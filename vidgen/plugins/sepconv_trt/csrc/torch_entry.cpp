// Plain C entry points for ctypes, on OpenMP threads where the compiler has them.

#include <algorithm>
#include <atomic>
#include <new>

#include "kernels.h"

#define VIDGEN_EXPORT extern "C" __attribute__((visibility("default")))

namespace vidgen {
namespace {

// Multiply-adds that are worth a thread of their own.
constexpr int64_t kWorkPerThread = 250000;

int64_t useful_threads(int64_t threads, int64_t work) {
  return std::max<int64_t>(1, std::min(threads, work / kWorkPerThread + 1));
}

// Calls body(index) for [0, count) on up to `threads` threads; false if memory ran out.
template <typename Body>
bool parallel(int64_t count, int64_t threads, const Body& body) {
  std::atomic<bool> enough{true};
  const auto guarded = [&](int64_t index) {
    // An exception must not leave a parallel region.
    try {
      body(index);
    } catch (const std::bad_alloc&) {
      enough = false;
    }
  };
  if (threads <= 1 || count <= 1) {
    for (int64_t index = 0; index < count; ++index) guarded(index);
  } else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast<int>(threads))
    for (int64_t index = 0; index < count; ++index) guarded(index);
  }
  return enough;
}

// Calls body(begin, end) for parts of [0, rows).
template <typename Body>
bool parallel_rows(int64_t rows, int64_t threads, const Body& body) {
  const int64_t parts = threads <= 1 ? 1 : std::min(rows, 4 * threads);
  return parallel(parts, threads, [&](int64_t part) { body(rows * part / parts, rows * (part + 1) / parts); });
}

template <typename T>
int run_forward(const Forward<T>& task, int64_t threads) {
  const Sizes& s = task.sizes;
  if (s.empty()) return 0;
  const bool enough = parallel_rows(s.batch * s.height, useful_threads(threads, s.work()),
                                    [&](int64_t begin, int64_t end) { forward(task, begin, end); });
  return enough ? 0 : 1;
}

template <typename T>
bool run_input_gradient(const InputGradient<T>& task, int64_t threads) {
  const Sizes& s = task.sizes;
  const int64_t rows = s.input_height(), columns = s.input_width();
  const int64_t across = std::max<int64_t>(1, columns / 64);
  // Each part repeats the preparation of K - 1 rows: no more parts than threads need.
  const int64_t wanted = threads <= 1 ? 1 : (2 * threads + s.batch * across - 1) / (s.batch * across);
  const int64_t down = std::max<int64_t>(1, std::min(wanted, rows / (2 * s.taps)));
  return parallel(s.batch * across * down, threads, [&](int64_t index) {
    const int64_t n = index / (across * down), column = index / down % across, part = index % down;
    input_gradient(task, Tile{n, columns * column / across, columns * (column + 1) / across, rows * part / down,
                              rows * (part + 1) / down});
  });
}

template <typename T>
int run_backward(const InputGradient<T>& of_input, const KernelGradient<T>& of_kernels, int64_t threads) {
  const Sizes& s = of_input.sizes;
  if (s.empty()) return 0;
  threads = useful_threads(threads, s.work());
  bool enough = of_input.grad_input == nullptr || run_input_gradient(of_input, threads);
  if (enough && of_kernels.grad_vertical != nullptr)
    enough = parallel_rows(s.batch * s.height, threads,
                           [&](int64_t begin, int64_t end) { kernel_gradient(of_kernels, begin, end); });
  return enough ? 0 : 1;
}

}  // namespace
}  // namespace vidgen

// Each returns 0, or 1 where memory ran out. A gradient that is not wanted is a null pointer.
#define VIDGEN_ENTRIES(SUFFIX, T)                                                                                     \
  VIDGEN_EXPORT int vidgen_forward_##SUFFIX(const T* input, const T* vertical, const T* horizontal, T* output,        \
                                            int64_t batch, int64_t channels, int64_t taps, int64_t height,            \
                                            int64_t width, int64_t threads) {                                         \
    const vidgen::Sizes sizes{batch, channels, taps, height, width};                                                  \
    return vidgen::run_forward<T>({input, vertical, horizontal, output, sizes}, threads);                             \
  }                                                                                                                   \
  VIDGEN_EXPORT int vidgen_backward_##SUFFIX(const T* grad, const T* input, const T* vertical, const T* horizontal,   \
                                             T* grad_input, T* grad_vertical, T* grad_horizontal, int64_t batch,      \
                                             int64_t channels, int64_t taps, int64_t height, int64_t width,           \
                                             int64_t threads) {                                                       \
    const vidgen::Sizes sizes{batch, channels, taps, height, width};                                                  \
    return vidgen::run_backward<T>(                                                                                   \
        {grad, vertical, horizontal, grad_input, sizes},                                                              \
        {grad, input, vertical, horizontal, grad_vertical, grad_horizontal, sizes}, threads);                         \
  }

VIDGEN_ENTRIES(float32, float)
VIDGEN_ENTRIES(float64, double)
