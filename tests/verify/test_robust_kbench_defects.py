"""The 35 ways in which robust-kbench's evaluator can be beaten or goes wrong, the property that holds here instead, and
the tests that hold it. Numbers are those of the list that the design was made from."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from local_device import LocalDevice, local_build
from setuptools import find_namespace_packages

from kernelevo.build import build
from kernelevo.cascade import draw_cases
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Outcome, Purpose
from kernelevo.tasks import list_tasks, load_task
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "kernelevo"
VERDICTS, RULE = "tests/verify/test_verdicts.py", "tests/verify/test_error_rule.py"
CHEATS, TRIALS = "tests/cheats/test_cheats.py", "tests/verify/test_trials.py"
HERE = "tests/verify/test_robust_kbench_defects.py"
CASES, LINT, FILES = (f"tests/tasks/test_{name}.py" for name in ("cases", "lint", "task_files"))
PROTOCOL, MEASURED, STATISTICS, CARDS = (
    f"tests/measure/test_{name}.py" for name in ("protocol", "measured", "statistics", "cards")
)
BAD, PROCESSES, WIRE, ESCAPES = (
    f"tests/worker/test_{name}.py" for name in ("bad_candidates", "processes", "wire", "escapes")
)
CACHE, BUILD, REPORTS, SPLIT = (f"tests/build/test_{name}.py" for name in ("cache", "build", "reports", "split"))


class Defect(NamedTuple):
    number: int
    defect: str
    here: str
    tests: tuple[tuple[str, str], ...]  # file, name


DEFECTS = (
    Defect(
        1,
        "input mutation passes",
        "the candidate gets private copies, and every byte of every input is compared afterwards",
        (
            (VERDICTS, "test_changing_an_input_is_cheating_even_when_the_output_is_right"),
            (VERDICTS, "test_zeroing_inputs_so_that_zeros_look_right_is_cheating"),
            (CHEATS, "test_cheat"),
        ),
    ),
    Defect(
        2,
        "no check of shapes",
        "shape, dtype and strides are compared before any value",
        (
            (VERDICTS, "test_an_output_of_shape_one_for_an_output_without_dimensions_is_wrong"),
            (VERDICTS, "test_an_output_of_another_dtype_is_wrong"),
            (VERDICTS, "test_an_output_with_other_strides_is_wrong"),
        ),
    ),
    Defect(
        3,
        "several outputs, numbers and integers are not supported",
        "outputs are a tuple of any shapes and dtypes, each judged by the same rule, integers exactly",
        (
            (VERDICTS, "test_the_second_output_is_judged_as_the_first_is"),
            (VERDICTS, "test_a_missing_output_is_wrong"),
            (RULE, "test_a_single_number_without_dimensions_is_judged_too"),
            (RULE, "test_integers_must_be_equal"),
        ),
    ),
    Defect(
        4,
        "a result of NaN reports a difference of 0",
        "where a number is expected, what is not finite is wrong, and no error is reported for it",
        (
            (RULE, "test_a_non_finite_value_where_a_number_is_expected_is_wrong"),
            (VERDICTS, "test_values_that_are_computed_as_nan_are_wrong_and_not_called_unwritten"),
            (HERE, "test_a_result_of_nan_has_no_error_of_zero"),
        ),
    ),
    Defect(
        5,
        "infinities pass, one absolute tolerance, a float32 oracle",
        "non-finite values must match in place and kind; errors are relative to a float64 oracle, by dtype and length",
        (
            (RULE, "test_non_finite_values_must_match_in_place_and_kind"),
            (RULE, "test_errors_are_relative_so_small_outputs_need_small_errors"),
            (RULE, "test_the_floor_is_a_few_roundings_plus_the_square_root_of_the_reduction"),
            (RULE, "test_half_precision_rounding_is_never_within_the_float32_floor"),
        ),
    ),
    Defect(
        6,
        "seeds are fixed",
        "hidden cases have seeds and sizes from the operating system, which no candidate can know",
        (
            (CASES, "test_hidden_cases_follow_from_the_entropy_alone"),
            (HERE, "test_two_evaluations_draw_different_hidden_cases"),
            (CHEATS, "test_cheat"),
        ),
    ),
    Defect(
        7,
        "what is tested is not what is timed",
        "the sizes that are timed are verified first, by the same verdict, on every path",
        (
            (VERDICTS, "test_a_candidate_that_is_wrong_only_at_the_sizes_that_are_timed_is_rejected"),
            ("tests/test_evaluate.py", "test_a_wrong_kernel_is_not_timed"),
            (HERE, "test_every_timed_size_is_verified_before_it_is_timed"),
        ),
    ),
    Defect(
        8,
        "one configuration under many names, names that collide",
        "each size meets several distributions and initialisations; names and seeds are unique",
        (
            (CASES, "test_each_size_and_initialisation_meets_three_distributions_and_normal_among_them"),
            (CASES, "test_hidden_sizes_lie_in_their_ranges_and_names_and_seeds_are_unique"),
            (
                FILES,
                "test_each_task_of_the_repository_loads_with_a_seed_and_unique_case_names",
            ),
        ),
    ),
    Defect(
        9,
        "filters of tasks are switched off, or find nothing",
        "the linter is offline, runs over every shipped task, and each of its rules has a task that breaks it",
        (
            (LINT, "test_every_rule_that_is_documented_has_a_flawed_task"),
            (LINT, "test_no_shipped_task_has_a_flaw"),
            (LINT, "test_outputs_of_single_elements_and_axes_of_length_one_are_no_flaw"),
            (LINT, "test_a_flaw_is_found_by_its_rule_with_the_way_to_repair_it"),
        ),
    ),
    Defect(
        10,
        "a shipped kernel that is called correct is wrong",
        "the seed of every task passes its own verdict, and a kernel that ignores the weight does not",
        (
            ("tests/twins/test_twins.py", "test_the_seed_of_every_task_passes"),
            ("tests/twins/test_twins.py", "test_a_wrong_twin_is_rejected_for_its_own_reason"),
            (CASES, "test_parameters_are_repeatable_and_of_the_dtype"),
        ),
    ),
    Defect(
        11,
        "undefined behaviour is never noticed",
        "the smallest cases run with checkers of memory, initialisation, races and barriers",
        (
            ("tests/test_cascade.py", "test_a_cheat_passes_correctness_and_fails_integrity"),
            ("tests/cli/test_emulator_check.py", "test_a_finding_is_printed_with_its_place_its_line_and_who_did_it"),
            (VERDICTS, "test_a_candidate_whose_result_depends_on_the_order_of_warps_is_rejected"),
        ),
    ),
    Defect(
        12,
        "candidates must accept a Python tuple",
        "an entry takes tensors and numbers by position; another signature is named",
        (
            ("tests/contract/test_device.py", "test_a_wrong_number_of_arguments_is_named"),
            (HERE, "test_every_entry_takes_tensors_and_numbers_by_position"),
        ),
    ),
    Defect(
        13,
        "the number of trials is the number of trials that passed",
        "every case has its own record, failed ones with reason and error",
        (
            (VERDICTS, "test_verification_stops_at_the_first_failure_unless_asked_for_all"),
            (VERDICTS, "test_progress_is_told_every_case_as_it_is_known"),
            ("tests/archive/test_round_trips.py", "test_any_candidate_and_evaluation_come_back_as_they_were"),
        ),
    ),
    Defect(
        14,
        "work on side streams is invisible to the timer",
        "work that nothing waits for is a wrong result, and the timed window joins the whole device",
        (
            (PROTOCOL, "test_work_on_a_stream_that_nobody_knows_is_found_behind_the_window"),
            (PROTOCOL, "test_work_on_a_side_stream_that_is_known_is_inside_the_window"),
            ("tests/contract/test_device.py", "test_work_on_a_stream_that_nobody_joined_is_not_visible"),
            (CHEATS, "test_cheat"),
        ),
    ),
    Defect(
        15,
        "the same inputs in all timed calls, outputs thrown away",
        "inputs rotate, outputs of randomly chosen timed calls are checked, and a changed element must show",
        (
            (PROTOCOL, "test_inputs_rotate_through_more_than_twice_the_l2"),
            (PROTOCOL, "test_an_answer_that_is_not_computed_from_its_input_is_found_in_a_timed_call"),
            (MEASURED, "test_unchecked_calls_are_not_timed"),
            (TRIALS, "test_an_answer_kept_by_address_is_stale_when_one_element_changes"),
        ),
    ),
    Defect(
        16,
        "no flush of the L2; means of means; no interval",
        "cold and warm times apart, medians over blocks, a geometric mean over cases, bootstrap intervals",
        (
            (PROTOCOL, "test_an_honest_kernel_gets_its_time_cold_warm_and_in_graphs"),
            (STATISTICS, "test_an_interval_holds_the_median_and_is_a_point_when_all_values_are_equal"),
            (STATISTICS, "test_a_mean_over_cases_is_geometric_and_narrower_than_its_parts"),
            (MEASURED, "test_several_cases_have_a_geometric_mean"),
        ),
    ),
    Defect(
        17,
        "TF32 for the candidate and not for the baseline",
        "a candidate may not change TF32 or any other setting; baselines run in a process that no candidate was in",
        (
            (BAD, "test_what_is_wrong_with_a_result_is_a_finding"),
            (CHEATS, "test_cheat"),
            (MEASURED, "test_speedup_is_against_the_fastest_baseline_with_an_interval"),
        ),
    ),
    Defect(
        18,
        "a speedup against a torch.compile that is slower than eager",
        "speedup is against the fastest baseline, and none without one",
        (
            (MEASURED, "test_speedup_is_against_the_fastest_baseline_with_an_interval"),
            (MEASURED, "test_no_baseline_at_all_is_no_measurement"),
        ),
    ),
    Defect(
        19,
        "a timing backend that records nothing and reports 0",
        "no time is None with a reason; no interval is made of nothing",
        (
            (STATISTICS, "test_no_interval_is_made_of_nothing_or_of_what_is_not_finite"),
            (MEASURED, "test_findings_leave_no_time_but_their_words"),
            (PROTOCOL, "test_a_kernel_that_fails_when_timed_is_named"),
        ),
    ),
    Defect(
        20,
        "units that depend on the backend",
        "durations carry their unit in their name, from the samples to the archive",
        (
            ("tests/archive/test_schema.py", "test_no_column_holds_json_and_durations_carry_their_unit"),
            (CARDS, "test_facts_and_state_are_read_in_the_units_they_are_named_in"),
        ),
    ),
    Defect(
        21,
        "Python's overhead is inside the window; no graphs",
        "eager calls and replays of graphs are reported apart; a backward pass is a kernel like any other",
        (
            (PROTOCOL, "test_an_honest_kernel_gets_its_time_cold_warm_and_in_graphs"),
            (PROTOCOL, "test_a_call_that_cannot_be_captured_has_no_graph_time_and_says_why"),
            (PROTOCOL, "test_a_slow_host_is_no_cheat"),
        ),
    ),
    Defect(
        22,
        "kernel names are cut out of lines of text",
        "sources are read by a parser; names come from the compiler",
        (
            (SPLIT, "test_the_kernels_are_named"),
            (SPLIT, "test_tokens_are_found_outside_comments_strings_and_numbers"),
            (REPORTS, "test_the_own_name_of_a_kernel_is_read_from_its_mangling"),
            (BUILD, "test_the_host_names_every_kernel_as_the_ptx_does"),
        ),
    ),
    Defect(
        23,
        "candidate code runs in the process that judges",
        "the judge loads no candidate; a worker has neither expected outputs nor a file of results",
        (
            (CHEATS, "test_a_worker_holds_no_expected_output_and_nothing_of_the_judge"),
            (CHEATS, "test_cheat"),
            (ESCAPES, "test_a_worker_has_no_descriptor_but_its_channel_and_its_output"),
        ),
    ),
    Defect(
        24,
        "the environment tells correctness from timing",
        "one environment, scrubbed, for all calls; cases come again in a random order",
        (
            (BAD, "test_a_worker_sees_no_secret_of_the_environment"),
            (TRIALS, "test_who_is_right_for_some_calls_only_is_wrong"),
            (CHEATS, "test_cheat"),
        ),
    ),
    Defect(
        25,
        "results of an earlier run are taken for those of this one",
        "results come through a channel with a nonce; a crash is a verdict; folders have the hash of the source",
        (
            (BAD, "test_a_candidate_that_ends_badly_is_an_ordinary_call_and_leaves_nothing"),
            (WIRE, "test_a_frame_that_was_tampered_with_is_refused_or_still_a_reply"),
            (CHEATS, "test_the_next_candidate_sees_nothing_of_one_that_left_poison"),
            (CACHE, "test_the_cache_tells_sources_and_targets_apart_and_entries_not"),
        ),
    ),
    Defect(
        26,
        "candidates share a folder of extensions under one name",
        "a folder for each source and target, made whole before it gets its name",
        (
            (CACHE, "test_the_cache_tells_sources_and_targets_apart_and_entries_not"),
            (CACHE, "test_two_processes_building_the_same_thing_both_have_it"),
            (ESCAPES, "test_the_artifact_and_what_lies_beside_it_stay_as_they_are"),
            (ESCAPES, "test_caches_of_the_parent_cannot_be_poisoned"),
        ),
    ),
    Defect(
        27,
        "timings are taken while others use the GPU",
        "one process at a time has the lease of a GPU",
        ((CARDS, "test_one_process_at_a_time_has_the_lease_of_a_gpu"),),
    ),
    Defect(
        28,
        "a profile in parallel always fails",
        "there is one call of a device for every purpose, and every device passes the same contract",
        (
            ("tests/contract/test_device.py", "test_counting_gives_events_and_a_predicted_time"),
            ("tests/contract/test_device.py", "test_sessions_of_one_device_run_side_by_side"),
        ),
    ),
    Defect(
        29,
        "flags that profile the other pass, False that means True",
        "a backward pass is a task with its own entry; settings are parsed, and what is not understood is refused",
        (
            ("tests/test_config.py", "test_a_wrong_environment_variable_is_named"),
            ("tests/test_config.py", "test_an_unknown_key_is_refused"),
            (HERE, "test_every_entry_takes_tensors_and_numbers_by_position"),
        ),
    ),
    Defect(
        30,
        "pipes that nobody reads; no timeout; SIGTERM only",
        "output is drained and bounded, every wait has a deadline, everything that was started is killed",
        (
            (BAD, "test_ten_megabytes_of_output_neither_block_nor_are_kept"),
            (CACHE, "test_a_command_that_takes_too_long_is_ended_with_all_it_started"),
            ("tests/worker/test_survival.py", "test_a_candidate_is_gone_two_seconds_after_its_time"),
            (PROCESSES, "test_nothing_survives_a_parent_that_is_killed"),
        ),
    ),
    Defect(
        31,
        "whatever python is first on PATH",
        "workers run the interpreter of their parent",
        ((HERE, "test_processes_of_ours_are_started_by_this_interpreter"),),
    ),
    Defect(
        32,
        "each stage compiles again, with other flags; fast math for everyone",
        "one build is checked, verified and timed; its flags are in the record, fast math is not among them",
        (
            (HERE, "test_a_build_is_made_once_without_fast_math_and_says_its_flags"),
            (CACHE, "test_what_was_stored_is_loaded"),
            (CACHE, "test_a_work_folder_goes_when_its_owner_dies_and_stays_while_it_lives"),
        ),
    ),
    Defect(
        33,
        "baselines of another GPU are taken from a file",
        "baselines are timed beside the candidate; times of different targets are never in one ranking",
        (
            (MEASURED, "test_a_baseline_that_got_slower_while_the_candidate_ran_makes_the_run_invalid"),
            (PROTOCOL, "test_blocks_hold_every_arm_once_in_changing_order_and_all_samples_are_kept"),
            ("tests/archive/test_runs.py", "test_times_of_another_target_are_not_mixed_into_a_run"),
            ("tests/archive/test_runs.py", "test_measured_and_predicted_times_have_leaderboards_of_their_own"),
        ),
    ),
    Defect(
        34,
        "a timeout ends in an exception of the evaluator",
        "a timeout is an ordinary verdict, with a reason and without numbers",
        (
            (VERDICTS, "test_a_crash_a_timeout_and_our_own_limit_are_told_apart"),
            ("tests/contract/test_device.py", "test_whatever_a_candidate_does_is_an_ordinary_call"),
            ("tests/test_evolve.py", "test_every_kind_of_reply_becomes_a_row_and_the_run_goes_on"),
        ),
    ),
    Defect(
        35,
        "an installed package lacks its parts, needs a GPU to be imported",
        "every package of the source is installed with its files; nothing needs a GPU to be imported",
        (
            (HERE, "test_every_folder_with_modules_is_a_package_that_is_installed"),
            (HERE, "test_every_module_can_be_imported_without_a_gpu"),
        ),
    ),
)


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.number:02} {defect.defect}")
def test_a_defect_has_tests_that_hold_the_property_instead(defect: Defect) -> None:
    assert defect.here
    assert defect.tests
    missing = [f"{file}::{name}" for file, name in defect.tests if name not in names_in(file)]
    assert not missing


def test_all_35_defects_are_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert [defect.number for defect in DEFECTS] == list(range(1, 36))
    with capsys.disabled():
        print(f"\n{len(DEFECTS)}/35 defects, {len({test for d in DEFECTS for test in d.tests})} tests")


# What no other test says


def test_a_result_of_nan_has_no_error_of_zero(tmp_path: Path) -> None:
    task = load_task("gelu")
    device = LocalDevice(lambda memory, x: memory.hold(torch.full_like(x, float("nan"))))
    verdict = verify(task, local_build(tmp_path), device, cases=task.cases[:1], entropy=1)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.cases[0].error is None
    assert verdict.cases[0].error_l2 is None


def test_two_evaluations_draw_different_hidden_cases() -> None:
    task = load_task("gelu")
    one, two = ({c.seed for c in draw_cases(task) if c.purpose is Purpose.HIDDEN} for _ in range(2))
    assert one
    assert not one & two


@pytest.mark.parametrize("name", [task.name for task in list_tasks()])
def test_every_timed_size_is_verified_before_it_is_timed(name: str) -> None:
    task = load_task(name)
    drawn = draw_cases(task)
    assert [case for case in drawn if case.purpose is Purpose.BENCH] == [
        case for case in task.cases if case.purpose is Purpose.BENCH
    ]


@pytest.mark.parametrize("name", [task.name for task in list_tasks()])
def test_every_entry_takes_tensors_and_numbers_by_position(name: str) -> None:
    task = load_task(name)
    assert task.signature.startswith(f"{task.entry}(")
    values = task.inputs(task.cases[0], torch.Generator().manual_seed(1))
    assert all(isinstance(value, torch.Tensor | int | float | bool) for value in values)
    parameters = task.signature[len(task.entry) + 1 :].partition(") ->")[0]
    assert parameters.count(": ") == len(values)


def test_processes_of_ours_are_started_by_this_interpreter(emulator: EmulatorDevice) -> None:
    assert emulator.isolation  # the fork server runs
    server = next(child for child in children() if b"kernelevo.worker" in child)
    assert server.split(b"\0")[0].decode() == sys.executable
    named = re.compile(r"""\[\s*["']python3?["']""")
    assert not [path for path in PACKAGE.rglob("*.py") if named.search(path.read_text())]


def children() -> list[bytes]:
    """Command lines of this process's children."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid():
                    found.append((folder / "cmdline").read_bytes())
            except OSError:
                continue
    return found


@pytest.mark.nvcc
def test_a_build_is_made_once_without_fast_math_and_says_its_flags(cache_folder: Path) -> None:
    task = load_task("gelu")
    candidate = Candidate(source=(task.folder / "seed.cu").read_text(), entry=task.entry)
    builds = [build(candidate, target="sm_90", toolchain=find_toolchain(), cache=cache_folder) for _ in range(2)]
    assert builds[1].cached
    assert builds[0].artifact == builds[1].artifact
    assert "-arch=sm_90" in builds[0].flags
    assert not {"-G", "--use_fast_math", "-use_fast_math", "--device-debug"} & set(builds[0].flags)


def test_every_folder_with_modules_is_a_package_that_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    installed = set(find_namespace_packages(str(ROOT), include=settings["include"]))
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("*.py")}
    assert folders <= installed


def test_every_module_can_be_imported_without_a_gpu() -> None:
    """In a process that no GPU is visible to, as every machine without one is."""
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if not {"migrations", "skeleton", "library"} & set(path.parts)
        and path.stem != "torch_cuda"  # is installed by emulator/runtime.py, which loads what it needs first
    )
    assert len(modules) > 50
    program = (
        f"import importlib\nfor name in {modules!r}:\n    importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)
