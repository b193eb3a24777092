"""A GPU made of arithmetic, with a clock of its own: a real implementation of the driver boundary, for tests.

    gpu = SimulatedGpu(rng, noise=0.01)
    kernel = SimulatedKernel(gpu, nanoseconds=50_000)       # an entry point: launches, and computes its output
    session = SimulatedSession(gpu, kernel)                 # a TimedSession, with the parent's clock

Time passes only when somebody works: the host for what calls cost it, the device for kernels, which follow each other
in their stream. Outputs are computed at once on CPU tensors. What hardware does to times (noise, drift, throttling, a
warm L2) and what cheats do (side streams, lying events, work on the host) are settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kernelevo.devices import Call
from kernelevo.devices.sampling import Sampler, swapped
from kernelevo.records import Outcome

L2_BYTES = 1 << 16
CURRENT = 0  # the current stream

Launch = tuple[float, int, Callable[[], object]]  # nanoseconds, stream, what it computes


@dataclass
class SimulatedGpu:
    """One device with streams; implements kernelevo.devices.driver.Driver and measure.clocks.Clocks."""

    rng: np.random.Generator
    noise: float = 0.0  # standard deviation of a kernel's time, as a share
    drift: float = 0.0  # share by which kernels get slower per second
    warm_share: float = 0.6  # time of a kernel whose inputs are in the L2
    cold_start_ns: float = 0.0  # until then the clock is slow
    throttled: Callable[[float], bool] = lambda now: False  # at a time in ns
    event_share: float = 1.0  # of the true time that events show
    call_ns: float = 5_000.0  # host time of one call
    now: float = 0.0  # host time, ns
    ends: dict[int, float] = field(default_factory=lambda: {CURRENT: 0.0})  # by stream
    flushed: bool = False
    stubbed: bool = False
    capturing: list[Launch] | None = None
    fails: bool = False
    gate: float = 0.0  # when streams that are made now may begin

    # Driver

    def l2_bytes(self) -> int:
        return L2_BYTES

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        self.now += 1000
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)

    def flush_l2(self) -> None:
        self._enqueue(1_000, CURRENT)
        self.flushed = True

    def reset_persisting_l2(self) -> None:
        self.now += 500

    def delay(self, nanoseconds: float) -> None:
        self._enqueue(nanoseconds, CURRENT)

    def event(self) -> list[float]:
        return [0.0]

    def record(self, event: list[float]) -> None:
        self.now += 200
        event[0] = max(self.now, self.ends[CURRENT])

    def wait(self, event: list[float]) -> None:
        self.now = max(self.now, event[0])

    def elapsed_ns(self, start: list[float], end: list[float]) -> float:
        return max(1.0, (end[0] - start[0]) * self.event_share)

    def fork(self, event: list[float]) -> None:
        self.now += 200
        self.gate = event[0]
        for stream in self.ends:
            if stream > CURRENT:
                self.ends[stream] = max(self.ends[stream], self.gate)

    def join(self) -> None:
        self.now += 200
        known = [end for stream, end in self.ends.items() if stream >= 0]
        self.ends[CURRENT] = max(known)

    def synchronize(self) -> None:
        if self.fails:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.now = max(self.now, *self.ends.values()) + 1000

    def capture(self, body: Callable[[], Any]) -> tuple[list[Launch], Any]:
        self.capturing = []
        try:
            result = body()
        finally:
            captured, self.capturing = self.capturing, None
        return captured, result

    def replay(self, graph: list[Launch]) -> None:
        self.now += 2_000
        for nanoseconds, stream, compute in graph:
            compute()
            self._enqueue(self._true_ns(nanoseconds * self.warm_share), stream)

    def host_ns(self) -> int:
        return int(self.now)

    # Kernels

    def launch(self, nanoseconds: float, stream: int = CURRENT, compute: Callable[[], object] = lambda: None) -> None:
        """One kernel. Streams below 0 are unknown to `join`, as those of a driver API that nobody interposed."""
        if self.capturing is not None:
            self.capturing.append((nanoseconds, stream, compute))
            return
        if self.stubbed:
            return
        compute()
        share = 1.0 if self.flushed else self.warm_share
        self.flushed = False
        self._enqueue(self._true_ns(nanoseconds * share), stream)

    def _true_ns(self, nanoseconds: float) -> float:
        slow = 1.3 if self.throttled(self.now) else 1.0
        slow *= 1.5 if self.now < self.cold_start_ns else 1.0
        return nanoseconds * slow * (1 + self.drift * self.now * 1e-9) * (1 + self.noise * abs(self.rng.normal()))

    def _enqueue(self, nanoseconds: float, stream: int) -> None:
        if not self.capturing:
            begin = self.ends.get(stream, self.gate if stream >= 0 else 0.0)
            self.ends[stream] = max(self.now, begin) + nanoseconds

    # Clocks

    def read(self) -> SimulatedReading:
        slow = self.throttled(self.now)
        return SimulatedReading(sm_mhz=1500.0 if slow else 1980.0, throttle=("thermal, hardware",) if slow else ())


@dataclass(frozen=True)
class SimulatedReading:
    sm_mhz: float
    throttle: tuple[str, ...]
    temperature_c: float = 50.0
    power_watts: float = 300.0


@dataclass
class SimulatedKernel:
    """An entry point: doubles its input in one launch, unless told to do otherwise."""

    gpu: SimulatedGpu
    nanoseconds: float
    stream: int = CURRENT
    host_ns: float = 0.0  # more than a call takes anyway
    answer: Callable[[torch.Tensor], torch.Tensor] = lambda x: 2 * x

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.gpu.now += self.gpu.call_ns + self.host_ns
        y = torch.empty_like(x)
        self.gpu.launch(self.nanoseconds, self.stream, lambda: y.copy_(self.answer(x)))
        return y


class SimulatedSession:
    """The parent's half over a Sampler in the same process; Call.seconds is the simulated clock."""

    def __init__(self, gpu: SimulatedGpu, entry: Callable[..., Any]) -> None:
        self._gpu = gpu
        self._sampler = Sampler(gpu, entry)
        self._sets: Sequence[Sequence[Any]] = []

    def prepare(self, sets: Sequence[Sequence[Any]], *, rotate_bytes: int) -> Call:
        self._sets = sets
        return self._step(lambda: ((), None, self._sampler.prepare(sets, rotate_bytes=rotate_bytes)))

    def sample(self, *, mode: str, calls: int, seed: int, checked_call: int | None = None) -> Call:
        return self._step(lambda: self._sampler.sample(mode=mode, calls=calls, checked_call=checked_call, seed=seed))

    def run(self, *, mode: str, calls: int, seed: int, stubbed: bool = False) -> Call:
        self._gpu.stubbed = stubbed
        try:
            return self._step(lambda: ((), self._sampler.run(mode=mode, calls=calls, seed=seed), {}))
        finally:
            self._gpu.stubbed = False

    def inputs_of(self, *, seed: int, call: int) -> Sequence[Any]:
        return swapped(self._sets[call % len(self._sets)], seed=seed, call=call)

    def _step(self, work: Callable[[], tuple[tuple[float, ...], Any, dict[str, float]]]) -> Call:
        begun = self._gpu.now
        outcome, reason = Outcome.PASSED, None
        samples, output, facts = (), None, {}
        try:
            samples, output, facts = work()
        except RuntimeError as error:
            outcome, reason = Outcome.CRASHED, str(error)
        return Call(
            outcome=outcome,
            reason=reason,
            outputs=() if output is None else (output,),
            inputs_after=(),
            findings=(),
            launches=(),
            output="",
            seconds=(self._gpu.now - begun) * 1e-9,
            samples_ns=samples,
            facts=facts,
        )

    def close(self) -> None:
        pass

    def __enter__(self) -> SimulatedSession:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
