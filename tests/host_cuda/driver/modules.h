// Modules, whose kernels are emulated.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "handles.h"
#include "memory.h"

// A kernel compiled for the CPU: a shared object made of kernel_object.cpp.
struct Emulated {
    int parameters = 0;
    const unsigned* sizes = nullptr;  // of each parameter, in bytes
    const char* kinds = nullptr;      // 'r' pointer to const, 'w' pointer, 'v' value
    void (*launch)(const unsigned* grid, const unsigned* block, unsigned seed, void* const* arguments) = nullptr;
};

struct Function {
    std::string name;
    Module* module = nullptr;
    Emulated emulated;
};

struct Module : Tracked {
    static constexpr const char* kKind = "module";
    int number = 0;
    std::set<std::string> entries;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct LaunchConfig {  // CUlaunchConfig
    unsigned grid[3], block[3], shared_bytes;
    CUstream stream;
    void* attributes;
    unsigned attribute_count;
};

void load_image(CUmodule* made, const void* image);
void unload(CUmodule module);
CUfunction find_function(CUmodule module, const char* name);
void launch(CUfunction function, const LaunchConfig& config, void** parameters, void** extra);
