// The convolution itself: rows of the output, a vector of columns at a time.

#include "kernels.h"
#include "vectors.h"

namespace vidgen {
namespace {

template <typename T, int L, int K>
VIDGEN_INLINE void forward_row_fixed(const Forward<T>& task, int64_t n, int64_t y) {
  using V = Lanes<T, L>;
  const Sizes& s = task.sizes;
  const int64_t plane = s.height * s.width, stride = s.input_width(), input_plane = s.input_height() * stride;
  each_block<L>(s.width, [&](int64_t x) {
    typename V::Pack vertical[K], horizontal[K];
    const int64_t at = n * K * plane + y * s.width + x;
    for (int k = 0; k < K; ++k) {
      vertical[k] = V::load(task.vertical + at + k * plane);
      horizontal[k] = V::load(task.horizontal + at + k * plane);
    }
    const T* window = task.input + n * s.channels * input_plane + y * stride + x;
    T* output = task.output + n * s.channels * plane + y * s.width + x;
    for (int64_t c = 0; c < s.channels; ++c, window += input_plane, output += plane) {
      typename V::Pack total = {};
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) {
        typename V::Pack row = V::load(window + j * stride) * horizontal[0];
#pragma GCC unroll 8
        for (int i = 1; i < K; ++i) row += V::load(window + j * stride + i) * horizontal[i];
        total += row * vertical[j];
      }
      V::store(output, total);
    }
  });
}

// Adds ROWS rows of taps, from row j on, to the totals of CHANNELS channels.
template <typename T, int L, int CHANNELS, int ROWS>
VIDGEN_INLINE void add_rows(const T* window, int64_t stride, int64_t input_plane, int64_t taps, const T* vertical,
                            const T* horizontal, typename Lanes<T, L>::Pack* total) {
  using V = Lanes<T, L>;
  typename V::Pack sum[ROWS][CHANNELS] = {};
  for (int64_t i = 0; i < taps; ++i) {
    const typename V::Pack weight = V::load(horizontal + i * L);
#pragma GCC unroll 4
    for (int j = 0; j < ROWS; ++j)
#pragma GCC unroll 4
      for (int c = 0; c < CHANNELS; ++c) sum[j][c] += V::load(window + c * input_plane + j * stride + i) * weight;
  }
#pragma GCC unroll 4
  for (int j = 0; j < ROWS; ++j) {
    const typename V::Pack weight = V::load(vertical + j * L);
#pragma GCC unroll 4
    for (int c = 0; c < CHANNELS; ++c) total[c] += sum[j][c] * weight;
  }
}

template <typename T, int L, int CHANNELS>
VIDGEN_INLINE void forward_channels(const Sizes& s, const T* window, const T* vertical, const T* horizontal,
                                    T* output) {
  using V = Lanes<T, L>;
  const int64_t stride = s.input_width(), input_plane = s.input_height() * stride;
  typename V::Pack total[CHANNELS] = {};
  int64_t j = 0;
  for (; j + 2 <= s.taps; j += 2)
    add_rows<T, L, CHANNELS, 2>(window + j * stride, stride, input_plane, s.taps, vertical + j * L, horizontal, total);
  for (; j < s.taps; ++j)
    add_rows<T, L, CHANNELS, 1>(window + j * stride, stride, input_plane, s.taps, vertical + j * L, horizontal, total);
  for (int c = 0; c < CHANNELS; ++c) V::store(output + c * s.height * s.width, total[c]);
}

template <typename T, int L>
void forward_row_any(const Forward<T>& task, int64_t n, int64_t y, T* scratch) {
  const Sizes& s = task.sizes;
  const int64_t plane = s.height * s.width, input_plane = s.input_height() * s.input_width();
  T *vertical = scratch, *horizontal = scratch + s.taps * L;
  each_block<L>(s.width, [&](int64_t x) {
    const int64_t at = n * s.taps * plane + y * s.width + x;
    gather_taps<T, L>(task.vertical + at, plane, s.taps, vertical);
    gather_taps<T, L>(task.horizontal + at, plane, s.taps, horizontal);
    const T* window = task.input + n * s.channels * input_plane + y * s.input_width() + x;
    T* output = task.output + n * s.channels * plane + y * s.width + x;
    int64_t c = 0;
    for (; c + 4 <= s.channels; c += 4)
      forward_channels<T, L, 4>(s, window + c * input_plane, vertical, horizontal, output + c * plane);
    window += c * input_plane;
    output += c * plane;
    if (s.channels - c == 3) forward_channels<T, L, 3>(s, window, vertical, horizontal, output);
    if (s.channels - c == 2) forward_channels<T, L, 2>(s, window, vertical, horizontal, output);
    if (s.channels - c == 1) forward_channels<T, L, 1>(s, window, vertical, horizontal, output);
  });
}

// Rows [begin, end) of all batch * height rows.
template <typename T, int L>
void forward_rows(const Forward<T>& task, int64_t begin, int64_t end) {
  const int64_t taps = task.sizes.taps, height = task.sizes.height;
  Scratch<T> scratch(taps > 7 || taps < 3 ? 2 * taps * L : 0);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / height, y = row % height;
    switch (taps) {
      case 3: forward_row_fixed<T, L, 3>(task, n, y); break;
      case 5: forward_row_fixed<T, L, 5>(task, n, y); break;
      case 7: forward_row_fixed<T, L, 7>(task, n, y); break;
      default: forward_row_any<T, L>(task, n, y, scratch.get());
    }
  }
}

}  // namespace

template <typename T>
void forward(const Forward<T>& task, int64_t begin, int64_t end) {
  with_lanes<T>(task.sizes.width, [&](auto lanes) { forward_rows<T, lanes.value>(task, begin, end); });
}

template void forward(const Forward<float>&, int64_t, int64_t);
template void forward(const Forward<double>&, int64_t, int64_t);

}  // namespace vidgen
