// The order of work: streams, what waits for what, and the three schedules.

#include "work.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "state.h"

namespace {

// Never destroyed: they are asked when the process ends.
auto& all_streams = *new std::vector<Stream*>;
auto& host = *new Clock;  // what the host has waited for

double now_in_milliseconds() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

bool covers(const Clock& known, const Use& use) {
    const auto found = known.find(use.stream);
    return found != known.end() && found->second >= use.sequence;
}

// Uses that the host knows to be over can meet nothing any more.
void forget_old(Tracked& tracked) {
    const auto over = [](const Use& use) { return covers(host, use); };
    tracked.uses.erase(std::remove_if(tracked.uses.begin(), tracked.uses.end(), over), tracked.uses.end());
}

// Two uses of the same bytes, of which one writes, must be in an order.
void check_order(const Op& op) {
    for (const Access& access : op.work.accesses) {
        if (!access.of->alive) violation(op.work.what + " uses " + access.of->what + ", which was freed");
        forget_old(*access.of);
        for (const Use& use : access.of->uses) {
            const bool meet = use.begin < access.end && access.begin < use.end && (use.writes || access.writes);
            if (meet && !covers(op.clock, use)) {
                violation(op.work.what + " in stream " + std::to_string(op.stream->id) + " does not wait for " +
                          use.what + " in stream " + std::to_string(use.stream) + ", and both use " + access.of->what);
            }
        }
    }
    for (const Access& access : op.work.accesses) {
        const long sequence = op.clock.at(op.stream->id);
        access.of->uses.push_back({access.begin, access.end, access.writes, op.stream->id, sequence, op.work.what});
    }
}

// Says in messages what runs.
struct Running {
    std::string outer;
    explicit Running(const std::string& what) : outer(std::exchange(state().running, what)) {}
    ~Running() { state().running = outer; }
};

void execute(Op& op) {
    op.done = true;
    if (op.run && state().sticky == kSuccess) {
        const Opened opened(op.work.accesses, op.work.everything);
        const Running running(op.work.what);
        op.run();
        if (const Allocation* memory = opened.written_beside()) violation(op.work.what + " wrote beside " + memory->what);
    }
    op.run = nullptr;
    op.milliseconds = now_in_milliseconds();
}

void run_until(const Point& point) {
    while (!point->done) {
        const Point front = point->stream->queue.front();
        for (const Point& earlier : front->after) run_until(earlier);
        point->stream->queue.pop_front();
        execute(*front);
    }
}

// Everything in other streams that needs nothing of this one.
void run_ahead_of(const Stream* waited_for) {
    for (bool progress = true; progress;) {
        progress = false;
        for (Stream* stream : all_streams) {
            while (stream != waited_for && !stream->queue.empty()) {
                const Point front = stream->queue.front();
                const auto done = [](const Point& earlier) { return earlier->done; };
                if (!std::all_of(front->after.begin(), front->after.end(), done)) break;
                stream->queue.pop_front();
                execute(*front);
                progress = true;
            }
        }
    }
}

// The default stream and the streams that do not opt out of it wait for each other.
void follow_default_stream(Stream& stream, std::vector<Point>& after) {
    for (Stream* other : all_streams) {
        const bool ordered = other != &stream && (stream.id == 0 ? other->blocking : stream.blocking && other->id == 0);
        if (ordered && other->last) after.push_back(other->last);
    }
}

}  // namespace

void join(Clock& known, const Clock& other) {
    for (const auto& [stream, sequence] : other) known[stream] = std::max(known[stream], sequence);
}

Stream* new_stream(bool blocking) {
    if (all_streams.empty()) all_streams.push_back(new Stream);  // the default stream is number 0
    auto* stream = new Stream;
    stream->id = static_cast<int>(all_streams.size());
    stream->blocking = blocking;
    all_streams.push_back(stream);
    return stream;
}

const std::vector<Stream*>& streams() { return all_streams; }

Stream& stream_of(CUstream handle) {
    if (all_streams.empty()) all_streams.push_back(new Stream);
    // 1 and 2 are CUDA's other names of the default stream.
    if (reinterpret_cast<size_t>(handle) <= 2) return *all_streams.front();
    const auto found = std::find(all_streams.begin(), all_streams.end(), handle);
    if (found == all_streams.end()) violation("a stream " + text_of(handle) + " that was never made");
    if (!handle->alive) violation("stream " + std::to_string(handle->id) + " is used after it was destroyed");
    return *handle;
}

Point give(Stream& stream, Work work, std::vector<Point> after) {
    if (stream.capture != nullptr) {
        give_to_graph(*stream.capture, stream, std::move(work));
        return nullptr;
    }
    follow_default_stream(stream, after);
    auto op = std::make_shared<Op>();
    op->work = std::move(work);
    op->stream = &stream;
    op->clock = host;
    join(op->clock, stream.clock);
    for (const Point& earlier : after) join(op->clock, earlier->clock);
    op->clock[stream.id] = ++stream.sequence;
    check_order(*op);
    if (op->work.start) op->run = op->work.start();
    op->after = std::move(after);
    stream.clock = op->clock;
    stream.last = op;
    stream.queue.push_back(op);
    if (state().options.schedule == Schedule::now) run_until(op);
    return op;
}

void wait_for(const Point& point) {
    if (!point) return;
    if (state().options.schedule == Schedule::ahead && !point->done) run_ahead_of(point->stream);
    run_until(point);
    join(host, point->clock);
    // A failure of work shows when somebody waits for it.
    require(state().sticky == kSuccess, state().sticky);
}

bool poll(const Point& point) {
    if (!point) return true;
    // Late work is done at some time, or a loop that asks would never end.
    if (!point->done && ++point->polls < 3) return false;
    wait_for(point);
    return true;
}

void wait_for_everything() {
    for (size_t index = 0; index < all_streams.size(); ++index) wait_for(all_streams[index]->last);
}

void check_unused(Tracked& tracked, const std::string& doing) {
    forget_old(tracked);
    if (tracked.uses.empty()) return;
    const Use& use = tracked.uses.front();
    violation(tracked.what + " is " + doing + " while " + use.what + " in stream " + std::to_string(use.stream) +
              ", which nobody has waited for, may use it");
}
