"""Expected outputs. Takes a task and a case, gives the inputs, the float64 oracle and the errors that are allowed.

All of it is computed in this trusted process, before a candidate sees the inputs, and kept for the next candidate:
a run of evolve verifies many candidates on the same TEST cases.

e_ref, the error the reference itself makes in the task's dtype, is the largest of a few runs: one on the inputs, the
others on inputs that are off by about sqrt(n) units of roundoff, where n is the reduction length. One run alone may be
lucky (a single output that happens to round exactly), and an input that makes the operation ill-conditioned (a constant
row in a layer normalisation) spreads the results of all honest kernels; both show in the perturbed runs. Sums of n
terms have that backward error in whatever order (Higham and Mary 2019), so it is what another order may cost.

BENCH cases, which are large and drawn from the normal distribution, get the one run on their inputs only.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kernelevo.errors import TaskError
from kernelevo.records import Case, Purpose, Task
from kernelevo.verify.rule import Allowed, errors, finite_errors, floor, reduction_length

RUNS = 4  # of the reference in the task's dtype, the first on the inputs as they are
BENCH_RUNS = 1  # the same for BENCH cases: with so many elements the largest error is not a lucky one
MAX_BYTES = 512 << 20  # of expected outputs that one task keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a case must give."""

    inputs: tuple[Any, ...]  # CPU tensors and Python numbers (or devices.Arguments); never handed out for writing
    oracle: tuple[torch.Tensor, ...]  # float64 where the output is floating; mutated inputs come last
    reference: tuple[torch.Tensor, ...]  # in the task's dtype: shapes, dtypes and strides are the contract
    allowed: tuple[Allowed, ...]
    size_bytes: int
    mutated: tuple[int, ...] = ()  # inputs that the operation writes in place


class Oracle:
    """Expected outputs of a task's cases, the recently used ones kept within `max_bytes`. Threads may share it."""

    def __init__(self, task: Task, *, max_bytes: int = MAX_BYTES) -> None:
        self.task = task
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, int], Expected] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def expected(self, case: Case) -> Expected:
        """Raises TaskError when the task's own functions fail on this case."""
        key = (case.name, case.seed)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        expected = compute_expected(self.task, case)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = expected
                self._bytes += expected.size_bytes
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].size_bytes
        return expected


_RECENT: OrderedDict[str, Oracle] = OrderedDict()
_RECENT_LOCK = threading.Lock()


def oracle_of(task: Task) -> Oracle:
    """The oracle of this process for the task, shared by everyone who asks; the two last used tasks keep theirs."""
    with _RECENT_LOCK:
        oracle = _RECENT.pop(task.digest, None)
        if oracle is None or oracle.task.reference is not task.reference:
            oracle = Oracle(task)
        _RECENT[task.digest] = oracle
        while len(_RECENT) > 2:
            _RECENT.popitem(last=False)
    return oracle


def compute_expected(task: Task, case: Case) -> Expected:
    """Draws the inputs and runs the reference in float64, and RUNS (BENCH_RUNS) times in the case's dtype."""
    with one_thread():
        return _compute_expected(task, case)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread inside: cases are small, and a pool that waits for a core costs 10 to 20 times more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compute_expected(task: Task, case: Case) -> Expected:
    try:
        drawn = task.inputs(case, torch.Generator().manual_seed(case.seed))
        inputs = drawn if isinstance(drawn, tuple) else tuple(drawn)
    except Exception as error:
        raise TaskError(f"task {task.name}: its reference fails on the case {case.name!r}: {error}") from error
    return expected_of(task, case, inputs)


def expected_of(task: Task, case: Case, inputs: tuple[Any, ...]) -> Expected:
    """What a case must give for inputs that it need not have drawn. Raises TaskError."""
    try:
        inputs = _consistent(task, inputs)
        oracle = run_reference(task, tuple(_in_float64(value) for value in inputs))
        reference = run_reference(task, inputs)
        generator = torch.Generator().manual_seed(case.seed ^ 0x5EED)
        length = reduction_length(task.reduction, case.sizes)
        runs = [reference]
        for _ in range((BENCH_RUNS if case.purpose is Purpose.BENCH else RUNS) - 1):
            runs.append(run_reference(task, tuple(_perturbed(value, length, generator) for value in inputs)))
    except Exception as error:
        raise TaskError(f"task {task.name}: its reference fails on the case {case.name!r}: {error}") from error
    allowed = tuple(
        _allowed(task, [run[index] for run in runs], oracle[index], length) for index in range(len(reference))
    )
    tensors = [*oracle, *reference, *(value for value in inputs if isinstance(value, torch.Tensor))]
    return Expected(
        inputs=inputs,
        oracle=oracle,
        reference=reference,
        allowed=allowed,
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        mutated=mutated_inputs(task),
    )


def run_reference(task: Task, inputs: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
    """The reference's outputs as a tuple, then the inputs that it writes in place.

    It gets contiguous clones: one which writes to its inputs harms nobody, strided inputs ask for no strided outputs.
    """
    given = [v.clone(memory_format=torch.contiguous_format) if isinstance(v, torch.Tensor) else v for v in inputs]
    result = task.reference(*given)
    written = mutated_inputs(task)
    outputs = result if isinstance(result, tuple) else () if result is None and written else (result,)
    return tuple(output.detach() for output in (*outputs, *(given[index] for index in written)))


def mutated_inputs(task: Task) -> tuple[int, ...]:
    """Positions of the inputs that the operation writes in place, as task.toml declares."""
    positions: tuple[int, ...] = getattr(task.reference, "mutates", ())
    return positions


def _allowed(task: Task, runs: list[torch.Tensor], oracle: torch.Tensor, length: int) -> Allowed:
    dtype = runs[0].dtype
    if not dtype.is_floating_point:
        return Allowed(error=0.0, error_l2=0.0)
    measured = [_relative_errors(run, oracle) for run in runs]
    least = floor(dtype, length)
    return Allowed(
        error=max(least, task.tolerance_factor * max(error for error, _ in measured)),
        error_l2=max(least, task.tolerance_factor * max(error_l2 for _, error_l2 in measured)),
    )


def _relative_errors(run: torch.Tensor, oracle: torch.Tensor) -> tuple[float, float]:
    """error and error_l2 of a run, over what is finite in it and in the oracle."""
    known = finite_errors(run, oracle)
    if known is not None:
        return known[:2]
    error, error_l2, _ = errors(run, oracle, torch.isfinite(oracle.to(run.dtype)) & torch.isfinite(run))
    return error, error_l2


def _consistent(task: Task, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, those that the task computes from others (what a forward pass saves for its backward) anew."""
    refreshed = getattr(getattr(task.inputs, "__self__", None), "refreshed", None)
    if refreshed is None:
        return inputs
    consistent: tuple[Any, ...] = refreshed(inputs)
    return consistent


def _in_float64(value: Any) -> Any:
    return value.to(torch.float64) if isinstance(value, torch.Tensor) and value.dtype.is_floating_point else value


def _perturbed(value: Any, length: int, generator: torch.Generator) -> Any:
    """Floating elements times 1 + d; |d| <= sqrt(length) units of roundoff of float32, but at least one ulp."""
    if not (isinstance(value, torch.Tensor) and value.dtype.is_floating_point):
        return value
    amplitude = max(math.sqrt(length) * torch.finfo(torch.float32).eps / 2, torch.finfo(value.dtype).eps)
    noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2.0 - 1.0
    return (value.to(torch.float64) * (1.0 + amplitude * noise)).to(value.dtype)
