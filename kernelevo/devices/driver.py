"""The driver boundary: the few things that timing asks of a GPU, and CudaDriver, which asks torch.cuda for them.

Everything above it (sampling.py in the worker, measure/ in the parent) is tested through other implementations of
`Driver`; nothing below it decides anything. A driver belongs to one worker process and one GPU. "The stream" is the
process's current stream, on which entry points are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Event = Any  # a driver's own; opaque to callers
Graph = Any


class Driver(Protocol):
    """One GPU, in the process that uses it."""

    def l2_bytes(self) -> int:
        """Size of the L2 cache."""

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a CPU tensor in fresh device memory, with the same strides."""

    def flush_l2(self) -> None:
        """Writes more than twice the L2's size into a buffer that is reused, on the stream."""

    def reset_persisting_l2(self) -> None:
        """Takes back L2 lines that somebody set aside to persist."""

    def delay(self, nanoseconds: float) -> None:
        """Keeps the stream busy about this long, so that what is launched meanwhile follows without gaps."""

    def event(self) -> Event:
        """A new event that can be timed."""

    def record(self, event: Event) -> None:
        """Records it on the stream."""

    def wait(self, event: Event) -> None:
        """Waits, on the host, until the event has happened."""

    def elapsed_ns(self, start: Event, end: Event) -> float:
        """Between two events that have happened."""

    def fork(self, event: Event) -> None:
        """What follows on all other streams that the process has, or makes before `join`, waits for the event."""

    def join(self) -> None:
        """What follows on the stream waits for all other streams that the process is known to have."""

    def synchronize(self) -> None:
        """Waits, on the host, for all work of the device; raises RuntimeError when a kernel failed."""

    def capture(self, body: Callable[[], Any]) -> tuple[Graph, Any]:
        """Captures what body launches, and gives its result; raises RuntimeError when it cannot be captured."""

    def replay(self, graph: Graph) -> None:
        """Launches a captured graph on the stream."""

    def host_ns(self) -> int:
        """The worker's own clock, monotonic."""


class CudaDriver:
    """The GPU that torch.cuda uses in this process.

    Functions are taken from torch before any candidate is loaded, so that one that puts others in their place
    afterwards changes nothing here; what it does to the process's memory is for the parent's clock to find.
    """

    def __init__(
        self,
        *,
        fork_streams: Callable[[int, int], None],
        join_streams: Callable[[int], None],
        reset_persisting_l2: Callable[[], None],
    ) -> None:
        """fork_streams: makes all streams but this one wait for an event; join_streams: makes this one wait for all
        others. Streams and events are CUDA's handles as numbers; all three come from kernelevo.devices._cuda.
        """
        import time

        import torch

        self._torch = torch
        self._fork_streams = fork_streams
        self._join_streams = join_streams
        self._reset_persisting_l2 = reset_persisting_l2
        self._event = torch.cuda.Event
        self._elapsed = torch.cuda.Event.elapsed_time
        self._record = torch.cuda.Event.record
        self._wait = torch.cuda.Event.synchronize
        self._current_stream = torch.cuda.current_stream
        self._synchronize = torch.cuda.synchronize
        self._graph = torch.cuda.CUDAGraph
        self._capturing = torch.cuda.graph
        self._sleep = torch.cuda._sleep
        self._host_ns = time.perf_counter_ns
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self._l2_bytes = int(properties.L2_cache_size)
        self._cycles_per_ns = self._measured_cycles_per_ns()
        self._flush_buffer = torch.empty(2 * self._l2_bytes + (1 << 20), dtype=torch.uint8, device="cuda")

    def l2_bytes(self) -> int:
        return self._l2_bytes

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        made = self._torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
        return made.copy_(tensor)

    def flush_l2(self) -> None:
        self._flush_buffer.zero_()

    def reset_persisting_l2(self) -> None:
        self._reset_persisting_l2()

    def delay(self, nanoseconds: float) -> None:
        self._sleep(max(1, int(nanoseconds * self._cycles_per_ns)))  # type: ignore[no-untyped-call]

    def event(self) -> Event:
        return self._event(enable_timing=True)  # type: ignore[no-untyped-call]

    def record(self, event: Event) -> None:
        self._record(event)

    def wait(self, event: Event) -> None:
        self._wait(event)

    def elapsed_ns(self, start: Event, end: Event) -> float:
        return float(self._elapsed(start, end)) * 1e6

    def fork(self, event: Event) -> None:
        self._fork_streams(self._current_stream().cuda_stream, event.cuda_event)

    def join(self) -> None:
        self._join_streams(self._current_stream().cuda_stream)

    def synchronize(self) -> None:
        self._synchronize()

    def capture(self, body: Callable[[], Any]) -> tuple[Graph, Any]:
        graph = self._graph()
        with self._capturing(graph):
            result = body()
        return graph, result

    def replay(self, graph: Graph) -> None:
        graph.replay()

    def host_ns(self) -> int:
        return self._host_ns()

    def _measured_cycles_per_ns(self) -> float:
        """Of the clock that torch.cuda._sleep counts in, at the clock rate of now."""
        cycles = 2_000_000
        for _ in range(2):  # the first also loads the kernel
            start, end = self.event(), self.event()
            self.record(start)
            self._sleep(cycles)  # type: ignore[no-untyped-call]
            self.record(end)
            self._synchronize()
        return cycles / max(1.0, self.elapsed_ns(start, end))


def dense_bytes(tensors: Sequence[Any]) -> int:
    """Of all tensors among values."""
    return sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "element_size"))
