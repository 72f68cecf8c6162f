// Entry points of memory: taking it, giving it back, and copies between host and device.

#include <cstdlib>
#include <cstring>

#include "memory.h"
#include "state.h"
#include "streams.h"

namespace {

// What the host finds in a target that is read before the copy is done.
constexpr int kNotYet = 0xcb;

size_t digest(const char* data, size_t bytes) {
    return std::hash<std::string_view>{}(std::string_view(data, bytes));
}

char* at(CUdeviceptr address) { return reinterpret_cast<char*>(address); }

void to_device(CUdeviceptr target, const void* source, size_t bytes, Stream& stream) {
    Work work{"a copy to the device", {device_range(target, bytes, true, "a copy to the device")}, nullptr};
    const char* from = static_cast<const char*>(source);
    Access pinned;
    if (pinned_range(source, bytes, false, work.what, &pinned)) {
        work.accesses.push_back(pinned);
        work.start = [=, what = pinned.of->what] {
            const size_t given = digest(from, bytes);
            return [=] {
                if (digest(from, bytes) != given) violation(what + " was changed before its copy to the device ran");
                std::memcpy(at(target), from, bytes);
            };
        };
    } else {
        // Ordinary memory is read before the call returns; in a graph, when that is launched.
        work.start = [=] {
            return [=, staged = std::string(from, bytes)] { std::memcpy(at(target), staged.data(), bytes); };
        };
    }
    give(stream, std::move(work));
}

void to_host(void* target, CUdeviceptr source, size_t bytes, Stream& stream) {
    Work work{"a copy to the host", {device_range(source, bytes, false, "a copy to the host")}, nullptr};
    char* to = static_cast<char*>(target);
    Access pinned;
    const bool is_pinned = pinned_range(target, bytes, true, work.what, &pinned);
    const bool poison = state().options.schedule != Schedule::now;
    if (is_pinned) work.accesses.push_back(pinned);
    work.start = [=, what = is_pinned ? pinned.of->what : ""] {
        if (poison && is_pinned) std::memset(to, kNotYet, bytes);
        return [=] {
            const auto changed = [](char byte) { return byte != static_cast<char>(kNotYet); };
            if (poison && is_pinned && std::any_of(to, to + bytes, changed)) {
                violation(what + " was written by the host before a copy into it ran");
            }
            std::memcpy(to, at(source), bytes);
        };
    };
    const Point point = give(stream, std::move(work));
    if (!is_pinned) wait_for(point);  // into ordinary memory, a copy is over when the call returns
}

void on_device(CUdeviceptr target, CUdeviceptr source, size_t bytes, Stream& stream) {
    const std::string what = "a copy on the device";
    Work work{what, {device_range(source, bytes, false, what), device_range(target, bytes, true, what)}, nullptr};
    work.start = [=] { return [=] { std::memmove(at(target), at(source), bytes); }; };
    give(stream, std::move(work));
}

void set_bytes(CUdeviceptr target, const void* value, size_t size, size_t count, Stream& stream) {
    const std::string pattern(static_cast<const char*>(value), size);
    Work work{"a memset", {device_range(target, size * count, true, "a memset")}, nullptr};
    work.start = [=] {
        return [=] {
            for (size_t index = 0; index < count; ++index) std::memcpy(at(target) + index * size, pattern.data(), size);
        };
    };
    give(stream, std::move(work));
}

void wait_default() { wait_for(stream_of(nullptr).last); }

void give_back(void* address, bool device) {
    forbidden_in_capture();
    Allocation* memory = find_allocation(address);
    const std::string what = device ? "device memory" : "pinned memory";
    if (memory == nullptr || memory->device != device || memory->data != address) {
        violation(text_of(address) + " is freed as " + what + ", and is none");
    }
    if (!memory->alive) violation(memory->what + " is freed twice");
    check_unused(*memory, "freed");
    release(*memory);
}

}  // namespace

EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    return enter("cuMemGetInfo", Needs::context, [&] {
        *total = state().options.memory;
        *free = *total - device_bytes_in_use();
    });
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    return enter("cuMemAlloc", Needs::context, [&] {
        forbidden_in_capture();
        require(bytes > 0);
        require(bytes <= state().options.memory - device_bytes_in_use(), kOutOfMemory);
        *address = reinterpret_cast<CUdeviceptr>(allocate(bytes, true)->data);
    });
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    return enter("cuMemFree", Needs::context, [&] { give_back(at(address), true); });
}

EXPORT CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    return enter("cuMemHostAlloc", Needs::context, [&] {
        forbidden_in_capture();
        require(bytes > 0);
        *address = allocate(bytes, false)->data;
    });
}

EXPORT CUresult cuMemFreeHost(void* address) {
    return enter("cuMemFreeHost", Needs::context, [&] { give_back(address, false); });
}

EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
    return enter("cuMemGetAddressRange", Needs::context, [&] {
        const Allocation* memory = find_allocation(at(address));
        require(memory != nullptr && memory->alive && memory->device, kNotFound);
        if (base != nullptr) *base = reinterpret_cast<CUdeviceptr>(memory->data);
        if (bytes != nullptr) *bytes = memory->bytes;
    });
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void* source, size_t bytes, CUstream stream) {
    return enter("cuMemcpyHtoDAsync", Needs::context, [&] { to_device(target, source, bytes, stream_of(stream)); });
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* target, CUdeviceptr source, size_t bytes, CUstream stream) {
    return enter("cuMemcpyDtoHAsync", Needs::context, [&] { to_host(target, source, bytes, stream_of(stream)); });
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
    return enter("cuMemcpyDtoDAsync", Needs::context, [&] { on_device(target, source, bytes, stream_of(stream)); });
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr target, const void* source, size_t bytes) {
    return enter("cuMemcpyHtoD", Needs::context, [&] {
        forbidden_in_capture();
        to_device(target, source, bytes, stream_of(nullptr));
        wait_default();
    });
}

EXPORT CUresult cuMemcpyDtoH_v2(void* target, CUdeviceptr source, size_t bytes) {
    return enter("cuMemcpyDtoH", Needs::context, [&] {
        forbidden_in_capture();
        to_host(target, source, bytes, stream_of(nullptr));
        wait_default();
    });
}

EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr target, CUdeviceptr source, size_t bytes) {
    return enter("cuMemcpyDtoD", Needs::context, [&] {
        forbidden_in_capture();
        on_device(target, source, bytes, stream_of(nullptr));
    });
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream) {
    return enter("cuMemsetD8Async", Needs::context, [&] { set_bytes(target, &value, 1, count, stream_of(stream)); });
}

EXPORT CUresult cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
    return enter("cuMemsetD32Async", Needs::context, [&] { set_bytes(target, &value, 4, count, stream_of(stream)); });
}
