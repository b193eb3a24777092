"""The worker's half of a measurement: calls an entry point on rotated inputs and times it by the device's events.

    sampler = Sampler(driver, entry); sampler.prepare(sets, rotate_bytes=...)
    sampler.sample(mode="cold", calls=20, checked_call=7, seed=...)

Takes a Driver and an entry point, gives raw times; it decides nothing. Nobody has called the entry point with the
inputs of a call before: before each step every copy gets a set's values back with some elements swapped, by a seed that
the parent draws. `swapped` is all that the parent must do to know what a call was given.

What events cannot see is looked for elsewhere: work that still runs after the end event is `late_ns` here; a lie of the
events, or host work that was moved out of the window, is the parent's to find with its own clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kernelevo.devices.driver import Driver, dense_bytes

if TYPE_CHECKING:
    from kernelevo.devices import Value

MIN_COPIES = 3
MAX_COPIES = 1024
SWAPS = 8  # pairs of elements of each tensor
BATCH = 16  # warm calls between two waits
GRAPH_CALLS = 8  # at most, in one graph
_MIN_DELAY_NS, _MAX_DELAY_NS = 20_000.0, 5_000_000.0


class Sampler:
    """One entry point on one driver."""

    def __init__(self, driver: Driver, entry: Callable[..., Any]) -> None:
        self._driver = driver
        self._entry = entry
        self._sets: list[list[Any]] = []  # on the device
        self._copies: list[list[Any]] = []
        self._call_ns = _MIN_DELAY_NS  # host time of one call, as last seen

    def prepare(self, sets: Sequence[Sequence[Value]], *, rotate_bytes: int) -> dict[str, float]:
        """Uploads inputs and calls the entry point once on each set. Facts: "copies", "l2_bytes"."""
        driver = self._driver
        self._sets = [[v if isinstance(v, int | float) else driver.upload(v) for v in values] for values in sets]
        size = max(1, dense_bytes(self._sets[0]))
        copies = min(MAX_COPIES, max(MIN_COPIES, math.ceil(rotate_bytes / size)))
        self._copies = [_clone(self._sets[index % len(self._sets)]) for index in range(copies)]
        for values in self._copies[: len(self._sets)]:
            self._entry(*values)
        driver.synchronize()
        return {"copies": float(copies), "l2_bytes": float(driver.l2_bytes())}

    def sample(
        self, *, mode: str, calls: int, checked_call: int | None, seed: int
    ) -> tuple[tuple[float, ...], Any, dict[str, float]]:
        """Times per call, what the checked call returned, and facts: "late_ns", "host_ns" (of one call)."""
        if mode == "graph":
            return self._sample_graph(calls, checked_call, seed)
        driver = self._driver
        cold = mode == "cold"
        kept: Any = None
        late_ns = 0.0
        spent: list[int] = []
        windows: list[tuple[Any, Any]] = []
        size = 1 if cold else min(BATCH, len(self._copies))
        for first in range(0, calls, size):
            batch = range(first, min(calls, first + size))
            inputs = [self._fresh(number, seed) for number in batch]
            driver.reset_persisting_l2()
            driver.synchronize()
            if cold:
                driver.flush_l2()
            driver.delay(min(_MAX_DELAY_NS, len(batch) * 2 * self._call_ns))
            for number, values in zip(batch, inputs, strict=True):
                start, end = driver.event(), driver.event()
                begun = driver.host_ns()
                driver.record(start)
                driver.fork(start)  # side streams too begin inside the window, not during the delay
                result = self._entry(*values)
                driver.join()
                driver.record(end)
                spent.append(driver.host_ns() - begun)
                windows.append((start, end))
                if number == checked_call:
                    kept = result
                del result
            driver.wait(windows[-1][1])
            late_ns = max(late_ns, self._late())
        self._call_ns = max(_MIN_DELAY_NS, sorted(spent)[len(spent) // 2])
        samples = tuple(driver.elapsed_ns(start, end) for start, end in windows)
        return samples, kept, {"late_ns": late_ns, "host_ns": float(sorted(spent)[len(spent) // 2])}

    def run(self, *, mode: str, calls: int, seed: int) -> None:
        """Makes calls one after the other and waits for the device, with as little else as can be."""
        inputs = [self._fresh(number, seed) for number in range(min(calls, len(self._copies)))]
        self._driver.synchronize()
        if mode == "graph":
            graph, _ = self._captured(inputs[:GRAPH_CALLS])
            for _ in range(math.ceil(calls / len(inputs[:GRAPH_CALLS]))):
                self._driver.replay(graph)
        else:
            for number in range(calls):
                self._entry(*inputs[number % len(inputs)])
        self._driver.synchronize()

    def _sample_graph(
        self, calls: int, checked_call: int | None, seed: int
    ) -> tuple[tuple[float, ...], Any, dict[str, float]]:
        driver = self._driver
        inputs = [self._fresh(number, seed) for number in range(min(GRAPH_CALLS, len(self._copies)))]
        graph, results = self._captured(inputs)
        samples = []
        late_ns = 0.0
        for _ in range(calls):
            for tensor in _tensors(results):
                tensor.zero_()  # what a replay does not write again is not an answer
            driver.reset_persisting_l2()
            driver.synchronize()
            driver.delay(_MIN_DELAY_NS)
            start, end = driver.event(), driver.event()
            driver.record(start)
            driver.fork(start)
            driver.replay(graph)
            driver.join()
            driver.record(end)
            driver.wait(end)
            late_ns = max(late_ns, self._late())
            samples.append(driver.elapsed_ns(start, end) / len(inputs))
        kept = None if checked_call is None else results[checked_call % len(inputs)]
        return tuple(samples), kept, {"late_ns": late_ns, "graph_calls": float(len(inputs))}

    def _captured(self, inputs: Sequence[Sequence[Any]]) -> tuple[Any, list[Any]]:
        """A graph of one call on each of the inputs; captured anew, since inputs' memory may have been rewritten."""
        for values in inputs:  # outside a capture first: workspaces and attributes are set up by first calls
            self._entry(*values)
        self._driver.synchronize()
        return self._driver.capture(lambda: [self._entry(*values) for values in inputs])

    def _late(self) -> float:
        """How long the device goes on after the end event has happened."""
        begun = self._driver.host_ns()
        self._driver.synchronize()
        return float(self._driver.host_ns() - begun)

    def _fresh(self, number: int, seed: int) -> list[Any]:
        """The inputs of one call, in memory of the copies' rotation: a set's values, some swapped."""
        values = self._copies[number % len(self._copies)]
        for tensor, source in zip(values, self._sets[number % len(self._sets)], strict=True):
            if hasattr(tensor, "element_size"):
                tensor.copy_(source)
        _swap(values, seed, number)
        return values


def swapped(values: Sequence[Value], *, seed: int, call: int) -> list[Value]:
    """CPU copies of a set as call number `call` of a step with this seed was given them."""
    copies = _clone(values)
    _swap(copies, seed, call)
    return copies


def _swap(values: Sequence[Any], seed: int, call: int) -> None:
    """Swaps elements in place: contents are new, yet drawn as before. Equal for equal shapes, seed and call."""
    import torch

    generator = torch.Generator().manual_seed((seed * 1_000_003 + call) % (1 << 63))
    for tensor in values:
        if not hasattr(tensor, "element_size") or not tensor.is_floating_point() or tensor.numel() < 2:
            continue
        places = torch.randint(tensor.numel(), (2 * SWAPS,), generator=generator).unique()  # type: ignore[no-untyped-call]
        places = places[: places.numel() // 2 * 2].to(tensor.device)
        index = torch.unravel_index(places, tensor.shape)
        tensor[index] = tensor[index].flip(0)


def _clone(values: Sequence[Any]) -> list[Any]:
    """Copies with the same strides; scalars as they are."""
    import torch

    return [
        torch.empty_strided(v.shape, v.stride(), dtype=v.dtype, device=v.device).copy_(v)
        if hasattr(v, "element_size")
        else v
        for v in values
    ]


def _tensors(results: Sequence[Any]) -> list[Any]:
    flat = [part for result in results for part in (result if isinstance(result, tuple | list) else [result])]
    return [part for part in flat if hasattr(part, "element_size")]
