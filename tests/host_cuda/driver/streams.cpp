// Entry points of streams, events and host functions.

#include "streams.h"

#include "graphs.h"

namespace {

std::function<std::function<void()>()> calling(CUhostFn function, void* data) {
    return [=] {
        return [=] {
            state().in_host_function = true;
            function(data);
            state().in_host_function = false;
        };
    };
}

void wait_event(Stream& stream, Event& event) {
    if (event.captured != nullptr) {
        if (stream.capture == nullptr) {  // the capture goes on in this stream too
            stream.capture = event.captured;
            stream.origin = false;
            stream.nodes = stream.joined = 0;
        }
        require(stream.capture == event.captured, kCaptureUnmatched);
        event.captured_stream->joined = std::max(event.captured_stream->joined, event.captured_nodes);
    } else if (stream.capture != nullptr && event.point) {
        stream.capture->valid = false;
        throw Refused{kCaptureIsolation};
    } else if (event.point) {
        give(stream, {"a wait for event " + std::to_string(event.number), {}, nullptr}, {event.point});
    }
}

void record(Event& event, Stream& stream) {
    event.captured = stream.capture;
    event.captured_stream = &stream;
    event.captured_nodes = stream.nodes;
    event.point = nullptr;
    if (stream.capture == nullptr) {
        event.point = give(stream, {"a record of event " + std::to_string(event.number), {}, nullptr});
    }
}

CUresult elapsed(const char* name, float* milliseconds, CUevent first, CUevent last) {
    return enter(name, Needs::context, [&] {
        const Event &begin = Handles<Event>::get(first), &end = Handles<Event>::get(last);
        require(begin.timing && end.timing && begin.point && end.point, kInvalidHandle);
        require(begin.point->done && end.point->done, kNotReady);
        *milliseconds = static_cast<float>(end.point->milliseconds - begin.point->milliseconds);
    });
}

void not_captured(const Stream& stream) {
    if (stream.capture == nullptr) return;
    stream.capture->valid = false;
    throw Refused{kCaptureUnsupported};
}

}  // namespace

EXPORT CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) {
    return enter("cuStreamCreate", Needs::context, [&] {
        require(flags <= kStreamNonBlocking);
        *stream = new_stream(flags != kStreamNonBlocking);
    });
}

EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

// What it was given still runs, as on a GPU.
EXPORT CUresult cuStreamDestroy_v2(CUstream handle) {
    return enter("cuStreamDestroy", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        require(stream.id != 0, kInvalidHandle);
        not_captured(stream);
        stream.alive = false;
    });
}

EXPORT CUresult cuStreamSynchronize(CUstream handle) {
    return enter("cuStreamSynchronize", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        not_captured(stream);
        forbidden_in_capture();
        wait_for(stream.last);
    });
}

EXPORT CUresult cuStreamQuery(CUstream handle) {
    return enter("cuStreamQuery", Needs::context, [&] {
        Stream& stream = stream_of(handle);
        not_captured(stream);
        require(poll(stream.last), kNotReady);
    });
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    return enter("cuStreamWaitEvent", Needs::context, [&] { wait_event(stream_of(stream), Handles<Event>::get(event)); });
}

EXPORT CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
    return enter("cuLaunchHostFunc", Needs::context, [&] {
        require(function != nullptr);
        give(stream_of(stream), {"a host function", {}, calling(function, data), true});
    });
}

// As cuLaunchHostFunc, for work of a fake engine: what it reads and writes on the device is told, and nothing else
// may be touched.
EXPORT CUresult hostCudaEnqueue(CUstream stream, const char* what, CUhostFn function, void* data, int count,
                                const CUdeviceptr* addresses, const size_t* sizes, const int* writes) {
    return enter("hostCudaEnqueue", Needs::context, [&] {
        Work work{what, {}, calling(function, data)};
        for (int index = 0; index < count; ++index) {
            work.accesses.push_back(device_range(addresses[index], sizes[index], writes[index] != 0, what));
        }
        give(stream_of(stream), work);
    });
}

EXPORT CUresult cuEventCreate(CUevent* event, unsigned flags) {
    return enter("cuEventCreate", Needs::context, [&] {
        *event = Handles<Event>::make();
        (*event)->timing = (flags & kEventDisableTiming) == 0;
    });
}

EXPORT CUresult cuEventDestroy_v2(CUevent event) {
    return enter("cuEventDestroy", Needs::context, [&] { Handles<Event>::get(event).alive = false; });
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
    return enter("cuEventRecord", Needs::context, [&] { record(Handles<Event>::get(event), stream_of(stream)); });
}

EXPORT CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned) { return cuEventRecord(event, stream); }

EXPORT CUresult cuEventSynchronize(CUevent handle) {
    return enter("cuEventSynchronize", Needs::context, [&] {
        const Event& event = Handles<Event>::get(handle);
        require(event.captured == nullptr, kCapturedEvent);
        wait_for(event.point);
    });
}

EXPORT CUresult cuEventQuery(CUevent handle) {
    return enter("cuEventQuery", Needs::context, [&] {
        const Event& event = Handles<Event>::get(handle);
        require(event.captured == nullptr, kCapturedEvent);
        require(poll(event.point), kNotReady);
    });
}

EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent first, CUevent last) {
    return elapsed("cuEventElapsedTime", milliseconds, first, last);
}

EXPORT CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent first, CUevent last) {
    return elapsed("cuEventElapsedTime", milliseconds, first, last);
}
