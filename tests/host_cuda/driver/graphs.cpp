// Capture of streams into graphs, and their launch: work that is given to a stream again, in the order of capture.

#include "graphs.h"

namespace {

constexpr int kRelaxed = 2;

bool unjoined(const Graph& graph) {
    const auto& all = streams();
    return std::any_of(all.begin(), all.end(), [&](const Stream* stream) {
        return stream->capture == &graph && !stream->origin && stream->joined < stream->nodes;
    });
}

void leave(Graph& graph) {
    graph.capturing = false;
    for (Stream* stream : streams()) {
        if (stream->capture == &graph) stream->capture = nullptr;
    }
}

}  // namespace

void give_to_graph(Graph& graph, Stream& stream, Work work) {
    require(graph.valid, kCaptureInvalidated);
    ++stream.nodes;
    graph.nodes.push_back(std::move(work));
}

void forbidden_in_capture() {
    for (Graph* graph : Handles<Graph>::all()) {
        if (!graph->capturing || !graph->strict || graph->thread != std::this_thread::get_id()) continue;
        graph->valid = false;
        throw Refused{kCaptureUnsupported};
    }
}

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
    return enter("cuStreamBeginCapture", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        require(stream.id != 0, kCaptureUnsupported);
        require(stream.capture == nullptr, kInvalidValue);
        Graph* graph = Handles<Graph>::make();
        graph->capturing = true;
        graph->strict = mode != kRelaxed;
        graph->thread = std::this_thread::get_id();
        stream.capture = graph;
        stream.origin = true;
    });
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    return enter("cuStreamEndCapture", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        *graph = nullptr;
        require(stream.capture != nullptr && stream.origin, kCaptureUnmatched);
        Graph& captured = *stream.capture;
        const CUresult result = !captured.valid ? kCaptureInvalidated : unjoined(captured) ? kCaptureUnjoined : kSuccess;
        leave(captured);
        captured.alive = result == kSuccess;
        require(result == kSuccess, result);
        *graph = &captured;
    });
}

EXPORT CUresult cuStreamIsCapturing(CUstream handle, int* status) {
    return enter("cuStreamIsCapturing", Needs::context, [&] {
        const Stream& stream = stream_of(handle);
        *status = stream.capture == nullptr ? 0 : stream.capture->valid ? 1 : 2;
    });
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(int*) {
    return enter("cuThreadExchangeStreamCaptureMode", Needs::driver, [] {});
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    return enter("cuGraphInstantiate", Needs::context, [&] {
        const Graph& captured = Handles<Graph>::get(graph);
        *executable = Handles<GraphExec>::make();
        (*executable)->nodes = captured.nodes;
    });
}

EXPORT CUresult cuGraphGetNodes(CUgraph graph, void** nodes, size_t* count) {
    return enter("cuGraphGetNodes", Needs::context, [&] {
        require(nodes == nullptr, kNotSupported);
        *count = Handles<Graph>::get(graph).nodes.size();
    });
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
    return enter("cuGraphLaunch", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        for (const Work& node : Handles<GraphExec>::get(executable).nodes) give(stream, node);
    });
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
    return enter("cuGraphExecDestroy", Needs::context, [&] { Handles<GraphExec>::get(executable).alive = false; });
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) {
    return enter("cuGraphDestroy", Needs::context, [&] { Handles<Graph>::get(graph).alive = false; });
}
