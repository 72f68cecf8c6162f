// The part of CUDA's driver API that this library serves: types, results, flags. Values are those of the public API.
#pragma once

#include <cstddef>

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUhostFn = void (*)(void*);

struct Context;
struct Stream;
struct Event;
struct Graph;
struct GraphExec;
struct Module;
struct Function;
using CUcontext = Context*;
using CUstream = Stream*;
using CUevent = Event*;
using CUgraph = Graph*;
using CUgraphExec = GraphExec*;
using CUmodule = Module*;
using CUfunction = Function*;

constexpr CUresult kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kNoDevice = 100,
                   kInvalidDevice = 101, kInvalidImage = 200, kInvalidContext = 201, kNoBinary = 209,
                   kInvalidPtx = 218, kUnsupportedPtx = 222, kInvalidHandle = 400, kNotFound = 500, kNotReady = 600,
                   kIllegalAddress = 700, kLaunchOutOfResources = 701, kNotPermitted = 800, kNotSupported = 801,
                   kCaptureUnsupported = 900, kCaptureInvalidated = 901, kCaptureUnmatched = 903,
                   kCaptureUnjoined = 904, kCaptureIsolation = 905, kCapturedEvent = 907, kUnknown = 999;

constexpr unsigned kStreamNonBlocking = 1, kEventDisableTiming = 2;
constexpr unsigned kMajorAttribute = 75, kMinorAttribute = 76;
// Members of the list that ends `extra` of cuLaunchKernel.
inline void* const kParameterBuffer = reinterpret_cast<void*>(1);
inline void* const kParameterBufferSize = reinterpret_cast<void*>(2);
inline void* const kParameterEnd = nullptr;

#define EXPORT extern "C" __attribute__((visibility("default")))
