// What the whole library shares: options, the report, and the way into every entry point.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_types.h"

enum class Schedule { now, late, ahead };

struct Options {
    Schedule schedule = Schedule::now;
    size_t memory = size_t{1} << 30;
    int devices = 1, driver_version = 13000, major = 8, minor = 9;
    std::string kernels, report, failing;
    int failing_call = 0;
    CUresult failing_with = 0;
};

// Thrown inside an entry point, which returns the result.
struct Refused {
    CUresult result;
};

struct State {
    Options options;
    std::recursive_mutex mutex;
    bool initialized = false, in_host_function = false;
    CUresult sticky = kSuccess;
    std::string running;  // the work that runs now, for messages
    std::map<std::string, int> calls;
    std::vector<std::string> violations, leaks;
};

// Made at the first use, never destroyed.
State& state();

// Reads the options from the environment, once; cuInit does.
void start();

// Something a GPU would not forgive: noted, and every later call fails, as after a failed kernel.
[[noreturn]] void violation(const std::string& what);
void note(std::vector<std::string>& list, const std::string& kind, const std::string& what);
void write_report();

// What needs a context before it may be called.
enum class Needs { nothing, driver, context };
void check_call(const char* name, Needs needs);

template <typename Body>
CUresult enter(const char* name, Needs needs, Body body) {
    const std::lock_guard<std::recursive_mutex> lock(state().mutex);
    try {
        check_call(name, needs);
        body();
        return kSuccess;
    } catch (const Refused& refused) {
        return refused.result;
    }
}

inline void require(bool holds, CUresult otherwise = kInvalidValue) {
    if (!holds) throw Refused{otherwise};
}

// Name and text of a result; null where it has none.
const char* result_name(CUresult result);
const char* result_text(CUresult result);
CUresult result_of(const std::string& name);

std::string text_of(const void* address);
std::string text_of(unsigned long long number);

bool has_context();
