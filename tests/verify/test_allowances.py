"""The error rule in numbers: the table of tasks/README.md is what the rule gives here, to the order of magnitude."""

import math
import re

import pytest

from kernelevo.records import Purpose
from kernelevo.tasks import list_tasks, load_task, tasks_root
from kernelevo.verify.allowances import allowances, markdown
from kernelevo.verify.oracle import compute_expected

NAMES = [task.name for task in list_tasks()]
NUMBER = re.compile(r"\d(?:\.\d+)?e[+-]\d+")


def documented(name):
    lines = (tasks_root() / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| `{name}` |") and "e-0" in line]
    return line


@pytest.mark.parametrize("name", NAMES)
def test_the_table_in_the_readme_is_what_the_rule_gives(name):
    task = load_task(name)
    here, written = (NUMBER.findall(line) for line in (markdown([task]).splitlines()[2], documented(name)))
    assert documented(name).startswith(f"| `{name}` | {task.tolerance_factor:g} |")
    assert len(here) == len(written) >= 3
    for a, b in zip(here, written, strict=True):  # the reference's rounding differs between processors
        assert abs(math.log10(float(a) / float(b))) < 0.7, (name, a, b)


@pytest.mark.parametrize("name", NAMES)
def test_every_case_allows_the_floor_or_more_and_its_own_reference(name):
    task = load_task(name)
    rows = allowances(task)
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    assert {row.case.name for row in rows} == {case.name for case in tests}
    for row in rows:
        assert row.allowed >= row.floor > 0
        assert row.is_floor is (row.allowed == row.floor)
        assert row.reference is None or row.reference <= row.allowed


def test_a_row_is_what_verification_compares_with():
    task = load_task("layernorm")
    case = task.cases[5]
    (row,) = allowances(task, [case])
    assert row.allowed == compute_expected(task, case).allowed[0].error
