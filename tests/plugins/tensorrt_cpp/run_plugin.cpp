// Runs the plugin once, as an engine would: run_plugin N C H W K TYPE ITEM < input vertical horizontal > output

#include <NvInferRuntime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);

namespace {

nvinfer1::PluginTensorDesc tensor(nvinfer1::DataType type, long batch, long planes, long height, long width) {
  return {{4, {batch, planes, height, width}}, type, nvinfer1::TensorFormat::kLINEAR, -1.0f};
}

std::vector<char> buffer(const nvinfer1::PluginTensorDesc& of, size_t item) {
  size_t elements = 1;
  for (int axis = 0; axis < 4; ++axis) elements *= static_cast<size_t>(of.dims.d[axis]);
  return std::vector<char>(elements * item, '\xff');
}

}  // namespace

int main(int count, char** words) {
  if (count != 8) return 2;
  const auto number = [&](int index) { return std::atol(words[index]); };
  const long batch = number(1), channels = number(2), height = number(3), width = number(4);
  const auto type = static_cast<nvinfer1::DataType>(number(6));
  const size_t item = static_cast<size_t>(number(7));
  const int32_t taps = static_cast<int32_t>(number(5));
  const nvinfer1::PluginTensorDesc inputs[] = {tensor(type, batch, channels, height + taps - 1, width + taps - 1),
                                               tensor(type, batch, taps, height, width),
                                               tensor(type, batch, taps, height, width)};
  const nvinfer1::PluginTensorDesc outputs[] = {tensor(type, batch, channels, height, width)};

  const nvinfer1::PluginField field("taps", &taps, nvinfer1::PluginFieldType::kINT32, 1);
  nvinfer1::PluginFieldCollection fields;
  fields.nbFields = 1;
  fields.fields = &field;
  int32_t creators = 0;
  auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(getCreators(creators)[0]);
  nvinfer1::IPluginV3* const plugin = creator->createPlugin("node", &fields, nvinfer1::TensorRTPhase::kRUNTIME);
  if (plugin == nullptr) return 3;
  const auto kind = nvinfer1::PluginCapabilityType::kRUNTIME;
  auto* const loaded = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin->getCapabilityInterface(kind));
  nvinfer1::IPluginV3* const attached = loaded->attachToContext(nullptr);
  auto* const runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(attached->getCapabilityInterface(kind));

  std::vector<char> read[3];
  for (int index = 0; index < 3; ++index) {
    read[index] = buffer(inputs[index], item);
    if (std::fread(read[index].data(), 1, read[index].size(), stdin) != read[index].size()) return 4;
  }
  std::vector<char> written = buffer(outputs[0], item);
  const void* const sources[] = {read[0].data(), read[1].data(), read[2].data()};
  void* const targets[] = {written.data()};
  if (runtime->onShapeChange(inputs, 3, outputs, 1) != 0) return 5;
  if (runtime->enqueue(inputs, outputs, sources, targets, nullptr, nullptr) != 0) return 6;
  std::fwrite(written.data(), 1, written.size(), stdout);
  delete attached;
  delete plugin;
  return 0;
}
