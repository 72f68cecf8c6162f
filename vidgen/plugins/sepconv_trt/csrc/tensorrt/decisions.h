// Every decision of the TensorRT plugin, without TensorRT and without CUDA: what it takes, what it makes, which kernel runs
// and how it is launched. Nothing here allocates or throws.
//
// The rules of a launch are those of geometry.py; the numbers of each kernel come from it (kernels.inc, written by the
// build), and a test compares the two over many sizes.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace vidgen {

constexpr const char* kPluginName = "SeparableConvolution";
constexpr const char* kPluginVersion = "1";
// The domain of the ONNX node, which is where a parser looks, and what the Python form of the plugin says: an engine built
// with one form runs with the other.
constexpr const char* kPluginNamespace = "vidgen";
// The one field that an engine keeps of the plugin: K, one 32-bit integer.
constexpr const char* kTapsField = "taps";

constexpr int kInputs = 3;  // input [N, C, H + K - 1, W + K - 1], vertical and horizontal [N, K, H, W]
constexpr int kOutputs = 1;  // output [N, C, H, W]
constexpr int kTensors = kInputs + kOutputs;
constexpr int kAxes = 4;
constexpr int64_t kUnknown = -1;  // a size that is known only when the engine runs
constexpr int kLargestTaps = 63;
constexpr int64_t kLargestGrid = 65535;                    // blocks in y and in z
constexpr int64_t kPlanesEnd = int64_t{1} << 31;           // planes are counted in 32 bits
constexpr const char* kTensorNames[kTensors] = {"input", "vertical", "horizontal", "output"};

enum class Element : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kOther = 3 };

inline const char* name_of(Element element) {
  const char* const names[] = {"float32", "float16", "bfloat16", "neither float32 nor float16 nor bfloat16"};
  return names[static_cast<int>(element)];
}

// Which size of which input a size of the output is.
struct Axis {
  int tensor, axis;
};
constexpr Axis kOutputAxes[kAxes] = {{0, 0}, {0, 1}, {1, 2}, {1, 3}};

// What is told to the user: empty while all is well.
struct Message {
  char text[640] = "";
  bool empty() const { return text[0] == '\0'; }

  // Always false, so that a check can end with `return message.set(...)`.
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  bool set(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return false;
  }
};

// One compiled kernel of geometry.plan("forward", ...).
struct Plan {
  const char* entry;
  int taps;
  Element element;
  int channels;  // a block works on at once
  int block_x, block_y;
  int pixels;  // of a thread, one below the other
};

// All kernels of a library.
struct Table {
  const Plan* plans;
  int count;
};

struct Launch {
  int kernel;  // its place in the table
  uint32_t grid[3], block[3];
};

// The shape of a tensor; unknown sizes are kUnknown.
struct Shape {
  int rank;
  int64_t sizes[kAxes];  // of which `rank` are set, if the rank is right
};

struct Sizes {
  int64_t batch, channels, height, width, taps;
  bool empty() const { return batch == 0 || channels == 0 || height == 0 || width == 0; }
};

struct Tensor {
  Element element;
  bool linear;  // C order
};

inline int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

// Room for "3, 5, 7": the numbers of taps that a library has kernels for.
struct List {
  char text[160] = "";
};

inline List compiled_taps(const Table& table) {
  List list;
  int last = 0;
  for (int index = 0; index < table.count; ++index) {
    const int taps = table.plans[index].taps;
    if (taps != last) {
      const size_t used = std::strlen(list.text);
      std::snprintf(list.text + used, sizeof list.text - used, used ? ", %d" : "%d", taps);
      last = taps;
    }
  }
  return list;
}

inline bool has_kernel(const Table& table, int64_t taps, Element element) {
  for (int index = 0; index < table.count; ++index) {
    if (table.plans[index].taps == taps && table.plans[index].element == element) {
      return true;
    }
  }
  return false;
}

// Whether this library has kernels for K taps at all.
inline bool check_taps(const Table& table, int64_t taps, Message& message) {
  if (taps == kUnknown) {
    return message.set(
        "the number of taps K (axis 1 of vertical) is dynamic - kernels are compiled for one K - give vertical and horizontal "
        "a fixed axis 1 in the ONNX file");
  }
  if (taps < 1 || taps > kLargestTaps || taps % 2 == 0) {
    return message.set("%lld taps, expected an odd number from 1 to %d - kernels are centred on a pixel",
                       static_cast<long long>(taps), kLargestTaps);
  }
  for (Element element : {Element::kFloat32, Element::kFloat16, Element::kBFloat16}) {
    if (has_kernel(table, taps, element)) {
      return true;
    }
  }
  return message.set(
      "this library has no kernel for %lld taps, only for %s - build it with cmake -DSEPCONV_TAPS=\"%lld\"",
      static_cast<long long>(taps), compiled_taps(table).text, static_cast<long long>(taps));
}

inline bool check_element(const Table& table, int64_t taps, Element element, Message& message) {
  if (has_kernel(table, taps, element)) {
    return true;
  }
  return message.set("no kernel for %lld taps of %s in this library - build it with cmake -DSEPCONV_TAPS=\"%lld\" "
                     "-DSEPCONV_DTYPES=\"float32;float16;bfloat16\"",
                     static_cast<long long>(taps), name_of(element), static_cast<long long>(taps));
}

// How many tensors a node or a call has.
inline bool check_counts(int inputs, int outputs, Message& message) {
  if (inputs == kInputs && outputs == kOutputs) {
    return true;
  }
  return message.set("%d inputs and %d outputs, expected input, vertical, horizontal and one output", inputs, outputs);
}

// The types of the three inputs; the output has theirs.
inline bool check_types(const Element* types, Message& message) {
  for (int input = 0; input < kInputs; ++input) {
    if (types[input] == Element::kOther) {
      return message.set("%s is %s", kTensorNames[input], name_of(types[input]));
    }
    if (types[input] != types[0]) {
      return message.set("%s is %s, input is %s, expected one type for all three", kTensorNames[input],
                         name_of(types[input]), name_of(types[0]));
    }
  }
  return true;
}

// One size beside another; an unknown one fits all.
inline bool check_size(const Shape* shapes, int tensor, int axis, int64_t wanted, const char* meaning, Message& message) {
  const int64_t seen = shapes[tensor].sizes[axis];
  if (seen == kUnknown || wanted == kUnknown || seen == wanted) {
    return true;
  }
  return message.set("%s has %lld on axis %d, expected %lld, %s", kTensorNames[tensor], static_cast<long long>(seen), axis,
                     static_cast<long long>(wanted), meaning);
}

// Whether input, vertical and horizontal belong together, and their sizes as far as they are known. `count` is 3, or 4 with
// the output.
inline bool check_shapes(const Shape* shapes, int count, Sizes& sizes, Message& message) {
  if (count != kInputs && count != kTensors) {
    return message.set("%d tensors, expected input, vertical, horizontal and one output", count);
  }
  for (int tensor = 0; tensor < count; ++tensor) {
    if (shapes[tensor].rank != kAxes) {
      return message.set("%s has %d axes, expected 4, batch first", kTensorNames[tensor], shapes[tensor].rank);
    }
    for (int axis = 0; axis < kAxes; ++axis) {
      if (shapes[tensor].sizes[axis] < kUnknown) {
        return message.set("%s has %lld on axis %d", kTensorNames[tensor],
                           static_cast<long long>(shapes[tensor].sizes[axis]), axis);
      }
    }
  }
  const int64_t* input = shapes[0].sizes;
  const int64_t* vertical = shapes[1].sizes;
  sizes = {input[0], input[1], vertical[2], vertical[3], vertical[1]};
  const bool known = sizes.taps != kUnknown;
  const int64_t rows = known && sizes.height != kUnknown ? sizes.height + sizes.taps - 1 : kUnknown;
  const int64_t columns = known && sizes.width != kUnknown ? sizes.width + sizes.taps - 1 : kUnknown;
  bool fits = check_size(shapes, 1, 0, sizes.batch, "the batch of input", message) &&
              check_size(shapes, 0, 2, rows, "H + K - 1 of vertical [N, K, H, W]", message) &&
              check_size(shapes, 0, 3, columns, "W + K - 1 of vertical [N, K, H, W]", message);
  for (int axis = 0; fits && axis < kAxes; ++axis) {
    fits = check_size(shapes, 2, axis, vertical[axis], "the shape of vertical", message);
  }
  for (int axis = 0; fits && count == kTensors && axis < kAxes; ++axis) {
    const Axis from = kOutputAxes[axis];
    fits = check_size(shapes, 3, axis, shapes[from.tensor].sizes[from.axis], "output is [N, C, H, W]", message);
  }
  return fits;
}

// Whether the tensor at `position` may be as it is, given those before it: all are C order and of one type that the library
// has kernels for. `taps` is 0 while K is not known.
inline bool takes(const Table& table, int64_t taps, const Tensor* tensors, int position) {
  if (position < 0 || position >= kTensors || !tensors[position].linear) {
    return false;
  }
  const Element element = tensors[position].element;
  if (position > 0) {
    return element == tensors[0].element;
  }
  for (int index = 0; index < table.count; ++index) {
    if (table.plans[index].element == element && (taps == 0 || table.plans[index].taps == taps)) {
      return true;
    }
  }
  return false;
}

// The largest group of channels that kernels of this kind work on.
inline int largest_group(const Table& table, int64_t taps, Element element) {
  int largest = 0;
  for (int index = 0; index < table.count; ++index) {
    const Plan& plan = table.plans[index];
    if (plan.taps == taps && plan.element == element && plan.channels > largest) {
      largest = plan.channels;
    }
  }
  return largest;
}

inline bool refuse_sizes(const Sizes& sizes, Message& message) {
  return message.set(
      "output [%lld, %lld, %lld, %lld], expected sizes of at least 1, rows and columns that 65535 blocks cover, and fewer "
      "than 2^31 planes",
      static_cast<long long>(sizes.batch), static_cast<long long>(sizes.channels), static_cast<long long>(sizes.height),
      static_cast<long long>(sizes.width));
}

// The kernel for these sizes and its launch; all sizes are at least 1.
inline bool find_launch(const Table& table, const Sizes& sizes, Element element, Launch& launch, Message& message) {
  const int largest = largest_group(table, sizes.taps, element);
  if (largest == 0) {
    return check_taps(table, sizes.taps, message) && check_element(table, sizes.taps, element, message);
  }
  if (sizes.batch < 1 || sizes.channels < 1 || sizes.height < 1 || sizes.width < 1) {
    return refuse_sizes(sizes, message);
  }
  const int64_t planes = sizes.channels > sizes.taps ? sizes.channels : sizes.taps;
  if (sizes.batch > (kPlanesEnd - 1) / planes) {
    return refuse_sizes(sizes, message);
  }
  // Groups of nearly equal size, so that little of the last one is wasted.
  const int64_t channels = ceil_div(sizes.channels, ceil_div(sizes.channels, largest));
  for (int index = 0; index < table.count; ++index) {
    const Plan& plan = table.plans[index];
    if (plan.taps != sizes.taps || plan.element != element || plan.channels != channels) {
      continue;
    }
    const int64_t rows = int64_t{plan.block_y} * plan.pixels;
    const int64_t halo = sizes.taps - 1;
    if (sizes.height > kLargestGrid * rows - halo || sizes.width > kLargestGrid * plan.block_x - halo) {
      return refuse_sizes(sizes, message);
    }
    launch = {index,
              {static_cast<uint32_t>(sizes.batch * ceil_div(sizes.channels, channels)),
               static_cast<uint32_t>(ceil_div(sizes.height, rows)),
               static_cast<uint32_t>(ceil_div(sizes.width, plan.block_x))},
              {static_cast<uint32_t>(plan.block_x), static_cast<uint32_t>(plan.block_y), 1}};
    return true;
  }
  return message.set("this library lacks the kernel of %lld taps for groups of %lld channels - build it anew",
                     static_cast<long long>(sizes.taps), static_cast<long long>(channels));
}

// A field that a plugin is made from.
struct Field {
  const char* name;
  const void* data;
  bool is_int32;
  int length;
};

// K from the fields; 0 where it is not among them, which is right at build time alone.
inline bool read_fields(const Field* fields, int count, bool at_run_time, int32_t& taps, Message& message) {
  taps = 0;
  for (int index = 0; index < count; ++index) {
    const Field& field = fields[index];
    if (field.name == nullptr || std::strcmp(field.name, kTapsField) != 0) {
      return message.set("field %s, expected none but %s - the operator has no attributes",
                         field.name ? field.name : "without a name", kTapsField);
    }
    if (!field.is_int32 || field.length != 1 || field.data == nullptr) {
      return message.set("field %s is not one 32-bit integer", kTapsField);
    }
    std::memcpy(&taps, field.data, sizeof taps);
  }
  if (at_run_time && taps == 0) {
    return message.set("the engine does not say how many taps its kernel has - build the engine anew");
  }
  return true;
}

}  // namespace vidgen
