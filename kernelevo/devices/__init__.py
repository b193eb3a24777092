"""Devices run builds. This module is the protocol; `emulator.py` and `cuda.py` are the devices.

A Device lives in the trusted parent and never loads candidate code: `open` starts a sandboxed worker that
does, and hands back a Session through which calls go. What comes back is data only.

The contract, checked for every device by tests/contract/test_device.py:

- `open` returns at once or raises WorkerError; it does not judge the candidate. The artifact is loaded by the
  first call, so an import that crashes is an ordinary Call.
- A call never raises for what the candidate did. It returns Call.outcome PASSED (returned values), CRASHED,
  TIMED_OUT or UNSUPPORTED with one line of reason. After anything but PASSED the session may be dead; the next
  call then restarts it.
- Inputs are copied into fresh device memory for every call, and `inputs_after` is what those bytes are afterwards.
- Device memory is filled with `poison` bytes before the candidate can see it.
- `close` ends the worker's whole process group; so does leaving the `with` block, and the parent's death.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kernelevo.records import Build, Finding, Outcome, TimingKind

if TYPE_CHECKING:
    import torch

    Value = torch.Tensor | int | float | bool


class Arguments(tuple[Any, ...]):
    """Values of a call that are not its arguments one by one: the entry takes tuples, shapes or None as well.

    The layout is a JSON object. A node is the index of a value, {"tuple": [node...]}, {"list": [node...]} or
    {"constant": any JSON value}. It has "arguments", one node per argument of an exported function, and "model", for
    candidates that are a class: None, or {"inputs": [node...], "init": [node...], "state": {name: index}}.
    """

    layout: str

    def __new__(cls, values: Iterable[Value], layout: str) -> Arguments:
        arguments = super().__new__(cls, values)
        arguments.layout = layout
        return arguments


def built(node: Any, values: Sequence[Any]) -> Any:
    """What a node of a layout stands for."""
    if isinstance(node, int):
        return values[node]
    if "tuple" in node:
        return tuple(built(part, values) for part in node["tuple"])
    if "list" in node:
        return [built(part, values) for part in node["list"]]
    return node["constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTime:
    """Predicted time of one launch."""

    median_ns: float
    low_ns: float
    high_ns: float
    bottleneck: str  # in words a model can use
    terms_ns: Mapping[str, float]  # what each limit would take alone: "dram", "latency", "launch", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel launch of a call."""

    kernel: str  # mangled entry name
    grid: tuple[int, int, int]  # blocks
    block: tuple[int, int, int]  # threads
    shared_bytes: int  # dynamic, per block
    counters: Mapping[str, float]  # empty unless the call was counted
    time: LaunchTime | None = None  # predicted from the counters; None unless the call was counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call of the candidate's entry point did."""

    outcome: Outcome
    reason: str | None  # one line; None when it returned
    outputs: tuple[torch.Tensor, ...]  # on the CPU, with the candidate's own shape, dtype and strides
    inputs_after: tuple[torch.Tensor | None, ...]  # one per input; None for scalars
    findings: tuple[Finding, ...]  # aliasing, wrong device, not a tensor, unchecked launch error, ...
    launches: tuple[Launch, ...]
    output: str  # what it printed, bounded
    seconds: float
    copied_in_bytes: int | None = None  # that the candidate moved from host to device; None: the device does not know
    copied_out_bytes: int | None = None  # from device to host
    operators: tuple[str, ...] | None = None  # of torch, that it called: "aten::empty_like"; None: not known
    samples_ns: tuple[float, ...] = ()  # by the device's own events, of a step of a measurement
    facts: Mapping[str, float] = field(default_factory=dict)  # what such a step found out, name with unit -> value


class Session(Protocol):
    """A worker that has, or will have, one build loaded."""

    def call(
        self,
        inputs: Sequence[Value],
        *,
        poison: int = 0xA5,
        schedule: int = 0,
        sample_blocks: int | None = None,
        checked: bool = False,
        stubbed: bool = False,
        same_memory: bool = False,
    ) -> Call:
        """Calls the entry point once.

        inputs: CPU tensors (moved to the device) and Python scalars, positional; or Arguments.
        poison: byte that fresh device memory is filled with.
        schedule: order of warps and blocks, where the device can choose it: 0 is ascending, any other value below 2**63
            seeds another order, the same for the same value.
        sample_blocks: count events, running at most this many blocks of each launch (outputs, which would mean
            nothing, and inputs then do not come back); None runs everything and counts nothing.
        checked: watch every access and barrier, where the device can (memory, race, init, sync and limits checkers);
            what they see are findings.
        stubbed: launches are noted, and run nothing.
        same_memory: inputs go where those of the call before were, if they had the same shapes, not into fresh memory.
        """

    def close(self) -> None:
        """Ends the worker's process group."""

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


class TimedSession(Protocol):
    """A worker that times calls of one entry point. Call.seconds of each step is the parent's own clock."""

    def prepare(self, sets: Sequence[Sequence[Value]], *, rotate_bytes: int) -> Call:
        """Loads the build and uploads inputs; facts: "copies" made of the sets, "l2_bytes".

        sets: inputs with different values and the same shapes; call number i of a step takes set i % len(sets), from
            memory that no call has used for at least rotate_bytes of other inputs.
        """

    def sample(self, *, mode: str, calls: int, seed: int, checked_call: int | None = None) -> Call:
        """Times each of `calls` calls by events: samples_ns, one value per call.

        mode: "cold" (L2 flushed before each call), "warm" (calls follow each other), "graph" (replays of a graph).
        seed: of what is new in the inputs of this step; see inputs_of.
        checked_call: number of the call whose outputs come back, from 0.
        facts: "late_ns" that the device worked on after the end of a window, "host_ns" of one call.
        """

    def run(self, *, mode: str, calls: int, seed: int, stubbed: bool = False) -> Call:
        """Makes calls and waits for the whole device, timed by nobody but the parent."""

    def inputs_of(self, *, seed: int, call: int) -> Sequence[Value]:
        """What call number `call` of a step with this seed is given, computed in the parent."""

    def close(self) -> None:
        """Ends the worker's process group."""

    def __enter__(self) -> TimedSession: ...

    def __exit__(self, *exc: object) -> None: ...


class Device(Protocol):
    """Where candidates run."""

    name: str  # "emulator" or "cuda"
    timing_kind: TimingKind
    checks: bool  # whether calls can be `checked`
    timing_method: str  # protocol or model and its version, for example "prediction 1"

    @property
    def target(self) -> str:
        """What nvcc compiles for, for example "sm_90"."""

    @property
    def timing_target(self) -> str:
        """The GPU that times are for, in words, for example "H100 SXM"."""

    @property
    def facts(self) -> Mapping[str, float]:
        """What is known of the GPU that times are for, in the names of emulator/gpus.toml, tables joined by a dot:
        "multiprocessors", "dram_bytes_per_second", "lanes_per_cycle.fp32". What is not known is not in it."""

    def unavailable(self) -> str | None:
        """None when usable here, otherwise why not and what to do."""

    def open(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> Session:
        """A session for a successful build. timeout_seconds bounds each call."""

    def close(self) -> None:
        """Ends whatever the device keeps warm."""
