"""What running an engine needs that the two TensorRT libraries have, or name, in their own ways."""

from __future__ import annotations

from typing import Any

from vidgen.runtime.tensorrt_library import TensorRT


def new_context(library: TensorRT, engine: Any, *, own_graphs: bool) -> Any:
    """A new execution context that takes memory for its profile alone; None where there is too little.

    TensorRT-RTX compiles kernels for a shape when it first meets it. It is told to do so before it runs: by default it
    would do it beside, and a graph captured meanwhile would keep the slower kernels for good.

    Args:
        own_graphs: have TensorRT-RTX make CUDA graphs by itself, because nobody captures from outside.
    """
    trt = library.module
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
    if library.is_rtx:
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        graphs = trt.CudaGraphStrategy
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if own_graphs else graphs.DISABLED
    return engine.create_execution_context(config)


def is_stream_capturable(library: TensorRT, context: Any, handle: int) -> bool:
    """Whether a run may be captured on a stream; TensorRT itself only knows once it was tried."""
    return not library.is_rtx or bool(context.is_stream_capturable(handle))


def why_invalid(library: TensorRT, runtime: Any, plan: bytes) -> tuple[str, ...]:
    """The library's reasons to refuse an engine, by its own names, such as ``UNSUPPORTED_CC``; TensorRT gives none."""
    if not library.is_rtx:
        return ()
    _, reasons = runtime.get_engine_validity(plan)
    members = library.module.EngineInvalidityDiagnostics.__members__.items()
    return tuple(name for name, flag in members if int(reasons) & int(flag))
