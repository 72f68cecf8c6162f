// Work that streams are given: in which order it may run, when it does, and what nobody has waited for.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_types.h"
#include "memory.h"

// What is known to be done: for each stream, up to which of its work.
using Clock = std::map<int, long>;
void join(Clock& known, const Clock& other);

// A piece of work as it is described, which a graph can hold and start many times.
struct Work {
    std::string what;
    std::vector<Access> accesses;
    // Called when the work is given to a stream; what it returns runs later.
    std::function<std::function<void()>()> start;
    bool everything = false;  // may touch all device memory
};

// A piece of work that a stream was given.
struct Op {
    Work work;
    std::function<void()> run;
    Stream* stream = nullptr;
    std::vector<std::shared_ptr<Op>> after;
    Clock clock;  // itself, and all that is done when it is
    bool done = false;
    int polls = 0;
    double milliseconds = 0;  // when it was done
};
using Point = std::shared_ptr<Op>;

struct Stream {
    int id = 0;
    bool alive = true, blocking = false;
    std::deque<Point> queue;  // what has not run
    Point last;
    long sequence = 0;
    Clock clock;
    // While it is captured:
    Graph* capture = nullptr;
    bool origin = false;
    long nodes = 0, joined = 0;  // given since the capture began; of those, waited for by the origin
};

// A stream's handle as a stream that may be used; null is the default stream.
Stream& stream_of(CUstream handle);
const std::vector<Stream*>& streams();
Stream* new_stream(bool blocking);

// Gives work to a stream, or to the graph that it is captured into. `after` is what it waits for beside.
Point give(Stream& stream, Work work, std::vector<Point> after = {});
// The host waits for work; with polling it finds out whether it is done.
void wait_for(const Point& point);
bool poll(const Point& point);
void wait_for_everything();
// Raises a violation if work that nobody waited for may still use it.
void check_unused(Tracked& tracked, const std::string& doing);

// In graphs.cpp: work that goes into a graph, and what a capture forbids on the calling thread.
void give_to_graph(Graph& graph, Stream& stream, Work work);
void forbidden_in_capture();
