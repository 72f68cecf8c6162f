"""The device-resident loop: latents up, engine, frames down, each on a stream of its own, two batches at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidgen.errors import BackendError
from vidgen.models.config import ModelInterface, TensorSpec
from vidgen.runtime.backends.base import Batch
from vidgen.runtime.cuda import Cuda, Graph, Stream
from vidgen.runtime.engine_file import LoadedEngine
from vidgen.runtime.ring import Buffers, Ring, close_all
from vidgen.runtime.tensorrt_run import is_stream_capturable

#: Batches on the device at a time: one computes while the frames of the other come down and are handed on.
LANES = 2


class Streams:
    """The three streams that all lanes share: engines run one after the other, copies beside them."""

    def __init__(self, cuda: Cuda) -> None:
        self.upload, self.compute, self.download = cuda.stream(), cuda.stream(), cuda.stream()

    def synchronize(self) -> None:
        """Wait for all of them."""
        for stream in (self.upload, self.compute, self.download):
            stream.synchronize()

    def close(self) -> None:
        """Give them back."""
        close_all((self.upload, self.compute, self.download))


class Lane:
    """What one batch needs: an execution context for each profile, buffers, events, and the graph of the current shape.

    A graph holds the addresses and the state of its context, so no two graphs share one. Another shape means: shapes
    and addresses set again, one plain run, and a new graph. Work that cannot be captured, such as some loops, is
    enqueued afresh each time; ``graph_refused`` then says why.
    """

    def __init__(self, cuda: Cuda, loaded: LoadedEngine, interface: ModelInterface, streams: Streams) -> None:
        self._cuda, self._loaded, self._interface, self._streams = cuda, loaded, interface, streams
        self._contexts: dict[int, Any] = {}
        self._context: Any = None
        self._bound: tuple[int, Mapping[str, int]] | None = None
        self._graph: Graph | None = None
        self._ran = False
        self.graph_refused = "" if cuda.captures else f"{cuda.name} has none"
        self._buffers = Buffers(cuda)
        self._results: dict[str, NDArray[Any]] = {}
        self._output: dict[str, NDArray[Any]] = {}
        self._uploaded = cuda.event()
        self._started, self._computed = cuda.event(timing=True), cuda.event(timing=True)
        self.finished = cuda.event()

    @property
    def has_graph(self) -> bool:
        """Whether the current shape runs from a graph."""
        return self._graph is not None

    def submit(self, batch: Batch, profile: int, sizes: Mapping[str, int]) -> None:
        """Enqueue one batch; nothing waits. The inputs are copied at once, the outputs filled by :meth:`collect`.

        Raises:
            BackendError: TensorRT or CUDA failed. The lane can be used again if the device can.
        """
        try:
            self._bind(profile, sizes)
            streams = self._streams
            for spec in self._interface.inputs:
                pinned = self._buffers.pinned(spec.name, spec.resolve(**sizes), spec.dtype)
                np.copyto(pinned, batch.inputs[spec.name])
                self._cuda.to_device(self._address(spec, sizes), pinned, streams.upload)
            self._uploaded.record(streams.upload)
            streams.compute.wait(self._uploaded)
            self._started.record(streams.compute)
            self._enqueue()
            self._computed.record(streams.compute)
            streams.download.wait(self._computed)
            self._output = {self._interface.output.name: batch.output, **(batch.extras or {})}
            self._results = {}
            for spec in (self._interface.output, *self._interface.extras):
                if spec.name in self._output:
                    pinned = self._buffers.pinned(spec.name, spec.resolve(**sizes), spec.dtype)
                    self._cuda.to_host(pinned, self._address(spec, sizes), streams.download)
                    self._results[spec.name] = pinned
            self.finished.record(streams.download)
        except BaseException:
            # What was enqueued before the failure must not run into the buffers of what comes next.
            with contextlib.suppress(BackendError):
                self._streams.synchronize()
            with contextlib.suppress(BackendError):
                self._unbind()
            raise

    def collect(self) -> float:
        """Copy the results of the finished batch to where the caller wants them; milliseconds the device computed."""
        for name, array in self._output.items():
            np.copyto(array, self._results[name])
        self._output, self._results = {}, {}
        return self._computed.milliseconds_since(self._started)

    def _bind(self, profile: int, sizes: Mapping[str, int]) -> None:
        """Set shapes and addresses, unless they are those of the run before."""
        if self._bound == (profile, sizes):
            return
        self._unbind()
        if profile not in self._contexts:
            own_graphs = not self._cuda.captures
            self._contexts[profile] = self._loaded.context(profile, self._streams.compute, own_graphs=own_graphs)
        self._context = context = self._contexts[profile]
        interface = self._interface
        for spec in interface.inputs:
            self._require(context.set_input_shape(spec.name, spec.resolve(**sizes)), f"shape of {spec.name}")
        self._check_shapes(sizes)
        for spec in (*interface.inputs, interface.output, *interface.extras):
            self._require(context.set_tensor_address(spec.name, self._address(spec, sizes)), f"address of {spec.name}")
        self._bound = (profile, dict(sizes))

    def _unbind(self) -> None:
        graph, self._graph, self._bound, self._ran = self._graph, None, None, False
        if graph is not None:
            graph.close()

    def _check_shapes(self, sizes: Mapping[str, int]) -> None:
        """Raise unless the engine's outputs have the shapes that memory is reserved for."""
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise self._loaded.failed(f"infer the shapes of {dict(sizes)}", str(error)) from error
        self._require(not missing, f"shapes of {missing}")
        for spec in (self._interface.output, *self._interface.extras):
            made, expected = tuple(self._context.get_tensor_shape(spec.name)), spec.resolve(**sizes)
            # A size that depends on values is not known before the run.
            if len(made) != len(expected) or any(one not in (other, -1) for one, other in zip(made, expected)):
                raise self._loaded.failed(f"make {spec.name} {list(expected)}", f"the engine makes {list(made)}")

    def _address(self, spec: TensorSpec, sizes: Mapping[str, int]) -> int:
        count = int(np.prod(spec.resolve(**sizes)))
        return self._buffers.address(spec.name, count * np.dtype(spec.dtype).itemsize)

    def _enqueue(self) -> None:
        """Give the compute stream one run: the plain one first, then the graph captured after it."""
        stream = self._streams.compute
        if self._ran and self._graph is None and not self.graph_refused:
            self._graph = self._captured(stream)
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self._require(self._context.execute_async_v3(stream.handle), "run")
        self._ran = True

    def _captured(self, stream: Stream) -> Graph | None:
        """The run as a graph; None, with the reason kept, where it cannot be captured."""
        if not is_stream_capturable(self._loaded.library, self._context, stream.handle):
            self.graph_refused = f"{self._loaded.library.name} cannot capture this engine"
            return None
        try:
            with self._cuda.capture(stream) as captured:
                self._require(self._context.execute_async_v3(stream.handle), "capture a run")
        except BackendError as error:
            self.graph_refused = error.seen
            return None
        return captured.graph

    def _require(self, done: bool, what: str) -> None:
        if not done:
            raise self._loaded.failed(what, "the call answered False")

    def close(self) -> None:
        """Give everything back: graphs before their contexts, contexts before the memory they point to."""
        with contextlib.ExitStack() as stack:
            events = (self._uploaded, self._started, self._computed, self.finished)
            stack.callback(close_all, (self._buffers, *events))
            stack.callback(self._contexts.clear)
            self._context = None
            self._unbind()


class DeviceLoop:
    """Batches in, frames out in the same order; the host waits for nothing but the oldest batch's event."""

    def __init__(self, cuda: Cuda, loaded: LoadedEngine, interface: ModelInterface, lanes: int = LANES) -> None:
        self._streams = Streams(cuda)
        self._lanes = Ring(lanes, lambda: Lane(cuda, loaded, interface, self._streams))
        self._last: Lane | None = None

    @property
    def full(self) -> bool:
        """Whether :meth:`collect` must come before the next :meth:`submit`."""
        return self._lanes.full

    @property
    def graphs(self) -> str:
        """Whether the last batch ran from a CUDA graph, for reports."""
        if self._last is None or (not self._last.has_graph and not self._last.graph_refused):
            return "not yet"
        return "yes" if self._last.has_graph else f"no: {self._last.graph_refused}"

    def submit(self, batch: Batch, profile: int, sizes: Mapping[str, int]) -> None:
        """Enqueue a batch, see :meth:`Lane.submit`.

        Args:
            sizes: of every dynamic axis by name.
        """
        lane = self._lanes.free()
        lane.submit(batch, profile, sizes)
        self._lanes.give(lane)
        self._last = lane

    def collect(self) -> float:
        """Wait for the oldest batch and fill its output and extras; milliseconds the device computed for it.

        Raises:
            BackendError: the device failed; the batch is gone.
        """
        try:
            return self._lanes.oldest().collect()
        finally:
            self._lanes.taken()

    def close(self) -> None:
        """Wait, and give everything back."""
        close_all((self._lanes, self._streams))
