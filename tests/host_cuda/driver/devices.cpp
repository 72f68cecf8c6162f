// Entry points of the driver, devices and contexts, and how other libraries find all entry points.

#include <dlfcn.h>

#include <cstring>

#include "graphs.h"
#include "modules.h"
#include "state.h"
#include "streams.h"

struct Context {
    int device = 0, references = 0;
};

namespace {

std::vector<Context*>& contexts() {
    static auto* const made = new std::vector<Context*>;
    return *made;
}

thread_local std::vector<Context*> current;

void check_device(CUdevice device) { require(device >= 0 && device < state().options.devices, kInvalidDevice); }

Context& primary(CUdevice device) {
    check_device(device);
    while (static_cast<int>(contexts().size()) <= device) {
        contexts().push_back(new Context{static_cast<int>(contexts().size())});
    }
    return *contexts()[static_cast<size_t>(device)];
}

// Everything that goes with the last context.
void note_what_is_alive() {
    std::vector<std::string> names;
    for (Allocation* memory : allocations()) {
        if (memory->alive) names.push_back(memory->what);
        memory->alive = false;
    }
    for (Stream* stream : streams()) {
        if (stream->alive && stream->id != 0) names.push_back("stream " + std::to_string(stream->id));
    }
    Handles<Event>::list_alive(names);
    Handles<Module>::list_alive(names);
    Handles<Graph>::list_alive(names);
    Handles<GraphExec>::list_alive(names);
    for (const std::string& name : names) note(state().leaks, "leak", name);
}

bool any_context() {
    return std::any_of(contexts().begin(), contexts().end(), [](Context* context) { return context->references > 0; });
}

// When the process ends. After a violation nothing can be given back, so that nothing counts as left open.
__attribute__((destructor)) void finish() {
    static bool finished = false;
    State& all = state();
    if (!all.initialized || finished) return;
    finished = true;
    if (all.sticky == kSuccess && any_context()) {
        note(all.leaks, "leak", "the primary context");
        note_what_is_alive();
    }
    write_report();
}

CUresult find_entry(const char* symbol, void** function) {
    static void* const self = [] {
        Dl_info info = {};
        dladdr(reinterpret_cast<void*>(&state), &info);
        return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }();
    const std::string name = symbol;
    for (const char* suffix : {"_v4", "_v3", "_v2", "WithFlags", ""}) {
        const std::string candidate = name + suffix;
        // Of this one, the plain name is the newer form.
        if (candidate == "cuEventRecordWithFlags" || candidate == "cuStreamCreateWithFlags") continue;
        *function = dlsym(self, candidate.c_str());
        if (*function != nullptr) return kSuccess;
    }
    *function = dlsym(self, "hostCudaNotSupported");
    return kSuccess;
}

}  // namespace

bool has_context() { return !current.empty() && current.back() != nullptr && current.back()->references > 0; }

// For a process that ends without destructors.
EXPORT void hostCudaFinish() { finish(); }

EXPORT CUresult hostCudaNotSupported() { return kNotSupported; }

// What is alive now: "memory", "pinned", "stream", "event", "module" or "graph".
EXPORT int hostCudaAlive(const char* kind) {
    const std::string asked = kind;
    const auto alive = [](const auto& all) {
        return static_cast<int>(std::count_if(all.begin(), all.end(), [](const auto* one) { return one->alive; }));
    };
    const bool device = asked == "memory";
    const auto& memory = allocations();
    if (device || asked == "pinned") {
        return static_cast<int>(std::count_if(memory.begin(), memory.end(), [=](const Allocation* one) {
            return one->alive && one->device == device;
        }));
    }
    if (asked == "stream") return std::max(0, alive(streams()) - 1);
    if (asked == "event") return alive(Handles<Event>::all());
    if (asked == "module") return alive(Handles<Module>::all());
    return alive(Handles<Graph>::all()) + alive(Handles<GraphExec>::all());
}

EXPORT CUresult cuInit(unsigned) {
    start();
    return enter("cuInit", Needs::driver, [] {
        require(state().options.devices > 0, kNoDevice);
        catch_faults();
    });
}

EXPORT CUresult cuDriverGetVersion(int* version) {
    start();
    return enter("cuDriverGetVersion", Needs::nothing, [&] { *version = state().options.driver_version; });
}

// pycuda makes a string of what it gets, so that there must be one.
EXPORT CUresult cuGetErrorString(CUresult result, const char** text) {
    *text = result_text(result);
    if (*text != nullptr) return kSuccess;
    *text = "unrecognized error code";
    return kInvalidValue;
}

EXPORT CUresult cuGetErrorName(CUresult result, const char** name) {
    *name = result_name(result);
    return *name != nullptr ? kSuccess : kInvalidValue;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
    return enter("cuDeviceGetCount", Needs::driver, [&] { *count = state().options.devices; });
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    return enter("cuDeviceGet", Needs::driver, [&] {
        check_device(ordinal);
        *device = ordinal;
    });
}

EXPORT CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
    return enter("cuDeviceGetName", Needs::driver, [&] {
        check_device(device);
        require(size > 0);
        std::strncpy(name, "CUDA on a CPU", static_cast<size_t>(size) - 1);
        name[size - 1] = '\0';
    });
}

EXPORT CUresult cuDeviceGetAttribute(int* value, unsigned attribute, CUdevice device) {
    return enter("cuDeviceGetAttribute", Needs::driver, [&] {
        check_device(device);
        require(attribute == kMajorAttribute || attribute == kMinorAttribute, kNotSupported);
        *value = attribute == kMajorAttribute ? state().options.major : state().options.minor;
    });
}

EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
    return enter("cuDeviceComputeCapability", Needs::driver, [&] {
        check_device(device);
        *major = state().options.major;
        *minor = state().options.minor;
    });
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    return enter("cuDeviceTotalMem", Needs::driver, [&] {
        check_device(device);
        *bytes = state().options.memory;
    });
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    return enter("cuDevicePrimaryCtxRetain", Needs::driver, [&] {
        *context = &primary(device);
        ++(*context)->references;
    });
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    return enter("cuDevicePrimaryCtxRelease", Needs::driver, [&] {
        Context& context = primary(device);
        require(context.references > 0, kInvalidContext);
        --context.references;
        if (!any_context() && state().sticky == kSuccess) note_what_is_alive();
    });
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
    return enter("cuDevicePrimaryCtxGetState", Needs::driver, [&] {
        *flags = 0;
        *active = primary(device).references > 0;
    });
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
    return enter("cuCtxPushCurrent", Needs::driver, [&] {
        require(context != nullptr && context->references > 0, kInvalidContext);
        current.push_back(context);
    });
}

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    return enter("cuCtxPopCurrent", Needs::driver, [&] {
        require(!current.empty(), kInvalidContext);
        if (context != nullptr) *context = current.back();
        current.pop_back();
    });
}

EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
    return enter("cuCtxGetCurrent", Needs::driver, [&] { *context = current.empty() ? nullptr : current.back(); });
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    return enter("cuCtxSetCurrent", Needs::driver, [&] {
        if (!current.empty()) current.pop_back();
        if (context != nullptr) current.push_back(context);
    });
}

EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
    return enter("cuCtxGetDevice", Needs::context, [&] { *device = current.back()->device; });
}

EXPORT CUresult cuCtxSynchronize() {
    return enter("cuCtxSynchronize", Needs::context, [] {
        forbidden_in_capture();
        wait_for_everything();
    });
}

// NVRTC calls it without asking whether it is there.
EXPORT CUresult cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return kNotFound;
}

EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int, unsigned long long, int* status) {
    if (status != nullptr) *status = 0;
    return find_entry(symbol, function);
}

EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int, unsigned long long) {
    return find_entry(symbol, function);
}
