// Guarded memory: each allocation ends at a page that may not be touched, and is never given out twice.

#include "memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "state.h"

namespace {

constexpr size_t kAlignment = 256;  // as CUDA's
constexpr char kBeside = '\x5a';    // what lies between an allocation and the forbidden page

// Never destroyed: they are asked when the process ends.
auto& by_address = *new std::map<const char*, Allocation*>;
auto& all = *new std::vector<Allocation*>;

size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

bool untouched(const Allocation& memory) {
    const auto same = [](char byte) { return byte == kBeside; };
    return std::all_of(memory.pages, memory.data, same) &&
           std::all_of(memory.data + memory.bytes, memory.pages + memory.inner, same);
}

std::string position(const Allocation& memory, const char* address) {
    return "byte " + std::to_string(address - memory.data) + " of " + memory.what;
}

bool holds(const Allocation& memory, const char* address, size_t bytes) {
    return memory.alive && address >= memory.data && address + bytes <= memory.data + memory.bytes;
}

Access access_to(Allocation& memory, const char* address, size_t bytes, bool writes) {
    const size_t begin = static_cast<size_t>(address - memory.data);
    return {&memory, begin, begin + bytes, writes};
}

[[noreturn]] void out_of_range(const std::string& what, const void* address, size_t bytes, const Allocation* memory) {
    const std::string range = what + " of " + text_of(static_cast<unsigned long long>(bytes)) + " bytes at ";
    if (memory == nullptr) violation(range + text_of(address) + ", which was never allocated");
    violation(range + position(*memory, static_cast<const char*>(address)) + (memory->alive ? "" : ", which was freed"));
}

void describe_fault(int signal, siginfo_t* info, void*) {
    const State& shared = state();
    const std::string who = shared.running.empty() ? "the host" : shared.running;
    std::string what = "an index outside of an array, or a misaligned access, in " + who;
    if (signal == SIGSEGV || signal == SIGBUS) {
        const Allocation* memory = find_allocation(info->si_addr);
        what = who + " touched " + text_of(info->si_addr);
        if (memory != nullptr) {
            what = who + " touched " + position(*memory, static_cast<const char*>(info->si_addr));
            if (!memory->alive) what += ", which was freed";
        }
    }
    note(state().violations, "violation", what);
    write_report();
    _exit(3);
}

}  // namespace

Allocation* allocate(size_t bytes, bool device) {
    const size_t padded = rounded(bytes, kAlignment), inner = rounded(padded, page());
    void* reserved = mmap(nullptr, inner + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(reserved != MAP_FAILED, kOutOfMemory);
    auto* memory = new Allocation;
    memory->device = device;
    memory->number = static_cast<int>(all.size()) + 1;
    memory->bytes = bytes;
    memory->inner = inner;
    memory->pages = static_cast<char*>(reserved) + page();
    memory->data = memory->pages + inner - padded;
    memory->what = (device ? "device memory " : "pinned memory ") + std::to_string(memory->number) + " (" +
                   std::to_string(bytes) + " bytes)";
    mprotect(memory->pages, inner, PROT_READ | PROT_WRITE);
    std::memset(memory->pages, kBeside, inner);
    std::memset(memory->data, 0xff, bytes);  // not a number, in every floating-point type
    if (device) mprotect(memory->pages, inner, PROT_NONE);
    all.push_back(memory);
    by_address[memory->pages - page()] = memory;
    return memory;
}

void release(Allocation& memory) {
    if (!memory.device && !untouched(memory)) violation("something was written beside " + memory.what);
    memory.alive = false;
    memory.uses.clear();
    // The pages go back to the system, the addresses stay forbidden.
    mmap(memory.pages, memory.inner, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

Allocation* find_allocation(const void* address) {
    const char* byte = static_cast<const char*>(address);
    auto next = by_address.upper_bound(byte);
    if (next == by_address.begin()) return nullptr;
    Allocation* memory = std::prev(next)->second;
    return byte < memory->pages + memory->inner + page() ? memory : nullptr;
}

Access device_range(CUdeviceptr address, size_t bytes, bool writes, const std::string& what) {
    const char* begin = reinterpret_cast<const char*>(address);
    Allocation* memory = find_allocation(begin);
    if (memory == nullptr || !memory->device || !holds(*memory, begin, bytes)) out_of_range(what, begin, bytes, memory);
    return access_to(*memory, begin, bytes, writes);
}

bool pinned_range(const void* address, size_t bytes, bool writes, const std::string& what, Access* access) {
    const char* begin = static_cast<const char*>(address);
    Allocation* memory = find_allocation(begin);
    if (memory == nullptr) return false;
    if (memory->device || !holds(*memory, begin, bytes)) out_of_range(what + " (host side)", begin, bytes, memory);
    *access = access_to(*memory, begin, bytes, writes);
    return true;
}

Opened::Opened(const std::vector<Access>& accesses, bool everything) {
    const auto open = [this](Allocation* memory) {
        if (!memory->device || !memory->alive) return;
        if (std::find(memory_.begin(), memory_.end(), memory) != memory_.end()) return;
        mprotect(memory->pages, memory->inner, PROT_READ | PROT_WRITE);
        memory_.push_back(memory);
    };
    for (const Access& access : accesses) {
        if (auto* memory = dynamic_cast<Allocation*>(access.of)) open(memory);
    }
    if (everything) std::for_each(all.begin(), all.end(), open);
}

Opened::~Opened() {
    for (const Allocation* memory : memory_) mprotect(memory->pages, memory->inner, PROT_NONE);
}

const Allocation* Opened::written_beside() const {
    const auto found = std::find_if(memory_.begin(), memory_.end(), [](auto* memory) { return !untouched(*memory); });
    return found == memory_.end() ? nullptr : *found;
}

size_t device_bytes_in_use() {
    size_t bytes = 0;
    for (const Allocation* memory : all) bytes += memory->device && memory->alive ? memory->bytes : 0;
    return bytes;
}

const std::vector<Allocation*>& allocations() { return all; }

void catch_faults() {
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
