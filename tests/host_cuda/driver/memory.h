// Guarded memory: of the device, which only running work may touch, and pinned memory of the host.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cuda_types.h"

// One use of a range, by work in a stream; kept until somebody has waited for that work.
struct Use {
    size_t begin, end;
    bool writes;
    int stream;
    long sequence;
    std::string what;
};

// What work uses and must outlive it: memory, or a module.
struct Tracked {
    virtual ~Tracked() = default;
    std::string what;
    bool alive = true;
    std::vector<Use> uses;
};

struct Allocation : Tracked {
    bool device = false;
    int number = 0;  // counted from 1, as made: for messages
    char *data = nullptr, *pages = nullptr;
    size_t bytes = 0, inner = 0;
};

// A range of something tracked.
struct Access {
    Tracked* of;
    size_t begin, end;
    bool writes;
};

Allocation* allocate(size_t bytes, bool device);
// Takes memory out of use; its addresses are never given out again.
void release(Allocation& memory);

// The allocation around an address, alive or not; null if there is none.
Allocation* find_allocation(const void* address);
// The access to a range, which must lie within one live allocation of that kind.
Access device_range(CUdeviceptr address, size_t bytes, bool writes, const std::string& what);
// Pinned memory as device_range; false if the range is ordinary memory of the host.
bool pinned_range(const void* address, size_t bytes, bool writes, const std::string& what, Access* access);

// While it lives, device memory of these accesses (or all of it) can be touched; what lies beside must stay as it was.
class Opened {
  public:
    Opened(const std::vector<Access>& accesses, bool everything);
    ~Opened();
    // The allocation beside which something was written; null if all is well.
    const Allocation* written_beside() const;

  private:
    std::vector<Allocation*> memory_;
};

size_t device_bytes_in_use();
const std::vector<Allocation*>& allocations();
// Says which memory a fault has hit and ends the process.
void catch_faults();
