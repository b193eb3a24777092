"""The Model Context Protocol server: the loop of agents.py, and what an agent wants to know beside it, as tools.

    serve(settings, device="emulator", port=None)     over standard input and output; with a port, HTTP on 127.0.0.1

Takes an archive's and a device's name, gives tools: list_tasks, get_task, ask, tell, evaluate, predict, best,
explain_failure. Docstrings of tools are what an agent reads of them. Tools run in threads: an evaluation blocks nobody,
and reports its stages as progress. What the user or the agent must mend is an error of the tool, with its next step.

Standard output belongs to the protocol. The SDK hands it over to standard error before the first tool runs, and the
device with its workers is opened only then.

Not covered: authentication. Whoever reaches the port may evaluate kernels and write into the archive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio.from_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import RootModel

from kernelevo import agents
from kernelevo.agents import AgentJob, Told
from kernelevo.config import Settings
from kernelevo.errors import KernelevoError, UsageError
from kernelevo.explain import CaseTime, Report, case_times, explain, report_of
from kernelevo.records import Build, Candidate, Diagnostic, KernelResources, Purpose, Task, Timing

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.devices import Device

Tool = Callable[..., Any]
Session = Context[Any, Any]

INSTRUCTIONS = """kernelevo evolves CUDA kernels for PyTorch operations. You write the kernels; it proves, times and
archives them, and chooses what to try next. The loop: list_tasks, then ask(task) for a job, write the kernel that its
`rules` and `request` want, tell(job, source), read what came of it, and ask again with the same run. Stop when gains
have become too small. Evaluate drafts with `evaluate` or `predict`; only what is told counts in a run."""

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


def serve(settings: Settings, *, device: str = "emulator", port: int | None = None) -> None:
    """Serves until standard input ends, or for ever over HTTP."""
    bench = Workbench(settings, device)
    try:
        server = make_server(bench)
        if port is None:
            server.run("stdio")
        else:
            server.run("streamable-http", host="127.0.0.1", port=port)
    finally:
        bench.close()


def make_server(bench: Workbench) -> MCPServer[Any]:
    """The server of one archive and one device."""
    server: MCPServer[Any] = MCPServer(
        "kernelevo", instructions=INSTRUCTIONS, version=version("kernelevo"), log_level="WARNING"
    )
    reading: list[Tool] = [bench.list_tasks, bench.get_task, bench.predict, bench.best, bench.explain_failure]
    writing: list[Tool] = [bench.ask, bench.tell, bench.evaluate]
    for tool in (*reading, *writing):
        server.add_tool(as_tool(tool), annotations=READS if tool in reading else WRITES, structured_output=True)
    return server


def as_tool(method: Tool) -> Tool:
    """A method as the SDK wants a tool, with errors that reach the agent in their own words.

    Other exceptions are defects of ours: the agent is told only that, and standard error has the traceback.
    """

    @functools.wraps(method)
    def told(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except (KernelevoError, OSError) as error:
            raise ToolError(str(error)) from error

    signature = inspect.signature(method, eval_str=True)
    result = signature.return_annotation
    if dataclasses.is_dataclass(result):  # the SDK takes the slots of a class for defaults; pydantic reads it right
        signature = signature.replace(return_annotation=RootModel[result])  # type: ignore[valid-type]
    told.__signature__ = signature  # type: ignore[attr-defined]
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """One task of a listing."""

    name: str
    title: str
    signature: str  # how candidates are called
    has_seed: bool  # whether it comes with a kernel to start from
    problem: str | None  # why it cannot be used


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSheet:
    """Everything about one task."""

    name: str
    title: str
    signature: str
    entry: str  # function that the module exports
    dtypes: tuple[str, ...]
    reference_source: str  # Python
    seed_source: str | None  # CUDA
    timed: tuple[str, ...]  # cases whose times count
    tested: tuple[str, ...]  # cases that must be right, beside hidden ones
    hidden_sizes: dict[str, tuple[int, int]]  # inclusive range of each size
    hints: tuple[str, ...]
    gpu: str  # that times are of
    gpu_facts: dict[str, float]  # rates per second, sizes in bytes
    rules: str  # what is right, forbidden and timed, and the forms of source and reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """An evaluation outside any run."""

    report: Report
    meaning: tuple[str, ...]  # what its status and findings usually mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Everything that is known of one candidate."""

    report: Report
    meaning: tuple[str, ...]  # what its status and findings usually mean
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The time of a kernel, and where it goes."""

    candidate: str
    verified: bool  # False: nobody knows whether it computes the task
    reason: str  # why there is no time; "" when there is one
    score_ns: float | None  # geometric mean of the cases' medians
    kind: str | None
    target: str | None
    method: str | None
    cases: tuple[CaseTime, ...]
    counters: dict[str, dict[str, float]]  # case -> name with unit -> value over the call's launches, where not 0
    resources: tuple[KernelResources, ...]  # per kernel
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One line of a board."""

    place: int
    candidate: str
    score_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The fastest correct kernels of a task."""

    task: str
    device: str
    target: str
    kind: str
    places: tuple[Place, ...]  # fastest first
    source: str  # of the first
    feedback: tuple[str, ...]  # what is known of the first


class Workbench:
    """The tools, and what they share: one archive and one device, opened when they are first wanted."""

    def __init__(self, settings: Settings, device: str) -> None:
        self.settings = settings
        self.device_name = device
        self.lock = threading.Lock()
        self.evaluating = threading.BoundedSemaphore(settings.parallel)
        self.resources = contextlib.ExitStack()
        self._archive: Archive | None = None
        self._device: Device | None = None

    def archive(self) -> Archive:
        from kernelevo.archive import open_archive

        with self.lock:
            if self._archive is None:
                self._archive = self.resources.enter_context(open_archive(self.settings.archive))
            return self._archive

    def device(self) -> Device:
        from kernelevo.evaluate import load_device

        with self.lock:
            if self._device is None:
                self._device = self.resources.enter_context(load_device(self.device_name, self.settings))
            return self._device

    def task(self, name: str) -> Task:
        from kernelevo.tasks import load_task

        return load_task(name, root=self.settings.tasks)

    def close(self) -> None:
        self.resources.close()

    @contextlib.contextmanager
    def turn(self, session: Session) -> Iterator[Callable[[str], None]]:
        """One of as many evaluations as may run at once. Gives what reports a line of progress."""
        steps = 0

        def report(text: str) -> None:
            nonlocal steps
            steps += 1
            # A client that has gone away does not end what it began: it is recorded all the same.
            with contextlib.suppress(Exception):
                anyio.from_thread.run(session.report_progress, float(steps), None, text)

        with self.evaluating:
            yield report

    # --- tools ------------------------------------------------------------------------------------------------------

    def list_tasks(self) -> list[TaskLine]:
        """Lists the PyTorch operations that kernels are wanted for. Next: get_task, or ask for a job."""
        from kernelevo.tasks import list_tasks

        return [
            TaskLine(name=t.name, title=t.title, signature=t.signature, has_seed=t.has_seed, problem=t.problem)
            for t in list_tasks(self.settings.tasks)
        ]

    def get_task(self, task: str) -> TaskSheet:
        """Everything about one task: how candidates are called, the PyTorch reference, its own CUDA kernel to start
        from, timed and tested sizes, hints, facts of the GPU, and the rules (what counts as right, what is forbidden,
        how it is timed, the form of a source). `rules` are the same text as in every job of the task.

        task: a name from list_tasks, or the path of a task's folder or of a KernelBench problem file.
        """
        from kernelevo.memory import describe_gpu
        from kernelevo.prompt import read_template, system_facts

        loaded, device = self.task(task), self.device()
        gpu = describe_gpu(device)
        cases = {p: tuple(c.name for c in loaded.cases if c.purpose is p) for p in (Purpose.BENCH, Purpose.TEST)}
        return TaskSheet(
            name=loaded.name,
            title=loaded.title,
            signature=loaded.signature,
            entry=loaded.entry,
            dtypes=loaded.dtypes,
            reference_source=loaded.reference_source,
            seed_source=loaded.seed_source,
            timed=cases[Purpose.BENCH],
            tested=cases[Purpose.TEST],
            hidden_sizes=dict(loaded.hidden_sizes),
            hints=loaded.hints,
            gpu=gpu.title,
            gpu_facts=dict(gpu.facts),
            rules=read_template("system.j2").render(system_facts(loaded, device.target, gpu)),
        )

    def ask(
        self,
        task: str,
        session: Session,
        run: str | None = None,
        new: bool = False,
        lease_minutes: float = 30.0,
        strategy: str | None = None,
        with_rules: bool = True,
    ) -> AgentJob:
        """Gives you the next job: a `request` with the kernels to start from, their times and bottlenecks or their
        failures, and what was tried before. Write one CUDA source that follows `rules` and `request`, then call `tell`
        with this job's id before `leased_until`. A new run first evaluates the task's own kernel, and every ask may
        first try tunables: that takes seconds to minutes, and reports progress.

        task: a name from list_tasks, or a path. run: id of the run to go on with, from an earlier job; by default the
        newest that has not ended. new: begin a new run. lease_minutes: how long the job is yours alone.
        strategy: of a new run: islands (default), islands_by_rank, best_of_n, random_parent or greedy.
        with_rules: false leaves out `rules`, which are the same for every job of a task: save them once.
        """
        with self.turn(session) as report:
            job = agents.ask(
                self.task(task),
                self.archive(),
                run=run,
                new=new,
                lease_seconds=60 * lease_minutes,
                device=self.device(),
                strategy=strategy,
                settings=self.settings,
                watch=lambda event: report(event.text or event.step.value),
            )
        return job if with_rules else replace(job, rules="")

    def tell(self, job: str, source: str, session: Session, plan: str = "", task: str | None = None) -> Told:
        """Takes your kernel for a job, evaluates it in nine stages (build, checkers, correctness, timing, ...; usually
        5 to 60 seconds, with progress), and says what came of it. A job is told once. `closed` false: the reply held no
        usable kernel; read `reason`, mend it and tell the same job again. Otherwise read `report`: `status` "passed"
        has times in ns per case with their bottleneck, and the speedups (1.2 is 20 % faster); any other status has
        `reason` and `feedback`. Next: ask with the same run. A failed kernel may come back to you as a repair job.

        job: its id, exactly as `ask` gave it. source: the whole .cu file, or SEARCH/REPLACE edits of the job's first
        parent. plan: one line on what you did and why it should be faster; later jobs are shown what came of it.
        task: the path of a task that is not in list_tasks.
        """
        archive = self.archive()
        loaded = self.task(task or agents.job_of(job, archive)[0].task)
        with self.turn(session) as report:
            return agents.tell(
                job,
                source,
                archive,
                loaded,
                plan=plan,
                device=self.device(),
                settings=self.settings,
                watch=lambda event: report(event.text or event.step.value),
            )

    def evaluate(self, task: str, source: str, session: Session) -> Evaluated:
        """Builds, verifies and times one CUDA source outside any run, for drafts; usually 5 to 60 seconds, with
        progress. It is archived, and counts on the task's board, but in no run: `tell` is for jobs. Times are in ns.

        task: a name from list_tasks, or a path. source: the whole .cu file with its PYBIND11_MODULE.
        """
        from kernelevo.evaluate import evaluate

        loaded = self.task(task)
        candidate = candidate_of(loaded, source)
        with self.turn(session) as report:
            evaluation = evaluate(
                loaded,
                candidate,
                device=self.device(),
                settings=self.settings,
                progress=lambda stage, text: report(f"{stage}: {text}" if text else stage),
            )
            self.archive().record_evaluation(loaded, candidate, evaluation)
        found = report_of(evaluation, candidate)
        return Evaluated(report=found, meaning=explain(found))

    def predict(self, task: str, session: Session, source: str = "", candidate: str = "") -> Predicted:
        """The time of a kernel in ns and where it goes: per timed case the median with its interval, the bottleneck and
        all counters (bytes, instructions, conflicts, ...), and per kernel registers, shared memory and spills. Give one
        of the two: `source`, which is built and timed WITHOUT being verified (a few seconds; `verified` is false, and
        the time of a wrong kernel means nothing), or `candidate`, an id from the archive.

        task: a name from list_tasks, or a path.
        """
        if bool(source) == bool(candidate):
            raise UsageError("give a source or a candidate", next_step="call predict again with one of the two")
        loaded, device = self.task(task), self.device()
        found = self.archive().candidate(candidate) if candidate else candidate_of(loaded, source)
        evaluation = self.archive().known(found.id, loaded, device.name)
        if evaluation is None or evaluation.timing is None or evaluation.timing.method != device.timing_method:
            evaluation = None
            build, timing, reason = self._time(loaded, found, session)
        else:
            build, timing, reason = evaluation.build, evaluation.timing, None
        return Predicted(
            candidate=found.id,
            verified=evaluation is not None,
            reason=reason or "",
            score_ns=timing.score_ns if timing else None,
            kind=timing.kind.value if timing else None,
            target=timing.target if timing else None,
            method=timing.method if timing else None,
            cases=case_times(timing),
            counters={
                c.case.name: {name: value for name, value in c.counters.items() if value}
                for c in (timing.cases if timing else ())
            },
            resources=build.resources,
            diagnostics=build.diagnostics,
        )

    def _time(self, task: Task, candidate: Candidate, session: Session) -> tuple[Build, Timing | None, str | None]:
        """The build, and the time of the build as it is, or why there is none."""
        from kernelevo.build import build
        from kernelevo.cascade import timed
        from kernelevo.toolchain import find_toolchain

        device, settings = self.device(), self.settings
        with self.turn(session) as report:
            report("build")
            toolchain = find_toolchain(settings.host_compiler)
            built = build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)
            if not built.succeeded:
                errors = [d.text for d in built.diagnostics if d.severity == "error"]
                return built, None, errors[0] if errors else "it did not compile"
            report("measure")
            return built, *timed(task, built, device, settings)

    def best(self, task: str, limit: int = 5) -> Board:
        """The fastest correct kernels of a task that the archive has for this device, times in ns, with the source of
        the first and what binds it. Candidates of older versions of the task do not count.

        task: a name from list_tasks, or a path. limit: places to show.
        """
        loaded, device, archive = self.task(task), self.device(), self.archive()
        found = archive.leaderboard(
            loaded.name,
            device=device.name,
            kind=device.timing_kind,
            target=device.timing_target,
            method=device.timing_method,
            limit=max(1, limit),
        )
        places = [placing for placing in found if placing.task_digest == loaded.digest]
        if not places:
            raise UsageError(
                f"the archive has no correct kernel of {loaded.name} for {device.name}",
                next_step="ask for a job: that evaluates the task's own kernel first",
            )
        first = archive.candidate(places[0].candidate)
        evaluation = archive.known(first.id, loaded, device.name)
        return Board(
            task=loaded.name,
            device=device.name,
            target=device.timing_target,
            kind=device.timing_kind.value,
            places=tuple(Place(place=p.place, candidate=p.candidate, score_ns=p.score_ns) for p in places),
            source=first.source,
            feedback=report_of(evaluation, first).feedback if evaluation else (),
        )

    def explain_failure(self, candidate: str, task: str | None = None) -> Explained:
        """Everything that is known of one candidate: compiler messages with lines, the first mismatch (index, expected,
        got), what checkers found (line, block, thread, address), each stage's outcome, and in `meaning` what these
        usually mean and what mends them. Next: mend the source, and `evaluate` it or `tell` it to a job.

        candidate: its id (c-...) or the beginning of it, as a report or a board gave it. task: if it is one of several.
        """
        archive = self.archive()
        found = archive.candidate(candidate)
        evaluation = archive.evaluation(found.id, task=task, device=self.device_name)
        if evaluation is None:
            raise UsageError(
                f"{found.id} was not evaluated on {self.device_name}", next_step="evaluate its source, then explain it"
            )
        report = report_of(evaluation, found)
        return Explained(report=report, meaning=explain(report), source=found.source)


def candidate_of(task: Task, source: str) -> Candidate:
    """A source outside any run."""
    from kernelevo.propose import read_tunables

    if not source.strip():
        raise UsageError("the source is empty", next_step="give one CUDA source with a PYBIND11_MODULE")
    tunables = read_tunables(source)
    return Candidate(source=source, entry=task.entry, tunables={} if isinstance(tunables, Diagnostic) else tunables)
