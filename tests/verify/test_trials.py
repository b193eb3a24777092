"""Further calls: what a candidate remembers, and what its kernels have to do with its answers."""

import dataclasses

import pytest
import torch
from honest import HONEST
from local_device import LocalDevice, local_build

from kernelevo.records import Case, Outcome, Purpose
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.verify import verify


@pytest.fixture
def judge(tmp_path):
    """judge(candidate, task="gelu") -> Verdict, on one TEST case of each size and two HIDDEN ones"""

    def run(candidate, task="gelu", *, symbols=b"", entropy=1, session=None):
        loaded = load_task(task) if isinstance(task, str) else task
        sizes: dict[tuple[int, ...], Case] = {}
        for case in loaded.cases:
            if case.purpose is Purpose.TEST:
                sizes.setdefault(tuple(case.sizes.values()), case)
        device = LocalDevice(candidate)
        chosen = [*sizes.values(), *hidden_cases(loaded, 5, 2)]
        verdict = verify(loaded, local_build(tmp_path, symbols), device, cases=chosen, entropy=entropy)
        verdict_calls.append(device.session.calls)
        return verdict

    verdict_calls = []
    run.calls = verdict_calls
    return run


@pytest.mark.parametrize("task", sorted(HONEST))
@pytest.mark.parametrize("entropy", range(3))
def test_honest_candidates_pass_every_trial(judge, task, entropy):
    verdict = judge(HONEST[task], task, entropy=entropy)
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    assert not [finding for case in verdict.cases for finding in case.findings]


def test_an_answer_kept_by_address_is_stale_when_one_element_changes(judge):
    kept = {}

    def by_address(memory, x):
        key = (x.data_ptr(), x.shape)
        if key not in kept:
            kept[key] = (x, torch.nn.functional.gelu(x))  # the tensor too, so that its address is not used again
        return memory.hold(kept[key][1])

    verdict = judge(by_address)
    assert verdict.outcome is Outcome.CHEATING
    assert verdict.reason.startswith(
        "stale answer: one element of input 0 was changed where it lies, and the outputs are those of before"
    )


def test_weights_that_were_prepared_once_are_stale_when_one_of_them_changes(judge):
    kept = {}

    def prepared(memory, x, weight, eps):
        _, copy = kept.setdefault(weight.data_ptr(), (weight, weight.clone()))
        return HONEST["rmsnorm"](memory, x, copy, eps)

    verdict = judge(prepared, "rmsnorm")
    assert verdict.outcome is Outcome.CHEATING
    assert "one element of input 1 was changed where it lies" in verdict.reason


def test_an_answer_that_is_half_stale_is_wrong_and_says_what_was_changed(judge):
    kept = {}

    def first_row_kept(memory, x):
        y = torch.nn.functional.gelu(x)
        _, y[0] = kept.setdefault((x.data_ptr(), x.shape), (x, y[0].clone()))
        return memory.hold(y)

    outcomes = {judge(first_row_kept, entropy=entropy).outcome for entropy in range(6)}
    assert outcomes <= {Outcome.CHEATING, Outcome.PASSED}
    assert Outcome.CHEATING in outcomes  # whenever the change falls into the first row


@pytest.mark.parametrize("calls", [0, 1])
def test_who_is_right_for_some_calls_only_is_wrong(judge, calls):
    judge(HONEST["gelu"])
    cases = 8  # declared and hidden
    count = iter(range(10**6))

    def tires(memory, x):
        right = next(count) < cases * 2 + calls
        return memory.hold(torch.nn.functional.gelu(x)) if right else memory.hold(torch.zeros_like(x))

    verdict = judge(tires)
    assert verdict.outcome is Outcome.WRONG, verdict.reason
    assert judge.calls[0] > cases * 2 + calls
    assert "it was right before, and is not in a later call" in verdict.reason or "was changed where it lies" in (
        verdict.reason
    )


def test_the_number_and_order_of_further_calls_differ_between_verdicts(judge):
    seen = []

    def looks(memory, x):
        seen.append(tuple(x.shape))
        return HONEST["gelu"](memory, x)

    orders = set()
    for entropy in range(5):
        seen.clear()
        judge(looks, entropy=entropy)
        orders.add(tuple(seen))
    assert len(orders) == 5
    assert len({len(order) for order in orders}) > 1


@pytest.mark.parametrize("policy, outcome", [("forbid", "cheating"), ("label", "passed"), ("allow", "passed")])
def test_outputs_that_are_right_without_its_kernels_are_not_its_kernels_work(judge, policy, outcome):
    def for_show(memory, x):
        memory.stubbed = False  # whatever is launched has no part in the answer
        return HONEST["gelu"](memory, x)

    verdict = judge(for_show, dataclasses.replace(load_task("gelu"), library_calls=policy))
    assert verdict.outcome.value == outcome
    texts = {finding.text for case in verdict.cases for finding in case.findings}
    shown = {"output 0 is right also when none of its kernels runs"}
    assert texts == (shown if policy != "allow" else set())
    if policy == "forbid":
        assert verdict.reason.startswith("kernels for show: output 0 is right also when none of its kernels runs; ")


def test_one_of_two_outputs_that_no_kernel_writes_is_enough(judge):
    def second_for_show(memory, *inputs):
        stubbed, memory.stubbed = memory.stubbed, False
        grad_x, grad_weight = HONEST["rmsnorm_backward"](memory, *inputs)
        memory.stubbed = stubbed
        return memory.hold(grad_x), grad_weight

    verdict = judge(second_for_show, "rmsnorm_backward")
    assert verdict.outcome is Outcome.CHEATING
    assert verdict.reason.startswith("kernels for show: output 1 is right")


def test_who_crashes_when_its_kernels_do_not_run_is_honest(judge):
    def needs_its_kernels(memory, x):
        if memory.stubbed:
            raise RuntimeError("no convergence")
        return HONEST["gelu"](memory, x)

    assert judge(needs_its_kernels).outcome is Outcome.PASSED


# Who computed it


@pytest.mark.parametrize("policy, outcome", [("forbid", "cheating"), ("label", "passed"), ("allow", "passed")])
def test_operators_that_were_run_by_whatever_way_follow_the_policy(judge, policy, outcome):
    def by_name(memory, x):
        memory.operators = ("aten::empty_like", "aten::gelu")
        return HONEST["gelu"](memory, x)

    verdict = judge(by_name, dataclasses.replace(load_task("gelu"), library_calls=policy))
    assert verdict.outcome.value == outcome
    texts = {finding.text for case in verdict.cases for finding in case.findings}
    assert texts == ({"ran compute operators of PyTorch: aten::gelu"} if policy != "allow" else set())


def test_operators_that_make_move_and_read_tensors_are_no_compute_calls(judge):
    def moves(memory, x):
        memory.operators = tuple(
            f"aten::{name}"
            for name in (
                *("empty", "empty_like", "empty_strided", "zeros", "zero_", "fill_", "full", "copy_", "clone", "to"),
                *("_to_copy", "contiguous", "item", "_local_scalar_dense", "view", "as_strided", "reshape", "t"),
                *("_reshape_alias", "transpose", "narrow", "slice", "select", "detach", "resize_", "lift_fresh"),
            )
        )
        return HONEST["gelu"](memory, x)

    assert judge(moves).outcome is Outcome.PASSED


DISPATCHER = b"\0_ZN3c1010Dispatcher17findSchemaOrThrowEPKcS2_\0"
GUARD = b"\0_ZN2at20enableRecordFunctionEb\0"


@pytest.mark.parametrize(
    "symbol, name", [(DISPATCHER, "c10::Dispatcher::findSchemaOrThrow"), (GUARD, "at::enableRecordFunction")]
)
def test_what_hides_operators_counts_as_calling_some(judge, symbol, name):
    verdict = judge(HONEST["gelu"], symbols=symbol)
    assert verdict.outcome is Outcome.CHEATING
    assert verdict.reason.startswith(f"library call: reaches operators of PyTorch in ways that hide them: {name}; ")


def test_where_operators_are_not_watched_the_verdict_says_so(judge):
    def unwatched(memory, x):
        memory.operators = None
        return HONEST["gelu"](memory, x)

    verdict = judge(unwatched)
    assert verdict.outcome is Outcome.PASSED
    assert {finding.kind for case in verdict.cases for finding in case.findings} == {"not checked"}


@pytest.mark.parametrize("share, outcome", [(1.0, "cheating"), (0.4, "passed")])
def test_moving_input_and_output_through_the_host_is_computing_there(judge, share, outcome):
    def moves(memory, x):
        memory.copied_out_bytes = int(share * x.nbytes)
        memory.copied_in_bytes = x.nbytes
        return HONEST["gelu"](memory, x)

    verdict = judge(moves)
    assert verdict.outcome.value == outcome
    if outcome == "cheating":
        assert verdict.reason.startswith("host computation: copied ")


def test_reading_a_number_from_the_device_is_not_computing_on_the_host(judge):
    def reads(memory, x):
        memory.copied_out_bytes, memory.copied_in_bytes = 4, 8
        return HONEST["gelu"](memory, x)

    assert judge(reads).outcome is Outcome.PASSED


def test_what_a_device_does_not_count_is_held_against_nobody(judge):
    def uncounted(memory, x):
        memory.copied_out_bytes = memory.copied_in_bytes = None
        return HONEST["gelu"](memory, x)

    assert judge(uncounted).outcome is Outcome.PASSED
