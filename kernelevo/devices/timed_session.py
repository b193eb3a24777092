"""The parent's half of a measurement: a WorkerSession whose worker makes steps of a measurement.

See devices.TimedSession for the contract. Call.seconds is the parent's clock around one exchange with the worker, so
the difference of two steps that differ in nothing but the number of calls is the time of those calls, whatever the
worker says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, cast

from kernelevo.devices import Arguments
from kernelevo.devices.sampling import swapped
from kernelevo.devices.wire import TimingRequest
from kernelevo.errors import UsageError

if TYPE_CHECKING:
    from kernelevo.devices import Call, Value
    from kernelevo.devices.session import WorkerSession

_Mode = Literal["cold", "warm", "graph"]


class WorkerTimedSession:
    """Steps of a measurement, through a worker."""

    def __init__(self, session: WorkerSession) -> None:
        self._session = session
        self._sets: list[list[Value]] = []
        self._layout: str | None = None

    def prepare(self, sets: Sequence[Sequence[Value]], *, rotate_bytes: int) -> Call:
        self._sets = [list(values) for values in sets]
        self._layout = getattr(sets[0], "layout", None)
        request = TimingRequest(step="prepare", input_sets=len(self._sets), rotate_bytes=rotate_bytes)
        return self._session.call(self._arranged(value for values in self._sets for value in values), timing=request)

    def sample(self, *, mode: str, calls: int, seed: int, checked_call: int | None = None) -> Call:
        request = TimingRequest(
            step="sample", mode=cast("_Mode", mode), calls=calls, seed=seed, checked_call=checked_call
        )
        return self._session.call([], timing=request)

    def run(self, *, mode: str, calls: int, seed: int, stubbed: bool = False) -> Call:
        request = TimingRequest(step="run", mode=cast("_Mode", mode), calls=calls, seed=seed)
        return self._session.call([], timing=request, stubbed=stubbed)

    def inputs_of(self, *, seed: int, call: int) -> Sequence[Value]:
        if not self._sets:
            raise UsageError("no inputs were prepared", next_step="call prepare first")
        return self._arranged(swapped(self._sets[call % len(self._sets)], seed=seed, call=call))

    def _arranged(self, values: Iterable[Value]) -> Sequence[Value]:
        """Values with the layout of the sets, which says how they become arguments."""
        return tuple(values) if self._layout is None else Arguments(values, self._layout)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> WorkerTimedSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
