// The gradient of both kernels: rows of them, a vector of columns at a time.
//
// With S[j][i] = sum over channels of grad * input: the gradient of vertical[j] is the sum over i of S[j][i] *
// horizontal[i], that of horizontal[i] the sum over j of S[j][i] * vertical[j].

#include "kernels.h"
#include "vectors.h"

namespace vidgen {
namespace {

// S[j][i .. i + COUNT) for one block of columns.
template <typename T, int L, int COUNT>
VIDGEN_INLINE void correlate(const T* grad, int64_t plane, const T* window, int64_t input_plane, int64_t channels,
                             typename Lanes<T, L>::Pack* sum) {
  using V = Lanes<T, L>;
#pragma GCC unroll 8
  for (int i = 0; i < COUNT; ++i) sum[i] = typename V::Pack{};
  for (int64_t c = 0; c < channels; ++c, grad += plane, window += input_plane) {
    const typename V::Pack value = V::load(grad);
#pragma GCC unroll 8
    for (int i = 0; i < COUNT; ++i) sum[i] += value * V::load(window + i);
  }
}

template <typename T, int L, int K>
VIDGEN_INLINE void kernel_gradient_row_fixed(const KernelGradient<T>& task, int64_t n, int64_t y) {
  using V = Lanes<T, L>;
  const Sizes& s = task.sizes;
  const int64_t plane = s.height * s.width, stride = s.input_width(), input_plane = s.input_height() * stride;
  each_block<L>(s.width, [&](int64_t x) {
    const int64_t at = n * K * plane + y * s.width + x;
    const T* grad = task.grad + n * s.channels * plane + y * s.width + x;
    const T* window = task.input + n * s.channels * input_plane + y * stride + x;
    typename V::Pack sum[K], of_horizontal[K] = {};
    for (int j = 0; j < K; ++j) {
      correlate<T, L, K>(grad, plane, window + j * stride, input_plane, s.channels, sum);
      const typename V::Pack vertical = V::load(task.vertical + at + j * plane);
      typename V::Pack of_vertical = {};
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) {
        of_vertical += sum[i] * V::load(task.horizontal + at + i * plane);
        of_horizontal[i] += sum[i] * vertical;
      }
      V::store(task.grad_vertical + at + j * plane, of_vertical);
    }
    for (int i = 0; i < K; ++i) V::store(task.grad_horizontal + at + i * plane, of_horizontal[i]);
  });
}

template <typename T, int L, int COUNT>
VIDGEN_INLINE void add_kernel_gradient(const T* grad, int64_t plane, const T* window, int64_t input_plane,
                                       int64_t channels, typename Lanes<T, L>::Pack vertical, const T* horizontal,
                                       T* of_horizontal, typename Lanes<T, L>::Pack& of_vertical) {
  using V = Lanes<T, L>;
  typename V::Pack sum[COUNT];
  correlate<T, L, COUNT>(grad, plane, window, input_plane, channels, sum);
#pragma GCC unroll 8
  for (int i = 0; i < COUNT; ++i) {
    of_vertical += sum[i] * V::load(horizontal + i * L);
    V::store(of_horizontal + i * L, V::load(of_horizontal + i * L) + sum[i] * vertical);
  }
}

template <typename T, int L>
void kernel_gradient_row_any(const KernelGradient<T>& task, int64_t n, int64_t y, T* scratch) {
  using V = Lanes<T, L>;
  const Sizes& s = task.sizes;
  const int64_t plane = s.height * s.width, stride = s.input_width(), input_plane = s.input_height() * stride;
  T *horizontal = scratch, *of_horizontal = scratch + s.taps * L;
  each_block<L>(s.width, [&](int64_t x) {
    const int64_t at = n * s.taps * plane + y * s.width + x;
    gather_taps<T, L>(task.horizontal + at, plane, s.taps, horizontal);
    std::fill(of_horizontal, of_horizontal + s.taps * L, T(0));
    const T* grad = task.grad + n * s.channels * plane + y * s.width + x;
    for (int64_t j = 0; j < s.taps; ++j) {
      const T* window = task.input + n * s.channels * input_plane + (y + j) * stride + x;
      const typename V::Pack vertical = V::load(task.vertical + at + j * plane);
      typename V::Pack of_vertical = {};
      int64_t i = 0;
      for (; i + 8 <= s.taps; i += 8)
        add_kernel_gradient<T, L, 8>(grad, plane, window + i, input_plane, s.channels, vertical, horizontal + i * L,
                                     of_horizontal + i * L, of_vertical);
      for (; i + 2 <= s.taps; i += 2)
        add_kernel_gradient<T, L, 2>(grad, plane, window + i, input_plane, s.channels, vertical, horizontal + i * L,
                                     of_horizontal + i * L, of_vertical);
      for (; i < s.taps; ++i)
        add_kernel_gradient<T, L, 1>(grad, plane, window + i, input_plane, s.channels, vertical, horizontal + i * L,
                                     of_horizontal + i * L, of_vertical);
      V::store(task.grad_vertical + at + j * plane, of_vertical);
    }
    for (int64_t i = 0; i < s.taps; ++i)
      V::store(task.grad_horizontal + at + i * plane, V::load(of_horizontal + i * L));
  });
}

// Rows [begin, end) of all batch * height rows.
template <typename T, int L>
void kernel_gradient_rows(const KernelGradient<T>& task, int64_t begin, int64_t end) {
  const int64_t taps = task.sizes.taps, height = task.sizes.height;
  Scratch<T> scratch(taps > 7 || taps < 3 ? 2 * taps * L : 0);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / height, y = row % height;
    switch (taps) {
      case 3: kernel_gradient_row_fixed<T, L, 3>(task, n, y); break;
      case 5: kernel_gradient_row_fixed<T, L, 5>(task, n, y); break;
      case 7: kernel_gradient_row_fixed<T, L, 7>(task, n, y); break;
      default: kernel_gradient_row_any<T, L>(task, n, y, scratch.get());
    }
  }
}

}  // namespace

template <typename T>
void kernel_gradient(const KernelGradient<T>& task, int64_t begin, int64_t end) {
  with_lanes<T>(task.sizes.width, [&](auto lanes) { kernel_gradient_rows<T, lanes.value>(task, begin, end); });
}

template void kernel_gradient(const KernelGradient<float>&, int64_t, int64_t);
template void kernel_gradient(const KernelGradient<double>&, int64_t, int64_t);

}  // namespace vidgen
