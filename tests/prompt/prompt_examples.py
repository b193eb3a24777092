"""Parents and material by hand: what an archive would hold after a while."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from kernelevo.prompt import Example, Gpu, Lesson, Material, Sibling, Tried
from kernelevo.records import (
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    CaseVerdict,
    Diagnostic,
    Evaluation,
    Finding,
    Job,
    KernelResources,
    Operator,
    Outcome,
    Purpose,
    Stage,
    StageOutcome,
    Task,
    Timing,
    TimingKind,
    Verdict,
)
from kernelevo.tasks import load_task

SHIPPED = (
    *("cross_entropy", "depthwise_conv2d", "gelu", "layernorm", "linear_relu"),
    *("rmsnorm", "rmsnorm_backward", "silu_mul", "softmax"),
)
ASKING = tuple(o for o in Operator if o not in (Operator.SEED, Operator.TUNE, Operator.JUDGE))
H100 = Gpu(
    title="H100 SXM",
    target="sm_90",
    device="emulator",
    kind=TimingKind.PREDICTED,
    facts={
        "multiprocessors": 132.0,
        "clock_hz": 1.98e9,
        "threads": 2048.0,
        "blocks": 32.0,
        "registers": 65536.0,
        "shared_bytes": 233472.0,
        "shared_bytes_reserved": 1024.0,
        "l1_bytes": 262144.0,
        "l2_bytes": 52428800.0,
        "dram_bytes_per_second": 3.35e12,
        "launch_seconds": 2.2e-6,
        "lanes_per_cycle.fp32": 128.0,
    },
)
HIDDEN = Case(
    name="hidden 3: rows=97 cols=129 float32 spike",
    sizes={"rows": 97, "cols": 129},
    dtype="float32",
    distribution="spike",
    initialisation="none",
    seed=7364829105537281946,
    purpose=Purpose.HIDDEN,
)


@cache
def task(name: str) -> Task:
    return load_task(name)


def seed_of(name: str) -> Candidate:
    return Candidate(source=task(name).seed_source or "", entry=task(name).entry)


def job(operator: Operator, parents: tuple[Candidate, ...] = ()) -> Job:
    return Job(
        run="r-000000000000",
        iteration=7,
        generation=2,
        operator=operator,
        parents=tuple(parent.id for parent in parents),
        model="replay:a.sqlite",
        island=0,
        seed=1,
    )


def parents_of(name: str, operator: Operator) -> tuple[Candidate, ...]:
    """As many as the operator takes."""
    seed = seed_of(name)
    other = Candidate(source=seed.source.replace("__global__", "// another\n__global__", 1), entry=seed.entry)
    return {Operator.TRANSLATE: (), Operator.CROSSOVER: (seed, other)}.get(operator, (seed,))


def a_build(candidate: Candidate, *diagnostics: Diagnostic) -> Build:
    built = not any(d.severity == "error" for d in diagnostics)
    return Build(
        candidate=candidate.id,
        target="sm_90",
        method=BuildMethod.SPLIT if built else None,
        fallback_reason=None,
        flags=(),
        compiler="nvcc 13.0",
        artifact=Path("candidate.so") if built else None,
        ptx=None,
        resources=(
            KernelResources(
                kernel="_ZN12_GLOBAL__N_114softmax_kernelEPKfPfi",
                registers=24,
                shared_bytes=1024,
                local_bytes=0,
                spill_store_bytes=0,
                spill_load_bytes=0,
                constant_bytes=372,
            ),
        )
        if built
        else (),
        diagnostics=diagnostics,
        cached=False,
        seconds=1.0,
    )


def an_evaluation(
    candidate: Candidate, name: str, build: Build, verdict: Verdict | None, timing: Timing | None
) -> Evaluation:
    failed = "build" if verdict is None else verdict.failed_in
    return Evaluation(
        candidate=candidate.id,
        task=name,
        device="emulator",
        build=build,
        verdict=verdict,
        timing=timing,
        timing_reason=None,
        stages=(Stage(name=failed, outcome=StageOutcome.FAILED, seconds=0.1),) if failed else (),
    )


def timed(candidate: Candidate, name: str, *, times_ns: tuple[float, ...]) -> Evaluation:
    """One that passed; a time for each BENCH case."""
    cases = [case for case in task(name).cases if case.purpose is Purpose.BENCH]
    timing = Timing(
        kind=TimingKind.PREDICTED,
        device="emulator",
        target="H100 SXM",
        method="prediction 1",
        cases=tuple(
            CaseTiming(
                case=case,
                samples_ns=(time,),
                median_ns=time,
                low_ns=time / 1.5,
                high_ns=time * 1.5,
                bottleneck="bound by latency of dependent steps (71% of the time); 17 barriers per warp",
                counters={"launches": 1.0, "unique_read_bytes": 33554432.0, "unique_write_bytes": 33554432.0},
            )
            for case, time in zip(cases, times_ns, strict=False)
        ),
        seconds=0.1,
    )
    passed = CaseVerdict(
        case=cases[0],
        outcome=Outcome.PASSED,
        error=2e-7,
        error_l2=1e-7,
        allowed=8e-7,
        worst="output 0 [3, 17]: expected 0.25, got 0.250000100",
        reason=None,
        findings=(),
        seconds=0.1,
    )
    verdict = Verdict(outcome=Outcome.PASSED, reason=None, cases=(passed,), output="", seconds=0.2)
    return an_evaluation(candidate, name, a_build(candidate), verdict, timing)


def wrong(candidate: Candidate, name: str, *, output: str = "") -> Evaluation:
    """One that a checker and a comparison reject on a hidden case."""
    failed = CaseVerdict(
        case=HIDDEN,
        outcome=Outcome.WRONG,
        error=0.5,
        error_l2=0.1,
        allowed=8e-7,
        worst="output 0 [3, 17]: expected 0.25, got 0.5",
        reason="race: line 12",
        findings=(
            Finding(
                kind="race",
                text="two threads write the same place with no barrier between them",
                kernel="_Z14softmax_kernelPKfPfi",
                line=12,
                block=(2, 0, 0),
                thread=(33, 0, 0),
                address=132,
                allocation="shared memory, 1024 bytes",
                access_bytes=4,
            ),
        ),
        seconds=0.1,
    )
    reason = "wrong value: output 0 [3, 17]: expected 0.25, got 0.5; off by 0.5 of the largest value, 8e-07 allowed; "
    verdict = Verdict(
        outcome=Outcome.WRONG,
        reason=f"{reason}12 of 12513 elements are wrong, within [3, 5:17] (case {HIDDEN.name})",
        cases=(failed,),
        output=output,
        seconds=0.2,
        failed_in="correctness",
    )
    return an_evaluation(candidate, name, a_build(candidate), verdict, None)


def uncompiled(candidate: Candidate, name: str, *diagnostics: Diagnostic) -> Evaluation:
    return an_evaluation(candidate, name, a_build(candidate, *diagnostics), None, None)


def full_material(name: str, parents: tuple[Candidate, ...], *, failed: bool = False, retry: str = "") -> Material:
    """Something of everything."""
    silu = seed_of("silu_mul")
    evaluations = {
        parent.id: wrong(parent, name, output="n = 3\n")
        if failed
        else timed(parent, name, times_ns=(31e3, 9e3 * number))
        for number, parent in enumerate(parents, start=1)
    }
    return Material(
        evaluations=evaluations,
        hints=("Rows are short in production: latency matters more than bandwidth.",),
        tried=(
            Tried(plan="one warp per row, rows in registers", count=1, passed=1, best_ratio=1.9),
            Tried(plan="vectorise loads and stores", count=4, passed=3, best_ratio=1.2),
        ),
        siblings=(
            Sibling(candidate="c-1", change="warp_shuffle(sum)", status="passed", ratio=1.31, reason=""),
            Sibling(
                candidate="c-2", change="vectorize(x width=4)", status="wrong", ratio=None, reason="wrong at cols=31"
            ),
        ),
        lessons=(Lesson(task=name, text="Of 8 candidates 5 passed.\nwarp_shuffle: 3 of 3 faster, 1.25x on average."),),
        inspirations=(Candidate(source=silu.source, entry=silu.entry),) if name != "silu_mul" else (),
        examples=(Example(task="gelu", title="GELU, exact form", source=seed_of("gelu").source, ratio=1.42),),
        retry=retry,
        gpu=H100,
    )
