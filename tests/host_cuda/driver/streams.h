// Events.
#pragma once

#include "handles.h"
#include "work.h"

struct Event {
    static constexpr const char* kKind = "event";
    bool alive = true;
    int number = 0;
    bool timing = true;
    Point point;
    // Where it was last recorded, if that was in a captured stream.
    Graph* captured = nullptr;
    Stream* captured_stream = nullptr;
    long captured_nodes = 0;
};
