// Vectors of the processor's width, and the choice among widths.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace vidgen {

#define VIDGEN_INLINE inline __attribute__((always_inline))

// Bytes of the widest vector that the compiler was told of.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T, int L>
struct Lanes {
  typedef T Pack __attribute__((vector_size(L * sizeof(T))));
  static VIDGEN_INLINE Pack load(const T* from) {
    Pack pack;
    std::memcpy(&pack, from, sizeof(pack));
    return pack;
  }
  static VIDGEN_INLINE void store(T* to, Pack pack) { std::memcpy(to, &pack, sizeof(pack)); }
};

// Calls body(x) for blocks of L columns that cover [0, width); the last one overlaps its neighbour (width >= L).
// Columns done twice get the same value twice.
template <int L, typename Body>
VIDGEN_INLINE void each_block(int64_t width, const Body& body) {
  int64_t x = 0;
  for (; x + L <= width; x += L) body(x);
  if (x < width) body(width - L);
}

// Memory for one task, aligned to vectors.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : memory_(static_cast<size_t>(count) + 64 / sizeof(T)) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
    start_ = reinterpret_cast<T*>((address + 63) / 64 * 64);
  }
  T* get() const { return start_; }

 private:
  std::vector<T> memory_;
  T* start_;
};

// Taps lie H x W apart, often a power of two: side by side they do not fight for the same cache lines.
template <typename T, int L>
VIDGEN_INLINE void gather_taps(const T* first, int64_t plane, int64_t taps, T* packed) {
  for (int64_t k = 0; k < taps; ++k) Lanes<T, L>::store(packed + k * L, Lanes<T, L>::load(first + k * plane));
}

template <int L>
struct LaneCount {
  static constexpr int value = L;
};

// Calls body with the number of lanes that covers `width` columns in the least time, at most `width`.
template <typename T, typename Body>
void with_lanes(int64_t width, const Body& body) {
  constexpr int full = kVectorBytes / sizeof(T);
  const auto blocks = [width](int64_t lanes) { return (width + lanes - 1) / lanes; };
  // Cores that do 64 bytes in two halves pay up to twice for a full vector: 8 to 5 lies between them and the others.
  if (width >= full && (kVectorBytes < 64 || 8 * blocks(full) <= 5 * blocks(full / 2))) return body(LaneCount<full>());
  if (width >= full / 2) return body(LaneCount<full / 2>());
  if (full >= 8 && width >= full / 4) return body(LaneCount<(full >= 8 ? full / 4 : 1)>());
  return body(LaneCount<1>());
}

}  // namespace vidgen
