"""Before a run begins: its record, and what must hold so that it can.

Takes what a user asked for, gives a Run, prices and limits that fit together, or a UsageError that says what does not.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kernelevo.budget import Budget
from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.errors import ModelError, UsageError
from kernelevo.models.prices import price_of
from kernelevo.records import Price, Purpose, Run, Task, digest

if TYPE_CHECKING:
    from kernelevo.archive import Archive


def new_run(
    task: Task,
    models: Sequence[str],
    judges: Sequence[str],
    device: str | Device,
    strategy: str,
    generations: int,
    population: int,
    lookahead: int | None,
    seed: int,
) -> Run:
    """The record of a run about to start."""
    for name, value in (("generations", generations), ("population", population)):
        if value < 1:
            raise UsageError(f"{name} is {value}", next_step=f"give {name} of at least 1")
    if lookahead is not None and lookahead < 0:
        raise UsageError(f"lookahead is {lookahead}", next_step="give 0, or how many generations may overlap")
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}", next_step="give a seed from 0 to 2**63 - 1")
    if not models:
        raise UsageError("no model is given", next_step="name at least one, for example mutate")
    if task.seed_source is None and set(models) == {"mutate"}:
        raise UsageError(
            f"task {task.name} has no seed.cu, and mutate starts from one", next_step="write one or name another model"
        )
    return Run(
        id=new_id(task),
        task=task.name,
        task_digest=task.digest,
        models=tuple(models),
        device=device if isinstance(device, str) else device.name,
        strategy=strategy,
        generations=generations,
        population=population,
        seed=seed,
        judges=tuple(judges),
        lookahead=(0 if set(models) == {"mutate"} else 1) if lookahead is None else lookahead,
    )


def new_id(task: Task) -> str:
    """Two runs with equal settings differ in id."""
    return digest(task.digest, secrets.token_hex(16), tag="r", length=12)


def check_same_task(run: Run, task: Task) -> None:
    if (run.task, run.task_digest) != (task.name, task.digest):
        raise UsageError(
            f"run {run.id} is of task {run.task} ({run.task_digest}), which is now {task.name} ({task.digest})",
            next_step="start a new run: times of a changed task do not compare",
        )


def same_timing(run: Run, archive: Archive, device: Device) -> bool:
    """Whether times that the device gives now compare with those of the run."""
    return archive.timed_as(run.id) in (None, (device.timing_kind.value, device.timing_target, device.timing_method))


def check_same_timing(run: Run, archive: Archive, device: Device) -> None:
    if not same_timing(run, archive, device):
        kind, target, method = archive.timed_as(run.id) or ("", "", "")
        now = f"{device.timing_kind.value.upper()} for {device.timing_target} by {device.timing_method}"
        raise UsageError(
            f"the times of run {run.id} are {kind.upper()} for {target} by {method}, and would now be {now}",
            next_step="start a new run: the two do not compare",
        )


def prices_of(models: Iterable[str], settings: Settings) -> dict[str, Price | None]:
    """What each model asks; None: not known."""
    return {name: price_of(name, settings.prices) for name in models}


def check_payable(prices: Mapping[str, Price | None], budget: Budget) -> None:
    """Refuses a budget in dollars that could not be kept."""
    unknown = [name for name, price in prices.items() if price is None]
    if budget.usd is not None and unknown:
        raise UsageError(
            f"a budget of {budget.usd:g} US dollars cannot be kept: the price of {', '.join(unknown)} is not known",
            next_step="give it in kernelevo.toml under [prices] (see README.md), or leave --budget-usd out",
        )


def sleeper(stopping: threading.Event) -> Callable[[float], None]:
    """Waits before a request is sent again; a run that stops does not send it."""

    def sleep(seconds: float) -> None:
        if stopping.wait(seconds):
            raise ModelError("the run stops, and the request is not sent again")

    return sleep


def floor_ns(task: Task, device: Device) -> float | None:
    """The time that DRAM bandwidth alone takes for all inputs and outputs: geometric mean over the BENCH cases.

    None where the device does not know the bandwidth of its target. Inputs that fit into the L2 may come faster.
    """
    rate = device.facts.get("dram_bytes_per_second")
    cases = [case for case in task.cases if case.purpose is Purpose.BENCH]
    if not rate or not cases:
        return None
    import torch

    product = 1.0
    for case in cases:
        inputs = task.inputs(case, torch.Generator().manual_seed(case.seed))
        outputs = task.reference(*inputs)
        tensors = [t for t in (*inputs, *(outputs if isinstance(outputs, tuple) else (outputs,)))]
        moved = sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        product *= (moved / rate * 1e9) ** (1 / len(cases))
    return product
