// Separable convolution and its gradients: what a caller hands over, and the arithmetic it may ask for.
//
// Layout of every tensor: C order. input [N, C, H + K - 1, W + K - 1], vertical and horizontal [N, K, H, W],
// output [N, C, H, W]. Every result is a gather: written by one task, summed in a fixed order, so that it does not
// depend on the number of threads. A task runs on one thread; std::bad_alloc is all that it throws.
#pragma once

#include <cstdint>

namespace vidgen {

struct Sizes {
  int64_t batch, channels, taps, height, width;
  int64_t input_height() const { return height + taps - 1; }
  int64_t input_width() const { return width + taps - 1; }
  bool empty() const { return batch <= 0 || channels <= 0 || taps <= 0 || height <= 0 || width <= 0; }
  // Multiply-adds of one pass over all taps.
  int64_t work() const { return batch * channels * height * width * taps * taps; }
};

template <typename T>
struct Forward {
  const T *input, *vertical, *horizontal;
  T* output;
  Sizes sizes;
};

template <typename T>
struct KernelGradient {
  const T *grad, *input, *vertical, *horizontal;
  T *grad_vertical, *grad_horizontal;
  Sizes sizes;
};

template <typename T>
struct InputGradient {
  const T *grad, *vertical, *horizontal;
  T* grad_input;
  Sizes sizes;
};

// The columns [left, right) of the rows [top, bottom) of image n, padding included.
struct Tile {
  int64_t n, left, right, top, bottom;
  int64_t width() const { return right - left; }
};

// Defined for float and double. Rows [begin, end) are counted over the whole batch: N * H of them.
template <typename T>
void forward(const Forward<T>& task, int64_t begin, int64_t end);
template <typename T>
void kernel_gradient(const KernelGradient<T>& task, int64_t begin, int64_t end);
template <typename T>
void input_gradient(const InputGradient<T>& task, const Tile& tile);

}  // namespace vidgen
