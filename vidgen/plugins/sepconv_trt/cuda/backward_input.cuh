// grad_input[n,c,Y,X] = sum_j sum_i grad[n,c,Y-j,X-i] * vertical[n,j,Y-j,X-i] * horizontal[n,i,Y-j,X-i]
//
// A gather: each element is summed by one thread in a fixed order, so the result is the same in every run. The product
// of two taps is made once for the group of channels.

#if SEPCONV_KERNEL == SEPCONV_BACKWARD_INPUT
namespace sepconv {

// Adds the contribution of vertical taps [row, row + rows) and horizontal taps [column, column + columns) to the element
// (y, x), whose gradients under the last taps of the chunk are the first ones of the thread's window in the tile.
static __device__ __forceinline__ void add_window(const Tile& tile, const Planes& vertical, const Planes& horizontal, int y,
                                                  int x, int row, int column, float (&sums)[kChannels]) {
    const int rows = smaller(kChunk, kTaps - row);
    const int columns = smaller(kChunk, kTaps - column);
    for (int j = 0; j < rows; ++j) {
        for (int i = 0; i < columns; ++i) {
            const int source_y = y - row - j;
            const int source_x = x - column - i;
            if (vertical.holds(source_y, source_x)) {
                const float weight = load(vertical.at(row + j, source_y, source_x)) *
                                     load(horizontal.at(column + i, source_y, source_x));
#pragma unroll
                for (int channel = 0; channel < kChannels; ++channel) {
                    sums[channel] += tile[channel][threadIdx.y + kChunk - 1 - j][threadIdx.x + kChunk - 1 - i] * weight;
                }
            }
        }
    }
}

}  // namespace sepconv

// Tensors are contiguous: grad [N, C, H, W], vertical and horizontal [N, K, H, W], grad_input [N, C, H + K - 1, W + K - 1].
// Sizes are those of grad.
extern "C" __global__ void __launch_bounds__(sepconv::kThreads, sepconv::kBlocks)
SEPCONV_ENTRY(const sepconv::Stored* __restrict__ grad, const sepconv::Stored* __restrict__ vertical,
              const sepconv::Stored* __restrict__ horizontal, int channels, int height, int width,
              sepconv::Stored* __restrict__ grad_input) {
    using namespace sepconv;
    __shared__ Tile tile;
    const int groups = (channels + kChannels - 1) / kChannels;
    const int sample = static_cast<int>(blockIdx.x) / groups;
    const int channel = static_cast<int>(blockIdx.x) % groups * kChannels;
    const int present = smaller(kChannels, channels - channel);
    const int top = static_cast<int>(blockIdx.y) * kOutputRows;
    const int left = static_cast<int>(blockIdx.z) * kBlockX;
    const int y = top + static_cast<int>(threadIdx.y);
    const int x = left + static_cast<int>(threadIdx.x);
    const Planes grads = planes_of(grad, sample, channels, height, width);
    const Planes verticals = planes_of(vertical, sample, kTaps, height, width);
    const Planes horizontals = planes_of(horizontal, sample, kTaps, height, width);

    float sums[kChannels] = {};
    for (int row = 0; row < kTaps; row += kChunk) {
        for (int column = 0; column < kTaps; column += kChunk) {
            __syncthreads();  // all have read the previous chunk
            stage(tile, grads, channel, present, top - row - (kChunk - 1), left - column - (kChunk - 1));
            __syncthreads();
            add_window(tile, verticals, horizontals, y, x, row, column, sums);
        }
    }

    const Planes result = {nullptr, height + kTaps - 1, width + kTaps - 1};
#pragma unroll
    for (int offset = 0; offset < kChannels; ++offset) {
        if (offset < present && result.holds(y, x)) {
            store(grad_input + result.offset(sample * channels + channel + offset, y, x), sums[offset]);
        }
    }
}
#endif
