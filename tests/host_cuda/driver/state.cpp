// Options, report, and what every entry point checks first.

#include "state.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::string environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : otherwise;
}

struct Result {
    CUresult result;
    const char *name, *text;
};

const Result kResults[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {36, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "API call is not supported in the installed CUDA driver"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "operation would result in a merge of separate capture sequences"},
    {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

// "cuMemAlloc_v2:3:CUDA_ERROR_OUT_OF_MEMORY"
void read_failure(Options& options, const std::string& text) {
    const size_t first = text.find(':'), second = text.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) return;
    options.failing = text.substr(0, first);
    options.failing_call = std::atoi(text.substr(first + 1, second - first - 1).c_str());
    options.failing_with = result_of(text.substr(second + 1));
}

}  // namespace

State& state() {
    static State* const only = new State;
    return *only;
}

void start() {
    State& all = state();
    if (all.initialized) return;
    all.initialized = true;
    Options& options = all.options;
    const std::string schedule = environment("HOST_CUDA_SCHEDULE", "now");
    options.schedule = schedule == "late" ? Schedule::late : schedule == "ahead" ? Schedule::ahead : Schedule::now;
    options.memory = std::strtoull(environment("HOST_CUDA_MEMORY", "1073741824").c_str(), nullptr, 10);
    options.devices = std::atoi(environment("HOST_CUDA_DEVICES", "1").c_str());
    options.driver_version = std::atoi(environment("HOST_CUDA_DRIVER", "13000").c_str());
    const int architecture = std::atoi(environment("HOST_CUDA_ARCHITECTURE", "89").c_str());
    options.major = architecture / 10;
    options.minor = architecture % 10;
    options.kernels = environment("HOST_CUDA_KERNELS", ".");
    options.report = environment("HOST_CUDA_REPORT", "");
    read_failure(options, environment("HOST_CUDA_FAIL", ""));
}

void check_call(const char* name, Needs needs) {
    State& all = state();
    const int call = ++all.calls[name];
    if (needs == Needs::nothing) return;
    require(all.initialized, kNotInitialized);
    require(!all.in_host_function, kNotPermitted);
    require(all.options.failing != name || all.options.failing_call != call, all.options.failing_with);
    if (needs == Needs::driver) return;
    require(all.sticky == kSuccess, all.sticky);
    require(has_context(), kInvalidContext);
}

void note(std::vector<std::string>& list, const std::string& kind, const std::string& what) {
    list.push_back(what);
    std::fprintf(stderr, "host CUDA driver: %s: %s\n", kind.c_str(), what.c_str());
}

void violation(const std::string& what) {
    State& all = state();
    note(all.violations, "violation", what);
    all.sticky = kIllegalAddress;
    throw Refused{kIllegalAddress};
}

void write_report() {
    const State& all = state();
    if (all.options.report.empty()) return;
    FILE* file = std::fopen(all.options.report.c_str(), "w");
    if (file == nullptr) return;
    for (const std::string& what : all.violations) std::fprintf(file, "violation\t%s\n", what.c_str());
    for (const std::string& what : all.leaks) std::fprintf(file, "leak\t%s\n", what.c_str());
    for (const auto& [name, count] : all.calls) std::fprintf(file, "calls\t%s\t%d\n", name.c_str(), count);
    std::fclose(file);
}

const char* result_name(CUresult result) {
    for (const Result& known : kResults) {
        if (known.result == result) return known.name;
    }
    return nullptr;
}

const char* result_text(CUresult result) {
    for (const Result& known : kResults) {
        if (known.result == result) return known.text;
    }
    return nullptr;
}

CUresult result_of(const std::string& name) {
    for (const Result& known : kResults) {
        if (name == known.name) return known.result;
    }
    const int number = std::atoi(name.c_str());
    return number != 0 ? number : kUnknown;
}

std::string text_of(const void* address) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", address);
    return text;
}

std::string text_of(unsigned long long number) { return std::to_string(number); }

// How often an entry point was called, for tests that run under the driver.
EXPORT int hostCudaCalls(const char* name) {
    const std::lock_guard<std::recursive_mutex> lock(state().mutex);
    const auto found = state().calls.find(name);
    return found == state().calls.end() ? 0 : found->second;
}
