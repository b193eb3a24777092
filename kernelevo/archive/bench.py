"""`kernelevo bench archive`: what the archive costs per iteration, when small and when large.

Takes a folder for temporary files, gives rows of milliseconds. The archives hold synthetic candidates with the rows
of a real evaluation: a distinct source of about 2 kB, ten case verdicts, two timed cases with counters, a reply and a
prompt. All belong to one run, which is the hardest case for selection. What others do with an archive in an iteration
(decide, compare) is handed in, so that this module need not know them.

Not covered: the time of a slow disk (see `commit` for this one's) and of models, builds and kernels.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.connection import writing
from kernelevo.archive.store import Archive, open_archive
from kernelevo.records import (
    STAGES,
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Evaluation,
    Job,
    KernelResources,
    Message,
    Operator,
    Outcome,
    Prompt,
    Purpose,
    Reply,
    Rewrite,
    Run,
    Stage,
    StageOutcome,
    Task,
    Timing,
    TimingKind,
    Verdict,
    digest,
)

SMALL, LARGE = 1_000, 100_000
POPULATION = 50
CHUNK = 2_000  # candidates per transaction when filling


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One operation, in both archives."""

    name: str
    small_ms: float  # median, with 1,000 candidates
    large_ms: float  # median, with 100,000 candidates

    @property
    def ratio(self) -> float:
        """1: it costs the same, however many candidates there are."""
        return self.large_ms / self.small_ms


Operation = Callable[[Archive, Job, Candidate], object]  # the next job of the run, and a candidate not recorded yet


def bench_archive(
    folder: Path | None = None,
    *,
    small: int = SMALL,
    large: int = LARGE,
    repeats: int = 30,
    operations: Mapping[str, Callable[[], Operation]] | None = None,
) -> list[BenchRow]:
    """Fills two temporary archives and times the same operations in both; milliseconds, medians of `repeats`.

    folder: where the temporary archives lie; the system's temporary folder if None. 100,000 candidates need 1.3 GB.
    operations: more to be timed, by name; each is made anew for each archive, and called once before it is timed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="kernelevo-bench-") as temporary:
        columns = []
        for count in (small, large):
            path = Path(temporary) / f"{count}.sqlite"
            started = time.perf_counter()
            with open_archive(path) as archive:
                fill(archive, count)
            filled = (time.perf_counter() - started) * 1e3
            columns.append(measure(path, count, repeats, operations or {}) | {"fill, per candidate": filled / count})
    return [BenchRow(name=name, small_ms=columns[0][name], large_ms=columns[1][name]) for name in columns[0]]


def measure(
    path: Path, count: int, repeats: int, operations: Mapping[str, Callable[[], Operation]]
) -> dict[str, float]:
    """Milliseconds of each operation on a filled archive: first what should not grow, then what does by its nature."""
    found: dict[str, float] = {}
    grows: dict[str, float] = {}
    found["open and close"] = median_ms(lambda _: open_archive(path).close(), repeats)
    with open_archive(path) as archive:
        grows["grows: scored(), the first of a process"] = median_ms(lambda _: archive.scored(RUN.id), 1)
        grows["grows: leaderboard(), the first of a process"] = median_ms(lambda _: archive.leaderboard(TASK.name), 1)
        archive.trials(RUN.id, before_iteration=count, before_generation=count)
        new = iter(synthetic_iterations(start=count, stop=count + repeats, seed=1))
        parts: dict[str, list[float]] = {}
        for _ in range(repeats):
            for name, milliseconds in one_iteration(archive, *next(new)).items():
                parts.setdefault(name, []).append(milliseconds)
        found |= {name: statistics.median(values) for name, values in parts.items()}
        found["commit of one small row"] = median_ms(lambda i: archive.reopen_run(RUN.id), repeats)
        job, candidate, *_ = next(synthetic_iterations(start=count + repeats, stop=count + repeats + 1, seed=2))
        for name, make in operations.items():
            found[name] = warm_ms(partial(make(), archive, job, candidate), repeats)
        some = archive.scored(RUN.id)[count // 2].candidate
        found["candidate()"] = median_ms(lambda _: archive.candidate(some), repeats)
        found["known()"] = median_ms(lambda _: archive.known(some, TASK, "emulator"), repeats)
        found["leaderboard(), ten places"] = median_ms(lambda _: archive.leaderboard(TASK.name), repeats)
        grows["grows: lineage() of one from the middle, with its depth"] = median_ms(lambda _: archive.lineage(some), 3)
        grows["grows: list_runs()"] = median_ms(lambda _: archive.list_runs(), 3)
        grows["grows: ledger.cost() of the run"] = median_ms(lambda _: archive.ledger.cost(RUN.id), 3)
    return found | grows


def warm_ms(operation: Callable[[], object], repeats: int) -> float:
    """The median of `repeats` after one that does not count."""
    operation()
    return median_ms(lambda _: operation(), repeats)


def one_iteration(
    archive: Archive, job: Job, candidate: Candidate, prompt: Prompt, reply: Reply, evaluation: Evaluation
) -> dict[str, float]:
    """Everything that the archive does for one iteration of evolve, in milliseconds."""
    steps: list[tuple[str, Callable[[], object]]] = [
        ("iteration: scored()", lambda: archive.scored(RUN.id, before_generation=job.generation)),
        ("iteration: trials()", lambda: trials_before(archive, job)),
        ("iteration: record_job()", lambda: archive.record_job(job)),
        ("iteration: candidate() of the parent", lambda: archive.candidate(job.parents[0], run=RUN.id)),
        ("iteration: feedback() of the parent", lambda: archive.feedback(job.parents[0], TASK, "emulator")),
        ("iteration: record_reply()", lambda: archive.record_reply(job, 0, prompt, reply)),
        ("iteration: known() of a new candidate", lambda: archive.known(candidate.id, TASK, "emulator")),
        ("iteration: known_kernel() of a new candidate", lambda: archive.known_kernel("new", TASK, "emulator")),
        ("iteration: record()", lambda: archive.record(job, candidate, evaluation)),
    ]
    found = {}
    for name, step in steps:
        started = time.perf_counter()
        step()
        found[name] = (time.perf_counter() - started) * 1e3
    return found | {"iteration: all of it": sum(found.values())}


def trials_before(archive: Archive, job: Job) -> object:
    return archive.trials(RUN.id, before_iteration=job.iteration, before_generation=job.generation)


def median_ms(operation: Callable[[int], object], repeats: int) -> float:
    times = []
    for i in range(repeats):
        started = time.perf_counter()
        operation(i)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


# --- synthetic candidates -------------------------------------------------------------------------------------------


def fill(archive: Archive, count: int) -> None:
    """Puts `count` evaluated candidates of one run into an empty archive, as record() would have done."""
    archive.create_run(RUN, TASK)
    now = archive.now()
    with writing(archive.engine) as connection:
        task_id = archive.known_task_id(connection, RUN.id)
    chunk: dict[type[t.Base], list[rows.Row]] = {}
    for number, (job, candidate, prompt, reply, evaluation) in enumerate(
        synthetic_iterations(start=0, stop=count, seed=0), start=1
    ):
        attempt = {
            "id": number,
            "run_id": job.run,
            "iteration": job.iteration,
            "candidate_id": candidate.id,
            "evaluation_id": number,
            "reason": None,
            "recorded_at": now,
        }
        for part in (
            rows.candidate_rows(candidate),
            rows.job_rows(job, now=now),
            rows.prompt_rows(job, 0, prompt),
            rows.reply_rows(job, 0, reply, call=None, now=now),
            rows.evaluation_rows(number, evaluation, task_id=task_id, now=now),
            {t.Attempts: [attempt]},
            rows.origin_rows(number, candidate),
        ):
            for table, values in part.items():
                chunk.setdefault(table, []).extend(values)
        if number % CHUNK == 0 or number == count:
            with writing(archive.engine) as connection:
                rows.insert(connection, chunk)
            chunk = {}


def synthetic_iterations(
    *, start: int, stop: int, seed: int
) -> Iterator[tuple[Job, Candidate, Prompt, Reply, Evaluation]]:
    """Iterations `start` to `stop`; each one's parent is drawn from the earlier ones."""
    rng = random.Random(f"{seed}:{start}")
    for iteration in range(start, stop):
        parent = synthetic_candidate(rng.randrange(max(0, iteration - 500), iteration)) if iteration else None
        bare = synthetic_candidate(iteration)
        rewrite = Rewrite(name="vectorize", argument=f"x width={2 ** (iteration % 3)}")
        candidate = Candidate(
            source=bare.source,
            entry="forward",
            parents=(parent.id,) if parent else (),
            rewrites=(rewrite,) * (iteration % 5),
            tunables={"BLOCK": (128, 256)},
        )
        job = Job(
            run=RUN.id,
            iteration=iteration,
            generation=iteration // POPULATION,
            operator=Operator.OPTIMIZE,
            parents=candidate.parents,
            model="mutate",
            island=iteration % 2,
            seed=rng.getrandbits(32),
        )
        prompt = Prompt(
            operator=Operator.OPTIMIZE,
            messages=(
                Message(role="system", text=SYSTEM),
                Message(role="user", text=f"Make candidate {iteration} faster.\n"),
            ),
            parents=(parent,) if parent else (),
            template="optimize",
            seed=job.seed,
        )
        reply = Reply(
            model="mutate", text=bare.source, rewrites=(rewrite,), cost_usd=0.0, seconds=0.01, finish_reason="stop"
        )
        yield job, candidate, prompt, reply, synthetic_evaluation(candidate.id, rng)


def synthetic_candidate(number: int) -> Candidate:
    return Candidate(source=f"// synthetic candidate {number}\n{BODY}", entry="forward")


def synthetic_evaluation(candidate: str, rng: random.Random) -> Evaluation:
    """An evaluation that passed in nine of ten cases, and was wrong in one."""
    passed = rng.random() < 0.9
    outcome = Outcome.PASSED if passed else Outcome.WRONG
    hidden = synthetic_case("hidden", rows=rng.randrange(1, 5000), seed=rng.getrandbits(63), purpose=Purpose.HIDDEN)
    cases = tuple(
        CaseVerdict(
            case=case,
            outcome=outcome if case is hidden else Outcome.PASSED,
            error=rng.random() * 1e-6,
            error_l2=rng.random() * 1e-7,
            allowed=1e-5,
            worst="output 0 [3, 17]: expected 0.25, got 0.25",
            reason=None if passed or case is not hidden else "output 0 differs",
            findings=(),
            seconds=0.01,
        )
        for case in (*TEST_CASES, hidden)
    )
    timing = Timing(
        kind=TimingKind.PREDICTED,
        device="emulator",
        target="H100 SXM",
        method="prediction 1",
        cases=tuple(synthetic_timing(case, rng) for case in BENCH_CASES),
        seconds=0.1,
    )
    return Evaluation(
        candidate=candidate,
        task=TASK.name,
        device="emulator",
        build=synthetic_build(candidate),
        verdict=Verdict(
            outcome=outcome, reason=None if passed else "hidden: output 0 differs", cases=cases, output="", seconds=0.2
        ),
        timing=timing if passed else None,
        timing_reason=None,
        stages=tuple(Stage(name=name, outcome=StageOutcome.PASSED, seconds=0.2) for name in STAGES[:-1]),
        source_key=f"source of {candidate}",
        kernel_key=f"kernel of {candidate}",
    )


def synthetic_timing(case: Case, rng: random.Random) -> CaseTiming:
    median = 1000 + 9000 * rng.random()
    return CaseTiming(
        case=case,
        samples_ns=(median,),
        median_ns=median,
        low_ns=median * 0.8,
        high_ns=median * 1.25,
        bottleneck="memory: 61 % of the bytes moved are used",
        counters={name: float(rng.randrange(10**6)) for name in COUNTERS},
    )


def synthetic_build(candidate: str) -> Build:
    return Build(
        candidate=candidate,
        target="sm_90",
        method=BuildMethod.SPLIT,
        fallback_reason=None,
        flags=("-O3", "--std=c++17"),
        compiler="nvcc 13.0.88, clang++ 19.1",
        artifact=Path(f"/cache/{candidate}.so"),
        ptx=Path(f"/cache/{candidate}.ptx"),
        resources=(
            KernelResources(
                kernel="_Z6kernelPKfPfi",
                registers=32,
                shared_bytes=0,
                local_bytes=0,
                spill_store_bytes=0,
                spill_load_bytes=0,
                constant_bytes=380,
            ),
        ),
        diagnostics=(),
        cached=False,
        seconds=0.5,
    )


def synthetic_case(distribution: str, *, rows: int, seed: int, purpose: Purpose) -> Case:
    return Case(
        name=f"rows={rows} cols=129 float32 {distribution}",
        sizes={"rows": rows, "cols": 129},
        dtype="float32",
        distribution=distribution,
        initialisation="normal",
        seed=seed,
        purpose=purpose,
    )


COUNTERS = (
    "instructions",
    "load sectors",
    "store sectors",
    "unique bytes",
    "bank conflicts",
    "divergent branches",
    "barriers",
    "flops",
)
TEST_CASES = tuple(synthetic_case("normal", rows=n, seed=n, purpose=Purpose.TEST) for n in range(120, 129))
BENCH_CASES = tuple(synthetic_case("normal", rows=n, seed=n, purpose=Purpose.BENCH) for n in (2048, 4096))
BODY = "".join(f"__device__ float term_{i}(float x) {{ return x * {i}.0f; }}\n" for i in range(36))
SYSTEM = "You write CUDA kernels for PyTorch operations.\n" * 20


def no_reference(*_: object) -> None:
    raise NotImplementedError("the synthetic task is never run")


SIZES: Mapping[str, tuple[int, int]] = {"rows": (1, 5000), "cols": (129, 129)}
TASK = Task(
    name="synthetic",
    title="A task that is never run",
    description="It stands in the archive only.",
    signature="forward(x: Tensor[rows, cols]) -> Tensor[rows, cols]",
    entry="forward",
    dtypes=("float32",),
    cases=TEST_CASES + BENCH_CASES,
    hidden_sizes=SIZES,
    distributions=("normal",),
    initialisations=("normal",),
    tolerance_factor=4.0,
    library_calls="forbid",
    reference=no_reference,
    inputs=no_reference,
    compare=None,
    seed_source=None,
    hints=(),
    folder=Path("synthetic"),
    digest=digest("synthetic", tag="t"),
)
RUN = Run(
    id="r-0123456789ab",
    task=TASK.name,
    task_digest=TASK.digest,
    models=("mutate",),
    device="emulator",
    strategy="islands",
    generations=LARGE // POPULATION,
    population=POPULATION,
    seed=0,
)
