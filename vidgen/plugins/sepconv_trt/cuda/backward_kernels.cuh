// With S[j][i] = sum_c grad[n,c,y,x] * input[n,c,y+j,x+i] at each pixel (y, x):
//     grad_vertical[n,j,y,x] = sum_i S[j][i] * horizontal[n,i,y,x]
//     grad_horizontal[n,i,y,x] = sum_j S[j][i] * vertical[n,j,y,x]
//
// Both come from one S, a row at a time and a group of channels at a time: about half the arithmetic of two separate sums.
// A thread owns its pixel, so nothing is added atomically and the result is the same in every run.

#if SEPCONV_KERNEL == SEPCONV_BACKWARD_KERNELS
namespace sepconv {

// Sums that a thread keeps for its pixel, one for each vertical tap. No other thread reads them.
typedef float Rows[kTaps][kThreads];

struct Work {
    Planes grad, input, vertical, horizontal;
    int channels;   // of the tensors
    int top, left;  // first pixel of the block
    int y, x;       // pixel of the thread; its nearest neighbour inside if it lies outside of the image
    int thread;
    bool inside;  // whether the thread's pixel exists: only then is its result stored
};

// S[row][first .. first + TAPS) for the channels that the tile holds.
template <int TAPS>
static __device__ __forceinline__ void correlate(const Tile& tile, const float (&grads)[kChannels], int row,
                                                 float (&products)[TAPS]) {
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
        products[i] = 0.0f;
    }
#pragma unroll
    for (int channel = 0; channel < kChannels; ++channel) {
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            products[i] += grads[channel] * tile[channel][threadIdx.y + row][threadIdx.x + i];
        }
    }
}

// Adds what horizontal taps [first, first + TAPS) contribute to the rows, and writes the gradient of these taps.
template <int TAPS>
static __device__ __forceinline__ void add_taps(Tile& tile, Rows& rows, const Work& work, int first, Stored* grad_horizontal) {
    float taps[TAPS];
    float sums[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
        taps[i] = load(work.horizontal.at(first + i, work.y, work.x));
        sums[i] = 0.0f;
    }
    for (int channel = 0; channel < work.channels; channel += kChannels) {
        const int present = smaller(kChannels, work.channels - channel);
        float grads[kChannels];
#pragma unroll
        for (int offset = 0; offset < kChannels; ++offset) {
            grads[offset] = offset < present ? load(work.grad.at(channel + offset, work.y, work.x)) : 0.0f;
        }
        for (int row = 0; row < kTaps; row += kChunk) {
            __syncthreads();  // all have read the previous chunk
            stage(tile, work.input, channel, present, work.top + row, work.left + first);
            __syncthreads();
            for (int j = 0; j < smaller(kChunk, kTaps - row); ++j) {
                float products[TAPS];
                correlate<TAPS>(tile, grads, j, products);
                const float weight = load(work.vertical.at(row + j, work.y, work.x));
                float dot = 0.0f;
#pragma unroll
                for (int i = 0; i < TAPS; ++i) {
                    dot += products[i] * taps[i];
                    sums[i] += products[i] * weight;
                }
                rows[row + j][work.thread] += dot;
            }
        }
    }
    if (work.inside) {
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            store(grad_horizontal + work.horizontal.offset(first + i, work.y, work.x), sums[i]);
        }
    }
}

}  // namespace sepconv

// Tensors are contiguous: grad [N, C, H, W], input [N, C, H + K - 1, W + K - 1], the others [N, K, H, W].
// Sizes are those of grad.
extern "C" __global__ void __launch_bounds__(sepconv::kThreads, sepconv::kBlocks)
SEPCONV_ENTRY(const sepconv::Stored* __restrict__ grad, const sepconv::Stored* __restrict__ input,
              const sepconv::Stored* __restrict__ vertical, const sepconv::Stored* __restrict__ horizontal, int channels,
              int height, int width, sepconv::Stored* __restrict__ grad_vertical,
              sepconv::Stored* __restrict__ grad_horizontal) {
    using namespace sepconv;
    __shared__ Tile tile;
    __shared__ Rows rows;
    const int sample = static_cast<int>(blockIdx.x);
    Work work;
    work.grad = planes_of(grad, sample, channels, height, width);
    work.input = planes_of(input, sample, channels, height + kTaps - 1, width + kTaps - 1);
    work.vertical = planes_of(vertical, sample, kTaps, height, width);
    work.horizontal = planes_of(horizontal, sample, kTaps, height, width);
    work.channels = channels;
    work.top = static_cast<int>(blockIdx.y) * kOutputRows;
    work.left = static_cast<int>(blockIdx.z) * kBlockX;
    work.y = work.top + static_cast<int>(threadIdx.y);
    work.x = work.left + static_cast<int>(threadIdx.x);
    work.thread = static_cast<int>(threadIdx.y) * kBlockX + static_cast<int>(threadIdx.x);
    work.inside = work.vertical.holds(work.y, work.x);
    work.y = smaller(work.y, height - 1);
    work.x = smaller(work.x, width - 1);
    for (int tap = 0; tap < kTaps; ++tap) {
        rows[tap][work.thread] = 0.0f;
    }

    Stored* result = grad_horizontal + static_cast<long long>(sample) * kTaps * work.horizontal.size();
    for (int first = 0; first + kChunk <= kTaps; first += kChunk) {
        add_taps<kChunk>(tile, rows, work, first, result);
    }
    if constexpr (kTail != 0) {
        add_taps<kTail>(tile, rows, work, kTaps - kTail, result);
    }

    if (work.inside) {
        for (int tap = 0; tap < kTaps; ++tap) {
            store(grad_vertical + work.vertical.offset(sample * kTaps + tap, work.y, work.x), rows[tap][work.thread]);
        }
    }
}
#endif
