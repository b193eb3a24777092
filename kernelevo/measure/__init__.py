"""A verified build and a task's BENCH cases in, Timing out: predicted (predicted.py) or measured (measured.py).

A time that cannot be believed is refused, with the reason; a measurement with findings has no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kernelevo.devices import Device
from kernelevo.measure.measured import Accepts, TimedDevice, measure_task
from kernelevo.measure.predicted import predict_case
from kernelevo.records import Build, Case, CaseTiming, Purpose, Task, Timing, TimingKind


def measure(
    task: Task,
    build: Build,
    device: Device,
    *,
    timeout_seconds: float,
    memory_bytes: int,
    output_bytes: Callable[[Case], int],
    accepts: Accepts | None = None,
) -> Timing | str:
    """Timing over all BENCH cases of the task, or one line that says why there is none.

    output_bytes: of all outputs of a case together, by the reference.
    accepts: judges outputs of timed calls; a device that measures needs it, one that predicts does not.
    """
    started = time.monotonic()
    cases = [case for case in task.cases if case.purpose is Purpose.BENCH]
    if not cases:
        return f"task {task.name} declares no bench cases"
    if device.timing_kind is TimingKind.MEASURED:
        if not isinstance(device, TimedDevice):
            return f"device {device.name} cannot time calls"
        if accepts is None:
            return "outputs of timed calls would not be checked, and unchecked times are not taken"
        measured = measure_task(
            task,
            build,
            device,
            timeout_seconds=timeout_seconds,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            accepts=accepts,
        )
        return measured if isinstance(measured, str) else measured.timing
    timings: list[CaseTiming] = []
    with device.open(build, entry=task.entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes) as session:
        for case in cases:
            timing = predict_case(task, case, session, output_bytes(case))
            if isinstance(timing, str):
                return f"{case.name}: {timing}"
            timings.append(timing)
    return Timing(
        kind=device.timing_kind,
        device=device.name,
        target=device.timing_target,
        method=device.timing_method,
        cases=tuple(timings),
        seconds=time.monotonic() - started,
    )
