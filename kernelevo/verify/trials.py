"""Further calls, after every case was right once: what a candidate remembers, and what its kernels have to do with it.

Takes an open session and the cases that were right, gives the verdicts on further calls of some of them, in a random
order and number:

    later     a case again: who is right for some calls only, or in one order of cases, is wrong      -> wrong
    changed   the same case with one random element of one input changed in place, at the same address: who answers by
              address, by a few elements, or with what was prepared before gives the answer of before  -> cheating
    stubbed   a small case with launches that do nothing: who is still right has kernels for show     -> cheating

The changed element takes half of the largest magnitude in its tensor, or one and a half times as much: one of the two
that changes the outputs by more than the error rule accepts; where none of a few places does, the trial is left out.
Not covered: who remembers integers only; who behaves for more calls than one verdict makes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from kernelevo.devices import Arguments, Call, Session
from kernelevo.records import Case, CaseVerdict, Outcome, Purpose, Task
from kernelevo.verify.judgement import FIRST_POISON, Imports, Judgement
from kernelevo.verify.oracle import Expected, Oracle, expected_of
from kernelevo.verify.rule import compare

HIDDEN_SIZES = 2  # of the HIDDEN cases that are called with a changed element; of the TEST cases it is every size
MAX_LATER = 3  # calls of cases as they were
PLACES = 4  # tried for the changed element


def further_trials(
    task: Task, cases: Sequence[Case], session: Session, oracle: Oracle, imports: Imports, rng: random.Random
) -> Iterator[CaseVerdict]:
    """Verdicts on further calls, each of a case in `cases`. Take no more after one that did not pass.

    Raises TaskError when the reference fails on a case, WorkerError when our worker does.
    """
    for case, number in _plan(cases, oracle, rng):
        expected = oracle.expected(case)
        later = Judgement(task, case, expected)
        first = call = session.call(expected.inputs, poison=FIRST_POISON)
        right = later.returned_right(call)
        changed = _changed(task, case, expected, number, rng) if right and number is not None else None
        if changed is None:
            yield _later_verdict(later, call, imports)
            continue
        again = Judgement(task, case, changed)
        call = session.call(changed.inputs, poison=FIRST_POISON, same_memory=True)
        if not again.returned_right(call):
            what = f"one element of input {number} was changed where it lies"
            if again.outcome is Outcome.WRONG and Judgement(task, case, expected).matches(call):
                again.fail(Outcome.CHEATING, f"stale answer: {what}, and the outputs are those of before")
            else:
                again.reason = f"{again.reason}; {what}"
        yield again.verdict(call.seconds)
        yield _later_verdict(later, first, imports)
    if task.library_calls != "allow" and (telling := _telling(cases, oracle)) is not None:
        expected = oracle.expected(telling)
        stubbed = Judgement(task, telling, expected)
        call = session.call(expected.inputs, poison=FIRST_POISON, stubbed=True)
        stubbed.stubbed(call)
        yield stubbed.verdict(call.seconds)


def _later_verdict(later: Judgement, call: Call, imports: Imports) -> CaseVerdict:
    later.own_kernel(call, imports)
    if later.outcome is not Outcome.PASSED:
        later.reason = f"{later.reason}; it was right before, and is not in a later call"
    return later.verdict(call.seconds)


def _plan(cases: Sequence[Case], oracle: Oracle, rng: random.Random) -> list[tuple[Case, int | None]]:
    """Cases in a random order, each with the input to change an element of, or None to change nothing."""
    sizes: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        sizes.setdefault((case.purpose is Purpose.HIDDEN, *case.sizes.items()), []).append(case)
    chosen = [rng.choice(group) for group in sizes.values()]
    rng.shuffle(chosen)
    hidden = [case for case in chosen if case.purpose is Purpose.HIDDEN][:HIDDEN_SIZES]
    chosen = [case for case in chosen if case.purpose is not Purpose.HIDDEN] + hidden
    # The largest first: in them a changed element shows, and no input may be left out.
    chosen.sort(key=lambda case: -oracle.expected(case).size_bytes)
    plan: list[tuple[Case, int | None]] = []
    inputs = [number for number, value in enumerate(oracle.expected(chosen[0]).inputs) if _is_changeable(value)]
    for turn in range(max(len(chosen), len(inputs)) if inputs else 0):
        plan.append((chosen[turn % len(chosen)], inputs[turn % len(inputs)]))
    plan += [(rng.choice(cases), None) for _ in range(rng.randint(1, MAX_LATER))]
    rng.shuffle(plan)
    return plan


def _is_changeable(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point and value.numel() > 0


def _changed(task: Task, case: Case, expected: Expected, number: int, rng: random.Random) -> Expected | None:
    """What is expected after a change of one element of an input, or None where no change that was tried shows."""
    before = expected.inputs[number]
    if not _is_changeable(before):
        return None
    largest = before.reshape(-1)[int(before.abs().argmax())].item()
    for _ in range(PLACES):
        place = rng.randrange(before.numel())
        for value in (0.5 * largest, 1.5 * largest):
            after = before.clone()
            after[tuple(int(i) for i in _index(place, before.shape))] = value
            values = [*expected.inputs[:number], after, *expected.inputs[number + 1 :]]
            layout = getattr(expected.inputs, "layout", None)
            inputs = tuple(values) if layout is None else Arguments(values, layout)
            # Fewer runs of the reference than a case gets: the errors allowed for the values before count too.
            changed = expected_of(task, replace(case, purpose=Purpose.BENCH), inputs)
            allowed = tuple(
                replace(new, error=max(new.error, old.error), error_l2=max(new.error_l2, old.error_l2))
                for new, old in zip(changed.allowed, expected.allowed, strict=True)
            )
            changed = replace(changed, allowed=allowed)
            if _shows(task, expected, changed):
                return changed
    return None


def _index(place: int, shape: Sequence[int]) -> list[int]:
    index = []
    for length in reversed(shape):
        index.append(place % length)
        place //= length
    return index[::-1]


def _shows(task: Task, before: Expected, after: Expected) -> bool:
    """Whether the outputs of before are wrong afterwards, and finite in both."""
    if any(not bool(torch.isfinite(oracle).all()) for oracle in (*before.oracle, *after.oracle)):
        return False
    if task.compare is not None:
        return task.compare(before.reference, after.oracle) is not None
    rows = zip(before.reference, after.oracle, after.reference, after.allowed, strict=True)
    return any(not compare(*row).accepted for row in rows)


def _telling(cases: Sequence[Case], oracle: Oracle) -> Case | None:
    """The smallest case of which no output is one value everywhere, such as memory that was only filled may hold."""
    telling = [case for case in cases if all(_varies(output) for output in oracle.expected(case).oracle)]
    return min(telling, key=lambda case: oracle.expected(case).size_bytes, default=None)


def _varies(output: torch.Tensor) -> bool:
    if output.numel() == 1:
        return bool(output.reshape(-1)[0] != 0)
    return output.numel() > 1 and bool((output != output.reshape(-1)[0]).any())
