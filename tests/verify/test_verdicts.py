"""Every rule of a verdict, on candidates that break it and on their honest twins."""

import collections
import dataclasses

import pytest
import torch
from honest import HONEST
from local_device import LocalDevice, local_build

from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Finding, Outcome, Purpose
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.verify import Oracle, verify


@pytest.fixture
def judge(tmp_path):
    """judge(candidate, task="gelu", **options) -> Verdict, on the TEST cases unless others are given"""

    def run(candidate, task="gelu", *, symbols=b"", cases=None, **options):
        loaded = load_task(task) if isinstance(task, str) else task
        build = local_build(tmp_path, symbols)
        options.setdefault("entropy", 1)
        chosen = declared_tests(loaded) if cases is None else cases
        return verify(loaded, build, LocalDevice(candidate), cases=chosen, **options)

    return run


def declared_tests(task):
    return tuple(case for case in task.cases if case.purpose is Purpose.TEST)


def bench_cases(task):
    return tuple(case for case in task.cases if case.purpose is Purpose.BENCH)


def gelu(memory, x):
    return HONEST["gelu"](memory, x)


def test_an_honest_candidate_passes_with_its_worst_error_and_place(judge):
    verdict = judge(gelu)
    assert verdict.outcome is Outcome.PASSED
    assert verdict.reason is None
    assert all(case.error <= case.allowed for case in verdict.cases)
    assert all(case.worst.startswith("output 0 [") for case in verdict.cases)


def test_an_honest_candidate_passes_on_bench_cases(judge):
    verdict = judge(gelu, cases=bench_cases(load_task("gelu")))
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    assert len(verdict.cases) == 2


def test_a_candidate_that_is_wrong_only_at_the_sizes_that_are_timed_is_rejected(judge):
    def right_while_small(memory, x):
        y = gelu(memory, x)
        if x.numel() > 1 << 20:
            y[-1, -1] = 0.25
        return y

    task = load_task("gelu")
    assert judge(right_while_small).outcome is Outcome.PASSED
    verdict = judge(right_while_small, cases=declared_tests(task) + bench_cases(task))
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason.startswith("wrong value: output 0 [2047, 4095]: expected ")
    assert verdict.cases[-1].case.purpose is Purpose.BENCH


def test_a_candidate_whose_result_depends_on_the_order_of_warps_is_rejected(judge):
    def first_warp_only(memory, x):
        y = gelu(memory, x)
        return y if memory.schedule == 0 else memory.hold(y * 0)

    verdict = judge(first_warp_only)
    assert verdict.outcome is Outcome.WRONG
    assert (
        "warps in another order: it depends on uninitialised memory, or on the order of its threads" in verdict.reason
    )


def test_a_block_shape_that_only_one_case_launches_is_run_in_another_order(judge):
    def wide_blocks_race(memory, x):
        y = gelu(memory, x)
        if x.numel() < 1 << 22:
            return y
        memory.block = (256, 1, 1)
        return y if memory.schedule == 0 else memory.hold(y * 0)

    cases = bench_cases(load_task("gelu"))
    assert judge(wide_blocks_race, cases=cases[1:]).outcome is Outcome.PASSED
    assert judge(wide_blocks_race, cases=cases).outcome is Outcome.WRONG


def test_nothing_to_verify_is_an_error_and_never_a_pass(judge):
    with pytest.raises(UsageError, match="there is no case to verify gelu on"):
        judge(gelu, cases=())


def test_a_build_that_failed_is_an_error_and_never_a_pass(tmp_path):
    task = load_task("gelu")
    failed = dataclasses.replace(local_build(tmp_path), artifact=None)
    with pytest.raises(UsageError, match="has no artifact"):
        verify(task, failed, LocalDevice(gelu), cases=task.cases, entropy=1)


def test_verification_stops_at_the_first_failure_unless_asked_for_all(judge):
    def wrong(memory, x):
        return memory.hold(x * 0)

    assert len(judge(wrong).cases) == 1
    everything = judge(wrong, stop_at_first=False)
    assert len(everything.cases) == 18
    assert everything.reason.endswith(f"(case {everything.cases[0].case.name})")


def test_progress_is_told_every_case_as_it_is_known(judge):
    told = []
    verdict = judge(gelu, progress=told.append)
    assert tuple(told) == verdict.cases


# Integrity


def test_changing_an_input_is_cheating_even_when_the_output_is_right(judge):
    def mutates(memory, x, weight, eps):
        output = HONEST["rmsnorm"](memory, x, weight, eps)
        weight[-1] += 1.0
        return output

    verdict = judge(mutates, "rmsnorm")
    assert verdict.outcome is Outcome.CHEATING
    assert verdict.reason.startswith("input 1 changed at [0]: was ")


def test_zeroing_inputs_so_that_zeros_look_right_is_cheating(judge):
    def zeroes(memory, x):
        x.zero_()
        return memory.hold(x)

    verdict = judge(zeroes)
    assert verdict.outcome is Outcome.CHEATING
    assert verdict.reason.startswith("input 0 changed")


def test_rewriting_an_input_with_other_bits_of_the_same_value_is_noticed(judge):
    def negates_zeros(memory, x):
        x[x == 0.0] = -0.0
        return gelu(memory, x)

    assert judge(negates_zeros).reason.startswith("input 0 changed")


def test_returning_an_input_is_cheating(judge):
    copy = dataclasses.replace(load_task("gelu"), reference=lambda x: x.clone())
    assert judge(lambda memory, x: x, copy).outcome is Outcome.CHEATING
    assert judge(lambda memory, x: memory.hold(x), copy).outcome is Outcome.PASSED


def test_an_output_of_shape_one_for_an_output_without_dimensions_is_wrong(judge):
    def broadcastable(memory, logits, target):
        return HONEST["cross_entropy"](memory, logits, target).reshape(1)

    verdict = judge(broadcastable, "cross_entropy")
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason.startswith("wrong shape: output 0 is [1], expected []")


def test_an_output_of_another_dtype_is_wrong(judge):
    verdict = judge(lambda memory, x: memory.hold(torch.nn.functional.gelu(x.double())))
    assert verdict.reason.startswith("wrong dtype: output 0 is float64, expected float32")


def test_an_output_with_other_strides_is_wrong(judge):
    verdict = judge(lambda memory, x: gelu(memory, x.T.contiguous()).T)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason.startswith("wrong strides: output 0 has [1, 13], expected [129, 1]")


def test_a_missing_output_is_wrong(judge):
    verdict = judge(lambda memory, *inputs: HONEST["rmsnorm_backward"](memory, *inputs)[0], "rmsnorm_backward")
    assert verdict.reason.startswith("wrong number of outputs: expected 2, got 1")


def test_the_second_output_is_judged_as_the_first_is(judge):
    def wrong_weight(memory, *inputs):
        grad_x, grad_weight = HONEST["rmsnorm_backward"](memory, *inputs)
        return grad_x, grad_weight * 1.001

    verdict = judge(wrong_weight, "rmsnorm_backward")
    assert verdict.reason.startswith("wrong value: output 1 [")


@pytest.mark.parametrize("launches, outcome", [(0, "cheating"), (1, "wrong")])
def test_an_output_that_nothing_wrote_to_is_cheating_unless_a_kernel_at_least_ran(judge, launches, outcome):
    def writes_nothing(memory, x):
        memory.launches = launches
        return memory.empty(x.shape)

    verdict = judge(writes_nothing)
    assert verdict.outcome.value == outcome
    assert verdict.reason.startswith("output 0 not written: it holds what its memory held before")


def test_an_unwritten_tail_is_named_and_is_an_honest_mistake(judge):
    def no_tail(memory, x):
        output = memory.empty(x.shape)
        whole = x.numel() // 4 * 4
        output.view(-1)[:whole] = torch.nn.functional.gelu(x).view(-1)[:whole]
        return output

    task = load_task("gelu")
    cases = [case for case in task.cases if case.sizes["cols"] == 127]
    verdict = judge(no_tail, cases=cases)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason.startswith("output 0 not written at [0, 124], 3 of 127 elements")


def test_values_that_are_computed_as_nan_are_wrong_and_not_called_unwritten(judge):
    def nan(memory, x):
        return memory.hold(torch.full_like(x, float("nan")))

    assert judge(nan).reason.startswith("wrong value: output 0 [0, 0]: expected")


def test_a_result_that_depends_on_uninitialised_memory_is_wrong(judge):
    def maximum_starts_in_scratch(memory, x):
        scratch = memory.empty(x.shape[:1])
        largest = torch.fmax(scratch, x.max(dim=-1).values)[:, None]  # fmax drops NaN
        powers = torch.exp(x - largest)
        return memory.hold(powers / powers.sum(dim=-1, keepdim=True))

    verdict = judge(maximum_starts_in_scratch, "softmax")
    assert verdict.outcome is Outcome.WRONG
    why = "on a second call, with memory of 0x7B bytes and warps in another order: it depends on uninitialised memory"
    assert why in verdict.reason


def test_results_that_differ_in_their_last_bits_pass_with_a_finding(judge):
    calls = iter(range(10**6))

    def atomics(memory, x):
        return memory.hold(torch.nn.functional.gelu(x) * (1.0 + (next(calls) % 2) * 2.0**-23))

    verdict = judge(atomics)
    assert verdict.outcome is Outcome.PASSED
    kinds = {finding.kind for case in verdict.cases for finding in case.findings}
    assert kinds == {"not repeatable"}


def test_an_answer_kept_from_an_earlier_call_of_the_same_shape_is_wrong(judge):
    kept = {}

    def caches(memory, x):
        return memory.hold(kept.setdefault(tuple(x.shape), torch.nn.functional.gelu(x)))

    assert judge(caches).outcome is Outcome.WRONG


def test_a_candidate_that_is_right_only_at_the_declared_sizes_fails_hidden_cases(judge):
    task = load_task("gelu")
    declared = {(case.sizes["rows"], case.sizes["cols"]) for case in task.cases}

    def specialised(memory, x):
        return gelu(memory, x) if tuple(x.shape) in declared else memory.hold(torch.zeros_like(x))

    assert judge(specialised).outcome is Outcome.PASSED
    verdict = judge(specialised, cases=[*task.cases, *hidden_cases(task, entropy=5, count=4)])
    assert verdict.outcome is Outcome.WRONG
    assert "(case hidden " in verdict.reason


# What the device reports


def test_a_crash_a_timeout_and_our_own_limit_are_told_apart(judge):
    for error, outcome in (
        (RuntimeError("CUDA error: an illegal memory access"), Outcome.CRASHED),
        (TimeoutError("did not return within 10 s"), Outcome.TIMED_OUT),
        (NotImplementedError("wgmma is not emulated"), Outcome.UNSUPPORTED),
    ):

        def fails(memory, x, error=error):
            raise error

        verdict = judge(fails)
        assert verdict.outcome is outcome
        assert str(error) in verdict.reason
        assert verdict.cases[0].error is None
        assert verdict.cases[0].allowed is None


def test_a_crash_on_the_repeat_says_that_memory_was_to_blame(judge):
    def index_from_scratch(memory, x):
        if float(memory.empty((1,))) > 0:
            raise RuntimeError("illegal address")
        return gelu(memory, x)

    verdict = judge(index_from_scratch)
    assert verdict.outcome is Outcome.CRASHED
    assert "it depends on uninitialised memory" in verdict.reason


def test_a_timeout_on_the_repeat_is_a_timeout_and_no_more(judge):
    def slow_on_other_poison(memory, x):
        if float(memory.empty((1,))) > 0:
            raise TimeoutError("did not return within 10 s")
        return gelu(memory, x)

    verdict = judge(slow_on_other_poison)
    assert verdict.outcome is Outcome.TIMED_OUT
    assert verdict.reason.startswith("did not return within 10 s (case ")


@pytest.mark.parametrize(
    "kind, outcome",
    [
        ("reuses output", "cheating"),
        ("global state changed", "cheating"),
        ("wrong device", "wrong"),
        ("requires grad", "wrong"),
        ("out of bounds", "wrong"),
        ("bad launch", "wrong"),
        ("unjoined stream", "wrong"),
        ("something of no consequence", "passed"),
    ],
)
def test_findings_of_the_device_that_break_integrity_fail_a_right_result(judge, kind, outcome):
    def reported(memory, x):
        memory.findings.append(Finding(kind=kind, text="seen"))
        return gelu(memory, x)

    verdict = judge(reported)
    assert verdict.outcome.value == outcome
    assert verdict.cases[0].findings == (Finding(kind=kind, text="seen"),)


# Library calls

SOFTMAX_SYMBOL = b"\0_ZN2at4_ops11softmax_int4callERKNS_6TensorElSt8optionalIN3c1010ScalarTypeEE\0"
EMPTY_SYMBOL = b"\0_ZN2at4_ops19empty_memory_format4callEN3c108ArrayRefINS2_6SymIntEEE\0_ZN2at4_ops10empty_like4callE\0"


@pytest.mark.parametrize("policy, outcome", [("forbid", "cheating"), ("label", "passed"), ("allow", "passed")])
def test_library_compute_calls_follow_the_policy_of_the_task(judge, policy, outcome):
    task = dataclasses.replace(load_task("gelu"), library_calls=policy)
    verdict = judge(gelu, task, symbols=SOFTMAX_SYMBOL)
    assert verdict.outcome.value == outcome
    texts = {finding.text for case in verdict.cases for finding in case.findings}
    assert texts == ({"calls compute operators of PyTorch: at::softmax_int"} if policy != "allow" else set())


def test_making_tensors_is_not_a_library_compute_call(judge):
    assert judge(gelu, symbols=EMPTY_SYMBOL).outcome is Outcome.PASSED


def test_a_candidate_that_launches_no_kernel_is_cheating(judge):
    def launches_nothing(memory, x):
        memory.launches = 0
        return gelu(memory, x)

    verdict = judge(launches_nothing)
    assert verdict.outcome is Outcome.CHEATING
    assert "launched no kernel of its own" in verdict.reason


# Expected outputs


def test_the_reference_is_run_once_per_case_however_many_candidates_are_verified(judge):
    calls = collections.Counter()

    def counted(x):
        calls[x.dtype, x.numpy().tobytes()] += 1
        return torch.nn.functional.gelu(x)

    task = dataclasses.replace(load_task("gelu"), reference=counted)
    oracle = Oracle(task)
    drawn = [oracle.expected(case).inputs[0].double() for case in declared_tests(task)]
    judge(gelu, task, oracle=oracle)
    judge(gelu, task, oracle=oracle)
    assert [calls[torch.float64, x.numpy().tobytes()] for x in drawn] == [1] * 18


def test_the_oracle_keeps_no_more_than_it_may():
    task = load_task("gelu")
    test = [case for case in task.cases if case.purpose is Purpose.TEST]
    sizes = [Oracle(task).expected(case).size_bytes for case in test]
    oracle = Oracle(task, max_bytes=max(sizes) * 2)
    for case in test:
        oracle.expected(case)
        assert sum(kept.size_bytes for kept in oracle._kept.values()) <= max(sizes) * 2
    assert oracle.expected(test[-1]) is oracle.expected(test[-1])


def test_a_reference_that_fails_on_a_case_is_an_error_of_the_task(judge):
    def fragile(x):
        if x.shape[0] == 13:
            raise RuntimeError("thirteen")
        return torch.nn.functional.gelu(x)

    task = dataclasses.replace(load_task("gelu"), reference=fragile)
    with pytest.raises(TaskError, match=r"task gelu: its reference fails on the case 'rows=13 cols=129 .*': thirteen"):
        judge(gelu, task, oracle=Oracle(task))


def test_a_task_may_compare_outputs_itself(judge):
    def any_order(outputs, oracle):
        same = torch.allclose(outputs[0].double().sort().values, oracle[0].sort().values, rtol=1e-4, atol=1e-5)
        return None if same else "the values are not those of the oracle, in any order"

    task = dataclasses.replace(load_task("gelu"), compare=any_order)
    assert judge(lambda memory, x: memory.hold(gelu(memory, x).flip(-1)), task).outcome is Outcome.PASSED
    verdict = judge(lambda memory, x: memory.hold(x + 1), task)
    assert verdict.reason.startswith("wrong value: the values are not those of the oracle, in any order")


def test_a_reference_that_writes_to_its_inputs_does_not_change_what_the_candidate_gets(judge):
    task = dataclasses.replace(load_task("gelu"), reference=lambda x: x.mul_(2.0))
    assert judge(lambda memory, x: memory.hold(x * 2.0), task).outcome is Outcome.PASSED
