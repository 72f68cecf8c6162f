// What the three kernels share: sizes, storage types, and a tile of planes in shared memory.
//
// A compilation makes one kernel for one number of taps, dtype and channel group. geometry.py names every SEPCONV_*
// macro and the launch that goes with it; half_to_float and float_to_half come from half_device.cuh. The text includes nothing.

#if !defined(SEPCONV_ENTRY) || !defined(SEPCONV_TAPS) || !defined(SEPCONV_PITCH)
#error "compile with the macros of geometry.plan(...)"
#endif

#define SEPCONV_FORWARD 0
#define SEPCONV_BACKWARD_INPUT 1
#define SEPCONV_BACKWARD_KERNELS 2

#define SEPCONV_FLOAT32 0
#define SEPCONV_FLOAT16 1
#define SEPCONV_BFLOAT16 2

namespace sepconv {

constexpr int kTaps = SEPCONV_TAPS;
constexpr int kChunk = SEPCONV_CHUNK;        // taps, in either direction, worked on at once
constexpr int kChannels = SEPCONV_CHANNELS;  // channels worked on at once
constexpr int kPixels = SEPCONV_PIXELS;      // pixels of a thread, one below the other
constexpr int kBlockX = SEPCONV_BLOCK_X;
constexpr int kBlockY = SEPCONV_BLOCK_Y;
constexpr int kPitch = SEPCONV_PITCH;
constexpr int kBlocks = SEPCONV_BLOCKS;  // blocks a multiprocessor is to hold, which bounds the registers of a thread

constexpr int kThreads = kBlockX * kBlockY;
constexpr int kOutputRows = kBlockY * kPixels;
constexpr int kTileRows = kOutputRows + kChunk - 1;
constexpr int kTileColumns = kBlockX + kChunk - 1;
constexpr int kTail = kTaps % kChunk;  // taps of the last chunk if it is not a whole one

static_assert(kPitch >= kTileColumns, "a row of the tile runs into the next");

typedef float Tile[kChannels][kTileRows][kPitch];

#if SEPCONV_DTYPE == SEPCONV_FLOAT32
typedef float Stored;

static __device__ __forceinline__ float load(const Stored* address) { return *address; }

static __device__ __forceinline__ void store(Stored* address, float value) { *address = value; }
#else
struct Stored {
    unsigned short bits;
};

#if SEPCONV_DTYPE == SEPCONV_FLOAT16
static __device__ __forceinline__ float load(const Stored* address) { return half_to_float(address->bits); }

static __device__ __forceinline__ void store(Stored* address, float value) { address->bits = float_to_half(value); }
#else
static __device__ __forceinline__ float load(const Stored* address) {
    return __uint_as_float(static_cast<unsigned int>(address->bits) << 16);
}

// Rounds to nearest, ties to even, in integers: the instruction for it does not exist before sm_80.
static __device__ __forceinline__ void store(Stored* address, float value) {
    const unsigned int bits = __float_as_uint(value);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const unsigned int rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    address->bits = static_cast<unsigned short>((is_nan ? (bits | 0x00400000u) : rounded) >> 16);
}
#endif
#endif

static __device__ __forceinline__ int smaller(int one, int other) { return one < other ? one : other; }

// Planes of one sample that lie one after the other, each height x width.
struct Planes {
    const Stored* first;
    int height;
    int width;

    __device__ __forceinline__ long long size() const { return static_cast<long long>(height) * width; }
    __device__ __forceinline__ long long offset(int plane, int y, int x) const {
        return plane * size() + static_cast<long long>(y) * width + x;
    }
    __device__ __forceinline__ const Stored* at(int plane, int y, int x) const { return first + offset(plane, y, x); }
    __device__ __forceinline__ bool holds(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
};

static __device__ __forceinline__ Planes planes_of(const Stored* tensor, int sample, int planes, int height, int width) {
    return {tensor + static_cast<long long>(sample) * planes * height * width, height, width};
}

// Fills the tile with planes [plane, plane + present), from row `top` and column `left` on; zero outside of them.
// All threads of the block take part. The caller puts barriers before and after.
static __device__ void stage(Tile& tile, const Planes& source, int plane, int present, int top, int left) {
    const int thread = static_cast<int>(threadIdx.y) * kBlockX + static_cast<int>(threadIdx.x);
    for (int index = thread; index < kTileRows * kTileColumns; index += kThreads) {
        const int row = index / kTileColumns;
        const int column = index % kTileColumns;
        const bool inside = source.holds(top + row, left + column);
#pragma unroll
        for (int channel = 0; channel < kChannels; ++channel) {
            const bool exists = inside && channel < present;
            tile[channel][row][column] = exists ? load(source.at(plane + channel, top + row, left + column)) : 0.0f;
        }
    }
}

}  // namespace sepconv
