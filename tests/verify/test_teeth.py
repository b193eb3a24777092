"""Each of the eight tasks tells wrong from right: what is wrong is rejected, what is honest passes."""

import dataclasses
import random

import pytest
import torch
from honest import HONEST
from local_device import LocalDevice, local_build

from kernelevo.lint import lint
from kernelevo.records import Outcome, Purpose
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.verify import verify


def right(task, inputs):
    outputs = task.reference(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def zeros(task, inputs):
    return tuple(torch.zeros_like(output) for output in right(task, inputs))


def mean(task, inputs):
    """What a statistic of other data would give: each output replaced by its mean, a single value by one near it."""
    return tuple(torch.full_like(output, float(output.mean()) * 0.999) for output in right(task, inputs))


def shuffled(task, inputs):
    """Rows in the wrong order on the way in."""
    moved = [v.roll(1, dims=0).flip(0) if isinstance(v, torch.Tensor) and v.dim() else v for v in inputs]
    return right(task, [*moved[:1], *inputs[1:]])


def half_precision(task, inputs):
    half = [v.half() if isinstance(v, torch.Tensor) and v.dtype == torch.float32 else v for v in inputs]
    return tuple(output.float() for output in right(task, half))


def half_precision_inputs_only(task, inputs):
    """What tensor cores do to float32 operands: TF32 keeps 10 bits; the sums are in float32."""
    rounded = [v.half().float() if isinstance(v, torch.Tensor) and v.dtype == torch.float32 else v for v in inputs]
    return right(task, rounded)


def last_tile_missing(task, inputs):
    outputs = tuple(output.clone().contiguous() for output in right(task, inputs))
    for output in outputs:
        output.view(-1)[-min(16, max(1, output.numel() // 2)) :] = 0.0
    return outputs


def scaled_part(task, inputs):
    """The last columns of the input are left out, as a kernel without a tail would: zeros in their place."""
    cut = [v.clone() if isinstance(v, torch.Tensor) else v for v in inputs]
    whole = cut[0].shape[-1] // 4 * 4
    cut[0][..., whole:] = 0.0
    return right(task, cut)


WRONG = [zeros, mean, shuffled, half_precision, half_precision_inputs_only, last_tile_missing, scaled_part]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda f: f.__name__.replace("_", "-"))
@pytest.mark.parametrize("name", HONEST)
def test_wrong_outputs_are_rejected_by_every_task(name, wrong, tmp_path):
    task = load_task(name)
    device = LocalDevice(lambda memory, *inputs: tuple(memory.hold(o) for o in wrong(task, inputs)))
    verdict = verify(task, local_build(tmp_path), device, cases=task.cases, entropy=1)
    assert verdict.outcome is Outcome.WRONG
    assert "wrong value: output" in verdict.reason


def quick(task):
    """Its TEST cases. Sizes that are timed take the honest stand-ins, which add term by term, too long."""
    return [case for case in task.cases if case.purpose is Purpose.TEST]


@pytest.mark.parametrize("name", HONEST)
def test_honest_float32_in_another_summation_order_passes_every_case(name, tmp_path, capsys):
    task = load_task(name)
    cases = [*quick(task), *hidden_cases(task, entropy=7, count=24)]
    verdict = verify(task, local_build(tmp_path), LocalDevice(HONEST[name]), cases=cases, entropy=1)
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    nearest = max(verdict.cases, key=lambda c: c.error / c.allowed)
    with capsys.disabled():
        print(
            f"\n  {name}: {len(verdict.cases)} cases in {verdict.seconds:.2f} s; nearest to its limit: "
            f"{nearest.error:.1e} of {nearest.allowed:.1e} on {nearest.case.name}",
            end="",
        )


@pytest.mark.parametrize("name", HONEST)
def test_honest_kernels_are_not_rejected_for_bad_luck_in_any_of_many_hidden_cases(name, tmp_path):
    task = load_task(name)
    small = {size: (low, min(high, 160)) for size, (low, high) in task.hidden_sizes.items()}
    cases = hidden_cases(dataclasses.replace(task, hidden_sizes=small), random.Random(3).getrandbits(64), count=150)
    verdict = verify(task, local_build(tmp_path), LocalDevice(HONEST[name]), cases=cases, entropy=1)
    assert verdict.outcome is Outcome.PASSED, verdict.reason


def in_low_precision(name, dtype):
    """The task with this dtype in place of float32."""
    task = load_task(name)
    cases = [
        dataclasses.replace(case, dtype=dtype, name=case.name.replace("float32", dtype))
        for case in (*quick(task), *hidden_cases(task, entropy=5, count=12))
    ]
    return dataclasses.replace(task, dtypes=(dtype,), cases=tuple(cases))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", HONEST)
def test_a_low_precision_task_accepts_float32_sums_that_are_rounded_once(name, dtype, tmp_path):
    task = in_low_precision(name, dtype)
    narrow = getattr(torch, dtype)

    def rounds_once(memory, *inputs):
        wide = [v.float() if isinstance(v, torch.Tensor) and v.dtype == narrow else v for v in inputs]
        outputs = HONEST[name](memory, *wide)
        return tuple(memory.hold(o.to(narrow)) for o in (outputs if isinstance(outputs, tuple) else (outputs,)))

    verdict = verify(task, local_build(tmp_path), LocalDevice(rounds_once), cases=task.cases, entropy=1)
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    assert lint(task) == ()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_low_precision_task_rejects_sums_in_low_precision(dtype, tmp_path):
    def sums_low(memory, x, weight, eps):
        total = torch.zeros_like(x[:, 0])
        for column in range(x.shape[1]):
            total = total + x[:, column] * x[:, column]
        return memory.hold(x * torch.rsqrt(total / x.shape[1] + eps)[:, None] * weight)

    task = in_low_precision("rmsnorm", dtype)
    verdict = verify(task, local_build(tmp_path), LocalDevice(sums_low), cases=task.cases, entropy=1)
    assert verdict.outcome is Outcome.WRONG


def test_a_tolerance_factor_that_is_too_large_loses_the_teeth_and_lint_says_so():
    task = load_task("gelu")
    blunt = dataclasses.replace(task, tolerance_factor=1e9)
    assert any(flaw.kind == "no teeth" for flaw in lint(blunt))


def test_every_distribution_and_initialisation_of_a_task_is_used_by_its_test_cases():
    for name in HONEST:
        task = load_task(name)
        test = [case for case in task.cases if case.purpose is Purpose.TEST]
        assert {case.distribution for case in test} == set(task.distributions)
        assert {case.initialisation for case in test} == set(task.initialisations)
