// output[n,c,y,x] = sum_j sum_i input[n,c,y+j,x+i] * vertical[n,j,y,x] * horizontal[n,i,y,x]
//
// A block makes a tile of the output for a group of channels, so that taps are read once for the group. A thread
// holds a chunk of horizontal taps in registers for each of its pixels; the pixels lie one below the other, so one
// value read from shared memory serves all of them.

#if SEPCONV_KERNEL == SEPCONV_FORWARD
namespace sepconv {

// Where a thread of the block works.
struct Work {
    Planes input, vertical, horizontal;
    int channel, present;  // the group of channels, and how many of them exist
    int top, left;         // first output pixel of the block
    int y, x;              // first output pixel of the thread

    __device__ __forceinline__ bool holds(int pixel) const { return vertical.holds(y + pixel, x); }

    // First of the pixel's taps. A pixel outside of the image takes those of its nearest neighbour inside, so that loads
    // need no branch; it is not stored.
    __device__ __forceinline__ const Stored* taps(const Planes& planes, int first, int pixel) const {
        return planes.at(first, smaller(y + pixel, planes.height - 1), smaller(x, planes.width - 1));
    }
};

// Adds what horizontal taps [first, first + TAPS) contribute, for all vertical taps.
template <int TAPS>
static __device__ __forceinline__ void add_taps(Tile& tile, const Work& work, int first, float (&sums)[kPixels][kChannels]) {
    const long long plane = work.vertical.size();
    float taps[kPixels][TAPS];
#pragma unroll
    for (int pixel = 0; pixel < kPixels; ++pixel) {
        const Stored* source = work.taps(work.horizontal, first, pixel);
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            taps[pixel][i] = load(source);
            source += plane;
        }
    }
    for (int row = 0; row < kTaps; row += kChunk) {
        const int rows = smaller(kChunk, kTaps - row);
        __syncthreads();  // all have read the previous chunk
        stage(tile, work.input, work.channel, work.present, work.top + row, work.left + first);
        __syncthreads();
        for (int step = 0; step < rows + kPixels - 1; ++step) {
            // A row of the tile is under tap `step` of the first pixel, `step - 1` of the second, and so on.
            float weights[kPixels];
#pragma unroll
            for (int pixel = 0; pixel < kPixels; ++pixel) {
                const int tap = step - pixel;
                weights[pixel] = tap >= 0 && tap < rows ? load(work.taps(work.vertical, row + tap, pixel)) : 0.0f;
            }
#pragma unroll
            for (int channel = 0; channel < kChannels; ++channel) {
                float dots[kPixels] = {};
#pragma unroll
                for (int i = 0; i < TAPS; ++i) {
                    const float value = tile[channel][threadIdx.y * kPixels + step][threadIdx.x + i];
#pragma unroll
                    for (int pixel = 0; pixel < kPixels; ++pixel) {
                        dots[pixel] += value * taps[pixel][i];
                    }
                }
#pragma unroll
                for (int pixel = 0; pixel < kPixels; ++pixel) {
                    // Not a multiplication by zero: an infinity outside of the window must stay outside.
                    if (step - pixel >= 0 && step - pixel < rows) {
                        sums[pixel][channel] += weights[pixel] * dots[pixel];
                    }
                }
            }
        }
    }
}

}  // namespace sepconv

// Tensors are contiguous: input [N, C, H + K - 1, W + K - 1], vertical and horizontal [N, K, H, W], output [N, C, H, W].
// Sizes are those of the output.
extern "C" __global__ void __launch_bounds__(sepconv::kThreads, sepconv::kBlocks)
SEPCONV_ENTRY(const sepconv::Stored* __restrict__ input, const sepconv::Stored* __restrict__ vertical,
              const sepconv::Stored* __restrict__ horizontal, int channels, int height, int width,
              sepconv::Stored* __restrict__ output) {
    using namespace sepconv;
    __shared__ Tile tile;
    const int groups = (channels + kChannels - 1) / kChannels;
    const int sample = static_cast<int>(blockIdx.x) / groups;
    Work work;
    work.input = planes_of(input, sample, channels, height + kTaps - 1, width + kTaps - 1);
    work.vertical = planes_of(vertical, sample, kTaps, height, width);
    work.horizontal = planes_of(horizontal, sample, kTaps, height, width);
    work.channel = static_cast<int>(blockIdx.x) % groups * kChannels;
    work.present = smaller(kChannels, channels - work.channel);
    work.top = static_cast<int>(blockIdx.y) * kOutputRows;
    work.left = static_cast<int>(blockIdx.z) * kBlockX;
    work.y = work.top + static_cast<int>(threadIdx.y) * kPixels;
    work.x = work.left + static_cast<int>(threadIdx.x);

    float sums[kPixels][kChannels] = {};
    for (int first = 0; first + kChunk <= kTaps; first += kChunk) {
        add_taps<kChunk>(tile, work, first, sums);
    }
    if constexpr (kTail != 0) {
        add_taps<kTail>(tile, work, kTaps - kTail, sums);
    }

    const int plane = sample * channels + work.channel;
#pragma unroll
    for (int pixel = 0; pixel < kPixels; ++pixel) {
#pragma unroll
        for (int channel = 0; channel < kChannels; ++channel) {
            if (channel < work.present && work.holds(pixel)) {
                store(output + work.vertical.offset(plane + channel, work.y + pixel, work.x), sums[pixel][channel]);
            }
        }
    }
}
#endif
