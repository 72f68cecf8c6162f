// Graphs: what captured streams were given, in that order.
#pragma once

#include <thread>
#include <vector>

#include "handles.h"
#include "work.h"

struct Graph {
    static constexpr const char* kKind = "graph";
    bool alive = true;
    int number = 0;
    std::vector<Work> nodes;
    bool valid = true, capturing = false, strict = true;
    std::thread::id thread;
};

struct GraphExec {
    static constexpr const char* kKind = "executable graph";
    bool alive = true;
    int number = 0;
    std::vector<Work> nodes;
};
