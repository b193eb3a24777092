"""`kernelevo emulator check KERNEL.cu TASK`: what the checkers of the emulated GPU see of one kernel, line by line.

Runs one TEST case of every declared size and dtype, smallest first, with all checkers on. Judges no values: that is
`kernelevo evaluate`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernelevo.cli.archive import JsonOption
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console
from kernelevo.config import read_settings
from kernelevo.errors import KernelevoError, TaskError, UsageError
from kernelevo.mangled import kernel_name
from kernelevo.records import Build, Candidate, Case, Finding, Outcome, Purpose, Task, digest

if TYPE_CHECKING:
    from kernelevo.devices import Value

group = typer.Typer(help="The emulated GPU.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="emulator")


@group.callback()
def _group() -> None:
    """Keeps `check` a command of its own while it is the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One finding and where it was seen; the same place in several cases is one finding."""

    finding: Finding  # of the first case
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that did not return; the same reason in several cases is one failure."""

    outcome: Outcome
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Everything that `check` found out."""

    build: Build
    cases: tuple[str, ...]  # that were run; none when the build failed
    seen: tuple[Seen, ...]  # in order of the source
    failures: tuple[Failure, ...]
    seconds: float  # of the calls


@group.command()
def check(
    kernel: Annotated[Path, typer.Argument(help="one CUDA source, or - for standard input")],
    task: Annotated[str, typer.Argument(help="a task's name, or the path of its folder")],
    case: Annotated[
        str | None, typer.Option("--case", help="run the case of this name, or all whose names contain it")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option("--size", metavar="NAME=VALUE", help="run one case, of this size; repeat it")
    ] = None,
    schedule: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="order of warps and blocks; 0 is ascending")] = 0,
    json_: JsonOption = False,
) -> None:
    """Runs one kernel with the memory, race, init, sync and limits checkers on, and prints what they see.

    Exit code: 0 no findings, 1 findings, or the kernel did not compile or return, 2 could not check.
    """
    try:
        source, checked = checked_kernel(kernel, task, case=case, sizes=size or [], schedule=schedule)
    except (KernelevoError, OSError) as error:
        if not json_:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(2)
    if json_:
        print(json.dumps(document(kernel, source, checked), indent=2))
    else:
        for line in text(kernel, source, checked):
            console.print(line, markup=False)
    sys.exit(exit_code(checked))


def checked_kernel(
    kernel: Path, task: str, *, case: str | None, sizes: Sequence[str], schedule: int
) -> tuple[str, Checked]:
    """The kernel's text and what the checkers saw.

    Raises UsageError for what does not exist, TaskError for a task that cannot be used, ToolchainError, WorkerError.
    """
    from kernelevo.build import build
    from kernelevo.evaluate import load_device, read_kernel_file
    from kernelevo.tasks import load_task
    from kernelevo.toolchain import find_toolchain

    settings = read_settings()
    source = read_kernel_file(kernel)
    loaded = load_task(task, root=settings.tasks)
    cases = chosen(loaded, case, sizes)
    with load_device("emulator", settings) as device:
        built = build(
            Candidate(source=source, entry=loaded.entry),
            target=device.target,
            toolchain=find_toolchain(settings.host_compiler),
            cache=settings.cache,
        )
        if not built.succeeded:
            return source, Checked(build=built, cases=(), seen=(), failures=(), seconds=0.0)
        opened = device.open(
            built,
            entry=loaded.entry,
            timeout_seconds=settings.timeout_seconds,
            memory_bytes=settings.memory_bytes,
        )
        seen: dict[tuple[object, ...], Seen] = {}
        failures: dict[tuple[Outcome, str], Failure] = {}
        seconds = 0.0
        with opened as session:
            for one in cases:
                started = time.monotonic()
                call = session.call(inputs(loaded, one), schedule=schedule, checked=True)
                seconds += time.monotonic() - started
                for finding in call.findings:
                    place = (finding.kind, finding.kernel, finding.line, None if finding.line else finding.text)
                    before = seen.get(place)
                    names = before.cases if before else ()
                    if one.name not in names:
                        seen[place] = Seen(finding=before.finding if before else finding, cases=(*names, one.name))
                if call.outcome is not Outcome.PASSED:
                    outcome, reason = call.outcome, call.reason or ""
                    names = failures[outcome, reason].cases if (outcome, reason) in failures else ()
                    failures[outcome, reason] = Failure(outcome=outcome, reason=reason, cases=(*names, one.name))
    return source, Checked(
        build=built,
        cases=tuple(one.name for one in cases),
        seen=tuple(sorted(seen.values(), key=lambda found: found.finding.line or math.inf)),
        failures=tuple(failures.values()),
        seconds=seconds,
    )


def chosen(task: Task, name: str | None, sizes: Sequence[str]) -> tuple[Case, ...]:
    """The cases to run, smallest first. Raises UsageError for a name or a size that the task does not have."""
    from kernelevo.verify import smallest

    if name is not None and sizes:
        raise UsageError("--case and --size exclude each other", next_step="leave one of them out")
    tests = sorted(
        (case for case in task.cases if case.purpose is Purpose.TEST), key=lambda case: math.prod(case.sizes.values())
    )
    if name is not None:
        exact = [case for case in task.cases if case.name == name]
        found = exact or [case for case in tests if name in case.name]
        if not found:
            raise UsageError(
                f"task {task.name} has no case {name!r}", next_step=f"for example --case {tests[0].name!r}"
            )
        return tuple(found)
    if sizes:
        return (of_size(task, tests[0], sizes),)
    return tuple(smallest(task))


def of_size(task: Task, smallest: Case, given: Sequence[str]) -> Case:
    """The smallest case with other sizes. Raises UsageError."""
    from kernelevo.tasks.cases import case_name

    sizes = dict(smallest.sizes)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in sizes or not value.isascii() or not value.isdigit():
            raise UsageError(
                f"--size {text}: not a size of task {task.name}",
                next_step="write " + ", ".join(f"--size {known}={size}" for known, size in smallest.sizes.items()),
            )
        sizes[name] = int(value)
    name = case_name(sizes, smallest.dtype, smallest.distribution, smallest.initialisation)
    seed = int(digest(task.name, name, tag="seed", length=15).removeprefix("seed-"), 16)
    return replace(smallest, name=name, sizes=sizes, seed=seed)


def inputs(task: Task, case: Case) -> tuple[Value, ...]:
    """What the task's own function draws for the case, devices.Arguments as they are. Raises TaskError."""
    import torch

    try:
        drawn = task.inputs(case, torch.Generator().manual_seed(case.seed))
        return drawn if isinstance(drawn, tuple) else tuple(drawn)
    except Exception as error:
        raise TaskError(
            f"task {task.name}: its inputs cannot be made for the case {case.name!r}: {error}",
            next_step="choose other sizes, or correct reference.py",
        ) from error


def text(kernel: Path, source: str, checked: Checked) -> Iterator[str]:
    """What is printed, line by line."""
    name = "kernel.cu" if str(kernel) == "-" else str(kernel)
    if not checked.build.succeeded:
        yield f"{name}: does not compile"
        for diagnostic in checked.build.diagnostics[:10]:
            place = f"{name}:{diagnostic.line}: " if diagnostic.line else ""
            yield f"  {place}{diagnostic.severity}: {diagnostic.text}"
        return
    lines = source.splitlines()
    for seen in checked.seen:
        finding = seen.finding
        place = f"{name}:{finding.line}" if finding.line else name
        yield f"{place}: {finding.kind}{who(finding)}"
        if finding.line and finding.line <= len(lines):
            yield f"    {lines[finding.line - 1].strip()}"
        yield f"  {finding.text}"
        if where := whereabouts(finding):
            yield f"  {where}"
        yield f"  {in_cases(seen.cases)}"
    for failure in checked.failures:
        yield f"{name}: {failure.outcome.value}: {failure.reason}"
        yield f"  {in_cases(failure.cases)}"
    count, cases = len(checked.seen), len(checked.cases)
    found = f"{count} finding{'s' * (count != 1)}" if count else "no findings"
    failed = sum(len(failure.cases) for failure in checked.failures)
    unreturned = f" ({failed} did not return)" if failed else ""
    yield f"{name}: {found} in {cases} case{'s' * (cases != 1)}{unreturned}, {checked.seconds:.2f} s"


def in_cases(cases: Sequence[str]) -> str:
    """ "in case rows=1 cols=1 float32 normal and 4 more"."""
    return f"in case {cases[0]}" + (f" and {len(cases) - 1} more" if len(cases) > 1 else "")


def who(finding: Finding) -> str:
    """ " in kernel softmax, block (3, 0, 0), thread (40, 0, 0)", as far as it is known."""
    words = [f"kernel {kernel_name(finding.kernel)}"] if finding.kernel else []
    words += [f"block {finding.block}"] if finding.block else []
    words += [f"thread {finding.thread}"] if finding.thread else []
    return f" in {', '.join(words)}" if words else ""


def whereabouts(finding: Finding) -> str:
    """ "4 bytes at offset 4004 of input 0", as far as it is known and the finding's own text does not say it."""
    if finding.allocation is None or finding.allocation in finding.text:
        return ""
    size = f"{finding.access_bytes} bytes" if finding.access_bytes else "memory"
    return f"{size} at offset {finding.address} of {finding.allocation}"


def document(kernel: Path, source: str, checked: Checked) -> Mapping[str, object]:
    """The JSON document. Each finding is a record's fields, with file, source line and cases."""
    lines = source.splitlines()
    findings = []
    for seen in checked.seen:
        fields = as_json(seen.finding)
        assert isinstance(fields, dict)
        line = seen.finding.line
        findings.append(
            {
                **fields,
                "kernel": None if seen.finding.kernel is None else kernel_name(seen.finding.kernel),
                "file": str(kernel),
                "source": lines[line - 1].strip() if line and line <= len(lines) else None,
                "cases": list(seen.cases),
            }
        )
    return {
        "file": str(kernel),
        "built": checked.build.succeeded,
        "diagnostics": as_json(checked.build.diagnostics),
        "cases": list(checked.cases),
        "findings": findings,
        "failures": as_json(checked.failures),
        "seconds": checked.seconds,
    }


def exit_code(checked: Checked) -> int:
    """0 nothing found, 1 something found or not compiled or not returned, 2 the emulator cannot run it."""
    outcomes = {failure.outcome for failure in checked.failures}
    if not checked.build.succeeded or checked.seen or outcomes - {Outcome.UNSUPPORTED}:
        return 1
    return 2 if outcomes else 0
