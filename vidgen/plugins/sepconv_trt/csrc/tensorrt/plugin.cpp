// The separable convolution as a TensorRT V3 plugin, for engines that run from C++ (or anywhere a library can be loaded).
//
// This file only translates between TensorRT's interfaces and decisions.h. It calls no function of TensorRT's library, so
// that it need not be linked to one: what it needs comes in through the arguments.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <new>

#include "decisions.h"
#include "kernels.h"

#if defined(_WIN32)
#define VIDGEN_EXPORT __declspec(dllexport)
#else
#define VIDGEN_EXPORT __attribute__((visibility("default")))
#endif

namespace vidgen {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

// What TensorRT wants in place of success.
constexpr int32_t kOk = 0;
constexpr int32_t kRefused = 1;

// Given by TensorRT when it loads the library; without one, messages go to standard error.
std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

int32_t refuse(const Message& message) noexcept {
  char line[sizeof message.text + 64];
  std::snprintf(line, sizeof line, "vidgen::%s: %s", kPluginName, message.text);
  nvinfer1::ILogger* logger = nullptr;
  try {
    nvinfer1::ILoggerFinder* const finder = logger_finder.load();
    logger = finder != nullptr ? finder->findLogger() : nullptr;
  } catch (...) {
    // A finder that fails is one that finds nothing.
    logger = nullptr;
  }
  if (logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, line);
  } else {
    std::fprintf(stderr, "%s\n", line);
  }
  return kRefused;
}

int32_t refuse_cuda(const char* what, cudaError_t status) noexcept {
  // The error is told here once; whoever asks CUDA next is not to find it again.
  static_cast<void>(cudaGetLastError());
  Message message;
  message.set("%s: %s (CUDA error %d)", what, cudaGetErrorString(status), static_cast<int>(status));
  refuse(message);
  return static_cast<int32_t>(status);
}

Element element_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return Element::kFloat32;
    case DataType::kHALF:
      return Element::kFloat16;
    case DataType::kBF16:
      return Element::kBFloat16;
    default:
      return Element::kOther;
  }
}

Tensor tensor_of(const PluginTensorDesc& description) {
  return {element_of(description.type), description.format == nvinfer1::TensorFormat::kLINEAR};
}

Shape shape_of(const nvinfer1::Dims& dims) {
  Shape shape = {dims.nbDims, {}};
  for (int axis = 0; axis < kAxes && axis < dims.nbDims; ++axis) {
    shape.sizes[axis] = dims.d[axis];
  }
  return shape;
}

Shape shape_of(const nvinfer1::DimsExprs& dims) {
  Shape shape = {dims.nbDims, {}};
  for (int axis = 0; axis < kAxes && axis < dims.nbDims; ++axis) {
    const nvinfer1::IDimensionExpr* const size = dims.d[axis];
    shape.sizes[axis] = size != nullptr && size->isConstant() ? size->getConstantValue() : kUnknown;
  }
  return shape;
}

class SeparableConvolution final : public nvinfer1::IPluginV3,
                                   public nvinfer1::IPluginV3OneCore,
                                   public nvinfer1::IPluginV3OneBuild,
                                   public nvinfer1::IPluginV3OneRuntime {
 public:
  // taps: K, or 0 until the shapes say it. attached: to an execution context, so that there is a device.
  SeparableConvolution(int32_t taps, bool attached) noexcept : taps_(taps), attached_(attached) {}
  ~SeparableConvolution() override = default;

  // IPluginV3

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
      default:
        return nullptr;
    }
  }

  nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) SeparableConvolution(taps_, attached_); }

  // IPluginV3OneCore

  const char* getPluginName() const noexcept override { return kPluginName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  // IPluginV3OneBuild

  int32_t getNbOutputs() const noexcept override { return kOutputs; }

  int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                             int32_t input_count) const noexcept override {
    Message message;
    if (!check_counts(input_count, output_count, message)) {
      return refuse(message);
    }
    const Element types[kInputs] = {element_of(inputs[0]), element_of(inputs[1]), element_of(inputs[2])};
    if (!check_types(types, message)) {
      return refuse(message);
    }
    outputs[0] = inputs[0];
    return kOk;
  }

  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t output_count, nvinfer1::IExprBuilder&) noexcept override {
    Message message;
    if (!check_counts(input_count, output_count, message)) {
      return refuse(message);
    }
    const Shape shapes[kInputs] = {shape_of(inputs[0]), shape_of(inputs[1]), shape_of(inputs[2])};
    Sizes sizes = {};
    if (!check_shapes(shapes, kInputs, sizes, message) || !take_taps(sizes.taps, message)) {
      return refuse(message);
    }
    outputs[0].nbDims = kAxes;
    for (int axis = 0; axis < kAxes; ++axis) {
      outputs[0].d[axis] = inputs[kOutputAxes[axis].tensor].d[kOutputAxes[axis].axis];
    }
    return kOk;
  }

  bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t input_count,
                                 int32_t output_count) noexcept override {
    if (input_count != kInputs || output_count != kOutputs || position < 0 || position >= kTensors) {
      return false;
    }
    Tensor seen[kTensors] = {};
    for (int tensor = 0; tensor <= position; ++tensor) {
      seen[tensor] = tensor_of(tensors[tensor].desc);
    }
    return takes(compiled_kernels(), taps_, seen, position);
  }

  int32_t configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count, const DynamicPluginTensorDesc* outputs,
                          int32_t output_count) noexcept override {
    Message message;
    if (!check_counts(input_count, output_count, message)) {
      return refuse(message);
    }
    Shape shapes[kTensors] = {};
    Shape largest[kTensors] = {};
    for (int tensor = 0; tensor < kTensors; ++tensor) {
      const DynamicPluginTensorDesc& description = tensor < kInputs ? inputs[tensor] : outputs[0];
      shapes[tensor] = shape_of(description.desc.dims);
      largest[tensor] = shape_of(description.max);
    }
    Sizes sizes = {};
    const Element element = element_of(inputs[0].desc.type);
    if (!check_shapes(shapes, kTensors, sizes, message) || !take_taps(sizes.taps, message) ||
        !check_element(compiled_kernels(), taps_, element, message)) {
      return refuse(message);
    }
    // The largest sizes of the profile must be launchable; those that TensorRT does not know are checked when it runs.
    Launch launch = {};
    Message unknown;
    const bool known = check_shapes(largest, kInputs, sizes, unknown) && sizes.taps == taps_ && sizes.batch > 0 &&
                       sizes.channels > 0 && sizes.height > 0 && sizes.width > 0;
    if (known && !find_launch(compiled_kernels(), sizes, element, launch, message)) {
      return refuse(message);
    }
    return kOk;
  }

  size_t getWorkspaceSize(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*,
                          int32_t) const noexcept override {
    return 0;
  }

  // All that a time depends on beside shapes and types: the kernels.
  const char* getTimingCacheID() noexcept override { return kernel_text(); }

  const char* getMetadataString() noexcept override {
    std::snprintf(metadata_, sizeof metadata_, "taps=%d", static_cast<int>(taps_));
    return metadata_;
  }

  // IPluginV3OneRuntime

  int32_t onShapeChange(const PluginTensorDesc* inputs, int32_t input_count, const PluginTensorDesc* outputs,
                        int32_t output_count) noexcept override {
    Message message;
    if (!check_counts(input_count, output_count, message)) {
      return refuse(message);
    }
    Launch launch = {};
    Sizes sizes = {};
    if (!plan_launch(inputs, outputs, sizes, launch, message)) {
      return refuse(message);
    }
    // Loads the kernel now, so that the first enqueue may already be captured; and tells whether this device can run it.
    if (attached_ && !sizes.empty()) {
      cudaFuncAttributes attributes = {};
      const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel_address(launch.kernel));
      if (status != cudaSuccess) {
        return refuse_cuda("the kernel does not load on this device", status);
      }
    }
    return kOk;
  }

  int32_t enqueue(const PluginTensorDesc* input_descriptions, const PluginTensorDesc* output_descriptions,
                  const void* const* inputs, void* const* outputs, void*, cudaStream_t stream) noexcept override {
    Message message;
    Launch launch = {};
    Sizes sizes = {};
    if (!plan_launch(input_descriptions, output_descriptions, sizes, launch, message)) {
      return refuse(message);
    }
    if (sizes.empty()) {
      return kOk;
    }
    // In the order of geometry.ARGUMENTS.
    const void* tensors[kInputs] = {inputs[0], inputs[1], inputs[2]};
    int channels = static_cast<int>(sizes.channels);
    int height = static_cast<int>(sizes.height);
    int width = static_cast<int>(sizes.width);
    void* output = outputs[0];
    void* arguments[] = {&tensors[0], &tensors[1], &tensors[2], &channels, &height, &width, &output};
    const cudaError_t status = cudaLaunchKernel(
        kernel_address(launch.kernel), dim3(launch.grid[0], launch.grid[1], launch.grid[2]),
        dim3(launch.block[0], launch.block[1], launch.block[2]), arguments, 0, stream);
    return status == cudaSuccess ? kOk : refuse_cuda("the kernel cannot be launched", status);
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return new (std::nothrow) SeparableConvolution(taps_, true);
  }

  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
    field_ = nvinfer1::PluginField(kTapsField, &taps_, PluginFieldType::kINT32, 1);
    fields_.nbFields = 1;
    fields_.fields = &field_;
    return &fields_;
  }

 private:
  // K as the shapes give it: one that this library has kernels for, and the one the plugin was made for.
  bool take_taps(int64_t taps, Message& message) noexcept {
    if (!check_taps(compiled_kernels(), taps, message)) {
      return false;
    }
    if (taps_ != 0 && taps_ != taps) {
      return message.set("vertical has %lld taps, the plugin was made for %d", static_cast<long long>(taps),
                         static_cast<int>(taps_));
    }
    taps_ = static_cast<int32_t>(taps);
    return true;
  }

  // What a run would launch; nothing for empty tensors.
  bool plan_launch(const PluginTensorDesc* inputs, const PluginTensorDesc* outputs, Sizes& sizes, Launch& launch,
                   Message& message) const noexcept {
    const PluginTensorDesc* const all[kTensors] = {&inputs[0], &inputs[1], &inputs[2], &outputs[0]};
    Shape shapes[kTensors] = {};
    Tensor tensors[kTensors] = {};
    for (int tensor = 0; tensor < kTensors; ++tensor) {
      shapes[tensor] = shape_of(all[tensor]->dims);
      tensors[tensor] = tensor_of(*all[tensor]);
    }
    if (!check_shapes(shapes, kTensors, sizes, message)) {
      return false;
    }
    // 0 only while a builder times a plugin that it has not configured.
    if (taps_ != 0 && sizes.taps != taps_) {
      return message.set("vertical has %lld taps, the engine was built for %d", static_cast<long long>(sizes.taps),
                         static_cast<int>(taps_));
    }
    const Table table = compiled_kernels();
    if (!check_taps(table, sizes.taps, message) || !check_element(table, sizes.taps, tensors[0].element, message)) {
      return false;
    }
    for (int tensor = 0; tensor < kTensors; ++tensor) {
      if (!takes(table, sizes.taps, tensors, tensor)) {
        return message.set("%s is %s%s, expected %s in C order as input is", kTensorNames[tensor],
                           name_of(tensors[tensor].element), tensors[tensor].linear ? "" : " in another layout",
                           name_of(tensors[0].element));
      }
    }
    return sizes.empty() || find_launch(table, sizes, tensors[0].element, launch, message);
  }

  int32_t taps_;
  bool attached_;
  nvinfer1::PluginField field_;
  nvinfer1::PluginFieldCollection fields_;
  char metadata_[32] = "";
};

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* given,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    constexpr int kMostFields = 8;
    Field fields[kMostFields] = {};
    const int count = given != nullptr && given->fields != nullptr ? given->nbFields : 0;
    const bool at_run_time = phase == nvinfer1::TensorRTPhase::kRUNTIME;
    Message message;
    int32_t taps = 0;
    if (count > kMostFields) {
      message.set("%d fields, expected none but %s", count, kTapsField);
      return refuse_object(message);
    }
    for (int index = 0; index < count; ++index) {
      const nvinfer1::PluginField& field = given->fields[index];
      fields[index] = {field.name, field.data, field.type == PluginFieldType::kINT32, field.length};
    }
    if (!read_fields(fields, count, at_run_time, taps, message) ||
        (taps != 0 && !check_taps(compiled_kernels(), taps, message))) {
      return refuse_object(message);
    }
    return new (std::nothrow) SeparableConvolution(taps, false);
  }

  // The operator has no attributes.
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &none_; }
  const char* getPluginName() const noexcept override { return kPluginName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

 private:
  static nvinfer1::IPluginV3* refuse_object(const Message& message) noexcept {
    refuse(message);
    return nullptr;
  }

  nvinfer1::PluginFieldCollection none_{};
};

}  // namespace
}  // namespace vidgen

// TensorRT looks for these two names when it loads a library of plugins.
extern "C" {
VIDGEN_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
VIDGEN_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
}

void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { vidgen::logger_finder.store(finder); }

nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static vidgen::Creator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}
