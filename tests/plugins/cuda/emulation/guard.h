// Buffers between pages that may not be touched, and the message when a kernel touches one.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "fibers.h"

namespace emulation {

// `bytes` of memory that end (or start) at a forbidden page.
struct Buffer {
    std::string name;
    char* data;
    char* pages;
    size_t bytes, inner;

    Buffer(std::string label, size_t size, bool at_end) : name(std::move(label)), bytes(size) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        inner = (size + page - 1) / page * page;
        void* memory = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("no memory for a guarded buffer");
        pages = static_cast<char*>(memory) + page;
        mprotect(pages, inner, PROT_READ | PROT_WRITE);
        std::memset(pages, 0xff, inner);
        data = at_end ? pages + inner - size : pages;
    }
    void forbid_writing() { mprotect(pages, inner, PROT_READ); }
    // What lies in the same page, beside the buffer, must be as it was.
    bool slack_untouched() const {
        const auto poisoned = [](char byte) { return byte == '\xff'; };
        return std::all_of(pages, data, poisoned) && std::all_of(data + bytes, pages + inner, poisoned);
    }
    bool near(const char* address) const {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        return address >= pages - page && address < pages + inner + page;
    }
};

inline std::vector<Buffer>* guarded = nullptr;

inline void describe_fault(int signal, siginfo_t* info, void*) {
    if (signal == SIGILL || signal == SIGTRAP) fail("an index outside of an array, or a misaligned access");
    const char* address = static_cast<const char*>(info->si_addr);
    char text[200] = "an access outside of every buffer";
    for (const Buffer& buffer : *guarded) {
        if (!buffer.near(address)) continue;
        const long long offset = address - buffer.data;
        const bool inside = offset >= 0 && offset < static_cast<long long>(buffer.bytes);
        std::snprintf(text, sizeof text, "%s byte %lld of buffer %s of %zu bytes",
                      inside ? "a write to" : "an access to", offset, buffer.name.c_str(), buffer.bytes);
    }
    fail(text);
}

inline void catch_faults() {
    static char stack[64 * 1024];
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = describe_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP}) sigaction(signal, &action, nullptr);
}

}  // namespace emulation
