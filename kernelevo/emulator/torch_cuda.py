"""torch.cuda on a torch without CUDA: gives it the functions of torch._C that only a CUDA build has.

Takes the extensions _runtime and _tensors, already imported; changes torch._C and torch.cuda of this process. Covers
devices, streams, events, random numbers, memory statistics. Not covered: graphs, memory pools, IPC, NVTX, peer access,
cudart(): these raise as on a torch without CUDA.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import torch
from torch import cuda

from kernelevo.emulator import _runtime, _tensors

_DEVICE = torch.device("cuda", 0)


def install() -> None:
    """Makes torch.cuda work. Runs no kernel and starts no thread; safe before a fork."""
    vars(torch._C).update(
        _has_cuda=True,
        _cuda_init=lambda: None,
        _cuda_isInBadFork=lambda: False,
        _cuda_getDeviceCount=lambda: 1,
        _cuda_getDevice=lambda: 0,
        _cuda_setDevice=_set_device,
        _cuda_exchangeDevice=_exchange_device,
        _cuda_maybeExchangeDevice=_maybe_exchange_device,
        _cuda_canDeviceAccessPeer=lambda device, peer: False,
        _cuda_getArchFlags=lambda: "sm_90",
        _cuda_getCompiledVersion=lambda: 13000,
        _cuda_synchronize=torch.accelerator.synchronize,
        _cuda_getCurrentStream=lambda device: _stream_data(_tensors.current_stream()),
        _cuda_getDefaultStream=lambda device: _stream_data(0),
        _cuda_getCurrentRawStream=lambda device: _tensors.current_stream(),
        _cuda_setStream=_set_stream,
        _cuda_emptyCache=lambda *_: None,
        _cuda_memoryStats=_memory_stats,
        _cuda_resetPeakMemoryStats=lambda device: None,
        _cuda_resetAccumulatedMemoryStats=lambda device: None,
        _cuda_get_sync_debug_mode=lambda: 0,
        _cuda_CUDAAllocator_AllocatorState=_AllocatorState,
    )
    replaced: dict[str, Any] = {
        "_exchange_device": _exchange_device,
        "_maybe_exchange_device": _maybe_exchange_device,
        "_is_in_bad_fork": lambda: False,
        "_get_device_properties": _properties,
        "_initialized": True,
        "default_generators": (_tensors.default_generator(),),
        "Stream": Stream,
        "Event": Event,
        "mem_get_info": _memory_info,
        "is_current_stream_capturing": lambda: False,
    }
    vars(cuda).update(replaced)
    cuda.streams.Stream, cuda.streams.Event = Stream, Event  # type: ignore[misc,assignment]


class Stream(torch.Stream):
    """torch.cuda.Stream."""

    def __new__(cls, device: Any = None, priority: int = 0, **ids: int) -> Stream:
        """Without ids a stream of the pool, which does not wait for the default stream."""
        if ids:
            stream = super().__new__(cls, **ids)
        else:
            _set_device(torch.cuda._utils._get_device_index(device, optional=True))
            stream = super().__new__(cls, **_stream_ids(_tensors.new_stream(max(min(priority, 0), -3))))
        return stream

    @property
    def cuda_stream(self) -> int:
        """The cudaStream_t."""
        return self.stream_id

    @property
    def _as_parameter_(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.stream_id)

    def record_event(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        event.wait(self)

    def wait_stream(self, stream: Any) -> None:
        self.wait_event(stream.record_event())

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.stream_id:#x}>"


class Event:
    """torch.cuda.Event. Times are the emulator's own, on the host's clock: not those of a GPU."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, external: bool = False
    ) -> None:
        if interprocess:
            raise NotImplementedError("events shared between processes are not emulated")
        # Held, not inherited from: torch.Event.elapsed_time takes no event of a derived class.
        self._event = torch.Event(device=_DEVICE, enable_timing=enable_timing, blocking=blocking)

    def record(self, stream: Any = None) -> None:
        self._event.record(cuda.current_stream() if stream is None else stream)

    def wait(self, stream: Any = None) -> None:
        self._event.wait(cuda.current_stream() if stream is None else stream)

    def query(self) -> bool:
        return self._event.query()

    def synchronize(self) -> None:
        self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds between two recorded events."""
        return self._event.elapsed_time(end_event._event)

    @property
    def cuda_event(self) -> int:
        """The cudaEvent_t; 0 before it is recorded."""
        return self._event.event_id

    @property
    def _as_parameter_(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.cuda_event)


def _set_device(device: int) -> None:
    if device not in (0, -1):
        raise torch.AcceleratorError(f"CUDA error: invalid device ordinal: {device}; the emulator has one device")


def _exchange_device(device: int) -> int:
    _set_device(device)
    return -1 if device < 0 else 0


def _maybe_exchange_device(device: int) -> int:
    return _exchange_device(device)  # torch.compile tells the two functions apart


class _AllocatorState:
    """torch.compile imports the name; there are no CUDA graphs here to use it."""


def _stream_ids(stream: int) -> dict[str, int]:
    return {"stream_id": stream, "device_index": 0, "device_type": 1}  # c10::DeviceType::CUDA


def _stream_data(stream: int) -> tuple[int, int, int]:
    return (stream, 0, 1)


def _set_stream(*, stream_id: int, device_index: int, device_type: int) -> None:
    _tensors.set_current_stream(stream_id)


def _properties(device: int = 0) -> SimpleNamespace:
    _set_device(device)
    return SimpleNamespace(**_runtime.cuda.device_facts(), is_integrated=0, is_multi_gpu_board=0, gcnArchName="")


def _memory_info(device: Any = None) -> tuple[int, int]:
    limit = _runtime.cuda.memory_limit()
    return max(limit - _runtime.cuda.live_bytes(), 0), limit


def _memory_stats(device: int) -> dict[str, Any]:
    current, peak = _runtime.cuda.live_bytes(), _runtime.cuda.peak_bytes()
    empty = {"current": 0, "peak": 0, "allocated": 0, "freed": 0}
    full = {"current": current, "peak": peak, "allocated": peak, "freed": peak - current}
    known = ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes")
    unknown = ("allocation", "segment", "active", "inactive_split", "inactive_split_bytes")
    stats: dict[str, Any] = {name: {"all": full, "small_pool": empty, "large_pool": empty} for name in known}
    stats |= {name: {"all": empty, "small_pool": empty, "large_pool": empty} for name in unknown}
    stats |= {"oversize_allocations": empty, "oversize_segments": empty}
    return stats | {"num_alloc_retries": 0, "num_ooms": 0, "max_split_size": -1}
