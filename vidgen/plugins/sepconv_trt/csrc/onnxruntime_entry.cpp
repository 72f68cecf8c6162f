// The same arithmetic as a custom-operator library of ONNX Runtime: vidgen::SeparableConvolution on the CPU.
//
// ONNX Runtime hands a library a table of functions whose order never changes. Only the places used here are named.
// Errors of our own are thrown: the runtime turns an exception of a kernel into the error of the run.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace vidgen {
namespace {

struct Status;
struct Domain;
struct SessionOptions;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
typedef void (*Function)();

struct ApiBase {
  const Function* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

// Places in the table; all but the last belong to version 1 of it.
enum Place : int {
  kCreateStatus = 0,
  kGetErrorMessage = 2,
  kCreateDomain = 26,
  kAddToDomain = 27,
  kAddDomain = 28,
  kGetData = 51,
  kGetDimensionCount = 61,
  kGetDimensions = 62,
  kGetInfo = 65,
  kGetInput = 90,
  kGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseInfo = 99,
  kParallelFor = 274,
};
// The first version of the table that has kParallelFor.
constexpr uint32_t kApiVersion = 17;

enum ElementType : int { kFloat32 = 1, kFloat16 = 10, kFloat64 = 11 };
enum ErrorCode : int { kFail = 1 };

// How an operator describes itself. The version says how many fields follow; with a later one the runtime would read
// fields that are not here.
constexpr uint32_t kOperatorVersion = 12;
struct Operator {
  uint32_t version;
  void* (*create)(const Operator*, const Function* api, const KernelInfo*);
  const char* (*name)(const Operator*);
  const char* (*provider)(const Operator*);
  int (*input_type)(const Operator*, size_t index);
  size_t (*input_count)(const Operator*);
  int (*output_type)(const Operator*, size_t index);
  size_t (*output_count)(const Operator*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  int (*input_characteristic)(const Operator*, size_t index);
  int (*output_characteristic)(const Operator*, size_t index);
};

template <typename Signature>
Signature* at(const Function* api, Place place) {
  return reinterpret_cast<Signature*>(api[place]);
}

void check(const Function* api, Status* status) {
  if (status == nullptr) return;
  const std::string message = at<const char*(const Status*)>(api, kGetErrorMessage)(status);
  at<void(Status*)>(api, kReleaseStatus)(status);
  throw std::runtime_error(message);
}

struct Shape {
  int64_t axes[4];
};

Shape shape_of(const Function* api, const Value* value, const char* name) {
  TensorInfo* info = nullptr;
  check(api, at<Status*(const Value*, TensorInfo**)>(api, kGetInfo)(value, &info));
  size_t count = 0;
  Shape shape{};
  Status* status = at<Status*(const TensorInfo*, size_t*)>(api, kGetDimensionCount)(info, &count);
  if (status == nullptr && count == 4)
    status = at<Status*(const TensorInfo*, int64_t*, size_t)>(api, kGetDimensions)(info, shape.axes, 4);
  at<void(TensorInfo*)>(api, kReleaseInfo)(info);
  check(api, status);
  if (count != 4)
    throw std::runtime_error(std::string("SeparableConvolution: ") + name + " has " + std::to_string(count) +
                             " axes, expected 4");
  return shape;
}

std::string text(const Shape& shape) {
  std::string out = "[";
  for (int axis = 0; axis < 4; ++axis) out += (axis ? ", " : "") + std::to_string(shape.axes[axis]);
  return out + "]";
}

Sizes sizes_of(const Shape& input, const Shape& vertical, const Shape& horizontal) {
  const Sizes sizes{vertical.axes[0], input.axes[1], vertical.axes[1], vertical.axes[2], vertical.axes[3]};
  const bool fits = std::equal(vertical.axes, vertical.axes + 4, horizontal.axes) && sizes.taps % 2 == 1 &&
                    input.axes[0] == sizes.batch && input.axes[2] == sizes.input_height() &&
                    input.axes[3] == sizes.input_width();
  if (!fits)
    throw std::runtime_error("SeparableConvolution: input " + text(input) + ", vertical " + text(vertical) +
                             ", horizontal " + text(horizontal) +
                             ", expected [N, C, H + K - 1, W + K - 1] and twice [N, K, H, W], K odd");
  return sizes;
}

// Multiply-adds that are worth handing to another thread.
constexpr int64_t kWorkPerPart = 250000;

template <typename T>
struct Parts {
  Forward<T> task;
  int64_t rows, count;
  std::atomic<bool> enough;
};

template <typename T>
void run_part(void* data, size_t index) {
  Parts<T>& parts = *static_cast<Parts<T>*>(data);
  const int64_t part = static_cast<int64_t>(index);
  try {
    forward(parts.task, parts.rows * part / parts.count, parts.rows * (part + 1) / parts.count);
  } catch (const std::bad_alloc&) {
    parts.enough = false;  // an exception must not leave a thread of the pool
  }
}

// On the threads of the session, so that its settings hold.
template <typename T>
void run(const Function* api, const KernelContext* context, const Forward<T>& task) {
  if (task.sizes.empty()) return;
  const int64_t rows = task.sizes.batch * task.sizes.height;
  const int64_t count = std::max<int64_t>(1, std::min<int64_t>({rows, task.sizes.work() / kWorkPerPart, 256}));
  Parts<T> parts{task, rows, count, {true}};
  if (count == 1) {
    run_part<T>(&parts, 0);
  } else {
    typedef Status*(ParallelFor)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*);
    check(api, at<ParallelFor>(api, kParallelFor)(context, run_part<T>, static_cast<size_t>(count), 0, &parts));
  }
  if (!parts.enough) throw std::bad_alloc();
}

// Half precision is widened, summed in float32 and rounded once.
float widen(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  // Scaling by 2^112 moves the exponent to float32's, and makes subnormal halves normal.
  uint32_t bits = magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : magnitude << 13;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  if (magnitude < 0x7c00u) value *= 0x1p112f;
  std::memcpy(&bits, &value, sizeof(value));
  bits |= sign;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

uint16_t narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(value));
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (bits < 0x38800000u) {
    // A subnormal half: the addition rounds at its last place.
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof(bits));
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof(bits));
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13));
}

void run(const Function* api, const KernelContext* context, const Forward<uint16_t>& task) {
  const Sizes& s = task.sizes;
  if (s.empty()) return;
  const auto wide = [](const uint16_t* from, int64_t count) {
    std::vector<float> to(static_cast<size_t>(count));
    std::transform(from, from + count, to.begin(), widen);
    return to;
  };
  const std::vector<float> input = wide(task.input, s.batch * s.channels * s.input_height() * s.input_width());
  const std::vector<float> vertical = wide(task.vertical, s.batch * s.taps * s.height * s.width);
  const std::vector<float> horizontal = wide(task.horizontal, s.batch * s.taps * s.height * s.width);
  std::vector<float> output(static_cast<size_t>(s.batch * s.channels * s.height * s.width));
  run(api, context, Forward<float>{input.data(), vertical.data(), horizontal.data(), output.data(), s});
  std::transform(output.begin(), output.end(), task.output, narrow);
}

// The operator itself is stateless: what a kernel needs is the table of functions.
template <typename T>
void compute(void* kernel, KernelContext* context) {
  const Function* api = static_cast<const Function*>(kernel);
  const Value* inputs[3];
  void* data[3];
  Shape shapes[3];
  const char* names[3] = {"input", "vertical", "horizontal"};
  for (size_t index = 0; index < 3; ++index) {
    check(api, at<Status*(const KernelContext*, size_t, const Value**)>(api, kGetInput)(context, index, &inputs[index]));
    check(api, at<Status*(const Value*, void**)>(api, kGetData)(inputs[index], &data[index]));
    shapes[index] = shape_of(api, inputs[index], names[index]);
  }
  const Sizes sizes = sizes_of(shapes[0], shapes[1], shapes[2]);
  const int64_t output_shape[4] = {sizes.batch, sizes.channels, sizes.height, sizes.width};
  Value* output = nullptr;
  void* result = nullptr;
  check(api, at<Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)>(api, kGetOutput)(context, 0,
                                                                                                  output_shape, 4, &output));
  check(api, at<Status*(const Value*, void**)>(api, kGetData)(output, &result));
  run(api, context,
      Forward<T>{static_cast<const T*>(data[0]), static_cast<const T*>(data[1]), static_cast<const T*>(data[2]),
                    static_cast<T*>(result), sizes});
}

void* create(const Operator*, const Function* api, const KernelInfo*) { return const_cast<Function*>(api); }
const char* name(const Operator*) { return "SeparableConvolution"; }
const char* provider(const Operator*) { return nullptr; }  // the CPU
size_t three(const Operator*) { return 3; }
size_t one(const Operator*) { return 1; }
void destroy(void*) {}
int required(const Operator*, size_t) { return 0; }
template <int Type>
int type(const Operator*, size_t) {
  return Type;
}

template <typename T, int Type>
constexpr Operator describe() {
  return {kOperatorVersion, create,  name,       provider, type<Type>, three,
          type<Type>,       one, compute<T>, destroy,  required,   required};
}

constexpr Operator kOperators[] = {describe<float, kFloat32>(), describe<double, kFloat64>(),
                                    describe<uint16_t, kFloat16>()};

void add_domain(const Function* api, SessionOptions* options) {
  // One domain serves every session and lives as long as the process.
  static Domain* domain = [api] {
    Domain* made = nullptr;
    check(api, at<Status*(const char*, Domain**)>(api, kCreateDomain)("vidgen", &made));
    for (const Operator& each : kOperators)
      check(api, at<Status*(Domain*, const Operator*)>(api, kAddToDomain)(made, &each));
    return made;
  }();
  check(api, at<Status*(SessionOptions*, Domain*)>(api, kAddDomain)(options, domain));
}

}  // namespace
}  // namespace vidgen

// The function that ONNX Runtime looks for in a library.
extern "C" __attribute__((visibility("default"))) vidgen::Status* RegisterCustomOps(vidgen::SessionOptions* options,
                                                                                    const vidgen::ApiBase* base) {
  const vidgen::Function* api = base->get_api(vidgen::kApiVersion);
  if (api == nullptr) {
    api = base->get_api(1);
    return vidgen::at<vidgen::Status*(int, const char*)>(api, vidgen::kCreateStatus)(
        vidgen::kFail, "vidgen::SeparableConvolution needs ONNX Runtime 1.17 or later");
  }
  try {
    vidgen::add_domain(api, options);
  } catch (const std::exception& error) {
    return vidgen::at<vidgen::Status*(int, const char*)>(api, vidgen::kCreateStatus)(vidgen::kFail, error.what());
  }
  return nullptr;
}
