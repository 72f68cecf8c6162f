// The plugin's life, a C function for each call that TensorRT makes, for Python to call.

#include <NvInferRuntime.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "decisions.h"
#include "kernels.h"

extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);

namespace {

using nvinfer1::IPluginV3;

class Log final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    text += std::to_string(static_cast<int>(severity)) + " " + message + "\n";
  }
  std::string text;
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  explicit Finder(Log& log) : log_(log) {}
  nvinfer1::ILogger* findLogger() override { return &log_; }

 private:
  Log& log_;
};

Log lines;
Finder finder(lines);

// A size that is known, or not.
class Value final : public nvinfer1::apiv::VDimensionExpr {
 public:
  explicit Value(int64_t value) : value_(value) {}
  bool isConstant() const override { return value_ >= 0; }
  int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

 private:
  int64_t value_;
};

class Size final : public nvinfer1::IDimensionExpr {
 public:
  explicit Size(int64_t value) : value_(value) { mImpl = &value_; }
  ~Size() noexcept override = default;

 private:
  Value value_;
};

class Builder final : public nvinfer1::IExprBuilder {};

nvinfer1::IPluginV3OneBuild* build_of(void* plugin) {
  auto* const found = static_cast<IPluginV3*>(plugin)->getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD);
  return static_cast<nvinfer1::IPluginV3OneBuild*>(found);
}

nvinfer1::IPluginV3OneRuntime* run_of(void* plugin) {
  auto* const found = static_cast<IPluginV3*>(plugin)->getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME);
  return static_cast<nvinfer1::IPluginV3OneRuntime*>(found);
}

nvinfer1::Dims dims_of(const int64_t* sizes, int rank) {
  nvinfer1::Dims dims = {rank, {}};
  std::memcpy(dims.d, sizes, sizeof(int64_t) * 4);
  return dims;
}

// Four tensors: 4 sizes each, a type and a format each.
std::vector<nvinfer1::PluginTensorDesc> tensors_of(const int64_t* sizes, const int32_t* types, const int32_t* formats) {
  std::vector<nvinfer1::PluginTensorDesc> tensors(4);
  for (int index = 0; index < 4; ++index) {
    tensors[index] = {dims_of(sizes + 4 * index, 4), static_cast<nvinfer1::DataType>(types[index]),
                      static_cast<nvinfer1::TensorFormat>(formats[index]), -1.0f};
  }
  return tensors;
}

std::vector<nvinfer1::DynamicPluginTensorDesc> ranges_of(const int64_t* sizes, const int64_t* largest, const int32_t* types,
                                                         const int32_t* formats) {
  std::vector<nvinfer1::DynamicPluginTensorDesc> ranges(4);
  const auto tensors = tensors_of(sizes, types, formats);
  for (int index = 0; index < 4; ++index) {
    const auto most = dims_of(largest + 4 * index, 4);
    ranges[index] = {tensors[index], most, most, most};
  }
  return ranges;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void use_logger(int use) { setLoggerFinder(use ? &finder : nullptr); }

// What was logged since the last call.
EXPORT const char* logged() {
  static std::string text;
  text.swap(lines.text);
  lines.text.clear();
  return text.c_str();
}

EXPORT const char* creator_text() {
  int32_t count = 0;
  auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(getCreators(count)[0]);
  static std::string text;
  text = std::to_string(count) + " " + creator->getPluginNamespace() + "::" + creator->getPluginName() + " " +
         creator->getPluginVersion() + " " + std::to_string(creator->getFieldNames()->nbFields);
  return text.c_str();
}

EXPORT void* create(int phase, const char* name, int32_t value, int32_t type, int32_t length, int count) {
  int32_t creators = 0;
  const std::vector<nvinfer1::PluginField> fields(
      static_cast<size_t>(count), nvinfer1::PluginField(name, &value, static_cast<nvinfer1::PluginFieldType>(type), length));
  nvinfer1::PluginFieldCollection collection;
  collection.nbFields = count;
  collection.fields = fields.data();
  auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(getCreators(creators)[0]);
  return creator->createPlugin("node", &collection, static_cast<nvinfer1::TensorRTPhase>(phase));
}

EXPORT void destroy(void* plugin) { delete static_cast<IPluginV3*>(plugin); }
EXPORT void* copy(void* plugin) { return static_cast<IPluginV3*>(plugin)->clone(); }
EXPORT void* attach(void* plugin) { return run_of(plugin)->attachToContext(nullptr); }
EXPORT const char* metadata(void* plugin) { return build_of(plugin)->getMetadataString(); }

EXPORT int output_type(void* plugin, const int32_t* types, int count) {
  nvinfer1::DataType inputs[8] = {};
  for (int index = 0; index < count; ++index) {
    inputs[index] = static_cast<nvinfer1::DataType>(types[index]);
  }
  nvinfer1::DataType output = nvinfer1::DataType::kBOOL;
  const int status = build_of(plugin)->getOutputDataTypes(&output, 1, inputs, count);
  return status == 0 ? static_cast<int>(output) : -status;
}

// Sizes of three inputs; -1 is unknown, and comes back as -1.
EXPORT int output_shape(void* plugin, const int64_t* sizes, const int32_t* ranks, int count, int64_t* output) {
  std::vector<std::unique_ptr<Size>> kept;
  nvinfer1::DimsExprs inputs[8] = {};
  for (int tensor = 0; tensor < count; ++tensor) {
    inputs[tensor].nbDims = ranks[tensor];
    for (int axis = 0; axis < 4; ++axis) {
      kept.push_back(std::make_unique<Size>(sizes[4 * tensor + axis]));
      inputs[tensor].d[axis] = kept.back().get();
    }
  }
  nvinfer1::DimsExprs outputs[1] = {};
  Builder builder;
  const int status = build_of(plugin)->getOutputShapes(inputs, count, nullptr, 0, outputs, 1, builder);
  for (int axis = 0; status == 0 && axis < outputs[0].nbDims; ++axis) {
    output[axis] = outputs[0].d[axis]->getConstantValue();
  }
  return status;
}

EXPORT int supports(void* plugin, int position, const int32_t* types, const int32_t* formats) {
  const int64_t nothing[16] = {};
  const auto tensors = ranges_of(nothing, nothing, types, formats);
  return build_of(plugin)->supportsFormatCombination(position, tensors.data(), 3, 1);
}

EXPORT int configure(void* plugin, const int64_t* sizes, const int64_t* largest, const int32_t* types, const int32_t* formats) {
  const auto tensors = ranges_of(sizes, largest, types, formats);
  return build_of(plugin)->configurePlugin(tensors.data(), 3, tensors.data() + 3, 1);
}

EXPORT int serialized(void* plugin, char* name, int32_t* value) {
  const nvinfer1::PluginFieldCollection* const fields = run_of(plugin)->getFieldsToSerialize();
  std::strncpy(name, fields->fields[0].name, 32);
  std::memcpy(value, fields->fields[0].data, sizeof *value);
  return fields->nbFields * 100 + static_cast<int>(fields->fields[0].type) * 10 + fields->fields[0].length;
}

EXPORT int change_shapes(void* plugin, const int64_t* sizes, const int32_t* types, const int32_t* formats) {
  const auto tensors = tensors_of(sizes, types, formats);
  return run_of(plugin)->onShapeChange(tensors.data(), 3, tensors.data() + 3, 1);
}

EXPORT int enqueue(void* plugin, const int64_t* sizes, const int32_t* types, const int32_t* formats, uint64_t stream) {
  const auto tensors = tensors_of(sizes, types, formats);
  const void* const inputs[] = {reinterpret_cast<void*>(0x1000), reinterpret_cast<void*>(0x2000), reinterpret_cast<void*>(0x3000)};
  void* const outputs[] = {reinterpret_cast<void*>(0x4000)};
  return run_of(plugin)->enqueue(tensors.data(), tensors.data() + 3, inputs, outputs, nullptr,
                                 reinterpret_cast<cudaStream_t>(stream));
}

// decisions.h alone: 1 and a launch, or 0 and a message.
EXPORT int find_launch(const int64_t* sizes, int element, uint32_t* grid_and_block, char* entry, char* message) {
  const vidgen::Table table = vidgen::compiled_kernels();
  const vidgen::Sizes wanted = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
  vidgen::Launch launch = {};
  vidgen::Message why;
  const bool found = vidgen::find_launch(table, wanted, static_cast<vidgen::Element>(element), launch, why);
  std::memcpy(grid_and_block, launch.grid, sizeof launch.grid);
  std::memcpy(grid_and_block + 3, launch.block, sizeof launch.block);
  std::strncpy(entry, found ? table.plans[launch.kernel].entry : "", 127);
  std::strncpy(message, why.text, 639);
  return found;
}
