// The gradient of the input, padding included.
//
// One task makes the columns [left, right) of the rows [top, bottom) of one image, row by row. Operands are copied
// between zeros, moved to the column they add to, so that the inner loop has no edges. The zeros are written once: what
// lies outside the image is the same for every row of a tile.

#include "kernels.h"
#include "vectors.h"

namespace vidgen {
namespace {

constexpr int64_t kChannelsTogether = 4;

// Elements from one row of a copy to the next: whole vectors, so that rows start aligned.
int64_t pitch_of(int64_t width) { return (width + 15) / 16 * 16; }

// Taps that bring a row of the image to this output row.
template <typename T>
VIDGEN_INLINE int64_t first_tap(const InputGradient<T>& task, int64_t row) {
  return std::max<int64_t>(0, row - task.sizes.height + 1);
}
template <typename T>
VIDGEN_INLINE int64_t last_tap(const InputGradient<T>& task, int64_t row) {
  return std::min(task.sizes.taps - 1, row);
}

// to = one * other, over count elements.
template <typename T, int L>
VIDGEN_INLINE void multiply(const T* __restrict one, const T* __restrict other, T* __restrict to, int64_t count) {
  using V = Lanes<T, L>;
  if (count >= L) {
    each_block<L>(count, [&](int64_t x) { V::store(to + x, V::load(one + x) * V::load(other + x)); });
  } else {
    for (int64_t x = 0; x < count; ++x) to[x] = one[x] * other[x];
  }
}

// The sums over all taps for CHANNELS channels of one output row:
//   sum over j, i of value_row(j)[c * value_pitch + x + taps - 1 - i] * weight_row(j)[i * pitch + x]
// with value_row already at the first of the channels.
template <typename T, int L, int CHANNELS, int K, typename ValueRow, typename WeightRow>
VIDGEN_INLINE void input_gradient_row(const InputGradient<T>& task, const Tile& tile, int64_t row, int64_t channel,
                                      int64_t value_pitch, const ValueRow& value_row, const WeightRow& weight_row) {
  using V = Lanes<T, L>;
  const Sizes& s = task.sizes;
  const int64_t taps = K ? K : s.taps, pitch = pitch_of(tile.width());
  const int64_t input_plane = s.input_height() * s.input_width();
  const int64_t first = first_tap(task, row), last = last_tap(task, row);
  T* output = task.grad_input + (tile.n * s.channels + channel) * input_plane + row * s.input_width() + tile.left;
  each_block<L>(tile.width(), [&](int64_t x) {
    typename V::Pack total[CHANNELS] = {};
    for (int64_t j = first; j <= last; ++j) {
      const T* weights = weight_row(j) + x;
      const T* values = value_row(j) + x + taps - 1;
#pragma GCC unroll 8
      for (int64_t i = 0; i < taps; ++i) {
        const typename V::Pack weight = V::load(weights + i * pitch);
#pragma GCC unroll 4
        for (int c = 0; c < CHANNELS; ++c) total[c] += V::load(values + c * value_pitch - i) * weight;
      }
    }
    for (int c = 0; c < CHANNELS; ++c) V::store(output + c * input_plane + x, total[c]);
  });
}

// Few taps: the products of both kernels are made once for all channels; of grad, K rows of every channel are kept.
template <typename T, int L, int K>
void input_gradient_tile_fixed(const InputGradient<T>& task, const Tile& tile) {
  const Sizes& s = task.sizes;
  const int64_t plane = s.height * s.width, pitch = pitch_of(tile.width());
  const int64_t origin = tile.left - K + 1, reach = pitch_of(tile.width() + K - 1);
  const int64_t from = std::max<int64_t>(0, origin), count = std::min(s.width, tile.right) - from;
  Scratch<T> weights(K * K * pitch), values(K * s.channels * reach);

  const auto keep_row = [&](int64_t row) {
    T* to = values.get() + row % K * s.channels * reach + from - origin;
    const T* grad = task.grad + tile.n * s.channels * plane + row * s.width + from;
    for (int64_t c = 0; c < s.channels; ++c)
      std::memcpy(to + c * reach, grad + c * plane, static_cast<size_t>(count) * sizeof(T));
  };
  const auto make_weights = [&](int64_t row) {
    for (int64_t j = first_tap(task, row); j <= last_tap(task, row); ++j) {
      const int64_t at = tile.n * K * plane + (row - j) * s.width;
      for (int64_t i = 0; i < K; ++i) {
        const int64_t begin = std::max(i, tile.left), end = std::min(s.width + i, tile.right);
        multiply<T, L>(task.vertical + at + j * plane + begin - i, task.horizontal + at + i * plane + begin - i,
                       weights.get() + (j * K + i) * pitch + begin - tile.left, end - begin);
      }
    }
  };

  for (int64_t row = std::max<int64_t>(0, tile.top - K + 1); row < std::min(tile.top, s.height); ++row) keep_row(row);
  for (int64_t row = tile.top; row < tile.bottom; ++row) {
    if (row < s.height) keep_row(row);
    make_weights(row);
    const auto weight_row = [&](int64_t j) { return weights.get() + j * K * pitch; };
    int64_t c = 0;
    const auto value_row = [&](int64_t j) { return values.get() + ((row - j) % K * s.channels + c) * reach; };
    for (; c + 4 <= s.channels; c += 4)
      input_gradient_row<T, L, 4, K>(task, tile, row, c, reach, value_row, weight_row);
    if (s.channels - c == 3) {
      input_gradient_row<T, L, 3, K>(task, tile, row, c, reach, value_row, weight_row);
    } else {
      for (; c < s.channels; ++c) input_gradient_row<T, L, 1, K>(task, tile, row, c, reach, value_row, weight_row);
    }
  }
}

// Many taps: grad * vertical is made for four channels at a time; of horizontal, K rows of all taps are kept.
template <typename T, int L>
void input_gradient_tile_any(const InputGradient<T>& task, const Tile& tile) {
  const Sizes& s = task.sizes;
  const int64_t taps = s.taps, plane = s.height * s.width, pitch = pitch_of(tile.width());
  const int64_t origin = tile.left - taps + 1, reach = pitch_of(tile.width() + taps - 1);
  const int64_t from = std::max<int64_t>(0, origin), count = std::min(s.width, tile.right) - from;
  Scratch<T> weights(taps * taps * pitch), values(kChannelsTogether * taps * reach);

  const auto keep_row = [&](int64_t row) {
    for (int64_t i = 0; i < taps; ++i) {
      const int64_t begin = std::max(i, tile.left), end = std::min(s.width + i, tile.right);
      if (begin >= end) continue;
      std::memcpy(weights.get() + (row % taps * taps + i) * pitch + begin - tile.left,
                  task.horizontal + (tile.n * taps + i) * plane + row * s.width + begin - i,
                  static_cast<size_t>(end - begin) * sizeof(T));
    }
  };
  const auto make_values = [&](int64_t row, int64_t channel, int64_t slot) {
    for (int64_t j = first_tap(task, row); j <= last_tap(task, row); ++j) {
      const int64_t at = (row - j) * s.width + from;
      multiply<T, L>(task.grad + (tile.n * s.channels + channel) * plane + at,
                     task.vertical + (tile.n * taps + j) * plane + at,
                     values.get() + (slot * taps + j) * reach + from - origin, count);
    }
  };

  for (int64_t row = std::max<int64_t>(0, tile.top - taps + 1); row < std::min(tile.top, s.height); ++row)
    keep_row(row);
  for (int64_t row = tile.top; row < tile.bottom; ++row) {
    if (row < s.height) keep_row(row);
    const auto weight_row = [&](int64_t j) { return weights.get() + (row - j) % taps * taps * pitch; };
    const auto value_row = [&](int64_t j) { return values.get() + j * reach; };
    for (int64_t c = 0; c < s.channels; c += kChannelsTogether) {
      const int64_t together = std::min(kChannelsTogether, s.channels - c);
      for (int64_t slot = 0; slot < together; ++slot) make_values(row, c + slot, slot);
      const int64_t step = taps * reach;
      switch (together) {
        case 4: input_gradient_row<T, L, 4, 0>(task, tile, row, c, step, value_row, weight_row); break;
        case 3: input_gradient_row<T, L, 3, 0>(task, tile, row, c, step, value_row, weight_row); break;
        case 2: input_gradient_row<T, L, 2, 0>(task, tile, row, c, step, value_row, weight_row); break;
        default: input_gradient_row<T, L, 1, 0>(task, tile, row, c, step, value_row, weight_row);
      }
    }
  }
}

template <typename T, int L>
void input_gradient_lanes(const InputGradient<T>& task, const Tile& tile) {
  switch (task.sizes.taps) {
    case 3: return input_gradient_tile_fixed<T, L, 3>(task, tile);
    case 5: return input_gradient_tile_fixed<T, L, 5>(task, tile);
    case 7: return input_gradient_tile_fixed<T, L, 7>(task, tile);
    default: return input_gradient_tile_any<T, L>(task, tile);
  }
}

}  // namespace

template <typename T>
void input_gradient(const InputGradient<T>& task, const Tile& tile) {
  with_lanes<T>(tile.width(), [&](auto lanes) { input_gradient_lanes<T, lanes.value>(task, tile); });
}

template void input_gradient(const InputGradient<float>&, const Tile&);
template void input_gradient(const InputGradient<double>&, const Tile&);

}  // namespace vidgen
